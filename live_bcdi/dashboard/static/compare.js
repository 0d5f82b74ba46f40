// Cuts of A, of B and of B - A side by side: one scale, one range for A and B, another for the difference.

import { Panel } from "./panel.js";
import { fixed, font, scaleBar, text, textSize } from "./plot.js";
import { UNKNOWN_CSS, endsOf, withUnit } from "./quantity.js";
import { axisArrows, cutsOf, paintValues, supportBounds } from "./slices.js";
import { viridis } from "./colour.js";

const TITLES = { a: "A", b: "B", d: "B \u2212 A" };
const GAP = 8;

/** Index windows of each axis that hold the crystal and a margin, in the cuts of any of the columns. */
function windowOf(columns) {
  const found = columns.map(({ estimate }) => supportBounds(cutsOf(estimate, "phase"))).filter(Boolean);
  const counts = Object.assign({}, ...columns[0].cuts.map((cut) => cut.counts));
  return [0, 1, 2].map((axis) => {
    const low = Math.min(...found.map((bounds) => bounds[axis][0]), found.length ? Infinity : 0);
    const high = Math.max(...found.map((bounds) => bounds[axis][1]), found.length ? -Infinity : counts[axis] - 1);
    return [Math.max(0, low - 2), Math.min(counts[axis], high + 3)];
  });
}

export class ComparisonPanel extends Panel {
  constructor(id) {
    super(id);
    this._columns = [];
    this._cells = [];
  }

  /**
   * `sides` is {a, b, d}, each {estimate, quantity} or null; `together` where they are on one grid, and the same
   * cut is at the same place in each.
   */
  show(sides, { together }) {
    this._together = together;
    this._columns = Object.entries(sides).filter(([, side]) => side !== null).map(([whose, { estimate, quantity }]) => ({
      whose, estimate, quantity, cuts: cutsOf(estimate, quantity.name),
    }));
    for (const column of this._columns) {
      column.window = windowOf(together ? this._columns : [column]);
      column.images = column.cuts.map((cut) => paintValues(cut, column.quantity));
    }
    this.invalidate();
  }

  draw(ctx, w, h, colours) {
    const size = textSize(w);
    this._cells = [];
    this.setNote("");
    if (!this._columns.length) {
      font(ctx, size + 2);
      text(ctx, "choose a run as A", w / 2, h / 2, { colour: colours.muted, align: "center" });
      return;
    }
    const [left, top, foot] = [size + 10, size + 10, 3.2 * size];
    const cell = { w: (w - left - 2 * GAP) / 3, h: (h - top - foot - 2 * GAP) / 3 };
    const scale = this._scale(cell);
    font(ctx, size, 600);
    for (let row = 0; row < 3; row++) {
      const y = top + row * (cell.h + GAP);
      ctx.save();
      ctx.translate(size * 0.6, y + cell.h / 2);
      ctx.rotate(-Math.PI / 2);
      text(ctx, `cut \u27c2 ${this._columns[0].cuts[row].name}`, 0, 0, { colour: colours.muted, align: "center", baseline: "middle" });
      ctx.restore();
    }
    for (const column of this._columns) {
      const x = left + "abd".indexOf(column.whose) * (cell.w + GAP);
      font(ctx, size + 1, 650);
      text(ctx, TITLES[column.whose], x + cell.w / 2, top - 7, { colour: colours.ink, align: "center" });
      for (let row = 0; row < 3; row++) {
        this._drawCell(ctx, { x, y: top + row * (cell.h + GAP), ...cell }, { column, row, scale }, colours, size);
      }
    }
    const y = h - foot + 0.7 * size;
    this._legend(ctx, { x: left, y, w: 2 * cell.w + GAP }, this._columns.find(({ whose }) => whose !== "d"), colours, size);
    const change = this._columns.find(({ whose }) => whose === "d");
    this._legend(ctx, { x: left + 2 * (cell.w + GAP), y, w: cell.w }, change, colours, size);
  }

  _scale(cell) {
    const fits = this._columns.flatMap(({ cuts, window }) => cuts.map((cut) => {
      const [across, along] = [cut.across, cut.along].map((axis, at) => (window[axis][1] - window[axis][0]) * cut.voxel[at]);
      return Math.min(cell.w / across, cell.h / along);
    }));
    return Math.min(...fits);
  }

  _drawCell(ctx, box, { column, row, scale }, colours, size) {
    const cut = column.cuts[row];
    const [[i0, i1], [j0, j1]] = [column.window[cut.across], column.window[cut.along]];
    const drawn = { w: (i1 - i0) * cut.voxel[0] * scale, h: (j1 - j0) * cut.voxel[1] * scale };
    drawn.x = box.x + (box.w - drawn.w) / 2;
    drawn.y = box.y + (box.h - drawn.h) / 2;
    const { map, cyclic } = column.quantity;
    ctx.save();
    ctx.beginPath();
    ctx.rect(box.x, box.y, box.w, box.h);
    ctx.clip();
    ctx.fillStyle = map === viridis ? viridis.css(0) : cyclic ? colours.void : UNKNOWN_CSS;
    ctx.fillRect(box.x, box.y, box.w, box.h);
    ctx.imageSmoothingEnabled = false;
    const image = column.images[row];
    ctx.drawImage(image, i0, cut.up ? image.height - j1 : j0, i1 - i0, j1 - j0, drawn.x, drawn.y, drawn.w, drawn.h);
    const ink = cyclic ? colours.ink : "#ffffff";
    if (column === this._columns[0]) axisArrows(ctx, box, cut, ink, size);
    const bar = { width: box.w, scale, unit: column.estimate.fields.voxel_nm ? "nm" : "voxels", colour: ink, size };
    if (row === 2) scaleBar(ctx, box.x + box.w - 8, box.y + box.h - 8, bar);
    ctx.restore();
    this._cells.push({ box, drawn, column, row, scale });
  }

  _legend(ctx, { x, y, w }, column, colours, size) {
    if (!column) return;
    const { map, name } = column.quantity;
    for (let step = 0; step < 128; step++) {
      ctx.fillStyle = map.css(step / 127);
      ctx.fillRect(x + (w * step) / 128, y, w / 128 + 1, 0.8 * size);
    }
    font(ctx, size);
    const below = { colour: colours.ink, baseline: "top" };
    const [low, high] = endsOf(column.quantity);
    text(ctx, low, x, y + size, below);
    text(ctx, high, x + w, y + size, { ...below, align: "right" });
    const what = column.whose === "d" ? "" : w > 300 && this._columns.length > 1 ? `${name}, A and B` : name;
    text(ctx, what, x + w / 2, y + size, { ...below, colour: colours.muted, align: "center" });
  }

  describe() {
    if (!this._columns.length) return "Cuts: no run is chosen";
    const names = this._columns.map(({ whose }) => TITLES[whose]).join(", ");
    return `Cuts through the centre: ${this._columns[0].quantity.name} of ${names}`;
  }

  pick(x, y) {
    const cell = this._cells.find(({ box }) => x >= box.x && x < box.x + box.w && y >= box.y && y < box.y + box.h);
    if (!cell) return null;
    const { drawn, column, row, scale } = cell;
    const cut = column.cuts[row];
    const [[i0], [j0, j1]] = [column.window[cut.across], column.window[cut.along]];
    const i = i0 + Math.floor((x - drawn.x) / (cut.voxel[0] * scale));
    const down = Math.floor((y - drawn.y) / (cut.voxel[1] * scale));
    const j = cut.up ? j1 - 1 - down : j0 + down;
    const [columns, rows] = [cut.counts[cut.across], cut.counts[cut.along]];
    if (i < 0 || j < 0 || i >= columns || j >= rows) return null;
    const nm = [i - Math.floor(columns / 2), j - Math.floor(rows / 2)].map((n, at) => fixed(n * cut.voxel[at], 0));
    const seen = this._together ? this._columns : [column];
    const values = seen.map(({ whose, quantity, cuts }) => `${TITLES[whose]} ${withUnit(quantity.name, cuts[row].value[cut.at(i, j)])}`);
    const label = `${cut.names[0]} ${nm[0]}, ${cut.names[1]} ${nm[1]} nm: ${values.join(", ")}`;
    return { label, step: [cut.voxel[0] * scale, cut.voxel[1] * scale] };
  }
}
