// The crystal's surface, turned by pointer and keys. The view stays when a new estimate comes.

import { viridis } from "./colour.js";
import { MeshRenderer } from "./mesh.js";
import { Panel } from "./panel.js";
import { font, line, scaleBar, text, textSize } from "./plot.js";
import { UNKNOWN, drawLegend, quantityOf } from "./quantity.js";

const KEY_RAD = Math.PI / 36; // an arrow key turns by 5 degrees, with Shift by 50
const DRAG_RAD = 0.008; // a pixel
const ZOOM = { least: 0.5, most: 8, step: 1.15 };
const LEGEND = 6.6; // in heights of the text
const TURNS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => a.map((value) => value / Math.hypot(...a));

/** Rows right, up, towards the viewer who looks against `towards`, with `upwards` up as far as that goes. */
export function looking(towards, upwards) {
  const toViewer = unit(towards);
  const right = unit(cross(upwards, toViewer));
  return [right, cross(toViewer, right), toViewer];
}

/** `turn`, turned further about the screen's own axes: by `x` to the right, by `y` downwards. */
export function turned(turn, x, y) {
  const [right, up, toViewer] = turn;
  const mix = (a, b, angle) => a.map((value, at) => value * Math.cos(angle) + b[at] * Math.sin(angle));
  const [sideways, back] = [mix(right, toViewer, x), mix(toViewer, right, -x)];
  const across = unit(sideways); // rounding must not add up over a night
  const front = unit(cross(across, mix(up, back, -y)));
  return [across, cross(front, across), front];
}

const HOME = looking([0.45, 0.4, 0.8], [0, 1, 0]);
const VIEWS = {
  home: () => HOME,
  x: () => looking([1, 0, 0], [0, 1, 0]),
  y: () => looking([0, 1, 0], [0, 0, -1]),
  z: () => looking([0, 0, 1], [0, 1, 0]),
  q: (q) => looking(q, Math.abs(unit(q)[1]) > 0.95 ? [0, 0, -1] : [0, 1, 0]),
};

/** Where one looks from: turn, zoom and scale of one surface, or of several that are looked at alike. */
export class Camera {
  constructor() {
    this.turn = HOME;
    this.zoom = 1;
    this.radius = 0;
    this._watchers = [];
    this._radii = new Map();
    this._rooms = new Map();
  }

  watch(onChange) {
    this._watchers.push(onChange);
  }

  changed() {
    for (const onChange of this._watchers) onChange();
  }

  look(view, q) {
    this.turn = VIEWS[view](q);
    if (view === "home") this.zoom = 1;
    this.changed();
  }

  turnBy(x, y) {
    this.turn = turned(this.turn, x, y);
    this.changed();
  }

  zoomBy(factor) {
    this.zoom = Math.max(ZOOM.least, Math.min(ZOOM.most, this.zoom * factor));
    this.changed();
  }

  /** `radius` holds what `who` draws. The scale stays while all fit and none has become much smaller. */
  hold(who, radius) {
    this._radii.set(who, radius);
    const most = Math.max(...this._radii.values());
    if (most <= this.radius && most > 0.75 * this.radius) return;
    this.radius = 1.06 * most;
    this.changed();
  }

  /** `who` draws nothing any more. */
  release(who) {
    this._radii.delete(who);
    this._rooms.delete(who);
  }

  /** Pixels a unit, the same for all; `room` is how many `who` has. */
  scale(who, room) {
    const before = this._rooms.get(who);
    this._rooms.set(who, room);
    if (before !== room && this._rooms.size > 1) this.changed();
    return (this.zoom * Math.min(...this._rooms.values())) / (2 * this.radius);
  }
}

export class SurfacePanel extends Panel {
  constructor(id, camera = new Camera()) {
    super(id);
    this._renderer = new MeshRenderer(() => this.invalidate());
    this._without = this.section.querySelector(".without");
    this._views = [...this.section.querySelectorAll("[data-view]")];
    for (const button of this._views) button.addEventListener("click", () => this.look(button.dataset.view));
    this._estimate = this._mesh = this._paint = this._quantity = null;
    this.camera = camera;
    this.nothing = "no estimate yet";
    camera.watch(() => this.invalidate());
    this.invalidate();
  }

  show(estimate, name, quantity = estimate && quantityOf(estimate, name)) {
    if (estimate === this._estimate && name === this._quantity?.name) return;
    if (estimate !== this._estimate) this._mesh = this._meshOf(estimate);
    this._estimate = estimate;
    this._quantity = quantity;
    this._paint = this._mesh && this._paintOf(estimate.arrays[`surface_${name}`]?.data);
    this.invalidate();
  }

  look(view) {
    this.camera.look(view, this._estimate?.fields.surface?.q_invA);
  }

  _enableViews() {
    const drawn = this._mesh !== null && this._renderer.works;
    const q = this._estimate?.fields.surface?.q_invA;
    for (const button of this._views) button.disabled = !drawn || (button.dataset.view === "q" && !q);
  }

  _meshOf(estimate) {
    if (!estimate?.fields.surface || !estimate.arrays.surface_vertices) {
      this.camera.release(this);
      return null;
    }
    const { surface_vertices: { data: vertices }, surface_faces: { data: faces } } = estimate.arrays;
    let squared = 0;
    for (let at = 0; at < vertices.length; at += 3) {
      squared = Math.max(squared, vertices[at] ** 2 + vertices[at + 1] ** 2 + vertices[at + 2] ** 2);
    }
    this.camera.hold(this, Math.sqrt(squared));
    return { vertices, faces };
  }

  _paintOf(data) {
    const { map, cyclic, at } = this._quantity;
    const values = new Float32Array(this._mesh.vertices.length);
    for (let vertex = 0; vertex < values.length / 3; vertex++) {
      const value = data ? data[vertex] : NaN;
      if (Number.isNaN(value)) continue;
      values[3 * vertex] = cyclic ? Math.cos(value) : at(value);
      values[3 * vertex + 1] = cyclic ? Math.sin(value) : 0;
      values[3 * vertex + 2] = 1;
    }
    return { values, map, cyclic, unknown: UNKNOWN };
  }

  draw(ctx, w, h, colours) {
    this._without.hidden = this._renderer.works;
    this._enableViews();
    this.setNote("");
    const size = textSize(w);
    if (this._mesh === null) {
      font(ctx, size + 2);
      const why = this._estimate === null ? this.nothing : "this estimate has no surface";
      text(ctx, why, w / 2, h / 2, { colour: colours.muted, align: "center" });
      return;
    }
    if (!this._renderer.works) return;
    const legend = LEGEND * size;
    const room = Math.max(40, w - 0.5 * legend); // the crystal may reach below the legend, in the corner
    const scale = this.camera.scale(this, Math.min(room, h));
    const ratio = ctx.canvas.width / w;
    const size_px = { width: Math.round(room * ratio), height: ctx.canvas.height };
    const view = { ...size_px, turn: this.camera.turn, scale: scale * ratio, radius: this.camera.radius };
    ctx.drawImage(this._renderer.draw(this._mesh, this._paint, view), 0, 0, room, h);
    if (this._quantity.map !== viridis) drawLegend(ctx, { x: w - legend + 6, y: 0, w: legend, h: Math.min(h, 9 * size) }, this._quantity, colours, size);
    this._drawTriad(ctx, 5.2 * size, h - 5.2 * size, 2.9 * size, colours, size);
    const lengths = this._estimate.fields.voxel_nm ? "nm" : "voxels";
    const bar = { width: 0.6 * w, scale, unit: lengths, colour: colours.ink, size, shadow: false };
    scaleBar(ctx, w - 6, h - 8, bar);
  }

  // The lab's axes and the scattering vector, as they lie in this view; what points away from the viewer is faint.
  _drawTriad(ctx, x, y, length, colours, size) {
    const { axes, q_invA: q } = this._estimate.fields.surface;
    const arrows = [0, 1, 2].map((axis) => ({ name: axes[axis], along: this.camera.turn.map((row) => row[axis]), colour: colours.ink }));
    if (q) arrows.push({ name: "Q", along: this.camera.turn.map((row) => 1.45 * dot(row, unit(q))), colour: colours.accent });
    const labels = [];
    arrows.sort((one, other) => one.along[2] - other.along[2]);
    ctx.save();
    for (const { name, along, colour } of arrows) {
      const [dx, dy] = [along[0] * length, -along[1] * length];
      ctx.globalAlpha = along[2] < -0.15 ? 0.5 : 1;
      line(ctx, x, y, x + dx, y + dy, colour, name === "Q" ? 3 : 2);
      const flat = Math.hypot(dx, dy);
      ctx.fillStyle = colour;
      ctx.beginPath();
      if (flat < 4) ctx.arc(x, y, 4, 0, 2 * Math.PI);
      else {
        const [ux, uy] = [dx / flat, dy / flat];
        const [tipX, tipY] = [x + dx + 5 * ux, y + dy + 5 * uy];
        ctx.moveTo(tipX, tipY);
        ctx.lineTo(tipX - 9 * ux - 4 * uy, tipY - 9 * uy + 4 * ux);
        ctx.lineTo(tipX - 9 * ux + 4 * uy, tipY - 9 * uy - 4 * ux);
      }
      ctx.fill();
      font(ctx, size, 650);
      let [labelX, labelY] = flat < 4 ? [x + 12, y - 10] : [x + dx * (1 + 15 / flat), y + dy * (1 + 15 / flat)];
      while (labels.some(([otherX, otherY]) => Math.hypot(otherX - labelX, otherY - labelY) < size)) labelX += size;
      labels.push([labelX, labelY]);
      text(ctx, name, labelX, labelY, { colour, align: "center", baseline: "middle" });
    }
    ctx.restore();
  }

  describe() {
    if (!this._renderer.works) return "Surface of the crystal: not drawn, this browser has no WebGL";
    if (this._mesh === null) return `Surface of the crystal: ${this.nothing}`;
    const { kind } = this._estimate.fields;
    return `Surface of the crystal, ${kind}, coloured by ${this._quantity.name}. Arrow keys turn it, plus and minus zoom, Home resets`;
  }

  listen() {
    const { canvas } = this;
    const turn = (x, y) => this.camera.turnBy(x, y);
    const zoom = (factor) => this.camera.zoomBy(factor);
    let from = null; // where a drag was seen last
    canvas.addEventListener("pointerdown", (event) => {
      if (!event.isPrimary || event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      from = [event.clientX, event.clientY];
    });
    canvas.addEventListener("pointermove", (event) => {
      if (from === null || !event.isPrimary) return;
      turn((event.clientX - from[0]) * DRAG_RAD, (event.clientY - from[1]) * DRAG_RAD);
      from = [event.clientX, event.clientY];
    });
    canvas.addEventListener("lostpointercapture", () => {
      from = null;
    });
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas) return; // who scrolls past it does not zoom
      event.preventDefault();
      zoom(ZOOM.step ** -Math.sign(event.deltaY));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const reach = KEY_RAD * (event.shiftKey ? 10 : 1);
      if (event.key in TURNS) turn(...TURNS[event.key].map((way) => way * reach));
      else if (event.key === "+" || event.key === "=") zoom(ZOOM.step);
      else if (event.key === "-") zoom(1 / ZOOM.step);
      else if (event.key === "Home") this.look("home");
      else return;
      event.preventDefault();
    });
  }
}
