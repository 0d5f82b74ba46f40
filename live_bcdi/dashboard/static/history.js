// Earlier runs: two results beside each other, and what changed. The address holds what is chosen.

import { ComparisonPanel } from "./compare.js";
import { showNumbers } from "./numbers.js";
import { significant } from "./plot.js";
import { aboutZero, quantityOf, rangeInWords } from "./quantity.js";
import { RunList, ask, dateText } from "./runs.js";
import { Camera, SurfacePanel } from "./surface.js";
import { element, put } from "./text.js";
import { decode } from "./wire.js";

const QUANTITIES = ["amplitude", "phase", "displacement", "strain"];
const camera = new Camera();
const surfaces = Object.fromEntries(["a", "b", "d"].map((side) => [side, new SurfacePanel(`${side}-surface`, camera)]));
for (const side of ["a", "b"]) surfaces[side].nothing = `nothing as ${side.toUpperCase()}`;
surfaces.d.nothing = "no difference";
const cuts = new ComparisonPanel("cuts-panel");
const chosen = { a: null, b: null }; // places: a uid, or uid/version
const shown = { a: null, b: null, d: null }; // what came for them
let quantity = "strain";
let asked = 0;

const binary = async (response) => decode(await response.arrayBuffer());

/** Both sides with the ranges that hold both, so that a colour means the same. */
function alike(sides) {
  const there = [sides.a, sides.b].filter(Boolean);
  const most = (name) => Math.max(0, ...there.map((estimate) => estimate.fields.ranges?.[name] ?? 0));
  const ranges = { displacement: most("displacement"), strain: most("strain") };
  const with_ranges = (estimate) => estimate && { ...estimate, fields: { ...estimate.fields, ranges } };
  return { a: with_ranges(sides.a), b: with_ranges(sides.b), ranges };
}

/** One of the three on the common grid of a difference, as a message of its own. */
function part(difference, whose, fields) {
  const arrays = {};
  for (const [name, array] of Object.entries(difference.arrays)) {
    if (name.startsWith(`${whose}_`)) arrays[name.slice(2)] = array;
  }
  return { ...difference, fields: { ...difference.fields, ...fields }, arrays };
}

function show() {
  for (const button of document.querySelectorAll("[data-quantity]")) {
    button.setAttribute("aria-pressed", String(button.dataset.quantity === quantity));
  }
  const { a, b, ranges } = alike(shown);
  const { d } = shown;
  const change = d && aboutZero(quantity, d.fields.ranges[quantity]);
  for (const [side, estimate] of Object.entries({ a, b })) surfaces[side].show(estimate, quantity);
  surfaces.d.show(d && { ...d, fields: { ...d.fields, kind: "difference" } }, quantity, change);
  const columns = { a: null, b: null, d: null };
  for (const [side, estimate] of Object.entries({ a, b })) {
    const seen = estimate && d ? part(d, side, { ranges }) : estimate;
    if (seen) columns[side] = { estimate: seen, quantity: quantityOf(seen, quantity) };
  }
  if (d) columns.d = { estimate: part(d, "d", {}), quantity: change };
  cuts.show(columns, { together: d !== null });
  const said = a || b ? rangeInWords(quantityOf(a ?? b, quantity)) : "";
  const whose = a && b ? "A and B" : a ? "A" : "B";
  put("ranges", [said && `${whose}: ${said}`, change && `B \u2212 A: ${rangeInWords(change)}`].filter(Boolean).join("; "));
  for (const button of document.querySelectorAll("[data-look]")) {
    button.disabled = !(a || b) || (button.dataset.look === "q" && !(a ?? b).fields.surface?.q_invA);
  }
  showNumbers(shown);
}

function showSide(side) {
  const facts = shown[side]?.fields.facts;
  const nothing = side === "a" ? "choose a run" : "choose another run";
  const uid = chosen[side]?.split("/")[0];
  put(`${side}-name`, facts ? facts.name || uid.slice(0, 8) : uid ? uid.slice(0, 8) : nothing);
  const about = facts
    ? [`result ${shown[side].fields.version}`, dateText(facts.finished), `\u03c7\u00a0${significant(facts.chi ?? NaN)}`,
      Number.isFinite(facts.resolution_nm) ? `${significant(facts.resolution_nm)}\u00a0nm` : "", shown[side].run.slice(0, 8)]
    : [];
  put(`${side}-about`, about.filter(Boolean).join(" \u00b7 "));
}

async function read(side, mine) {
  if (chosen[side] === null) return;
  put(`${side}-about`, "reading\u2026");
  try {
    const found = await ask(`history/result?${new URLSearchParams({ place: chosen[side] })}`, binary);
    if (mine === asked) shown[side] = found;
  } catch (error) {
    if (mine === asked) put(`${side}-why`, error.message);
  }
  if (mine === asked) showSide(side);
}

/** Read what is chosen and not here yet. What comes after another choice was made is dropped. */
async function load() {
  const mine = ++asked;
  list.mark(chosen);
  element("swap").disabled = !(chosen.a && chosen.b);
  for (const side of ["a", "b"]) put(`${side}-why`, "");
  put("d-why", "");
  shown.d = null;
  const missing = ["a", "b"].filter((side) => shown[side]?.place !== chosen[side]);
  for (const side of missing) {
    shown[side] = null;
    showSide(side);
  }
  show();
  await Promise.all(missing.map(async (side) => {
    const place = chosen[side];
    await read(side, mine);
    if (mine !== asked) return;
    if (shown[side]) shown[side].place = place;
    show();
  }));
  if (mine !== asked || !shown.a || !shown.b) return;
  put("registration", "comparing\u2026");
  const places = Object.fromEntries(["a", "b"].map((side) => [side, `${shown[side].run}/${shown[side].fields.version}`]));
  try {
    const found = await ask(`history/difference?${new URLSearchParams(places)}`, binary);
    if (mine === asked) shown.d = found;
  } catch (error) {
    if (mine === asked) put("d-why", error.message);
  }
  if (mine === asked) show();
}

/** What the address says, or null. */
function fromAddress() {
  const query = new URLSearchParams(location.search);
  for (const side of ["a", "b"]) chosen[side] = query.get(side) || null;
  if (QUANTITIES.includes(query.get("by"))) quantity = query.get("by");
}

function address() {
  const query = [["a", chosen.a], ["b", chosen.b], ["by", quantity === "strain" ? null : quantity]];
  const said = query.filter(([, value]) => value).map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll("%2F", "/")}`);
  return said.length ? `history?${said.join("&")}` : "history";
}

const list = new RunList((side, place) => {
  chosen[side] = place;
  history.pushState(null, "", address());
  load();
});
element("swap").addEventListener("click", () => {
  [chosen.a, chosen.b, shown.a, shown.b] = [chosen.b, chosen.a, shown.b, shown.a];
  history.pushState(null, "", address());
  for (const side of ["a", "b"]) showSide(side);
  load();
});
for (const button of document.querySelectorAll("[data-quantity]")) {
  button.addEventListener("click", () => {
    quantity = button.dataset.quantity;
    history.replaceState(null, "", address());
    show();
  });
}
for (const button of document.querySelectorAll("[data-look]")) {
  button.addEventListener("click", () => camera.look(button.dataset.look, (shown.a ?? shown.b)?.fields.surface?.q_invA));
}
addEventListener("popstate", () => {
  fromAddress();
  load();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const panel of [...Object.values(surfaces), cuts]) panel.invalidate();
});

fromAddress();
list.load();
load();
