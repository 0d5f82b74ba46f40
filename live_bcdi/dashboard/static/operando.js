// How a crystal changes from run to run of a series, against the state that is changed, or against time.

import { fixed, font, line, significant, text } from "./plot.js";
import { scientific } from "./quantity.js";
import { diamond, dot, known, range, ring, Strip, sure, unitOfTime } from "./strip.js";
import { GLYPHS } from "./text.js";

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
const COLUMNS = [
  "run", "name", "time_s", "state", "state_std", "strain_std", "strain_std_error", "d_change", "PC1", "PC2", "PC3", "chi",
  "resolution_nm", "intensity", "peak_change", "peak_change_std", "rotation_1_mdeg", "rotation_1_std_mdeg",
  "rotation_2_mdeg", "rotation_2_std_mdeg",
];

export class OperandoPanel extends Strip {
  constructor(id) {
    super(id);
    this._fields = { runs: [] };
    this._wanted = "state";
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
    const [seconds, unit] = unitOfTime(runs.at(-1).time_s - first);
    return { name: `time since the first run (${unit})`, runs, of: (run) => (run.time_s - first) / seconds, error: () => null };
  }

  draw(ctx, w, h, colours) {
    this._places = [];
    if (this._fields.runs.length < 2) return;
    const axis = this._axis();
    this._lay(w, h, this._curves, (curve, box, size) => this._plot(ctx, box, curve, axis, colours, size));
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
      this._notKnown(ctx, box, colours, size);
      return;
    }
    const across = range(axis.runs.map((run) => [axis.of(run), axis.error(run) ?? 0]));
    const up = range(points.map((point) => [point.y, point.dy]));
    const { x, y } = this._axes(ctx, box, { across, up }, axis, curve, colours, size);
    sets.forEach((set, at) => this._series(ctx, set, { x, y, mark: at ? diamond : dot }, colours));
    this._places.push(...points.map((point) => ({ run: point.run, x: x(point.x), y: y(point.y), box })));
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
    super.listen();
    const { canvas } = this;
    canvas.addEventListener("click", (event) => this._open(this.pick(event.offsetX, event.offsetY)));
    canvas.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this._open(this._fields.runs.find((run) => run.run === this._chosen));
    });
  }

  /** Along the axis. */
  _ordered() {
    if (this._fields.runs.length < 2) return [];
    const axis = this._axis();
    return [...axis.runs].sort((a, b) => axis.of(a) - axis.of(b));
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

const named = (runs) => (runs.length > 2 ? `${runs.length} runs` : runs.map((run) => run.name ?? run.run.slice(0, 8)).join(", "));

function cell(value) {
  const string = value === null || value === undefined ? "" : String(value);
  return /^[=+\-@]/.test(string) && !known(value) ? `"'${string.replaceAll('"', '""')}"` : /[",\n]/.test(string) ? `"${string.replaceAll('"', '""')}"` : string;
}

const turned = (run, at) => sure(run.rotation_mdeg[at], run.rotation_std_mdeg?.[at]);
