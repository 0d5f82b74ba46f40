// What to change in the scan, and why: the worst first, and only as much as one reads at a glance.

import { GLYPHS, element, mark, put } from "./text.js";

const SHOWN = 3;
const TONES = { error: "bad", warning: "warn", info: "idle" };
const ORDER = Object.keys(TONES);

/** Of the newest run, the worst first; what its result says takes the place of what the scan had said. */
export function advised(store) {
  const run = store.run?.run;
  const byRule = new Map();
  for (const of of ["scan", "result"]) {
    const message = store.advice.get(of);
    if (!message || message.run !== run) continue;
    for (const each of message.fields.advice ?? []) byRule.set(each.rule, each);
  }
  return [...byRule.values()].sort((a, b) => ORDER.indexOf(a.level) - ORDER.indexOf(b.level));
}

export function showAdvice(store) {
  const said = advised(store);
  const items = said.slice(0, SHOWN).map((each) => item(each));
  if (said.length > SHOWN) items.push(rest(said.slice(SHOWN)));
  const list = element("advice-list");
  const text = JSON.stringify(said);
  if (list.dataset.said !== text) {
    list.dataset.said = text; // not again: a screen reader would say it again
    list.replaceChildren(...items);
  }
  mark("advice", TONES[said[0]?.level] ?? "idle");
  element("no-advice").hidden = said.length > 0;
  put("no-advice", store.currentLive === null ? "none: nothing is measured yet" : "none: nothing measured so far asks for a change");
}

function item({ level, what, why }) {
  const row = document.createElement("li");
  row.dataset.kind = TONES[level] ?? "idle";
  row.append(part("span", "glyph", GLYPHS[row.dataset.kind]), part("b", "", what), part("span", "why", why));
  return row;
}

function rest(others) {
  const row = part("li", "more", "");
  row.append(part("span", "", `and ${others.length} more: ${others.map(({ what }) => what).join(" ")}`));
  return row;
}

function part(tag, name, string) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  node.textContent = string;
  return node;
}
