// What the crystal may be coloured by, in the cuts and on the surface alike: the map, the range, the legend.

import { cyclic, diverging, viridis } from "./colour.js";
import { MINUS, colourBar, colourWheel, fixed, font, significant, text } from "./plot.js";

/** Where nothing is known: outside the support. No colour of a diverging map. */
export const UNKNOWN = [122, 130, 139];
export const UNKNOWN_CSS = `rgb(${UNKNOWN.join(" ")})`;

const UNITS = { amplitude: "", phase: "rad", displacement: "\u00c5", strain: "" };
const SUPERSCRIPTS = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079";

const raised = (power) =>
  String(power).replace("-", "\u207b").replace(/\d/g, (digit) => SUPERSCRIPTS[Number(digit)]);

/** 0.00076 as "7.6×10⁻⁴", 0.44 as "0.44". */
export function scientific(value, digits = 2) {
  if (!Number.isFinite(value) || value === 0 || Math.abs(value) >= 0.01) return significant(value, digits);
  const power = Math.floor(Math.log10(Math.abs(value)) + 1e-9);
  return `${significant(value / 10 ** power, digits)}\u00d710${raised(power)}`;
}

/** One value in words: "strain −1.2×10⁻⁴". */
export function inWords(name, value) {
  return Number.isNaN(value) ? "outside the support" : `${name} ${withUnit(name, value)}`;
}

/** "−1.2×10⁻⁴", "0.31 Å"; a dash where there is nothing. */
export function withUnit(name, value) {
  const number = name === "phase" ? fixed(value, 2) : scientific(value);
  return [number, Number.isFinite(value) && UNITS[name]].filter(Boolean).join(" ");
}

/** Whether an estimate has it. */
export const has = (estimate, name) => Boolean(estimate?.arrays[`${name}_0`]);

/** A quantity of an estimate: {name, map, cyclic, limit, at(value)}; `at` is the place on the map, 0..1. */
export function quantityOf(estimate, name) {
  if (name === "phase") {
    const turns = (value) => value / (2 * Math.PI) + 0.5;
    return { name, map: cyclic, cyclic: true, limit: Math.PI, at: (value) => turns(value) - Math.floor(turns(value)) };
  }
  if (name === "amplitude") {
    return { name, map: viridis, cyclic: false, limit: 1, at: (value) => Math.max(0, Math.min(1, value)) };
  }
  return aboutZero(name, estimate.fields.ranges?.[name]);
}

/** A quantity about zero, as a difference of any is. */
export function aboutZero(name, end) {
  const limit = end > 0 ? end : 1;
  return { name, map: diverging, cyclic: false, limit, at: (value) => Math.max(0, Math.min(1, 0.5 + value / (2 * limit))) };
}

/** What stands at the two ends of a map: ["−7.6×10⁻⁴", "7.6×10⁻⁴"]. */
export function endsOf({ name, map, cyclic: closed, limit }) {
  if (closed) return [`${MINUS}\u03c0`, "\u03c0"];
  if (map === viridis) return ["0", "1"];
  const end = `${scientific(limit)}${UNITS[name] ? ` ${UNITS[name]}` : ""}`;
  return [`${MINUS}${end}`, end];
}

/** "strain ±7.6×10⁻⁴", the range that its colours have. */
export function rangeInWords({ name, map, cyclic: closed, limit }) {
  const unit = UNITS[name] ? ` ${UNITS[name]}` : "";
  if (map === viridis) return `${name} 0 to 1`;
  return closed ? `${name} \u00b1\u03c0` : `${name} \u00b1${scientific(limit)}${unit}`;
}

/** The legend in a box whose top is at `y`, `w` wide and `h` high. */
export function drawLegend(ctx, { x, y, w, h }, quantity, colours, size) {
  if (quantity.cyclic) {
    colourWheel(ctx, x + w / 2 + 4, y + h / 2, Math.min(1.9 * size, w / 4.4), quantity.map, colours, size);
    return;
  }
  const power = quantity.limit < 0.01 ? Math.floor(Math.log10(quantity.limit) + 1e-9) : 0;
  const end = significant(quantity.limit / 10 ** power, 2);
  const ticks = [`${MINUS}${end}`, "0", `+${end}`].map((label, at) => ({ t: at / 2, label }));
  const unit = power ? `\u00d710${raised(power)}` : UNITS[quantity.name];
  const room = Math.min(h - 2.4 * size, 16 * size);
  colourBar(ctx, { x: x + 4, y: y + 1.6 * size, w: 16, h: room }, quantity.map, ticks, colours, size);
  font(ctx, size);
  text(ctx, unit, x + 4, y + size, { colour: colours.muted });
}
