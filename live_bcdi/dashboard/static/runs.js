// The list of runs in Tiled, a page at a time.

import { significant } from "./plot.js";
import { element, put } from "./text.js";

const ROWS = 20;
const TYPING_MS = 250;

export const hklText = (hkl) => (hkl ? `(${hkl.map((index) => significant(index)).join(" ")})` : "");

/** "21 Nov 2026, 21:12", in this browser's time. */
export function dateText(seconds) {
  if (!Number.isFinite(seconds)) return "time not known";
  const parts = { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hour12: false };
  return new Date(1000 * seconds).toLocaleString("en-GB", parts);
}

/** What an address of ours answers: `read(response)` of it, or an error that is one sentence. */
export async function ask(address, read) {
  const response = await fetch(address).catch(() => null);
  if (response === null) throw new Error("The page's server does not answer. Is live-bcdi running?");
  if (response.status === 401) location.reload(); // the page itself asks for the key
  if (response.ok) return read(response);
  const said = await response.json().catch(() => ({}));
  throw new Error(said.error ?? `The page's server failed (${response.status}); its log has the reason.`);
}

export class RunList {
  /** `onChoose(side, place)` when somebody picks a result; side is "a" or "b". */
  constructor(onChoose) {
    this._onChoose = onChoose;
    this._skip = 0;
    this._asked = 0;
    this._rows = [];
    this._chosen = {};
    const input = element("filter-text");
    let typing = null;
    const begin = () => {
      clearTimeout(typing);
      this._skip = 0;
      this.load();
    };
    input.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(begin, TYPING_MS);
    });
    element("filter").addEventListener("submit", (event) => {
      event.preventDefault();
      begin();
    });
    for (const [id, step] of [["newer", -ROWS], ["older", ROWS]]) {
      element(id).addEventListener("click", () => {
        this._skip = Math.max(0, this._skip + step);
        this.load();
      });
    }
  }

  async load() {
    const asked = ++this._asked;
    put("runs-about", "reading\u2026");
    const query = new URLSearchParams({ skip: this._skip, text: element("filter-text").value.trim() });
    try {
      const { rows, total } = await ask(`history/runs?${query}`, (response) => response.json());
      if (asked !== this._asked) return; // somebody has typed on
      this._rows = rows;
      this._show(total);
      put("runs-why", "");
    } catch (error) {
      if (asked !== this._asked) return;
      put("runs-about", "");
      put("runs-why", error.message);
    }
  }

  /** `chosen` is {a, b}, places or null. */
  mark(chosen) {
    this._chosen = chosen;
    for (const item of element("runs").children) this._markItem(item);
  }

  _show(total) {
    const last = this._skip + this._rows.length;
    const filtered = element("filter-text").value.trim() !== "";
    const none = filtered ? "no run has that" : "no run in Tiled yet";
    put("runs-about", this._rows.length ? `${this._skip + 1}\u2013${last} of ${total}${filtered ? " found" : ""}` : none);
    element("newer").disabled = this._skip === 0;
    element("older").disabled = last >= total || !this._rows.length;
    element("runs").replaceChildren(...this._rows.map((row) => this._item(row)));
    element("runs").scrollTop = 0;
  }

  _item(row) {
    const item = document.createElement("li");
    item.dataset.run = row.run;
    const add = (tag, className, text, parent = item) => {
      const node = parent.appendChild(document.createElement(tag));
      node.className = className;
      node.textContent = text;
      return node;
    };
    const crystal = add("span", "", "");
    add("b", "", row.name || row.run.slice(0, 8), crystal);
    add("span", "sample", ` ${[row.sample, hklText(row.hkl)].filter(Boolean).join(" ")}`, crystal);
    const choose = add("span", "choose", "");
    // of phase retrieval: what differs between two of them is the crystal, and not the theory
    const newest = row.results.findLast((each) => !each.version.includes("/")) ?? row.results.at(-1);
    let version = null;
    if (row.results.length > 1) {
      version = add("select", "", "", choose);
      version.setAttribute("aria-label", `which result of ${row.name}`);
      for (const each of row.results) add("option", "", each.version.replace("/", " "), version).value = each.version;
      version.value = newest.version;
    }
    for (const side of ["a", "b"]) {
      const button = add("button", "", side.toUpperCase(), choose);
      button.type = "button";
      button.dataset.side = side;
      button.setAttribute("aria-label", `${row.name || row.run.slice(0, 8)} as ${side.toUpperCase()}`);
      button.disabled = !newest;
      button.addEventListener("click", () => this._onChoose(side, `${row.run}/${(version ?? newest).value ?? newest.version}`));
    }
    add("span", "facts", factsText(row, newest));
    item.title = row.run;
    this._markItem(item);
    return item;
  }

  _markItem(item) {
    let any = false;
    for (const button of item.querySelectorAll("[data-side]")) {
      const chosen = this._chosen[button.dataset.side]?.split("/")[0] === item.dataset.run;
      button.setAttribute("aria-pressed", String(chosen));
      any ||= chosen;
    }
    item.classList.toggle("chosen", any);
  }
}

function factsText(row, result) {
  const { exit_status: status } = row;
  const state = result?.operando?.state;
  const frames = result?.frames ?? row.num;
  const facts = [
    dateText(row.time_s),
    status && status !== "success" ? `scan ${status}` : "",
    Number.isFinite(frames) ? `${frames}${row.num && row.num !== frames ? ` of ${row.num}` : ""}\u00a0frames` : "",
    result ? `\u03c7\u00a0${significant(result.chi ?? NaN)}` : "no\u00a0result\u00a0yet",
    Number.isFinite(result?.resolution_nm) ? `${significant(result.resolution_nm)}\u00a0nm` : "",
    row.results.length > 1 ? `${row.results.length}\u00a0results` : "",
    Number.isFinite(state?.value) ? [state.name, significant(state.value), state.unit].filter(Boolean).join(" ") : "",
  ];
  return facts.filter(Boolean).join(" \u00b7 ");
}
