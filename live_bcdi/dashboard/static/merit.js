// How good each image is, side by side: figures with how far they differ over the starts, and what is not known said.

import { KINDS, isResult } from "./kinds.js";
import { significant } from "./plot.js";
import { scientific } from "./quantity.js";
import { element, put } from "./text.js";

const UNKNOWN = { figure: "\u2013", about: "" };
const finite = (values) => (values ?? []).filter(Number.isFinite);

/** "0.0112 to 0.0113 over 3 starts"; nothing for one start. */
function spread(values, digits = 3) {
  const known = finite(values);
  if (known.length < 2) return known.length ? "one start" : "";
  return `${significant(Math.min(...known), digits)} to ${significant(Math.max(...known), digits)} over ${known.length} starts`;
}

function chi({ fields }) {
  return { figure: significant(fields.chi ?? NaN), about: spread(fields.chi_starts) || "one start" };
}

function freeLlk({ fields }) {
  if (!Number.isFinite(fields.free_llk)) return { figure: "\u2013", about: "none held out" };
  return { figure: significant(fields.free_llk), about: spread(fields.free_llk_starts) };
}

/** {nm, criterion}: the larger of two figures, which is the one to trust; null where neither is known. */
export function resolutionOf(fields) {
  const ways = [["PRTF 1/e", fields.resolution_nm], ["FSC 0.5", fields.fsc_nm?.["0.5"]]].filter(([, nm]) => Number.isFinite(nm));
  if (!ways.length) return null;
  const [criterion, nm] = ways.reduce((worst, each) => (each[1] > worst[1] ? each : worst));
  return { nm, criterion };
}

/** By two ways of telling; one that equals the end of what was measured is no resolution. */
function resolution(estimate) {
  const { resolution_nm: prtf, fsc_nm: fsc, limit_nm: limit } = estimate.fields;
  if (!isResult(estimate)) return { figure: "\u2013", about: "needs several starts" };
  const figures = [prtf, fsc?.["0.5"]].filter(Number.isFinite);
  if (!figures.length) return UNKNOWN;
  const ends = [...new Set([Math.min(...figures), Math.max(...figures)].map((value) => significant(value)))];
  const at = (value) => (Number.isFinite(limit) && value <= 1.02 * limit ? " (end of the data)" : "");
  const ways = [
    Number.isFinite(prtf) ? `PRTF 1/e ${significant(prtf)}${at(prtf)}` : "",
    Number.isFinite(fsc?.["0.5"]) ? `halves of the starts 0.5: ${significant(fsc["0.5"])}${at(fsc["0.5"])}` : "",
  ];
  return { figure: `${ends.join(" to ")} nm`, about: ways.filter(Boolean).join("; ") };
}

function uncertainty(name, unit) {
  return ({ fields }) => {
    const value = fields.uncertainty?.[name];
    return Number.isFinite(value) ? { figure: `\u00b1${scientific(value)}${unit}`, about: "median of std over the starts" } : UNKNOWN;
  };
}

/** The cheapest theory that is near enough for a crystal of this size. */
function rung({ fields }) {
  if (!fields.rung) return UNKNOWN;
  const [plain, refracted] = (fields.misfits ?? []).map((share) => (Number.isFinite(share) ? `${significant(100 * share, 2)} %` : "?"));
  return { figure: fields.rung, about: `Fourier: ${plain} off; refraction: ${refracted}` };
}

const ROWS = [
  ["\u03c7", "squared misfit \u03a3(|F| \u2212 \u221aI)\u00b2 / \u03a3I", chi],
  ["free log-likelihood", "of voxels held out; noise: 0.5", freeLlk],
  ["resolution", "full period; trust the larger", resolution],
  ["theory it needs", "for its size", rung],
  ["displacement", "", uncertainty("displacement", " \u00c5")],
  ["strain", "", uncertainty("strain", "")],
];

export function showMerit(store) {
  const shown = Object.keys(KINDS).filter((kind) => store.estimates.has(kind)).map((kind) => store.estimates.get(kind));
  put("merit-note", shown.length ? "spread over the starts, which is not an error bar" : "no estimate yet");
  const table = element("merit");
  const text = JSON.stringify([shown.map(({ run, fields }) => [run, fields.kind, fields.frames, fields.chi]), store.run?.run, shown.map(({ run }) => store.nameOf(run))]);
  if (table.dataset.of === text) return;
  table.dataset.of = text;
  table.replaceChildren();
  if (!shown.length) return;
  const top = table.createTHead().insertRow();
  top.append(cell("td", "", ""), ...shown.map((each) => heading(store, each)));
  const body = table.createTBody();
  for (const [name, meaning, told] of ROWS) {
    const figures = shown.map(told);
    if (figures.every(({ figure }) => figure === "\u2013")) continue;
    body.insertRow().append(cell("th", name, meaning), ...figures.map(({ figure, about }) => cell("td", figure, about, "b")));
  }
}

function heading(store, estimate) {
  const { name, tone } = KINDS[estimate.fields.kind];
  const earlier = estimate.run !== store.run?.run;
  const { frames, num } = estimate.fields;
  const of = frames < num ? `, ${frames} of ${num} frames` : "";
  const node = cell("th", name, `${store.nameOf(estimate.run)}${earlier ? " (an earlier run)" : ""}${of}`);
  node.dataset.kind = earlier ? "warn" : tone;
  node.scope = "col";
  return node;
}

function cell(tag, string, small, inner = "span") {
  const node = document.createElement(tag);
  node.append(document.createElement(inner));
  node.firstChild.textContent = string;
  if (small) node.append(Object.assign(document.createElement("small"), { textContent: small }));
  return node;
}
