// Three cuts through the middle of the crystal: amplitude above, below it phase, displacement or strain, one scale in
// nm for all.

import { viridis } from "./colour.js";
import { Panel } from "./panel.js";
import { colourBar, fixed, font, imageCanvas, line, scaleBar, significant, text, textSize, upright } from "./plot.js";
import { UNKNOWN_CSS, drawLegend, inWords, quantityOf, rangeInWords } from "./quantity.js";

// Which axis runs across and which one along the height, by the axis that the cut is normal to. In the lab frame
// the vertical one points up; on the detector rows run down, as in its frames.
const LAB = { x: ["z", "y"], y: ["z", "x"], z: ["x", "y"] };
const DETECTOR = { rocking: ["column", "row"], row: ["column", "rocking"], column: ["rocking", "row"] };

const LEGEND = 8.7; // what colour bar and wheel take at the right, in heights of the text

/** The three cuts of an estimate's message through amplitude and `name`, each with its own axes, data and edges. */
export function cutsOf(estimate, name) {
  const { axes } = estimate.fields;
  const voxels = estimate.fields.voxel_nm ?? [1, 1, 1]; // without a geometry, lengths are in voxels
  const lab = axes.join() === "x,y,z";
  const table = lab ? LAB : DETECTOR;
  return [0, 1, 2].map((normal) => {
    const others = [0, 1, 2].filter((axis) => axis !== normal);
    const [across, along] = table[axes[normal]]?.map((name) => axes.indexOf(name)) ?? [others[1], others[0]];
    const { data: amplitude, shape } = estimate.arrays[`amplitude_${normal}`];
    const { data: value } = estimate.arrays[`${name}_${normal}`];
    const counts = { [others[0]]: shape[0], [others[1]]: shape[1] };
    const strides = { [others[0]]: shape[1], [others[1]]: 1 };
    return {
      normal, across, along, up: lab, amplitude, value, counts, strides,
      name: axes[normal],
      names: [axes[across], axes[along]],
      voxel: [voxels[across], voxels[along]],
      at: (i, j) => i * strides[across] + j * strides[along],
    };
  });
}

/** First and last index of each axis that the support reaches in any cut, or null without a support. */
export function supportBounds(cuts) {
  const bounds = [0, 1, 2].map(() => [Infinity, -Infinity]);
  for (const { value, counts, across, along, at } of cuts) {
    for (let i = 0; i < counts[across]; i++) {
      for (let j = 0; j < counts[along]; j++) {
        if (Number.isNaN(value[at(i, j)])) continue;
        for (const [axis, index] of [[across, i], [along, j]]) {
          if (index < bounds[axis][0]) bounds[axis][0] = index;
          if (index > bounds[axis][1]) bounds[axis][1] = index;
        }
      }
    }
  }
  return bounds.every(([low, high]) => high >= low) ? bounds : null;
}

/** A cut as an image, the right way up; `colourAt(at)` is RGBA of what lies there. */
function paintCut(cut, colourAt) {
  const { across, along, counts, at, up } = cut;
  const [columns, rows] = [counts[across], counts[along]];
  return imageCanvas(rows, columns, (pixels) => {
    for (let j = 0; j < rows; j++) {
      const start = (up ? rows - 1 - j : j) * columns;
      for (let i = 0; i < columns; i++) pixels[start + i] = colourAt(at(i, j));
    }
  });
}

/** A cut's values in a quantity's colours; nothing outside the support. */
export function paintValues(cut, { map, at: place }) {
  return paintCut(cut, (at) => {
    const value = cut.value[at];
    return Number.isNaN(value) ? 0 : map.table[Math.min(255, Math.floor(256 * place(value)))];
  });
}

/** Names of a cut's axes at arrows that point the way they grow. */
export function axisArrows(ctx, box, cut, ink, size) {
  const length = Math.max(14, Math.min(26, 0.11 * box.w));
  const [x, y] = [box.x + 14, cut.up ? box.y + box.h - 14 : box.y + 14];
  const tip = cut.up ? y - length : y + length;
  const head = cut.up ? 6 : -6;
  line(ctx, x, y, x + length, y, ink, 2);
  line(ctx, x, y, x, tip, ink, 2);
  ctx.fillStyle = ink;
  for (const points of [
    [[x + length + 5, y], [x + length - 2, y - 4], [x + length - 2, y + 4]],
    [[x, tip - head + (cut.up ? 1 : -1)], [x - 4, tip + head / 3], [x + 4, tip + head / 3]],
  ]) {
    ctx.beginPath();
    points.forEach(([px, py], at) => ctx[at ? "lineTo" : "moveTo"](px, py));
    ctx.fill();
  }
  font(ctx, size, 600);
  text(ctx, cut.names[0], x + length + 9, y, { colour: ink, baseline: "middle" });
  const below = { colour: ink, align: "left", baseline: cut.up ? "bottom" : "top" };
  text(ctx, cut.names[1], x - 6, cut.up ? tip - 8 : tip + 8, below);
}

export class SlicesPanel extends Panel {
  constructor(id) {
    super(id);
    this._estimate = this._quantity = null;
    this._cells = [];
    this._window = null;
    this._images = null;
  }

  show(estimate, name) {
    if (estimate === this._estimate && name === this._quantity?.name) return;
    const before = this._estimate;
    const same = before && estimate && before.run === estimate.run && before.fields.kind === estimate.fields.kind;
    if (!same) this._window = null;
    this._estimate = estimate;
    this._quantity = estimate && quantityOf(estimate, name);
    this._images = null;
    this.invalidate();
  }

  _prepare() {
    this._cuts = cutsOf(this._estimate, this._quantity.name);
    this._window = this._chooseWindow(this._window);
    this._unit = this._estimate.fields.voxel_nm ? "nm" : "voxels";
    this._images = this._cuts.map((cut) => ({ amplitude: this._paintAmplitude(cut), value: this._paintValue(cut) }));
  }

  // Index window of each axis: the support and a margin. It stays while it fits, so that the view does not jump.
  _chooseWindow(before) {
    const counts = Object.assign({}, ...this._cuts.map((cut) => cut.counts));
    const bounds = supportBounds(this._cuts) ?? [0, 1, 2].map((axis) => [0, counts[axis] - 1]);
    const wanted = bounds.map(([low, high], axis) => {
      const margin = Math.max(2, Math.round(0.12 * (high - low + 1)));
      return [Math.max(0, low - margin), Math.min(counts[axis], high + 1 + margin)];
    });
    const fits =
      before &&
      wanted.every(([low, high], axis) => {
        const [from, to] = before[axis];
        return to <= counts[axis] && bounds[axis][0] >= from && bounds[axis][1] < to && high - low > 0.6 * (to - from);
      });
    return fits ? before : wanted;
  }

  _paintAmplitude(cut) {
    return paintCut(cut, (at) => viridis.table[Math.max(0, Math.min(255, (256 * cut.amplitude[at]) | 0))]);
  }

  _paintValue(cut) {
    return paintValues(cut, this._quantity);
  }

  draw(ctx, w, h, colours) {
    const size = textSize(w);
    this._cells = [];
    if (this._estimate === null) {
      font(ctx, size + 2);
      const waiting = "no estimate yet: it comes with the first frames that show the peak";
      text(ctx, waiting, w / 2, h / 2, { colour: colours.muted, align: "center" });
      return;
    }
    if (this._images === null) this._prepare();
    this.setNote("");
    const upside = w < 0.95 * h; // a phone: cuts below each other, amplitude left, phase right
    const [columns, rows] = upside ? [2, 3] : [3, 2];
    const legend = upside ? 0 : LEGEND * size;
    const top = size + 12;
    const [gap, left] = [10, upside ? 4 : size + 12];
    const foot = upside ? 6 * size : 0;
    const cell = {
      w: (w - left - legend - gap * (columns - 1)) / columns,
      h: (h - top - foot - rows * (upside ? size + 10 : gap)) / rows,
    };
    const scale = this._commonScale(cell);
    for (let number = 0; number < 6; number++) {
      const [cut, quantity] = [number % 3, number < 3 ? "amplitude" : "value"];
      const [column, row] = upside ? [number < 3 ? 0 : 1, cut] : [cut, number < 3 ? 0 : 1];
      const box = {
        x: left + column * (cell.w + gap),
        y: top + row * (cell.h + (upside ? size + 10 : gap)),
        ...cell,
      };
      this._drawCell(ctx, box, this._cuts[cut], quantity, scale, colours, size);
      if (row === 0 || upside) this._title(ctx, box, this._cuts[cut], quantity, upside, colours, size);
    }
    this._legends(ctx, { w, h, top, left, cell, gap, upside, size }, colours);
  }

  _commonScale(cell) {
    const length = (cut, axis, which) => (this._window[axis][1] - this._window[axis][0]) * cut.voxel[which];
    const fits = this._cuts.map((cut) =>
      Math.min(cell.w / length(cut, cut.across, 0), cell.h / length(cut, cut.along, 1)));
    return Math.min(...fits);
  }

  _title(ctx, box, cut, quantity, upside, colours, size) {
    font(ctx, size, 600);
    const what = quantity === "amplitude" ? quantity : this._quantity.name;
    const label = upside ? `${what}, \u27c2 ${cut.name}` : `cut \u27c2 ${cut.name}`;
    text(ctx, label, box.x + box.w / 2, box.y - 7, { colour: colours.ink, align: "center" });
  }

  _drawCell(ctx, box, cut, quantity, scale, colours, size) {
    const [[i0, i1], [j0, j1]] = [this._window[cut.across], this._window[cut.along]];
    const drawn = { w: (i1 - i0) * cut.voxel[0] * scale, h: (j1 - j0) * cut.voxel[1] * scale };
    drawn.x = box.x + (box.w - drawn.w) / 2;
    drawn.y = box.y + (box.h - drawn.h) / 2;
    ctx.save();
    ctx.beginPath();
    ctx.rect(box.x, box.y, box.w, box.h);
    ctx.clip();
    const outside = this._quantity.cyclic ? colours.void : UNKNOWN_CSS; // black or white are colours of the map
    ctx.fillStyle = quantity === "amplitude" ? viridis.css(0) : outside;
    ctx.fillRect(box.x, box.y, box.w, box.h);
    ctx.imageSmoothingEnabled = false;
    const image = this._images[cut.normal][quantity];
    const from = cut.up ? image.height - j1 : j0;
    ctx.drawImage(image, i0, from, i1 - i0, j1 - j0, drawn.x, drawn.y, drawn.w, drawn.h);
    const ink = quantity === "amplitude" || !this._quantity.cyclic ? "#ffffff" : colours.ink;
    axisArrows(ctx, box, cut, ink, size);
    if (quantity === "amplitude") {
      const bar = { width: box.w, scale, unit: this._unit, colour: ink, size };
      scaleBar(ctx, box.x + box.w - 10, box.y + box.h - 10, bar);
    }
    ctx.restore();
    this._cells.push({ box, drawn, cut, quantity, scale });
  }

  _legends(ctx, { w, h, top, left, cell, gap, upside, size }, colours) {
    const ticks = [0, 0.5, 1].map((t) => ({ t, label: String(t) }));
    if (upside) {
      const y = h - 3.4 * size;
      for (let step = 0; step < 128; step++) {
        ctx.fillStyle = viridis.css(step / 127);
        ctx.fillRect(left + ((cell.w - 20) * step) / 128 + 10, y - 6, (cell.w - 20) / 128 + 1, 12);
      }
      font(ctx, size);
      text(ctx, "0", left + 10, y + 10, { colour: colours.ink, baseline: "top" });
      text(ctx, "1", left + cell.w - 10, y + 10, { colour: colours.ink, align: "right", baseline: "top" });
      const label = { colour: colours.muted, align: "center", baseline: "top" };
      text(ctx, "amplitude / max", left + cell.w / 2, y + 10, label);
      const column = { x: left + cell.w + gap, w: cell.w };
      if (this._quantity.cyclic) {
        drawLegend(ctx, { ...column, y: y - 1.4 * size, h: 2.8 * size }, this._quantity, colours, size);
      } else this._flatLegend(ctx, { ...column, y }, colours);
      return;
    }
    const x = w - LEGEND * size + 18;
    colourBar(ctx, { x, y: top + 6, w: 16, h: cell.h - 12 }, viridis, ticks, colours, size);
    const middle = (row) => top + row * (cell.h + gap) + cell.h / 2;
    const label = { colour: colours.muted, align: "center", baseline: "middle" };
    font(ctx, size, 600);
    upright(ctx, "amplitude / maximum", size / 2 + 2, middle(0), label);
    upright(ctx, this._quantity.cyclic ? "phase (rad)" : this._quantity.name, size / 2 + 2, middle(1), label);
    const box = { x: x - 4, y: top + cell.h + gap, w: LEGEND * size - 18, h: cell.h };
    drawLegend(ctx, box, this._quantity, colours, size);
  }

  // On a phone, below its column.
  _flatLegend(ctx, { x, y, w }, colours) {
    for (let step = 0; step < 128; step++) {
      ctx.fillStyle = this._quantity.map.css(step / 127);
      ctx.fillRect(x + 10 + ((w - 20) * step) / 128, y - 6, (w - 20) / 128 + 1, 12);
    }
    const below = { colour: colours.ink, align: "center", baseline: "top" };
    text(ctx, rangeInWords(this._quantity), x + w / 2, y + 10, below);
  }

  describe() {
    if (this._estimate === null) return "Crystal: no estimate yet";
    const { kind, frames, num } = this._estimate.fields;
    const axes = this._estimate.fields.axes.join(", ");
    return `Crystal, ${kind} estimate from ${frames} of ${num} frames: amplitude and ${this._quantity.name} on cuts normal to ${axes}`;
  }

  pick(x, y) {
    const cell = this._cells.find(({ box }) =>
      x >= box.x && x < box.x + box.w && y >= box.y && y < box.y + box.h);
    if (!cell) return null;
    const { drawn, cut, scale } = cell;
    const [[i0], [j0, j1]] = [this._window[cut.across], this._window[cut.along]];
    const i = i0 + Math.floor((x - drawn.x) / (cut.voxel[0] * scale));
    const down = Math.floor((y - drawn.y) / (cut.voxel[1] * scale));
    const j = cut.up ? j1 - 1 - down : j0 + down;
    const [columns, rows] = [cut.counts[cut.across], cut.counts[cut.along]];
    if (i < 0 || j < 0 || i >= columns || j >= rows) return null;
    const nm = [i - Math.floor(columns / 2), j - Math.floor(rows / 2)].map((n, at) => fixed(n * cut.voxel[at], 0));
    const at = cut.at(i, j);
    const value = inWords(this._quantity.name, cut.value[at]);
    const amplitude = significant(cut.amplitude[at], 2);
    const label = `${cut.names[0]} ${nm[0]}, ${cut.names[1]} ${nm[1]} ${this._unit}: amplitude ${amplitude}, ${value}`;
    return { label, step: [cut.voxel[0] * scale, cut.voxel[1] * scale] };
  }
}
