// A section of the page with a canvas: drawn when something changed, at the screen's resolution, with a cursor
// that the pointer or the arrow keys move, and a button that lets it fill the window.

import { line, theme } from "./plot.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Panel {
  constructor(id) {
    this.section = document.getElementById(id);
    this.canvas = this.section.querySelector("canvas");
    this.note = this.section.querySelector(".note");
    this.readout = this.section.querySelector(".readout");
    this.onDrawn = () => {};
    this._cursor = null;
    this._waiting = false;
    new ResizeObserver(() => this.invalidate()).observe(this.canvas);
    this.listen();
    this.section.querySelector(".enlarge").addEventListener("click", () => this.toggleLarge());
    this.section.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.section.classList.contains("large")) this.toggleLarge();
    });
  }

  /** Draw at the next frame of the screen, however often it is asked. */
  invalidate() {
    if (this._waiting) return;
    this._waiting = true;
    requestAnimationFrame(() => {
      this._waiting = false;
      this._render();
    });
  }

  // For the panels: draw into a w by h box of CSS pixels; say what is seen; tell what lies at a point.
  draw(_ctx, _w, _h, _colours) {}
  describe() { return ""; }
  pick(_x, _y) { return null; }

  setNote(string) {
    if (this.note.textContent !== string) this.note.textContent = string;
  }

  toggleLarge() {
    const large = this.section.classList.toggle("large");
    document.body.classList.toggle("has-large", large);
    const button = this.section.querySelector(".enlarge");
    button.setAttribute("aria-pressed", String(large));
    button.title = large ? "Back to the page (Esc)" : "Fill the window";
  }

  _render() {
    const { clientWidth: w, clientHeight: h } = this.canvas;
    if (!w || !h) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(w * ratio), Math.round(h * ratio)];
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const ctx = this.canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, w, h);
    const colours = theme();
    try {
      this.draw(ctx, w, h, colours);
      this._drawCursor(ctx);
      this.canvas.setAttribute("aria-label", this.describe());
      this.onDrawn();
    } catch (error) {
      this.setNote(`cannot be drawn: ${error.message}`);
      console.error(error);
    }
  }

  _drawCursor(ctx) {
    const found = this._cursor && this.pick(this._cursor.x, this._cursor.y);
    this.readout.textContent = found ? found.label : "";
    if (!found) return;
    const [x, y] = [this._cursor.x, this._cursor.y].map((at) => Math.floor(at) + 0.5);
    for (const [colour, width] of [["rgb(0 0 0 / 0.7)", 3], ["#ffffff", 1]]) {
      line(ctx, x - 9, y, x + 9, y, colour, width);
      line(ctx, x, y - 9, x, y + 9, colour, width);
    }
  }

  /** What pointer and keys do on the canvas: here, move a cursor. */
  listen() {
    const canvas = this.canvas;
    const move = (cursor) => {
      this._cursor = cursor;
      this.invalidate();
    };
    canvas.addEventListener("pointermove", (event) => move({ x: event.offsetX, y: event.offsetY }));
    canvas.addEventListener("pointerleave", () => move(null));
    canvas.addEventListener("blur", () => move(null));
    canvas.addEventListener("keydown", (event) => {
      const arrow = ARROWS[event.key];
      if (!arrow) return;
      event.preventDefault();
      const from = this._cursor ?? { x: canvas.clientWidth / 2, y: canvas.clientHeight / 2 };
      const found = this.pick(from.x, from.y);
      const [dx, dy] = found?.step ?? [8, 8];
      const reach = event.shiftKey ? 10 : 1;
      move({ x: from.x + arrow[0] * dx * reach, y: from.y + arrow[1] * dy * reach });
    });
  }
}
