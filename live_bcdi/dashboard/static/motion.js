// How the crystal moves from scan to scan of a series, which scans are no good, and where it will be at the next.

import { fixed, font, line, text } from "./plot.js";
import { scientific } from "./quantity.js";
import { diamond, dot, known, range, ring, Strip, sure, unitOfTime } from "./strip.js";
import { GLYPHS } from "./text.js";

// What is drawn of a scan, and what is foretold of the next: a number, its error bar, and the bar that holds 95 %.
const angle = (at) => ({
  of: (scan) => scan.rotation_mdeg?.[at],
  error: (scan) => scan.rotation_std_mdeg?.[at],
  next: (told) => told[`rotation_${at + 1}_mdeg`],
});
const pixel = (name) => ({
  of: (scan) => scan[name],
  error: (scan) => scan[`${name}_std`],
  next: (told) => told[name],
  fromFirst: true,
});
const PLOTS = [
  { name: "rotation", scale: [1, "mdeg"], title: "rotation: \u25cf rocking \u25c7 across", traces: [angle(0), angle(1)] },
  { name: "\u0394d/d", title: "spacing, from the first scan", traces: [{ of: (scan) => scan.strain, error: (scan) => scan.strain_std, next: (told) => told.strain }] },
  { name: "shift", scale: [1, "pixel"], title: "peak: \u25cf row \u25c7 column", traces: [pixel("row"), pixel("column")] },
  { name: "intensity", scale: [100, "%"], title: "intensity, of the first scan's", traces: [{ of: (scan) => scan.counts_ratio, error: () => 0, next: (told) => told.counts_ratio }] },
];

export class MotionPanel extends Strip {
  constructor(id) {
    super(id);
    this._fields = { scans: [], prediction: {} };
    this.about = this.section.querySelector(".about-motion");
    this._say();
  }

  show(message) {
    this._fields = { ...message.fields, scans: message.fields.scans ?? [], prediction: message.fields.prediction ?? {} };
    this._say();
    this.invalidate();
  }

  /** {x of a scan, x of the next, name} in a unit of time that fits. */
  _axis() {
    const { scans, prediction } = this._fields;
    const first = scans[0].time_s;
    const next = known(prediction.time_s) ? prediction.time_s : scans.at(-1).time_s;
    const [seconds, unit] = unitOfTime(next - first);
    return { of: (time) => (time - first) / seconds, next: (next - first) / seconds, name: `time since the first scan (${unit})` };
  }

  draw(ctx, w, h, colours) {
    this._places = [];
    if (this._fields.scans.length < 2) return;
    this._lay(w, h, PLOTS, (plot, box, size) => this._plot(ctx, box, plot, colours, size));
    this._mark(ctx, colours);
  }

  /** Points of a trace, and what is foretold of it, as what is drawn: relative to the first scan's. */
  _trace({ of, error, next, fromFirst }) {
    const { scans, prediction } = this._fields;
    const first = fromFirst ? (of(scans.find((scan) => known(of(scan))) ?? {}) ?? NaN) : 0;
    const points = scans.filter((scan) => known(of(scan))).map((scan) => ({ scan, y: of(scan) - first, dy: error(scan) ?? 0 }));
    const told = next(prediction);
    return { points, next: known(told?.value) && known(told.std) ? { y: told.value - first, dy: told.std, dy2: told.std2 } : null };
  }

  _plot(ctx, box, plot, colours, size) {
    font(ctx, size, 650);
    text(ctx, plot.title, box.x, box.y - 8, { colour: colours.ink });
    const axis = this._axis();
    const traces = plot.traces.map((each) => this._trace(each));
    const values = traces.flatMap(({ points, next }) => [...points.map(({ y, dy }) => [y, dy]), ...(next ? [[next.y, Math.min(next.dy2, 2.5 * next.dy)]] : [])]);
    if (!values.length) {
      this._notKnown(ctx, box, colours, size);
      return;
    }
    const across = range([...this._fields.scans.map((scan) => [axis.of(scan.time_s), 0]), [axis.next, 0]]);
    const up = range(values);
    const { x, y } = this._axes(ctx, box, { across, up }, axis, plot, colours, size);
    ctx.save();
    ctx.beginPath();
    ctx.rect(box.x, box.y - 6, box.w + 12, box.h + 12);
    ctx.clip();
    traces.forEach((trace, at) => this._series(ctx, trace, { x: (time) => x(axis.of(time)), next: x(axis.next), y, mark: at ? diamond : dot }, colours));
    ctx.restore();
    this._bad(ctx, box, traces[0], (time) => x(axis.of(time)), y, colours, size);
    for (const { points } of traces) this._places.push(...points.map(({ scan, y: value }) => ({ run: scan, x: x(axis.of(scan.time_s)), y: y(value), box })));
  }

  // The scans, a line through them, and what is foretold: a broken line to an open mark, a bar of 68 % on one of 95 %.
  _series(ctx, { points, next }, { x, next: xNext, y, mark }, colours) {
    ctx.strokeStyle = colours.muted;
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    points.forEach((point, at) => ctx[at ? "lineTo" : "moveTo"](x(point.scan.time_s), y(point.y)));
    ctx.stroke();
    const small = points.length > 40;
    for (const { scan, y: value, dy } of points) {
      const px = x(scan.time_s);
      if (dy > 0) line(ctx, px, y(value - dy), px, y(value + dy), colours.accent, 1.5);
      mark(ctx, px, y(value), small ? 3 : 4.5, colours.accent);
    }
    if (!next || !points.length) return;
    const last = points.at(-1);
    ctx.globalAlpha = 0.3;
    line(ctx, xNext, y(next.y - next.dy2), xNext, y(next.y + next.dy2), colours.ink, 9);
    ctx.globalAlpha = 1;
    line(ctx, xNext, y(next.y - next.dy), xNext, y(next.y + next.dy), colours.ink, 3);
    ctx.setLineDash([4, 4]);
    line(ctx, x(last.scan.time_s), y(last.y), xNext, y(next.y), colours.ink, 1.5);
    ctx.setLineDash([]);
    if (mark === dot) ring(ctx, xNext, y(next.y), 5.5, colours.ink, 2);
    else mark(ctx, xNext, y(next.y), 5.5, colours.ink);
  }

  // A cross at a scan that is no good, on the axis where it did not see the crystal.
  _bad(ctx, box, { points }, x, y, colours, size) {
    for (const scan of this._fields.scans.filter((each) => each.reasons?.length)) {
      const found = points.find((point) => point.scan === scan);
      const at = { x: x(scan.time_s), y: found ? y(found.y) : box.y + box.h };
      font(ctx, size + 4, 700);
      text(ctx, GLYPHS.bad, at.x, at.y, { colour: colours.bad, align: "center", baseline: "middle" });
      if (!found) this._places.push({ run: scan, ...at, box });
    }
  }

  _ordered() {
    return this._fields.scans;
  }

  _inWords(scan) {
    const parts = [scan.name ?? scan.run.slice(0, 8)];
    if (scan.rotation_mdeg) {
      const turned = [0, 1].map((at) => sure(scan.rotation_mdeg[at], scan.rotation_std_mdeg?.[at]));
      parts.push(`turned ${turned.join(" and ")} mdeg`, `\u0394d/d ${scientific(scan.strain, 3)} \u00b1 ${scientific(scan.strain_std, 1)}`);
      parts.push(`intensity ${fixed(100 * scan.counts_ratio, 0)} %`);
    }
    if (known(scan.angle_deg)) {
      parts.push(`peak at ${sure(scan.angle_deg, scan.angle_std_deg)}\u00b0, row ${sure(scan.row, scan.row_std)}, column ${sure(scan.column, scan.column_std)}`);
    }
    if (scan.reasons?.length) parts.push(`${GLYPHS.bad} ${scan.reasons.join("; ")}`);
    return parts.join(", ");
  }

  /** What the strip is of; where the next scan has its peak, or that the crystal is lost. */
  _say() {
    const { scans, series, prediction } = this._fields;
    const ready = scans.length >= 2;
    this.section.classList.toggle("waiting", !ready);
    this.note.classList.toggle("alert", Boolean(prediction.lost));
    if (!ready) {
      this.setNote(scans.length ? `${series}: 1 scan; the strip begins with the second` : "no scan yet");
      this.about.textContent = "";
      return;
    }
    const bad = scans.filter((scan) => scan.reasons?.length);
    const lost = prediction.lost && `${GLYPHS.bad} the newest scan did not see the crystal: ${prediction.lost}`;
    this.setNote(lost || `${series}: ${scans.length} scans${bad.length ? `, ${bad.length} no good (${GLYPHS.bad})` : ""}`);
    this.about.textContent = this._next();
  }

  _next() {
    const { prediction, scans } = this._fields;
    const { angle_deg: degrees, row, column, rotation_1_mdeg: first, rotation_2_mdeg: second, unseen } = prediction;
    if (!known(degrees?.std)) return "where the next scan will have its peak is not known: two scans must have seen it";
    const places = [`${sure(degrees.value, degrees.std)}\u00b0`, `row ${sure(row?.value, row?.std)}`, `column ${sure(column?.value, column?.std)}`];
    const turned = `turned ${sure(first?.value, first?.std)} and ${sure(second?.value, second?.std)} mdeg`;
    const blind = unseen > 0 ? `, from before ${unseen === 1 ? "the last scan" : `the last ${unseen} scans`}` : "";
    return `next scan, set up as ${unseen > 0 ? "the last that saw it" : scans.at(-1).name ?? "this one"}: peak at ${places.join(", ")} (${turned}${blind})`;
  }

  describe() {
    const { scans, series } = this._fields;
    if (scans.length < 2) return "Motion: fewer than two scans";
    return `Motion through ${scans.length} scans of ${series}; newest: ${this._inWords(scans.at(-1))}. ${this._next()}.`;
  }
}
