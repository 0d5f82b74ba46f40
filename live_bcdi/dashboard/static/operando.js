// How a crystal changes from run to run of a series, against the state that is changed, or against time.

import { Panel } from "./panel.js";
import {
  bottomAxis, fixed, font, leftAxis, line, linearTicks, significant, text, textSize, tickDecimals,
} from "./plot.js";
import { scientific } from "./quantity.js";
import { GLYPHS } from "./text.js";

const NEAR = 40; // pixels from a point at which it is meant
const NARROW = 1000; // below it the plots stand one above the other

const CURVES = [
  { name: "strain, std", title: "strain inside the crystal", of: (run) => run.strain_std, error: (run) => run.strain_std_error },
  { name: "\u0394d/d", title: "mean spacing, from the first run", of: (run) => run.d_change },
  { name: "PC1", title: "pattern", of: (run) => run.components?.[0], scale: [100, "%"] },
  {
    name: "rotation", title: "rotation: \u25cf rocking \u25c7 across", scale: [1, "mdeg"],
    of: (run) => run.rotation_mdeg?.[0], error: (run) => run.rotation_std_mdeg?.[0],
    also: { of: (run) => run.rotation_mdeg?.[1], error: (run) => run.rotation_std_mdeg?.[1] },
  },
];
const UNITS_OF_TIME = [[7200, 3600, "h"], [120, 60, "min"], [0, 1, "s"]];
const COLUMNS = [
  "run", "name", "time_s", "state", "state_std", "strain_std", "strain_std_error", "d_change", "PC1", "PC2", "PC3", "chi",
  "resolution_nm", "intensity", "peak_change", "peak_change_std", "rotation_1_mdeg", "rotation_1_std_mdeg",
  "rotation_2_mdeg", "rotation_2_std_mdeg",
];

const known = Number.isFinite;

export class OperandoPanel extends Panel {
  constructor(id) {
    super(id);
    this._fields = { runs: [] };
    this._wanted = "state";
    this._chosen = null; // the run, by its uid, under the pointer or the keys
    this._places = [];
    this.about = this.section.querySelector(".about-series");
    this.buttons = [...this.section.querySelectorAll("[data-axis]")];
    for (const button of this.buttons) {
      button.addEventListener("click", () => {
        this._wanted = button.dataset.axis;
        this._say();
        this.invalidate();
      });
    }
    this.csv = this.section.querySelector(".csv");
    this.csv.addEventListener("click", () => this._save());
    this._say();
  }

  show(message) {
    this._fields = { runs: [], ...message.fields };
    this._say();
    this.invalidate();
  }

  /** Whether any run says its state. */
  get _hasState() {
    return this._fields.runs.some((run) => known(run.state));
  }

  get _byState() {
    return this._wanted === "state" && this._hasState;
  }

  /** Results of before the rotation was known have none. */
  get _curves() {
    const turned = this._fields.runs.some((run) => run.rotation_mdeg);
    return CURVES.filter((curve) => curve.name !== "rotation" || turned);
  }

  /** Runs with a place on the axis, in the order of time, and what the axis is. */
  _axis() {
    const { runs, state } = this._fields;
    if (this._byState) {
      const name = state.unit ? `${state.name} (${state.unit})` : state.name;
      return { name, runs: runs.filter((run) => known(run.state)), of: (run) => run.state, error: (run) => run.state_std };
    }
    const first = runs[0].time_s;
    const span = runs.at(-1).time_s - first;
    const [, seconds, unit] = UNITS_OF_TIME.find(([least]) => span >= least);
    return { name: `time since the first run (${unit})`, runs, of: (run) => (run.time_s - first) / seconds, error: () => null };
  }

  draw(ctx, w, h, colours) {
    this._places = [];
    if (this._fields.runs.length < 2) return;
    const axis = this._axis();
    const curves = this._curves;
    const columns = w < NARROW ? 1 : curves.length;
    const [width, height] = [w / columns, h / (curves.length / columns)];
    const size = textSize(columns === 1 ? w : Math.min(w, 1199));
    const left = 5 * size;
    curves.forEach((curve, at) => {
      const corner = columns === 1 ? { x: 0, y: at * height } : { x: at * width, y: 0 };
      const box = { x: corner.x + left, y: corner.y + 10 + 1.5 * size, w: width - left - 16, h: height - 28 - 3.7 * size };
      this._plot(ctx, box, curve, axis, colours, size);
    });
    this._mark(ctx, colours);
  }

  _plot(ctx, box, curve, axis, colours, size) {
    const of = (one) => axis.runs
      .filter((run) => known(one.of(run)))
      .map((run) => ({ run, x: axis.of(run), y: one.of(run), dx: axis.error(run) ?? 0, dy: one.error?.(run) ?? 0 }));
    const sets = [curve, curve.also].filter(Boolean).map(of);
    const points = sets.flat();
    font(ctx, size, 650);
    const share = this._fields.explained?.[0];
    const explains = curve.name === "PC1" && known(share) ? `, ${Math.round(100 * share)} % of the variance` : "";
    text(ctx, curve.title + explains, box.x, box.y - 8, { colour: colours.ink });
    if (!points.length) {
      font(ctx, size);
      text(ctx, "not known", box.x + box.w / 2, box.y + box.h / 2, { colour: colours.muted, align: "center" });
      return;
    }
    const across = range(axis.runs.map((run) => [axis.of(run), axis.error(run) ?? 0]));
    const up = range(points.map((point) => [point.y, point.dy]));
    const x = (value) => box.x + ((value - across.low) / (across.high - across.low)) * box.w;
    const y = (value) => box.y + box.h * (1 - (value - up.low) / (up.high - up.low));
    this._axes(ctx, box, { x, y, across, up }, [axis.name, curve], colours, size);
    sets.forEach((set, at) => this._series(ctx, set, { x, y, mark: at ? diamond : dot }, colours));
    this._places.push(...points.map((point) => ({ run: point.run, x: x(point.x), y: y(point.y), box })));
  }

  _axes(ctx, box, { x, y, across, up }, [name, curve], colours, size) {
    const ticks = linearTicks(across.low, across.high, Math.max(2, Math.floor(box.w / (5 * size))));
    const decimals = tickDecimals(ticks);
    const [factor, unit] = curve.scale ?? tenth(up);
    const beside = linearTicks(up.low * factor, up.high * factor, Math.max(2, Math.floor(box.h / (2.4 * size))));
    const digits = tickDecimals(beside);
    const left = beside.map((value) => ({ at: y(value / factor), label: fixed(zero(value), digits) }));
    for (const { at } of left) line(ctx, box.x, at, box.x + box.w, at, colours.line);
    line(ctx, box.x, box.y + box.h, box.x + box.w, box.y + box.h, colours.muted);
    line(ctx, box.x, box.y, box.x, box.y + box.h, colours.muted);
    const below = ticks.map((value) => ({ at: x(value), label: fixed(zero(value), decimals) }));
    bottomAxis(ctx, box, below, name, colours, size);
    leftAxis(ctx, box, left, unit ? `${curve.name} (${unit})` : curve.name, colours, size);
  }

  // A thin line in the order of time shows which way a cycle went; the newest run has a ring.
  _series(ctx, points, { x, y, mark }, colours) {
    ctx.strokeStyle = colours.muted;
    ctx.lineWidth = 1.5;
    ctx.lineJoin = "round";
    ctx.beginPath();
    points.forEach((point, at) => ctx[at ? "lineTo" : "moveTo"](x(point.x), y(point.y)));
    ctx.stroke();
    for (const { x: px, y: py, dx, dy } of points) {
      if (dx > 0) line(ctx, x(px - dx), y(py), x(px + dx), y(py), colours.accent, 1.5);
      if (dy > 0) line(ctx, x(px), y(py - dy), x(px), y(py + dy), colours.accent, 1.5);
      mark(ctx, x(px), y(py), points.length > 60 ? 3 : 5, colours.accent);
    }
    const newest = points.at(-1);
    if (newest.run !== this._fields.runs.at(-1)) return;
    ring(ctx, x(newest.x), y(newest.y), 10, colours.accent, 2.5);
  }

  /** The chosen run, in all plots, and in words. */
  _mark(ctx, colours) {
    const run = this._fields.runs.find((each) => each.run === this._chosen);
    this.readout.textContent = run ? this._inWords(run) : "";
    for (const place of this._places.filter((each) => each.run === run)) {
      line(ctx, place.x, place.box.y, place.x, place.box.y + place.box.h, colours.muted);
      dot(ctx, place.x, place.y, 7, colours.ink);
    }
  }

  _drawCursor() {} // a run is marked instead

  _inWords(run) {
    const { state } = this._fields;
    const parts = [run.name ?? run.run.slice(0, 8)];
    if (state && known(run.state)) parts.push(`${state.name} ${significant(run.state, 4)} ${state.unit}`.trim());
    if (known(run.strain_std)) {
      const error = known(run.strain_std_error) ? ` \u00b1 ${scientific(run.strain_std_error)}` : "";
      parts.push(`strain ${scientific(run.strain_std, 3)}${error}`);
    }
    if (known(run.d_change)) parts.push(`\u0394d/d ${scientific(run.d_change, 3)}`);
    if (run.rotation_mdeg) parts.push(`turned ${[0, 1].map((at) => turned(run, at)).join(" and ")} mdeg`);
    if (run.components?.length) parts.push(`PC1 ${fixed(100 * run.components[0], 1)} %`);
    else if (run.components_why) parts.push(`not in PC1: ${run.components_why}`);
    if (known(run.chi)) parts.push(`\u03c7 ${significant(run.chi)}`);
    return parts.join(", ");
  }

  /** What the strip is of, what it lacks and why. */
  _say() {
    const { runs, series, state } = this._fields;
    const ready = runs.length >= 2;
    this.section.classList.toggle("waiting", !ready);
    this.csv.disabled = !ready;
    for (const button of this.buttons) {
      const byState = button.dataset.axis === "state";
      button.disabled = !ready || (byState && !this._hasState);
      button.setAttribute("aria-pressed", String(ready && byState === this._byState));
      if (byState) button.textContent = state?.name ?? "state";
    }
    if (!ready) {
      this.setNote(runs.length ? `${series}: 1 result; the strip begins with the second` : "no result yet");
      this.about.textContent = "";
      return;
    }
    this.setNote(`${series}: ${runs.length} runs, the newest ringed`);
    this.about.textContent = this._lacks().join("; ");
  }

  _lacks() {
    const { runs, state } = this._fields;
    const without = runs.filter((run) => !known(run.state));
    const said = [];
    if (!state) said.push("by time: no state is configured ([operando] state)");
    else if (without.length === runs.length) said.push(`${GLYPHS.warn} by time: ${without.at(-1).state_why ?? "no run says its state"}`);
    else if (without.length) {
      const where = this._byState ? "only on the axis of time" : `without ${state.name}`;
      said.push(`${GLYPHS.warn} ${named(without)} ${where}: ${without.at(-1).state_why ?? "not said"}`);
    }
    const unfit = runs.filter((run) => run.components_why);
    if (unfit.length) said.push(`${GLYPHS.warn} ${named(unfit)} not in PC1: ${unfit.at(-1).components_why}`);
    return said;
  }

  listen() {
    const { canvas } = this;
    const choose = (run) => {
      if (run?.run === this._chosen) return;
      this._chosen = run?.run ?? null;
      this.invalidate();
    };
    canvas.addEventListener("pointermove", (event) => choose(this.pick(event.offsetX, event.offsetY)));
    canvas.addEventListener("pointerleave", () => choose(null));
    canvas.addEventListener("blur", () => choose(null));
    canvas.addEventListener("click", (event) => this._open(this.pick(event.offsetX, event.offsetY)));
    canvas.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this._open(this._fields.runs.find((run) => run.run === this._chosen));
      const next = this._next(event.key, event.shiftKey ? 10 : 1);
      if (next === null) return;
      event.preventDefault();
      choose(next);
    });
  }

  /** The run beside the chosen one along the axis; null for other keys. */
  _next(key, step) {
    const by = { ArrowLeft: -step, ArrowRight: step, Home: -Infinity, End: Infinity }[key];
    if (by === undefined || this._fields.runs.length < 2) return null;
    const axis = this._axis();
    const sorted = [...axis.runs].sort((a, b) => axis.of(a) - axis.of(b));
    const at = sorted.findIndex((run) => run.run === this._chosen);
    const from = at < 0 ? (by > 0 ? -1 : sorted.length) : at;
    return sorted[Math.max(0, Math.min(sorted.length - 1, from + by))];
  }

  pick(px, py) {
    const distance = (place) => Math.hypot(place.x - px, place.y - py);
    const near = this._places.reduce((a, b) => (a === null || distance(b) < distance(a) ? b : a), null);
    return near !== null && distance(near) <= NEAR ? near.run : null;
  }

  _open(run) {
    if (run) window.open(`history?a=${encodeURIComponent(run.run)}`, "_blank", "noopener");
  }

  _save() {
    const rows = this._fields.runs.map((run) => {
      const [PC1, PC2, PC3] = run.components ?? [];
      const [rotation_1_mdeg, rotation_2_mdeg] = run.rotation_mdeg ?? [];
      const [rotation_1_std_mdeg, rotation_2_std_mdeg] = run.rotation_std_mdeg ?? [];
      const angles = { rotation_1_mdeg, rotation_1_std_mdeg, rotation_2_mdeg, rotation_2_std_mdeg };
      return COLUMNS.map((name) => cell({ ...run, PC1, PC2, PC3, ...angles }[name])).join(",");
    });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([[COLUMNS.join(","), ...rows, ""].join("\n")], { type: "text/csv" }));
    link.download = "series.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  describe() {
    const { runs, series } = this._fields;
    if (runs.length < 2) return "Operando: fewer than two results";
    const words = `Series of ${runs.length} runs of ${series}; newest: ${this._inWords(runs.at(-1))}.`;
    return `${words} Left and right go from run to run, Enter opens one in the history.`;
  }
}

/** About values with their errors, and a margin. */
export function range(values) {
  const low = Math.min(...values.map(([value, error]) => value - error));
  const high = Math.max(...values.map(([value, error]) => value + error));
  const margin = 0.08 * (high - low) || 0.05 * Math.abs(high) || 1;
  return { low: low - margin, high: high + margin };
}

/** [factor, what the ticks are in] where plain numbers would be too small to read. */
export function tenth({ low, high }) {
  const most = Math.max(Math.abs(low), Math.abs(high));
  if (most >= 0.01) return [1, ""];
  const power = Math.floor(Math.log10(most) + 1e-9);
  return [10 ** -power, scientific(10 ** power, 1).replace("1\u00d7", "")];
}

export const zero = (value) => (Math.abs(value) < 1e-12 ? 0 : value);

const named = (runs) => (runs.length > 2 ? `${runs.length} runs` : runs.map((run) => run.name ?? run.run.slice(0, 8)).join(", "));

function cell(value) {
  const string = value === null || value === undefined ? "" : String(value);
  return /^[=+\-@]/.test(string) && !known(value) ? `"'${string.replaceAll('"', '""')}"` : /[",\n]/.test(string) ? `"${string.replaceAll('"', '""')}"` : string;
}

export function dot(ctx, x, y, radius, colour) {
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.arc(x, y, radius, 0, 2 * Math.PI);
  ctx.fill();
}

/** An angle of a run and its error bar, with as many decimals as that has. */
function turned(run, at) {
  const [angle, error] = [run.rotation_mdeg[at], run.rotation_std_mdeg?.[at]];
  if (!(error > 0)) return fixed(zero(angle), 1);
  const decimals = Math.max(0, Math.min(3, 1 - Math.floor(Math.log10(error))));
  return `${fixed(zero(angle), decimals)} \u00b1 ${fixed(error, decimals)}`;
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
