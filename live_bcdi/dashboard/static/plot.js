// What every plot needs: numbers as people read them, ticks, axes, colour bars, scale bars.

export const MINUS = "\u2212";
const NONE = "\u2013";

/** A number with `digits` significant digits; a dash where there is none. */
export function significant(value, digits = 3) {
  if (!Number.isFinite(value)) return NONE;
  return String(Number(value.toPrecision(digits))).replace("-", MINUS);
}

export function fixed(value, decimals) {
  return Number.isFinite(value) ? value.toFixed(decimals).replace("-", MINUS) : NONE;
}

/** 165297 as "165k", 46155653 as "46.2M". */
export function short(value) {
  if (!Number.isFinite(value)) return NONE;
  for (const [unit, suffix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= unit) return significant(value / unit) + suffix;
  }
  return significant(value);
}

/** 4000 s as "1:06:40", 75 s as "1:15". */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return NONE;
  const whole = Math.max(0, Math.round(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, at) => (at ? String(part).padStart(2, "0") : part)).join(":");
}

/** A time that is estimated, rounded up so that it promises nothing: "about 25 s", "about 2.5 min", "about 1 h 20 min". */
export function about(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "";
  const up = (step) => step * Math.ceil(seconds / step - 1e-9);
  if (seconds <= 10) return `about ${Math.max(1, up(1))} s`;
  if (seconds <= 60) return `about ${up(5)} s`;
  if (seconds <= 600) return `about ${up(30) / 60} min`;
  if (seconds <= 3600) return `about ${up(60) / 60} min`;
  const minutes = up(600) / 60;
  return `about ${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
}

/** Step 1, 2 or 5 times a power of ten, at most `count` of them over `span`. */
export function niceStep(span, count) {
  const power = 10 ** Math.floor(Math.log10(span / count));
  return power * ([1, 2, 5, 10].find((factor) => (factor * power * count) / span >= 1 - 1e-9) ?? 10);
}

export function linearTicks(low, high, count) {
  if (!(high > low)) return [];
  const step = niceStep(high - low, count);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
}

/** Powers of ten within [low, high], thinned to `count`. */
export function decadeTicks(low, high, count) {
  const [first, last] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
  const step = Math.max(1, Math.ceil((last - first + 1) / count));
  const ticks = [];
  for (let power = first; power <= last; power += step) ticks.push(10 ** power);
  return ticks;
}

/** Decimals that tell ticks apart. */
export function tickDecimals(ticks) {
  if (ticks.length < 2) return 3;
  return Math.max(0, Math.min(8, -Math.floor(Math.log10(ticks[1] - ticks[0]) + 1e-9)));
}

export function theme() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "muted", "line", "accent", "warn", "bad", "void", "panel", "planned"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** Of the text of a plot `width` wide: larger where it fills a screen. */
export function textSize(width) {
  return width < 450 ? 12 : width < 1200 ? 14 : 19;
}

export function font(ctx, size, weight = 400) {
  ctx.font = `${weight} ${size}px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif`;
}

export function text(ctx, string, x, y, { colour, align = "left", baseline = "alphabetic" }) {
  ctx.fillStyle = colour;
  ctx.textAlign = align;
  ctx.textBaseline = baseline;
  ctx.fillText(string, x, y);
}

export function upright(ctx, string, x, y, options) {
  ctx.save();
  ctx.translate(x, y);
  ctx.rotate(-Math.PI / 2);
  text(ctx, string, 0, 0, options);
  ctx.restore();
}

export function line(ctx, x0, y0, x1, y1, colour, width = 1) {
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}

/** Ticks [{at (pixels), label}] below a box, and the axis' name. */
export function bottomAxis(ctx, box, ticks, name, colours, size) {
  font(ctx, size);
  for (const { at, label } of ticks) {
    line(ctx, at, box.y + box.h, at, box.y + box.h + 5, colours.muted);
    text(ctx, label, at, box.y + box.h + 8, { colour: colours.ink, align: "center", baseline: "top" });
  }
  const below = box.y + box.h + 12 + size;
  text(ctx, name, box.x + box.w / 2, below, { colour: colours.muted, align: "center", baseline: "top" });
}

export function leftAxis(ctx, box, ticks, name, colours, size) {
  font(ctx, size);
  let widest = 0;
  for (const { at, label } of ticks) {
    line(ctx, box.x - 5, at, box.x, at, colours.muted);
    text(ctx, label, box.x - 8, at, { colour: colours.ink, align: "right", baseline: "middle" });
    widest = Math.max(widest, ctx.measureText(label).width);
  }
  const beside = { colour: colours.muted, align: "center" };
  upright(ctx, name, box.x - 16 - widest, box.y + box.h / 2, beside);
}

/** A vertical bar of `map`, with rising ticks [{t in 0..1, label}] to its right, as many as there is room for. */
export function colourBar(ctx, box, map, ticks, colours, size) {
  for (let y = 0; y < box.h; y++) {
    ctx.fillStyle = map.css(1 - y / Math.max(1, box.h - 1));
    ctx.fillRect(box.x, box.y + y, box.w, 1.5);
  }
  ctx.strokeStyle = colours.line;
  ctx.lineWidth = 1;
  ctx.strokeRect(box.x + 0.5, box.y + 0.5, box.w - 1, box.h - 1);
  font(ctx, size);
  let free = Infinity;
  for (const { t, label } of ticks) {
    const y = box.y + (1 - t) * box.h;
    if (y > free) continue; // its label would lie on the one below
    free = y - 1.25 * size;
    line(ctx, box.x + box.w, y, box.x + box.w + 4, y, colours.muted);
    text(ctx, label, box.x + box.w + 7, y, { colour: colours.ink, baseline: "middle" });
  }
}

/** A ring of the cyclic map with its angles; counter-clockwise from 0 on the right. */
export function colourWheel(ctx, x, y, radius, map, colours, size) {
  const steps = 96;
  for (let step = 0; step < steps; step++) {
    const [from, to] = [step, step + 1.2].map((at) => -2 * Math.PI * (at / steps - 0.5));
    ctx.fillStyle = map.css((step + 0.5) / steps);
    ctx.beginPath();
    ctx.arc(x, y, radius, from, to, true);
    ctx.arc(x, y, 0.55 * radius, to, from, false);
    ctx.fill();
  }
  font(ctx, size);
  const gap = radius + 4;
  text(ctx, "0", x + gap, y, { colour: colours.ink, baseline: "middle" });
  text(ctx, "\u00b1\u03c0", x - gap, y, { colour: colours.ink, align: "right", baseline: "middle" });
  text(ctx, "\u03c0/2", x, y - gap, { colour: colours.ink, align: "center", baseline: "bottom" });
  text(ctx, `${MINUS}\u03c0/2`, x, y + gap, { colour: colours.ink, align: "center", baseline: "top" });
}

/** A bar of a round length near `share` of `width`; `scale` is pixels a `unit`. Its right end is at (x, y). */
export function scaleBar(ctx, x, y, { width, scale, unit, colour, size, shadow = true }) {
  const length = niceStep((0.35 * width) / scale, 1.99);
  const pixels = length * scale;
  font(ctx, size, 600);
  const label = `${significant(length)} ${unit}`;
  ctx.save();
  ctx.shadowColor = "rgb(0 0 0 / 0.8)";
  ctx.shadowBlur = shadow ? 3 : 0;
  ctx.fillStyle = colour;
  ctx.fillRect(x - pixels, y - 4, pixels, 4);
  const middle = x - Math.max(pixels, ctx.measureText(label).width) / 2;
  text(ctx, label, Math.min(middle, x - pixels / 2), y - 8, { colour, align: "center", baseline: "bottom" });
  ctx.restore();
}

/** A `shape` (rows, columns) image as a canvas, one pixel a value; `fill(pixels)` sets RGBA in a Uint32Array. */
export function imageCanvas(rows, columns, fill) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const ctx = canvas.getContext("2d");
  const image = ctx.createImageData(columns, rows);
  fill(new Uint32Array(image.data.buffer));
  ctx.putImageData(image, 0, 0);
  return canvas;
}
