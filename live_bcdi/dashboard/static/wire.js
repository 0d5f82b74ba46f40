// Decodes what live_bcdi/dashboard/wire.py encodes; the layout is documented there.

const ARRAYS = {
  int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
  int32: Int32Array, uint32: Uint32Array, float32: Float32Array, float64: Float64Array,
};

/** A message as {topic, run, published_s, fields, arrays: {name: {data, shape}}}; the arrays are views, not copies. */
export function decode(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  for (const { name, dtype, shape, offset } of header.arrays) {
    const size = shape.reduce((product, edge) => product * edge, 1);
    arrays[name] = { data: new ARRAYS[dtype](buffer, 4 + length + offset, size), shape };
  }
  return { ...header, arrays };
}
