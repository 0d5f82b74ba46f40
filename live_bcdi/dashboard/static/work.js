// What goes on and takes a while: how far it is, and about how long it will still take. Nothing is promised that is
// not measured, and who says nothing is shown as such.

import { about, duration } from "./plot.js";
import { element } from "./text.js";

const QUIET_S = 30; // a job tells twice a second; an iteration of a very large volume takes seconds
const plural = (count, thing) => `${count} ${thing}${count === 1 ? "" : "s"}`;
const inTime = (seconds) => (seconds < 100 ? `${Math.floor(Math.max(0, seconds))} s` : duration(seconds));

/** {key, kind, what, left, share, detail} of each. */
export function works(store, now) {
  return [scan(store, now), ...jobs(store, now), waiting(store), outbox(store, now)].filter(Boolean);
}

function scan(store, now) {
  const { run, currentLive: live } = store;
  if (run === null || store.ended) return null;
  const { count = 0, num } = { ...run.fields, ...live?.fields };
  const base = { key: "scan", kind: "busy", what: `Scan ${store.nameOf(run.run)}`, share: num ? Math.min(1, count / num) : null };
  const state = store.state(now);
  const detail = `${count} of ${num ?? "?"} frames`;
  if (state.kind === "warn") return { ...base, kind: "warn", left: "", detail: `${detail}; ${state.detail}` };
  return { ...base, left: left(store.scanLeft(now)), detail };
}

const left = (seconds) => (Number.isFinite(seconds) ? `${about(seconds)} left` : "");

function jobs(store, now) {
  const message = store.queue;
  const since = message === null ? 0 : Math.max(0, now - message.published_s);
  return (message?.fields.jobs ?? []).map((job) => {
    const quiet = job.quiet_s + since;
    const silent = quiet > QUIET_S;
    const worked = `at work for ${inTime(job.seconds + since)}`;
    const words = job.text ? `${job.text}; ${worked}` : worked;
    return {
      key: job.run,
      kind: silent ? "warn" : "busy",
      what: `Refining ${job.name}`,
      share: job.share ?? null,
      left: silent ? "" : left(job.left_s ?? NaN),
      detail: silent ? `\u25b2 no news for ${inTime(quiet)}; ${words}` : words,
    };
  });
}

function waiting(store) {
  const { waiting: next = 0, later = 0, jobs: running = [] } = store.queue?.fields ?? {};
  if (!(next + later > 0)) return null;
  const put = later > 0 ? `; ${later} put off until nothing else waits` : "";
  const detail = (running.length ? "the newest is next, when a place is free" : "for a worker") + put;
  return { key: "waiting", kind: "idle", what: `${plural(next + later, "scan")} to refine`, share: null, left: "", detail };
}

function outbox(store, now) {
  const count = store.queue?.fields.outbox ?? 0;
  if (!(count > 0)) return null;
  const since = store.outboxFor(now);
  const kind = store.isTiledLate(now) ? "warn" : "idle";
  const what = `${plural(count, "result")} on disk, for Tiled`;
  return { key: "outbox", kind, what, share: null, left: "", detail: `for ${inTime(since)}; sent as soon as Tiled answers` };
}

export function showWork(store, now) {
  const list = element("work-list");
  const shown = new Map([...list.children].map((row) => [row.dataset.key, row]));
  const rows = works(store, now).map((work) => filled(shown.get(work.key) ?? newRow(work.key), work));
  if (rows.length !== list.children.length || rows.some((row, at) => row !== list.children[at])) list.replaceChildren(...rows);
  element("no-work").hidden = rows.length > 0;
}

function newRow(key) {
  const row = document.createElement("li");
  row.dataset.key = key;
  row.innerHTML = '<b></b><span class="left"></span><span class="progress" role="progressbar" aria-valuemin="0" aria-valuemax="100"><span></span></span><span class="detail"></span>';
  return row;
}

function filled(row, { kind, what, left: remaining, share, detail }) {
  row.dataset.kind = kind;
  for (const [name, string] of [["b", what], [".left", remaining], [".detail", detail]]) {
    const node = row.querySelector(name);
    if (node.textContent !== string) node.textContent = string;
  }
  const bar = row.querySelector(".progress");
  bar.hidden = share === null;
  bar.setAttribute("aria-label", what);
  bar.setAttribute("aria-valuenow", String(Math.round(100 * (share ?? 0))));
  bar.firstChild.style.transform = `scaleX(${share ?? 0})`;
  return row;
}
