// Triangles with a value at each corner, drawn by WebGL2 on a canvas of its own. Parallel projection; light from
// above, to the left, behind the viewer, so that a colour that faces the viewer is that of the legend.

const VERTEX = `#version 300 es
uniform mat3 turn;
uniform vec3 scale;
in vec3 place;
in vec3 normal;
in vec3 value;
out vec3 direction;
out vec3 seen;
void main() {
  gl_Position = vec4(turn * place * scale, 1.0);
  direction = turn * normal;
  seen = value;
}`;

// `seen` is (position on the map, 0, known), or of a cyclic map (cosine, sine, known): an angle cannot be
// interpolated over its own jump, its cosine and sine can.
const FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D map;
uniform bool cyclic;
uniform vec3 unknown;
in vec3 direction;
in vec3 seen;
out vec4 colour;
void main() {
  float t = cyclic ? atan(seen.y, seen.x) / 6.283185307 + 0.5 : seen.x;
  vec3 flat_colour = texelFetch(map, ivec2(clamp(t, 0.0, 1.0) * 255.0 + 0.5, 0), 0).rgb;
  float light = max(0.0, dot(normalize(direction), normalize(vec3(-0.4, 0.55, 0.9))));
  colour = vec4((seen.z < 0.5 ? unknown : flat_colour) * (0.6 + 0.44 * light), 1.0);
}`;

/** Outward unit normals at the vertices: the mean of the faces there, by their area. */
export function normalsOf(vertices, faces) {
  const normals = new Float32Array(vertices.length);
  for (let face = 0; face < faces.length; face += 3) {
    const [a, b, c] = [3 * faces[face], 3 * faces[face + 1], 3 * faces[face + 2]];
    const [ux, uy, uz] = [vertices[b] - vertices[a], vertices[b + 1] - vertices[a + 1], vertices[b + 2] - vertices[a + 2]];
    const [vx, vy, vz] = [vertices[c] - vertices[a], vertices[c + 1] - vertices[a + 1], vertices[c + 2] - vertices[a + 2]];
    const [x, y, z] = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
    for (const at of [a, b, c]) {
      normals[at] += x;
      normals[at + 1] += y;
      normals[at + 2] += z;
    }
  }
  for (let at = 0; at < normals.length; at += 3) {
    const length = Math.hypot(normals[at], normals[at + 1], normals[at + 2]) || 1;
    for (let axis = 0; axis < 3; axis++) normals[at + axis] /= length;
  }
  return normals;
}

export class MeshRenderer {
  /** `onChange` is called when the graphics card has gone, or is back. */
  constructor(onChange = () => {}) {
    this.canvas = document.createElement("canvas");
    this.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault(); // that it may come back
      this._program = null;
      onChange();
    });
    this.canvas.addEventListener("webglcontextrestored", () => {
      this._begin();
      onChange();
    });
    this._gl = this.canvas.getContext("webgl2", { antialias: true, powerPreference: "low-power" });
    this._begin();
  }

  get works() {
    return this._program !== null;
  }

  _begin() {
    this._program = null;
    this._sent = {};
    const gl = this._gl;
    if (gl === null) return;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    ["place", "normal", "value"].forEach((name, index) => gl.bindAttribLocation(program, index, name));
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
      if (!gl.isContextLost()) console.error(gl.getProgramInfoLog(program));
      return;
    }
    gl.useProgram(program);
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.CULL_FACE);
    this._buffers = [0, 1, 2, 3].map(() => gl.createBuffer());
    this._places = Object.fromEntries(
      ["turn", "scale", "cyclic", "unknown"].map((name) => [name, gl.getUniformLocation(program, name)]));
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    this._program = program;
  }

  /**
   * Draw `mesh` {vertices, faces}, coloured with `paint` {values (three a vertex), map, cyclic, unknown}, into
   * `width` by `height` pixels with its origin in the middle; return the canvas. `turn` has the rows right, up and
   * towards the viewer; `scale` is pixels a unit; `radius` holds all vertices. What was drawn before is not sent
   * to the graphics card again.
   */
  draw(mesh, paint, { width, height, turn, scale, radius }) {
    const gl = this._gl;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    if (this._sent.mesh !== mesh) this._sendMesh(mesh);
    if (this._sent.paint !== paint) this._sendPaint(paint);
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniformMatrix3fv(this._places.turn, true, turn.flat());
    gl.uniform3f(this._places.scale, (2 * scale) / width, (2 * scale) / height, -0.99 / radius);
    gl.drawElements(gl.TRIANGLES, mesh.faces.length, gl.UNSIGNED_SHORT, 0);
    return this.canvas;
  }

  _sendMesh(mesh) {
    const gl = this._gl;
    this._attribute(0, mesh.vertices);
    this._attribute(1, normalsOf(mesh.vertices, mesh.faces));
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this._buffers[3]);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, mesh.faces, gl.STATIC_DRAW);
    this._sent.mesh = mesh;
  }

  _sendPaint(paint) {
    const gl = this._gl;
    this._attribute(2, paint.values);
    const pixels = new Uint8Array(paint.map.table.buffer);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    gl.uniform1i(this._places.cyclic, paint.cyclic ? 1 : 0);
    gl.uniform3f(this._places.unknown, ...paint.unknown.map((level) => level / 255));
    this._sent.paint = paint;
  }

  _attribute(index, data) {
    const gl = this._gl;
    gl.bindBuffer(gl.ARRAY_BUFFER, this._buffers[index]);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(index);
    gl.vertexAttribPointer(index, 3, gl.FLOAT, false, 0, 0);
  }
}
