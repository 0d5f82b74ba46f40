// A panel of plots side by side, each of the same runs: one that is chosen, by pointer or keys, is marked in all.

import { Panel } from "./panel.js";
import {
  bottomAxis, fixed, font, leftAxis, line, linearTicks, significant, text, textSize, tickDecimals,
} from "./plot.js";
import { scientific } from "./quantity.js";

const NEAR = 40; // pixels from a point at which it is meant
const NARROW = 1000; // below it the plots stand one above the other
const TICKS = 8; // of an axis, at most
const UNITS_OF_TIME = [[7200, 3600, "h"], [120, 60, "min"], [0, 1, "s"]];

export const known = Number.isFinite;

export class Strip extends Panel {
  constructor(id) {
    super(id);
    this._chosen = null; // a run, by its uid, under the pointer or the keys
    this._places = []; // where each was drawn: {run, x, y, box}
  }

  // For the panels: their runs, in the order in which the keys go; one in words.
  _ordered() { return []; }
  _inWords(_run) { return ""; }

  /** `each(plot, box, size)` for plots beside each other, or one above the other where the page is narrow. */
  _lay(w, h, plots, each) {
    const columns = w < NARROW ? 1 : plots.length;
    const [width, height] = [w / columns, h / (plots.length / columns)];
    const size = textSize(columns === 1 ? w : Math.min(w, 1199));
    const left = 5 * size;
    plots.forEach((plot, at) => {
      const corner = columns === 1 ? { x: 0, y: at * height } : { x: at * width, y: 0 };
      each(plot, { x: corner.x + left, y: corner.y + 10 + 1.5 * size, w: width - left - 16, h: height - 28 - 3.7 * size }, size);
    });
  }

  /** {x, y} from values to pixels of a plot with its axes drawn; `axis` and `plot` have a name, `scale` is [factor, unit]. */
  _axes(ctx, box, { across, up }, axis, { name, scale }, colours, size) {
    const x = (value) => box.x + ((value - across.low) / (across.high - across.low)) * box.w;
    const y = (value) => box.y + box.h * (1 - (value - up.low) / (up.high - up.low));
    const ticks = linearTicks(across.low, across.high, count(box.w / (4.5 * size)));
    const decimals = tickDecimals(ticks);
    const [factor, unit] = scale ?? tenth(up);
    const beside = linearTicks(up.low * factor, up.high * factor, count(box.h / (2.4 * size)));
    const digits = tickDecimals(beside);
    const left = beside.map((value) => ({ at: y(value / factor), label: fixed(zero(value), digits) }));
    for (const { at } of left) line(ctx, box.x, at, box.x + box.w, at, colours.line);
    line(ctx, box.x, box.y + box.h, box.x + box.w, box.y + box.h, colours.muted);
    line(ctx, box.x, box.y, box.x, box.y + box.h, colours.muted);
    const below = ticks.map((value) => ({ at: x(value), label: fixed(zero(value), decimals) }));
    bottomAxis(ctx, box, below, axis.name, colours, size);
    leftAxis(ctx, box, left, unit ? `${name} (${unit})` : name, colours, size);
    return { x, y };
  }

  _notKnown(ctx, box, colours, size) {
    font(ctx, size);
    text(ctx, "not known", box.x + box.w / 2, box.y + box.h / 2, { colour: colours.muted, align: "center" });
  }

  /** The chosen run, in all plots, and in words. */
  _mark(ctx, colours) {
    const run = this._ordered().find((each) => each.run === this._chosen);
    this.readout.textContent = run ? this._inWords(run) : "";
    for (const place of this._places.filter((each) => each.run === run)) {
      line(ctx, place.x, place.box.y, place.x, place.box.y + place.box.h, colours.muted);
      dot(ctx, place.x, place.y, 6.5, colours.ink);
    }
  }

  _drawCursor() {} // a run is marked instead

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointermove", (event) => this._choose(this.pick(event.offsetX, event.offsetY)));
    canvas.addEventListener("pointerleave", () => this._choose(null));
    canvas.addEventListener("blur", () => this._choose(null));
    canvas.addEventListener("keydown", (event) => {
      const next = this._beside(event.key, event.shiftKey ? 10 : 1);
      if (!next) return;
      event.preventDefault();
      this._choose(next);
    });
  }

  _choose(run) {
    if ((run?.run ?? null) === this._chosen) return;
    this._chosen = run?.run ?? null;
    this.invalidate();
  }

  /** The run beside the chosen one; null for other keys. */
  _beside(key, step) {
    const by = { ArrowLeft: -step, ArrowRight: step, Home: -Infinity, End: Infinity }[key];
    const runs = by === undefined ? [] : this._ordered();
    if (runs.length < 2) return null;
    const at = runs.findIndex((run) => run.run === this._chosen);
    const from = at < 0 ? (by > 0 ? -1 : runs.length) : at;
    return runs[Math.max(0, Math.min(runs.length - 1, from + by))];
  }

  pick(px, py) {
    const distance = (place) => Math.hypot(place.x - px, place.y - py);
    const near = this._places.reduce((a, b) => (a === null || distance(b) < distance(a) ? b : a), null);
    return near !== null && distance(near) <= NEAR ? near.run : null;
  }
}

const count = (room) => Math.max(2, Math.min(TICKS, Math.floor(room)));

/** [seconds, name] of the unit of time in which a span of seconds is written. */
export const unitOfTime = (span) => UNITS_OF_TIME.find(([least]) => span >= least).slice(1);

/** About values with their errors, and a margin. */
export function range(values) {
  const low = Math.min(...values.map(([value, error]) => value - error));
  const high = Math.max(...values.map(([value, error]) => value + error));
  const margin = 0.08 * (high - low) || 0.05 * Math.abs(high) || 1;
  return { low: low - margin, high: high + margin };
}

/** [factor, what the ticks are in] where plain numbers would be too small to read. */
function tenth({ low, high }) {
  const most = Math.max(Math.abs(low), Math.abs(high));
  if (most >= 0.01) return [1, ""];
  const power = Math.floor(Math.log10(most) + 1e-9);
  return [10 ** -power, scientific(10 ** power, 1).replace("1\u00d7", "")];
}

export const zero = (value) => (Math.abs(value) < 1e-12 ? 0 : value);

export function dot(ctx, x, y, radius, colour) {
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.arc(x, y, radius, 0, 2 * Math.PI);
  ctx.fill();
}

export function diamond(ctx, x, y, radius, colour) {
  ctx.strokeStyle = colour;
  ctx.lineWidth = 2;
  ctx.beginPath();
  const reach = 1.2 * radius;
  for (const [dx, dy] of [[0, -reach], [reach, 0], [0, reach], [-reach, 0]]) ctx.lineTo(x + dx, y + dy);
  ctx.closePath();
  ctx.stroke();
}

export function ring(ctx, x, y, radius, colour, width) {
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.beginPath();
  ctx.arc(x, y, radius, 0, 2 * Math.PI);
  ctx.stroke();
}

/** A number and its error bar, with as many decimals as that has. */
export function sure(value, error) {
  if (!known(value)) return "\u2013";
  if (!(error > 0)) return significant(zero(value), 5);
  const decimals = Math.max(0, Math.min(6, 1 - Math.floor(Math.log10(error))));
  return `${fixed(zero(value), decimals)} \u00b1 ${fixed(error, decimals)}`;
}
