// The newest detector frame, whole and around the peak. Log scale; its top is the brightest pixel of the run so
// far, so that it does not flicker.

import { inferno } from "./colour.js";
import { Panel } from "./panel.js";
import { bottomAxis, colourBar, font, imageCanvas, leftAxis, linearTicks, short, text, textSize } from "./plot.js";

const SATURATED = [0, 229, 255]; // cyan is no colour of inferno, nor near one for any kind of colour vision
const SATURATED_CSS = `rgb(${SATURATED.join(" ")})`;
const SATURATED_PIXEL = new Uint32Array(new Uint8ClampedArray([...SATURATED, 255]).buffer)[0];
const OUTLINE = "#62c4ff";
const KEPT = "#e8fff2";
const CLOSE_SHARE = 4; // the close view shows a quarter of the frame's edge

export class FramePanel extends Panel {
  constructor(id) {
    super(id);
    this._live = null;
    this._run = null;
    this._top = 1;
    this._views = [];
  }

  show(live) {
    if (live === this._live) return;
    if (live?.run !== this._run) this._top = 1;
    this._run = live?.run ?? null;
    this._live = live?.arrays.image ? live : null;
    this._image = null;
    this.invalidate();
  }

  _paint() {
    const { data, shape } = this._live.arrays.image;
    const { peak_counts: brightest, saturation_counts: saturation } = this._live.fields;
    for (let at = 0; at < data.length; at++) if (data[at] > this._top) this._top = data[at];
    this._top = Math.max(this._top, brightest ?? 1);
    const limit = saturation ?? Infinity;
    const scale = 255 / Math.log1p(this._top);
    return imageCanvas(shape[0], shape[1], (pixels) => {
      for (let at = 0; at < data.length; at++) {
        const value = data[at];
        pixels[at] = value >= limit ? SATURATED_PIXEL : inferno.table[value > 0 ? (Math.log1p(value) * scale) | 0 : 0];
      }
    });
  }

  draw(ctx, w, h, colours) {
    const size = textSize(w);
    this._views = [];
    if (this._live === null) {
      font(ctx, size + 2);
      text(ctx, "no frame yet", w / 2, h / 2, { colour: colours.muted, align: "center" });
      this.setNote("");
      return;
    }
    this._image ??= this._paint();
    this._bin = this._live.fields.image_bin ?? 1;
    const [rows, columns] = this._live.arrays.image.shape;
    const whole = { row: 0, column: 0, rows, columns };
    const close = this._closeWindow(rows, columns);
    const [beside, below] = [w > 1.45 * h, h > 1.45 * w];
    const shown = close && (beside || below) ? [whole, close] : [whole];
    const bar = 16 + 5.3 * size;
    const cell = {
      w: (w - bar) / (beside ? shown.length : 1),
      h: h / (below ? shown.length : 1),
    };
    shown.forEach((part, number) => {
      const box = { x: beside ? number * cell.w : 0, y: below ? number * cell.h : 0, ...cell };
      this._drawView(ctx, box, part, { named: number === 0 || below, colours, size });
    });
    if (shown.length > 1) this._outline(ctx, this._views[0], close);
    const last = this._views[beside ? shown.length - 1 : 0].box;
    this._colourBar(ctx, last, colours, size);
    const binned = this._bin > 1 ? `, brightest of ${this._bin}\u00d7${this._bin} pixels` : "";
    const kept = this._live.fields.window ? ", dashed: kept in memory" : "";
    this.setNote(`frame ${this._live.fields.index}, log scale${binned}${kept}`);
  }

  _peak() {
    const peak = this._live.fields.peak;
    return peak ? peak.slice(-2).map((pixel) => Math.floor(pixel / this._bin)) : null;
  }

  _closeWindow(rows, columns) {
    const peak = this._peak();
    const edge = Math.round(Math.min(rows, columns) / CLOSE_SHARE);
    if (peak === null || edge < 16) return null;
    const [row, column] = peak.map((centre, axis) =>
      Math.max(0, Math.min([rows, columns][axis] - edge, centre - (edge >> 1))));
    return { row, column, rows: edge, columns: edge };
  }

  _drawView(ctx, cell, part, { named, colours, size }) {
    const margin = { left: (named ? 3.9 : 2.9) * size, right: 6, top: 6, bottom: 18 + 2 * size };
    const room = { w: cell.w - margin.left - margin.right, h: cell.h - margin.top - margin.bottom };
    const scale = Math.min(room.w / part.columns, room.h / part.rows);
    const box = { w: part.columns * scale, h: part.rows * scale };
    box.x = cell.x + margin.left + (room.w - box.w) / 2;
    box.y = cell.y + margin.top + (room.h - box.h) / 2;
    ctx.imageSmoothingEnabled = scale * (window.devicePixelRatio || 1) < 1;
    ctx.drawImage(this._image, part.column, part.row, part.columns, part.rows, box.x, box.y, box.w, box.h);
    const view = { box, part, scale };
    this._views.push(view);
    this._axes(ctx, view, named, colours, size);
    this._markKept(ctx, view);
    this._markPeak(ctx, view);
  }

  _axes(ctx, { box, part, scale }, named, colours, size) {
    const ticks = (first, count, origin) =>
      linearTicks(first * this._bin, (first + count) * this._bin - 1, Math.max(2, Math.floor((count * scale) / 55))).map(
        (pixel) => ({ at: origin + (pixel / this._bin - first + 0.5) * scale, label: String(pixel) }),
      );
    bottomAxis(ctx, box, ticks(part.column, part.columns, box.x), "column (pixel)", colours, size);
    leftAxis(ctx, box, ticks(part.row, part.rows, box.y), named ? "row (pixel)" : "", colours, size);
  }

  _outline(ctx, { box, scale }, close) {
    ctx.strokeStyle = OUTLINE;
    ctx.lineWidth = 1.5;
    const [x, y] = [box.x + close.column * scale, box.y + close.row * scale];
    ctx.strokeRect(x, y, close.columns * scale, close.rows * scale);
    const other = this._views[1].box;
    ctx.strokeRect(other.x, other.y, other.w, other.h);
  }

  _colourBar(ctx, box, colours, size) {
    const top = Math.log1p(this._top);
    const decades = [0];
    for (let value = 1; value <= this._top; value *= 10) decades.push(value);
    const ticks = decades.map((value) => ({ t: Math.log1p(value) / top, label: short(value) }));
    const limited = Number.isFinite(this._live.fields.saturation_counts);
    const bar = { x: box.x + box.w + 16, y: box.y + size + 8, w: 16, h: box.h - size - 8 - (limited ? 2.2 * size : 0) };
    colourBar(ctx, bar, inferno, ticks, colours, size);
    text(ctx, "counts", bar.x, box.y, { colour: colours.muted, baseline: "top" });
    if (!limited) return;
    const y = box.y + box.h - size;
    ctx.fillStyle = SATURATED_CSS;
    ctx.fillRect(bar.x, y, 16, size);
    text(ctx, "satur.", bar.x + 21, y + size / 2, { colour: colours.ink, baseline: "middle" });
  }

  // The region that the volume keeps of each frame, where whole ones do not fit into memory.
  _markKept(ctx, { box, part, scale }) {
    if (!this._live.fields.window) return;
    const [top, bottom, left, right] = this._live.fields.window.map((pixel) => pixel / this._bin);
    ctx.save();
    ctx.beginPath();
    ctx.rect(box.x, box.y, box.w, box.h);
    ctx.clip();
    ctx.lineWidth = 2;
    for (const [colour, dashes] of [["#000000", []], [KEPT, [7, 6]]]) {
      ctx.strokeStyle = colour;
      ctx.setLineDash(dashes);
      const [x, y] = [box.x + (left - part.column) * scale, box.y + (top - part.row) * scale];
      ctx.strokeRect(x, y, (right - left) * scale, (bottom - top) * scale);
    }
    ctx.restore();
  }

  // Four strokes around the run's brightest pixel, which itself stays in sight.
  _markPeak(ctx, { box, part, scale }) {
    const peak = this._peak();
    if (peak === null) return;
    const x = box.x + (peak[1] - part.column + 0.5) * scale;
    const y = box.y + (peak[0] - part.row + 0.5) * scale;
    const [near, far] = [Math.max(9, 2.5 * scale), Math.max(21, 2.5 * scale + 12)];
    for (const [colour, width] of [["rgb(0 0 0 / 0.8)", 4.5], ["#ffffff", 2]]) {
      ctx.strokeStyle = colour;
      ctx.lineWidth = width;
      ctx.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        ctx.moveTo(x + dx * near, y + dy * near);
        ctx.lineTo(x + dx * far, y + dy * far);
      }
      ctx.stroke();
    }
  }

  describe() {
    if (this._live === null) return "Detector frame: none yet";
    const { index, peak, saturated } = this._live.fields;
    const where = peak ? `, peak of the run at row ${peak.at(-2)}, column ${peak.at(-1)}` : "";
    return `Detector frame ${index}, counts on a log scale${where}, ${saturated ?? 0} saturated pixels`;
  }

  pick(x, y) {
    const view = this._views.find(({ box }) => x >= box.x && y >= box.y && x < box.x + box.w && y < box.y + box.h);
    if (!view) return null;
    const { data, shape } = this._live.arrays.image;
    const row = view.part.row + Math.floor((y - view.box.y) / view.scale);
    const column = view.part.column + Math.floor((x - view.box.x) / view.scale);
    const counts = short(data[row * shape[1] + column]);
    const label = `row ${row * this._bin}, column ${column * this._bin}: ${counts} counts`;
    return { label, step: [view.scale, view.scale] };
  }
}
