// Two results in numbers, beside each other, and how far the difference may be believed.

import { MINUS, fixed, significant } from "./plot.js";
import { scientific, withUnit } from "./quantity.js";
import { element, put } from "./text.js";

const plain = (value) => significant(value ?? NaN);
const size = (edges) => (edges ? edges.map((edge) => fixed(edge, 0)).join("\u00d7") : plain(NaN));

// [name, what of a side's facts, how it is written, whether a difference of it means something]
const ROWS = [
  ["\u03c7", (facts) => facts.chi, plain, true],
  ["PRTF 1/e (nm)", (facts) => facts.resolution_nm, plain, true],
  ["frames", (facts) => facts.frames, plain, true],
  ["voxel (nm)", (facts) => facts.voxel_nm, plain, true],
  ["size x, y, z (nm)", (facts) => facts.extent_nm, size, false],
  ["volume (10\u2076 nm\u00b3)", (facts) => facts.volume_nm3 / 1e6, plain, true],
  ["mean d (\u00c5)", (facts) => facts.spacing_angstrom, (value) => fixed(value ?? NaN, 5), true],
  ["std of displ. (\u00c5)", (facts) => facts.displacement_std, plain, true],
  ["std of strain", (facts) => facts.strain_std, scientific, true],
];

const signed = (string) => (string.startsWith(MINUS) || /^[\u2013 0]*$/.test(string) ? string : `+${string}`);

export function showNumbers({ a, b, d }) {
  const [first, second] = [a?.fields.facts, b?.fields.facts];
  const rows = ROWS.map(([name, of, write, subtract]) => {
    const [one, other] = [first && of(first), second && of(second)];
    const both = subtract && Number.isFinite(one) && Number.isFinite(other);
    const change = both ? signed(write === plain ? significant(other - one, 2) : write(other - one)) : "";
    return [name, first ? write(one) : "", second ? write(other) : "", change];
  });
  if (d) {
    const { mean_strain: mean, rms_strain: strain, rms_displacement_angstrom: displacement } = d.fields;
    rows.unshift(
      ["rms strain", "", "", scientific(strain)],
      ["rms displacement", "", "", withUnit("displacement", displacement)],
      ["strain, mean", "0", signed(scientific(mean)), signed(scientific(mean))],
      ["same amplitude", "", "", fixed(d.fields.correlation, 4)],
    );
  }
  element("numbers").replaceChildren(...(first || second ? rows : []).map(row));
  put("registration", d ? registration(d.fields) : "");
  element("doubts").replaceChildren(...(d?.fields.notes ?? []).map((note) => {
    const item = document.createElement("li");
    item.textContent = note;
    return item;
  }));
}

function row([name, ...values]) {
  const line = document.createElement("tr");
  const head = line.appendChild(document.createElement("th"));
  head.scope = "row";
  head.textContent = name;
  for (const value of values) line.appendChild(document.createElement("td")).textContent = value;
  return line;
}

function registration({ shift_nm: shift, overlap, voxel_nm: [voxel] }) {
  const moved = shift.map((step) => fixed(Math.abs(step) < 0.005 ? 0 : step, 2)).join(", ");
  return `B was moved by (${moved}) nm to have its centre of mass on that of A; nothing was turned or flipped. ` +
    `Compared on voxels of ${significant(voxel)} nm, where both are: ${fixed(100 * overlap, 0)} % of the voxels of either.`;
}
