// Wires the connection to the panels.

import { showAdvice } from "./advice.js";
import { Connection } from "./connection.js";
import { DriftPanel } from "./drift.js";
import { FramePanel } from "./frame.js";
import { showMerit } from "./merit.js";
import { MotionPanel } from "./motion.js";
import { OperandoPanel } from "./operando.js";
import { RockingPanel } from "./rocking.js";
import { SlicesPanel } from "./slices.js";
import { has } from "./quantity.js";
import { showConnection, showEstimate, showNotices, showResult, showServices, showStatus, showSurface } from "./status.js";
import { placeOf } from "./kinds.js";
import { Store } from "./store.js";
import { showStream } from "./stream.js";
import { SurfacePanel } from "./surface.js";
import { showWork } from "./work.js";

const CLOCK_MS = 250;
const DELAYS = 200;

const store = new Store();
const panels = {
  frame: new FramePanel("frame-panel"),
  rocking: new RockingPanel("rocking-panel"),
  slices: new SlicesPanel("crystal-panel"),
  surface: new SurfacePanel("surface-panel"),
  drift: new DriftPanel("drift-panel"),
  motion: new MotionPanel("motion-panel"),
  operando: new OperandoPanel("operando-panel"),
};
const choices = [...document.querySelectorAll("[data-choice]")];
const quantities = [...document.querySelectorAll("[data-quantity]")];
let wanted = null; // the estimate that a person asked for, until the next run
let coloured = "phase"; // what a person asked for, shown where the estimate has it
let delays = [];

function showCrystal() {
  if (wanted !== null && !store.estimates.has(wanted)) wanted = null;
  const estimate = store.estimate(wanted);
  const quantity = has(estimate, coloured) ? coloured : "phase";
  panels.slices.show(estimate, quantity);
  panels.surface.show(estimate, quantity);
  showEstimate(store, estimate);
  showSurface(estimate, quantity);
  showMerit(store);
  for (const button of quantities) {
    button.disabled = !has(estimate, button.dataset.quantity);
    button.setAttribute("aria-pressed", String(button.dataset.quantity === quantity));
  }
  for (const button of choices) {
    button.disabled = !store.estimates.has(button.dataset.choice);
    if (!button.disabled) button.hidden = false;
    button.setAttribute("aria-pressed", String(button.dataset.choice === placeOf(estimate?.fields.kind)));
  }
}

function showScan() {
  panels.frame.show(store.currentLive);
  panels.rocking.show(store.currentLive, store.run, store.missing());
  panels.drift.show(store.currentLive, store.currentTracking);
  showStatus(store, connection.now());
}

function receive(message) {
  const before = store.run?.run;
  message.fresh = connection.settled; // what is told again on connecting, or comes soon after, measures nothing
  store.take(message);
  const { topic } = message;
  if (topic === "run" && store.run?.run !== before) wanted = null;
  if (topic === "run" || topic === "live") showScan();
  if (topic === "run" || topic === "estimate") showCrystal();
  if (topic === "run" || topic === "result") showResult(store);
  if (topic === "operando") panels.operando.show(message);
  if (topic === "tracking" && message.fields.of === "series") panels.motion.show(message);
  if (topic === "tracking") panels.drift.show(store.currentLive, store.currentTracking);
  if (topic === "health") showServices(store, connection.now());
  if (topic === "run" || topic === "notice") showNotices(store);
  if (topic === "estimate" || topic === "result") showStatus(store, connection.now());
  if (topic === "run" || topic === "live" || topic === "advice") showAdvice(store);
  if (topic !== "health" && topic !== "notice") {
    showStream(store, connection.now());
    showWork(store, connection.now());
  }
}

function changed(reopened) {
  if (reopened) store.reset();
  if (connection.title) document.title = `${store.run ? store.nameOf(store.run.run) + " \u2013 " : ""}${connection.title}`;
  document.getElementById("title").textContent = connection.title || "live_bcdi";
  showConnection(connection);
}

function tick() {
  const now = connection.now();
  showConnection(connection);
  showStatus(store, now);
  if (!connection.open) return; // their silence would be ours
  showServices(store, now);
  showStream(store, now);
  showWork(store, now);
}

// From the moment the server had the frame, and from the detector's own time stamp, to the moment its pixels are
// handed to the screen. The detector's clock may be another one: what it says stands in the tip only.
panels.frame.onDrawn = () => {
  const live = store.currentLive;
  if (live === null || !live.fresh) return;
  live.fresh = false;
  const { published_s: published, fields: { index, frame_time_s: stamped } } = live;
  const since = (then) => Math.max(0, 1000 * (connection.now() - then));
  delays = [...delays, { here: since(published), whole: since(stamped ?? NaN) }].slice(-DELAYS);
  const sorted = (name) => delays.map((one) => one[name]).filter(Number.isFinite).sort((a, b) => a - b);
  const at = (values, share) => Math.round(values[Math.floor(share * (values.length - 1))]);
  const [here, whole] = [sorted("here"), sorted("whole")];
  const delay = document.getElementById("delay");
  delay.textContent = `${at(here, 0.5)} ms`;
  const stamps = whole.length ? `; from the detector's time stamp ${at(whole, 0.5)} ms, 95 % within ${at(whole, 0.95)} ms` : "";
  delay.title = `median of the last ${delays.length} frames, from the page's server to the screen; 95 % within ${at(here, 0.95)} ms${stamps}`;
  Object.assign(delay.dataset, { p50: at(here, 0.5), p95: at(here, 0.95), frames: delays.length, published, stamped, index });
};

for (const button of choices) {
  button.addEventListener("click", () => {
    wanted = button.dataset.choice;
    showCrystal();
  });
}
for (const button of quantities) {
  button.addEventListener("click", () => {
    coloured = button.dataset.quantity;
    showCrystal();
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const panel of Object.values(panels)) panel.invalidate();
});

const connection = new Connection(receive, changed);
setInterval(tick, CLOCK_MS);
tick();
