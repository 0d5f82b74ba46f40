// Everything on the page that is text: the status line, the figures, services, notices.

import { isResult, kindOf } from "./kinds.js";
import { resolutionOf } from "./merit.js";
import { about, duration, fixed, short, significant } from "./plot.js";
import { quantityOf, rangeInWords, scientific } from "./quantity.js";
import { GLYPHS, element, mark, put } from "./text.js";

const LEVELS = { info: "idle", warning: "warn", error: "bad" };

const hklText = (hkl) => (hkl ? `(${hkl.map((index) => significant(index)).join(" ")})` : "");

export function showStatus(store, now) {
  const { run, currentLive: live } = store;
  const fields = { ...run?.fields, ...live?.fields };
  put("run-name", run ? store.nameOf(run.run) : "no scan yet");
  put("run-about", [run?.fields.sample, hklText(run?.fields.hkl)].filter(Boolean).join("  "));
  const state = store.state(now);
  mark("state", state.kind);
  put("state-glyph", GLYPHS[state.kind]);
  put("state-label", state.label);
  put("state-detail", state.detail);
  showProgress(run, live, fields, state.kind === "warn" ? NaN : store.scanLeft(now));
  showReadings(fields, live);
}

function showProgress(run, live, fields, left) {
  const [count, num] = [fields.count ?? 0, fields.num];
  put("count", run ? String(count) : "\u2013");
  put("num", Number.isFinite(num) ? `/ ${num}` : "");
  const share = num ? Math.min(1, count / num) : 0;
  element("progress-fill").style.transform = `scaleX(${share})`;
  const bar = element("progress");
  bar.setAttribute("aria-valuemax", String(num ?? 0));
  bar.setAttribute("aria-valuenow", String(count));
  put("rate", significant(fields.rate_hz ?? NaN));
  put("left", Number.isFinite(left) ? `${about(left)} left` : live ? "mean of the run" : "");
}

function showReadings(fields, live) {
  put("angle", fixed(fields.angle_deg ?? NaN, 4));
  put("bragg", fixed(fields.bragg_deg ?? NaN, 3));
  put("spacing", fixed(fields.d_angstrom ?? NaN, 4));
  put("q", fixed(fields.q_invA ?? NaN, 4));
  put("total", short(fields.total ?? NaN));
  put("peak", fields.peak ? fields.peak.join(", ") : "\u2013");
  put("peak-counts", short(fields.peak_counts ?? NaN));
  put("saturated", live ? String(fields.saturated ?? 0) : "\u2013");
  put("dead", live ? String(fields.dead ?? 0) : "\u2013");
  mark("saturated", fields.saturated > 0 ? "bad" : "");
}

/** The badges and figures of the estimate that is shown: what kind it is, and of which run. */
export function showEstimate(store, estimate) {
  const fields = estimate?.fields ?? {};
  const current = estimate !== null && estimate.run === store.run?.run;
  const { name, tone } = kindOf(estimate);
  const whose = estimate === null ? "" : `, ${store.nameOf(estimate.run)}${current ? "" : " (an earlier run)"}`;
  const part = fields.frames < fields.num || !isResult(estimate) ? ` (${fields.frames}/${fields.num})` : "";
  put("estimate-label", estimate === null ? "none yet" : name + whose + part);
  put("surface-label", estimate === null ? "none yet" : name + whose);
  for (const id of ["estimate-label", "surface-label"]) {
    mark(id, estimate === null ? "idle" : current ? tone : "warn");
  }
  put("chi", significant(fields.chi ?? NaN));
  put("chi-of", estimate === null ? "" : name + (current ? "" : whose));
  const found = resolutionOf(fields);
  put("resolution", found ? significant(found.nm) : "\u2013");
  const how = found ? found.criterion : isResult(estimate) ? "not known" : "after refinement";
  put("resolution-of", estimate === null ? "" : how + (current ? "" : whose));
  for (const id of ["chi-of", "resolution-of"]) mark(id, estimate === null || current ? "" : "warn");
  const voxel = fields.voxel_nm?.map((edge) => significant(edge)).join(" \u00d7 ");
  const lab = fields.axes?.join() === "x,y,z";
  const frame = lab ? "lab frame" : "detector frame, axes not quite orthogonal";
  const took = Number.isFinite(fields.seconds) ? `, computed in ${significant(fields.seconds, 2)} s` : "";
  const seen = Number.isFinite(fields.frames) ? `${fields.frames} of ${fields.num} frames, ` : "";
  put("estimate-about", estimate === null ? "" : `${seen}${frame}${voxel ? `, voxel ${voxel} nm` : ""}${took}`);
}

const LIKELY = 0.5; // a defect that the page names

/** What the surface is, what its colours mean, and how sure that is. */
export function showSurface(estimate, name) {
  const fields = estimate?.fields ?? {};
  const { surface } = fields;
  const [refined, found] = [isResult(estimate), resolutionOf(fields)];
  if (!surface) {
    put("surface-about", "");
    return;
  }
  const voxel = fields.voxel_nm?.map((edge) => significant(edge)).filter((edge, at, all) => at === 0 || new Set(all).size > 1);
  const cells = surface.step > 1.001 ? `, drawn on every ${significant(surface.step, 2)} voxels` : "";
  const level = `isosurface at ${fixed(100 * surface.level, 0)} % of the maximum, voxel ${voxel ? `${voxel.join(" \u00d7 ")} nm` : "of unknown size"}${cells}`;
  const spread = fields.uncertainty?.[name];
  const sure = refined
    ? [
        `\u03c7 ${significant(fields.chi ?? NaN)}`,
        found ? `resolution ${significant(found.nm)} nm (${found.criterion})` : "",
        spread ? `${name} uncertain by ${scientific(spread)}${name === "displacement" ? " \u00c5" : ""} (median over the starts)` : "",
      ]
    : [
        `\u03c7 ${significant(fields.chi ?? NaN)}`,
        kindOf(estimate).sure,
        Number.isFinite(fields.phase_std_rad) ? `phase uncertain by ${significant(fields.phase_std_rad, 2)} rad (median)` : "",
        ...Object.entries(fields.defects ?? {}).filter(([, odds]) => odds >= LIKELY).map(([kind, odds]) => `${kind} likely (${fixed(100 * odds, 0)} %)`),
        fields.unlike ? `no preview by the network: ${fields.unlike}` : "",
      ];
  put("surface-about", [rangeInWords(quantityOf(estimate, name)), level, ...sure].filter(Boolean).join("; "));
}

/** Where the newest result went, or why there is none. */
export function showResult(store) {
  const result = store.result;
  element("result").hidden = result === null;
  if (result === null) return;
  const { name, error, chi, resolution_nm: resolution, seconds, frames, num, file, tiled } = result.fields;
  mark("result", error ? "bad" : "ok");
  put("result-name", name || store.nameOf(result.run));
  const facts = [
    `\u03c7 ${significant(chi ?? NaN)}`,
    Number.isFinite(resolution) ? `PRTF 1/e ${significant(resolution)} nm` : "",
    Number.isFinite(frames) ? `${frames} of ${num} frames` : "",
    Number.isFinite(seconds) ? `${significant(seconds)} s` : "",
  ];
  put("result-facts", error ? `none: ${error}` : facts.filter(Boolean).join(", "));
  put("result-where", error ? "" : [tiled && `in Tiled as ${tiled}`, file && `in ${file}`].filter(Boolean).join(", "));
  element("result").title = element("result").textContent.replace(/\s+/g, " ");
}

export function showServices(store, now) {
  const list = element("services");
  const shown = new Map([...list.children].map((item) => [item.dataset.service, item]));
  for (const [name, message] of store.services) {
    const { kind, state, age } = store.service(message, now);
    const item = shown.get(name) ?? list.appendChild(newService(name));
    shown.delete(name);
    const { pid, detail } = message.fields;
    const tip = [pid ? `pid ${pid}` : "no process", detail, `heard ${fixed(Math.max(0, age), 0)} s ago`];
    item.dataset.kind = kind;
    const label = `${GLYPHS[kind]} ${name.replaceAll("_", " ")} ${state}`;
    if (item.firstChild.textContent !== label) item.firstChild.textContent = label;
    item.lastChild.textContent = tip.filter(Boolean).join(", ");
  }
  for (const item of shown.values()) item.remove();
  element("no-services").hidden = store.services.size > 0;
}

function newService(name) {
  const item = document.createElement("li");
  item.dataset.service = name;
  item.tabIndex = 0;
  item.append(document.createElement("span"), document.createElement("span"));
  item.lastChild.className = "tip";
  return item;
}

export function showNotices(store) {
  const rows = store.notices.toReversed().map((notice) => {
    const { level, service, message } = notice.fields;
    const kind = LEVELS[level] ?? "idle";
    const row = document.createElement("li");
    row.dataset.kind = kind;
    const time = new Date(1000 * notice.published_s).toLocaleTimeString([], { hour12: false });
    const about = notice.run ? `${store.nameOf(notice.run)}: ` : "";
    for (const [name, string] of [["time", time], ["who", `${GLYPHS[kind]} ${service}`], ["what", about + message]]) {
      const part = document.createElement("span");
      part.className = name;
      part.textContent = string;
      row.append(part);
    }
    return row;
  });
  element("notices").replaceChildren(...rows);
  element("no-notices").hidden = rows.length > 0;
}

export function showConnection(connection) {
  document.body.classList.toggle("lost", !connection.open);
  const banner = element("lost");
  banner.hidden = connection.open;
  if (connection.open) return;
  const since = duration(connection.lostFor());
  put("lost", `No connection to the server for ${since}. What is shown is old. Trying again.`);
}
