// How far the crystal was from the motor's angle frame by frame, where the tracking knows it; where the peak lies 
// on the detector, the monitor, and the counts, against time: a jump is the sample or the beam. The centroid also moves as the frames go through the pattern; the page does not call that drift.

import { Panel } from "./panel.js";
import { bottomAxis, fixed, font, leftAxis, line, linearTicks, short, significant, text, textSize, tickDecimals } from "./plot.js";

const SURE = 5; // a centroid that is less sure than so many pixels says nothing

export class DriftPanel extends Panel {
  constructor(id) {
    super(id);
    this._live = null;
    this._tracking = null;
    this._scale = null;
  }

  show(live, tracking = null) {
    this._live = live;
    this._tracking = tracking;
    this.invalidate();
  }

  /** {x, have, name, unit} of the frames: seconds by the detector's clock, or where that is not known their numbers. */
  _frames() {
    const { have, times_s: times, totals } = this._live?.arrays ?? {};
    if (!have || !totals) return null;
    const there = [...have.data.keys()].filter((index) => have.data[index]);
    if (!there.length) return null;
    const timed = times && there.every((at, k) => Number.isFinite(times.data[at]) && (k === 0 || times.data[at] > times.data[there[k - 1]]));
    return timed
      ? { there, x: (index) => times.data[index], name: "time from the first frame (s)" }
      : { there, x: (index) => index, name: "frame" };
  }

  /** The strips that there are, from the top: each has traces {name, values, std, colour, dashed}. */
  _strips(frames, colours) {
    const arrays = this._live.arrays;
    const strips = [this._turned(frames, colours)].filter(Boolean);
    const places = [
      this._trace(frames, "row", arrays.centroid_row, arrays.centroid_row_std, colours.accent),
      this._trace(frames, "column", arrays.centroid_column, arrays.centroid_column_std, colours.ink),
    ].filter(Boolean);
    if (places.length) strips.push({ title: "peak on the detector (pixel)", traces: places, share: 2.2 });
    if (arrays.monitor) {
      const known = frames.there.map((index) => arrays.monitor.data[index]).filter(Number.isFinite).sort((a, b) => a - b);
      const middle = known[Math.floor(known.length / 2)];
      const values = frames.there.map((index) => (100 * arrays.monitor.data[index]) / middle);
      const gains = this._tracking?.arrays.gain?.data;
      const own = gains && { name: "intensity", values: frames.there.map((index) => 100 * (gains[index] ?? NaN)), colour: colours.ink, dashed: true };
      const traces = [{ values, colour: colours.accent, name: "monitor" }, own].filter((each) => each?.values.some(Number.isFinite));
      if (middle > 0) strips.push({ title: "monitor (% of median)", traces, share: 1, zero: false });
    }
    const totals = frames.there.map((index) => arrays.totals.data[index]);
    strips.push({ title: "counts", traces: [{ values: totals, colour: colours.accent, name: "counts" }], share: 1, zero: true });
    return strips;
  }

  /** The angle less the motor's, as a band; null where no frame says anything of it. */
  _turned({ there }, colours) {
    const { found_steps: found, std_steps: std } = this._tracking?.arrays ?? {};
    if (!found || !std) return null;
    const [values, errors] = [found, std].map(({ data }) => there.map((index) => data[index] ?? NaN));
    if (!values.some(Number.isFinite)) return null;
    return { title: "angle off the motor\u2019s (steps)", traces: [{ name: "angle", values, std: errors, colour: colours.accent, band: true }], share: 1.6 };
  }

  /** What there is to say of the angles. */
  _motion() {
    const { frames, num, whole, why, corrected, reason, jitter_steps: jitter } = this._tracking?.fields ?? {};
    if (this._tracking === null) return "";
    const of = whole ? "" : ` in ${frames} of ${num} frames`;
    if (why) return `angles not tracked: ${why}`;
    if (corrected) return `turned within the scan${of}, ${significant(jitter, 2)} steps rms`;
    if (reason?.startsWith("motion")) return `within the scan${of}: ${reason}`;
    return `no motion seen within the scan${of}`;
  }

  /** Pixels from the mean over all counts, so that both axes fit one strip. */
  _trace({ there }, name, values, std, colour) {
    if (!values || !std) return null;
    const known = there.map((index) => (std.data[index] < SURE ? values.data[index] : NaN));
    const sure = known.map((value, k) => (Number.isFinite(value) ? 1 / Math.max(std.data[there[k]], 1e-3) ** 2 : 0));
    const all = sure.reduce((sum, weight) => sum + weight, 0);
    if (!(all > 0)) return null;
    const mean = known.reduce((sum, value, k) => sum + (sure[k] ? sure[k] * value : 0), 0) / all;
    return { name, values: known.map((value) => value - mean), std: there.map((index) => std.data[index]), mean, colour, dashed: name === "column" };
  }

  draw(ctx, w, h, colours) {
    const size = textSize(w);
    const frames = this._frames();
    this._scale = null;
    if (frames === null) {
      font(ctx, size + 2);
      text(ctx, "no frame yet", w / 2, h / 2, { colour: colours.muted, align: "center" });
      this.setNote("");
      return;
    }
    const strips = this._strips(frames, colours);
    const left = 5.2 * size;
    const box = { x: left, y: 1.5 * size, w: w - left - 18, h: h - 3.6 * size - 18 };
    const [first, last] = [frames.x(frames.there[0]), frames.x(frames.there.at(-1))];
    const span = last > first ? last - first : 1;
    const x = (value) => box.x + ((value - first) / span) * box.w;
    const gap = 1.7 * size;
    const room = box.h - gap * (strips.length - 1);
    const shares = strips.reduce((sum, strip) => sum + strip.share, 0);
    let top = box.y;
    for (const strip of strips) {
      const part = { ...box, y: top, h: (room * strip.share) / shares };
      this._strip(ctx, part, strip, frames, x, colours, size);
      top += part.h + gap;
    }
    const ticks = linearTicks(first, first + span, Math.max(2, Math.floor(box.w / 80)));
    const decimals = tickDecimals(ticks);
    bottomAxis(ctx, { ...box, h: box.h }, ticks.map((at) => ({ at: x(at), label: fixed(at, decimals) })), frames.name, colours, size);
    this._scale = { frames, strips, x, box };
    const about = "of the counts\u2019 centroid; slow motion may be the pattern itself, a jump is not";
    this.setNote(this._motion() || (strips[0].traces.length === 2 ? about : ""));
  }

  _strip(ctx, box, { title, traces, zero }, frames, x, colours, size) {
    const bars = ({ values, std, band }) => values.flatMap((value, k) => (band ? [value - std[k], value + std[k]] : [value]));
    const known = traces.flatMap(bars).filter(Number.isFinite);
    let [low, high] = [Math.min(...known), Math.max(...known)];
    if (zero) low = Math.min(0, low);
    const edge = 0.08 * (high - low) || Math.max(1e-6, 0.02 * Math.abs(high) || 0.5);
    [low, high] = [zero ? low : low - edge, high + edge];
    const y = (value) => box.y + box.h * (1 - (value - low) / (high - low));
    let ticks = linearTicks(low, high, Math.max(3, Math.floor(box.h / (1.9 * size))));
    if (ticks.length > 1 && y(ticks[0]) - y(ticks[1]) < 1.2 * size) ticks = ticks.filter((_, k) => k % 2 === 0);
    const labels = ticks.map((at) => ({ at: y(at), label: Math.abs(at) >= 1000 ? short(at) : significant(Math.abs(at) < 1e-12 ? 0 : at, 4) }));
    for (const { at } of labels) line(ctx, box.x, at, box.x + box.w, at, colours.line);
    line(ctx, box.x, box.y + box.h, box.x + box.w, box.y + box.h, colours.muted);
    line(ctx, box.x, box.y, box.x, box.y + box.h, colours.muted);
    leftAxis(ctx, box, labels, "", colours, size);
    this._title(ctx, box, title, traces, colours, size);
    ctx.save();
    ctx.beginPath();
    ctx.rect(box.x, box.y - 3, box.w + 6, box.h + 6);
    ctx.clip();
    for (const trace of traces) this._curve(ctx, trace, frames, x, y);
    ctx.restore();
  }

  // The names of the traces beside the title, each with a piece of its line.
  _title(ctx, box, title, traces, colours, size) {
    font(ctx, size, 600);
    const y = box.y - 0.55 * size;
    const room = box.w > 30 * size;
    const shown = room ? title : title.replace(" on the detector", "").replace("monitor (% of median)", "(%)");
    text(ctx, shown, box.x, y, { colour: colours.muted });
    if (traces.length < 2) return;
    let at = box.x + ctx.measureText(shown).width + 2 * size;
    for (const { name, colour, dashed } of traces) {
      ctx.setLineDash(dashed ? [5, 4] : []);
      line(ctx, at, y - 0.3 * size, at + 2.2 * size, y - 0.3 * size, colour, 2.5);
      ctx.setLineDash([]);
      text(ctx, name, at + 2.6 * size, y, { colour: colours.ink });
      at += 3.6 * size + ctx.measureText(name).width + size;
    }
  }

  _curve(ctx, { values, std, colour, dashed, band }, { there, x: place }, x, y) {
    if (band) {
      ctx.globalAlpha = 0.25;
      values.forEach((value, k) => {
        if (!Number.isFinite(value) || !Number.isFinite(values[k + 1]) || there[k + 1] !== there[k] + 1) return;
        const corners = [[k, 1], [k + 1, 1], [k + 1, -1], [k, -1]];
        ctx.fillStyle = colour;
        ctx.beginPath();
        corners.forEach(([at, side], number) => ctx[number ? "lineTo" : "moveTo"](x(place(there[at])), y(values[at] + side * std[at])));
        ctx.fill();
      });
      ctx.globalAlpha = 1;
    }
    ctx.lineWidth = 2;
    ctx.strokeStyle = colour;
    ctx.setLineDash(dashed ? [5, 4] : []);
    ctx.beginPath();
    values.forEach((value, k) => {
      if (!Number.isFinite(value)) return;
      const joined = k > 0 && there[k] === there[k - 1] + 1 && Number.isFinite(values[k - 1]);
      ctx[joined ? "lineTo" : "moveTo"](x(place(there[k])), y(value));
    });
    ctx.stroke();
    ctx.setLineDash([]);
    if (!std || band) return;
    values.forEach((value, k) => {
      if (!Number.isFinite(value)) return;
      const at = x(place(there[k]));
      ctx.globalAlpha = 0.5;
      line(ctx, at, y(value - std[k]), at, y(value + std[k]), colour, 1.5);
      ctx.globalAlpha = 1;
    });
  }

  describe() {
    if (this._scale === null) return "Drift: no frame yet";
    const [first] = this._scale.strips;
    const words = first.traces.map(({ name, values }) => {
      const known = values.filter(Number.isFinite);
      return `${name} within ${fixed(Math.max(...known) - Math.min(...known), 2)}`;
    });
    return `${first.title} of ${this._scale.frames.there.length} frames: ${words.join(", ")}`;
  }

  pick(px) {
    if (this._scale === null) return null;
    const { frames, strips, x, box } = this._scale;
    if (px < box.x - 10 || px > box.x + box.w + 10) return null;
    const away = (k) => Math.abs(x(frames.x(frames.there[k])) - px);
    let near = 0;
    for (let k = 1; k < frames.there.length; k++) if (away(k) < away(near)) near = k;
    const words = strips.flatMap(({ traces }) => traces).map(({ name, values, std, mean = 0 }) => {
      if (!Number.isFinite(values[near])) return "";
      if (name === "counts") return `${short(values[near])} counts`;
      if (name === "angle") return `${fixed(values[near], 2)} \u00b1 ${fixed(std[near], 2)} steps off`;
      if (name === "intensity") return `intensity ${fixed(values[near], 1)} % of the model\u2019s`;
      if (name === "monitor") return `monitor ${fixed(values[near], 1)} %`;
      return `${name} ${fixed(values[near] + mean, 2)} \u00b1 ${fixed(std[near], 2)}`;
    });
    const label = [`frame ${frames.there[near]}`, ...words].filter(Boolean).join(", ");
    return { label, step: [box.w / Math.max(1, frames.there.length - 1), 8] };
  }
}
