// Text on the page: written only where it differs, so that an unchanged node costs no layout and no screen reader
// a word. A glyph goes with each colour.

export const GLYPHS = { ok: "\u2713", busy: "\u25cf", warn: "\u25b2", bad: "\u2715", idle: "\u25cb" };

export const element = (id) => document.getElementById(id);

export function put(id, string) {
  const node = element(id);
  if (node.textContent !== string) node.textContent = string;
}

export function mark(id, kind) {
  const node = element(id);
  if (node.dataset.kind !== kind) node.dataset.kind = kind;
}
