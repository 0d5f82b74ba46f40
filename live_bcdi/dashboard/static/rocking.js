// Total counts of each frame against the rocking angle, with what was planned and what is missing.

import { Panel } from "./panel.js";
import {
  bottomAxis, decadeTicks, fixed, font, leftAxis, line, linearTicks, short, text, textSize, tickDecimals,
} from "./plot.js";

export class RockingPanel extends Panel {
  constructor(id) {
    super(id);
    this._live = null;
    this._run = null;
    this._missing = [];
    this._log = false;
    this._scale = null;
    const button = this.section.querySelector(".log");
    button.addEventListener("click", () => {
      this._log = !this._log;
      button.setAttribute("aria-pressed", String(this._log));
      this.invalidate();
    });
  }

  show(live, run, missing) {
    this._live = live;
    this._run = run;
    this._missing = missing;
    this.invalidate();
  }

  _points() {
    const { angles_deg: angles, totals, have } = this._live?.arrays ?? {};
    if (!angles || !totals) return [];
    const points = [];
    for (let index = 0; index < angles.data.length; index++) {
      const there = have ? have.data[index] : Number.isFinite(totals.data[index]);
      if (there) points.push({ index, angle: angles.data[index], total: totals.data[index] });
    }
    return points;
  }

  _range(points) {
    const planned = [this._run?.fields.start_deg, this._run?.fields.stop_deg].filter(Number.isFinite);
    const angles = [...points.map((point) => point.angle), ...planned];
    if (!angles.length) return null;
    let [low, high] = [Math.min(...angles), Math.max(...angles)];
    if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
    const edge = 0.03 * (high - low);
    return { low: low - edge, high: high + edge, planned: planned.length === 2 ? planned : null };
  }

  draw(ctx, w, h, colours) {
    const size = textSize(w);
    const points = this._points();
    const range = this._range(points);
    if (range === null) {
      font(ctx, size + 2);
      text(ctx, "no frame yet", w / 2, h / 2, { colour: colours.muted, align: "center" });
      this._scale = null;
      this.setNote("");
      return;
    }
    const left = 5.2 * size;
    const box = { x: left, y: 12, w: w - left - 18, h: h - 34 - 2 * size };
    const scale = this._makeScale(points, range, box);
    this._scale = { ...scale, box, points };
    this._planned(ctx, box, range, scale, colours);
    this._axes(ctx, box, range, scale, colours, size);
    this._curve(ctx, box, points, scale, colours);
    this._gaps(ctx, box, scale, colours);
    this._say();
  }

  _makeScale(points, range, box) {
    const totals = points.map((point) => point.total);
    const top = Math.max(1, ...totals) * (this._log ? 1.6 : 1.08);
    const positive = totals.filter((total) => total > 0);
    const bottom = this._log ? Math.max(Math.min(...positive, top / 10) / 1.6, top * 1e-6) : 0;
    const x = (angle) => box.x + ((angle - range.low) / (range.high - range.low)) * box.w;
    const share = this._log
      ? (total) => Math.log(Math.max(total, bottom) / bottom) / Math.log(top / bottom)
      : (total) => total / top;
    return { x, y: (total) => box.y + box.h * (1 - share(total)), top, bottom };
  }

  // The planned range is a band, lighter where the scan has not been yet.
  _planned(ctx, box, { planned }, { x }, colours) {
    if (planned === null) return;
    const [from, to] = planned.map(x);
    ctx.fillStyle = colours.planned;
    ctx.fillRect(Math.min(from, to), box.y, Math.abs(to - from), box.h);
    ctx.setLineDash([4, 4]);
    for (const edge of [from, to]) line(ctx, edge, box.y, edge, box.y + box.h, colours.muted);
    ctx.setLineDash([]);
  }

  _axes(ctx, box, range, { x, y, top, bottom }, colours, size) {
    const angles = linearTicks(range.low, range.high, Math.max(2, Math.floor(box.w / 60)));
    const decimals = tickDecimals(angles);
    const below = angles.map((angle) => ({ at: x(angle), label: fixed(Math.abs(angle) < 1e-12 ? 0 : angle, decimals) }));
    const room = Math.max(2, Math.floor(box.h / 26));
    let totals = this._log ? decadeTicks(bottom, top, room) : linearTicks(0, top, room);
    if (this._log && totals.length < 2) totals = linearTicks(bottom, top, room).filter((total) => total > 0);
    const beside = totals.map((total) => ({ at: y(total), label: short(total) }));
    for (const { at } of beside) line(ctx, box.x, at, box.x + box.w, at, colours.line);
    line(ctx, box.x, box.y + box.h, box.x + box.w, box.y + box.h, colours.muted);
    line(ctx, box.x, box.y, box.x, box.y + box.h, colours.muted);
    const axis = this._run?.fields.axis;
    bottomAxis(ctx, box, below, `${axis ?? "rocking angle"} (deg)`, colours, size);
    leftAxis(ctx, box, beside, "counts per frame", colours, size);
  }

  _curve(ctx, box, points, { x, y }, colours) {
    if (!points.length) return;
    const sorted = [...points].sort((a, b) => a.angle - b.angle);
    ctx.strokeStyle = colours.accent;
    ctx.lineWidth = 2;
    ctx.lineJoin = "round";
    ctx.beginPath();
    sorted.forEach((point, at) => {
      const joined = at > 0 && Math.abs(point.index - sorted[at - 1].index) === 1;
      ctx[joined ? "lineTo" : "moveTo"](x(point.angle), y(point.total));
    });
    ctx.stroke();
    const radius = Math.max(1.5, Math.min(4, (0.35 * box.w) / points.length));
    ctx.fillStyle = colours.accent;
    for (const point of points) this._dot(ctx, x(point.angle), y(point.total), radius);
    const newest = points.find((point) => point.index === this._live.fields.index);
    if (!newest || this._run?.fields.state === "stopped") return;
    line(ctx, x(newest.angle), box.y, x(newest.angle), box.y + box.h, colours.accent);
    ctx.fillStyle = colours.panel;
    this._dot(ctx, x(newest.angle), y(newest.total), 7);
    ctx.fillStyle = colours.accent;
    this._dot(ctx, x(newest.angle), y(newest.total), 5);
  }

  _dot(ctx, x, y, radius) {
    ctx.beginPath();
    ctx.arc(x, y, radius, 0, 2 * Math.PI);
    ctx.fill();
  }

  // Crosses on the axis where frames are missing.
  _gaps(ctx, box, { x }, colours) {
    const angles = this._live?.arrays.angles_deg?.data ?? [];
    const y = box.y + box.h - 8;
    const colour = this._run?.fields.state === "stopped" ? colours.bad : colours.warn;
    for (const index of this._missing) {
      const at = x(this._angleOf(index, angles));
      line(ctx, at - 5, y - 5, at + 5, y + 5, colour, 2.5);
      line(ctx, at - 5, y + 5, at + 5, y - 5, colour, 2.5);
    }
  }

  _angleOf(index, angles) {
    if (Number.isFinite(angles[index])) return angles[index];
    const { start_deg: start, stop_deg: stop, num } = this._run?.fields ?? {};
    return start + (index * (stop - start)) / Math.max(1, num - 1);
  }

  _say() {
    const count = this._missing.length;
    if (!count) {
      this.setNote("");
      return;
    }
    const named = this._missing.slice(0, 6).join(", ") + (count > 6 ? ", \u2026" : "");
    const ended = this._run?.fields.state === "stopped";
    this.note.dataset.kind = ended ? "bad" : "warn"; // until the end, the file may have them
    this.setNote(`${ended ? "\u2715" : "\u25b2"} ${count} ${count === 1 ? "frame" : "frames"} ${ended ? "missing" : "not there yet"}: ${named}`);
  }

  describe() {
    const points = this._scale?.points ?? [];
    if (!points.length) return "Rocking curve: no frame yet";
    const best = points.reduce((a, b) => (b.total > a.total ? b : a));
    return (
      `Rocking curve of ${points.length} frames: at most ${short(best.total)} counts, ` +
      `at ${fixed(best.angle, 4)} degrees; ${this._missing.length} frames missing`
    );
  }

  pick(px) {
    if (this._scale === null || !this._scale.points.length) return null;
    const { x, points, box } = this._scale;
    if (px < box.x - 10 || px > box.x + box.w + 10) return null;
    const distance = (point) => Math.abs(x(point.angle) - px);
    const near = points.reduce((a, b) => (distance(b) < distance(a) ? b : a));
    const label = `frame ${near.index}, ${fixed(near.angle, 4)} deg: ${short(near.total)} counts`;
    return { label, step: [box.w / Math.max(1, points.length - 1), 8] };
  }
}
