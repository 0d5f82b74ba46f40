// What is known: the newest of everything, and what follows from it. No drawing here.

import { KINDS, isTrusted, placeOf } from "./kinds.js";

const STALE_S = 3;
const STALE_FRAMES = 2.5; // a slow scan is not stale between two frames
const FIRST_FRAME_S = 10;
const OUTBOX_S = 15; // Tiled takes a result within a few
const SILENT_S = 5; // services speak once a second
const RESTARTED_S = 5; // of a broker that died nobody hears but by its next process

export class Store {
  constructor() {
    this.runs = new Map();
    this.live = null;
    this.result = null;
    this.queue = null;
    this.outboxSince = null;
    this.estimates = new Map();
    this.advice = new Map();
    this.tracking = null;
    this.services = new Map();
    this.restarted = new Map();
    this.notices = [];
  }

  /** Forget what a server tells again when it is connected again. */
  reset() {
    this.services.clear();
    this.restarted.clear();
    this.notices = [];
  }

  take(message) {
    const { topic, fields } = message;
    if (topic === "run") this.runs.set(message.run, message);
    else if (topic === "live") this.live = message;
    else if (topic === "result") this.result = message;
    else if (topic === "advice") this.advice.set(fields.of, message);
    else if (topic === "tracking") this.tracking = fields.of === "scan" ? message : this.tracking;
    else if (topic === "queue") this._takeQueue(message);
    else if (topic === "estimate") this.estimates.set(placeOf(fields.kind), message);
    else if (topic === "health") this._takeHealth(message);
    else if (topic === "notice") this.notices = [...this.notices, message].slice(-50);
  }

  _takeHealth(message) {
    const { service, pid } = message.fields;
    const before = this.services.get(service)?.fields.pid;
    if (before && pid && pid !== before) this.restarted.set(service, message.published_s);
    this.services.set(service, message);
  }

  _takeQueue(message) {
    this.queue = message;
    this.outboxSince = message.fields.outbox > 0 ? (this.outboxSince ?? message.published_s) : null;
  }

  /** How many seconds, at server time `now`, results have waited for Tiled. */
  outboxFor(now) {
    return this.outboxSince === null ? 0 : now - this.outboxSince;
  }

  /** Whether that is longer than Tiled takes when it is there. */
  isTiledLate(now) {
    return this.outboxFor(now) > OUTBOX_S;
  }

  /** Seconds that the scan will still take: frames left, at the measured time between the last of them. */
  scanLeft(now) {
    const { num, count, rate_hz: rate, interval_s: interval = rate > 0 ? 1 / rate : null } = this.currentLive?.fields ?? {};
    if (this.ended || !(num > count) || !(interval > 0)) return NaN;
    return Math.max(0, (num - count) * interval - Math.min(this.newestAge(now), interval));
  }

  /** The newest run's message, or null. */
  get run() {
    let newest = null;
    for (const run of this.runs.values()) {
      if (newest === null || run.fields.seen_s > newest.fields.seen_s) newest = run;
    }
    return newest;
  }

  nameOf(uid) {
    return this.runs.get(uid)?.fields.name || uid.slice(0, 8) || "unnamed";
  }

  /** The live message of the newest run, or null. */
  get currentLive() {
    return this.live !== null && this.live.run === this.run?.run ? this.live : null;
  }

  /** What moved within the newest run, or null. */
  get currentTracking() {
    return this.tracking !== null && this.tracking.run === this.run?.run ? this.tracking : null;
  }

  /** Whether the newest run has ended. */
  get ended() {
    return this.run?.fields.state === "stopped";
  }

  /** Seconds since the newest frame came, at server time `now`; it goes on counting while nothing comes. */
  newestAge(now) {
    const live = this.currentLive;
    return live === null ? NaN : Math.max(0, now - live.published_s) + (live.fields.newest_age_s ?? 0);
  }

  get currentPreview() {
    const live = this.estimates.get("live");
    return live?.run === this.run?.run ? (live ?? null) : null;
  }

  get currentResult() {
    return this.result !== null && this.result.run === this.run?.run ? this.result : null;
  }

  /** The estimate to show: of the newest run, the surest kind that is trusted; else what came last of any run. */
  estimate(wanted = null) {
    if (wanted !== null && this.estimates.has(wanted)) return this.estimates.get(wanted);
    const known = Object.keys(KINDS).reverse().map((kind) => this.estimates.get(kind)).filter(Boolean);
    const surest = known.some(isTrusted) ? known.filter(isTrusted) : known;
    const current = surest.find((one) => one.run === this.run?.run);
    if (current) return current;
    return surest.sort((a, b) => b.published_s - a.published_s)[0] ?? null;
  }

  /** {kind, label, detail} of the newest run at server time `now`; kind is ok, busy, warn, bad or idle. */
  state(now) {
    const run = this.run;
    if (run === null) return { kind: "idle", label: "Waiting for a scan", detail: "" };
    if (run.fields.state === "stopped") return this._ended(run);
    const live = this.currentLive;
    if (live === null) {
      const waited = now - run.published_s;
      const kind = waited > FIRST_FRAME_S ? "warn" : "busy";
      return { kind, label: "Scanning", detail: `no frame for ${Math.floor(Math.max(0, waited))} s` };
    }
    const age = this.newestAge(now);
    const rate = live.fields.rate_hz;
    if (age > Math.max(STALE_S, rate > 0 ? STALE_FRAMES / rate : 0)) {
      return { kind: "warn", label: "Stale", detail: `no frame for ${Math.floor(age)} s` };
    }
    return { kind: "busy", label: "Scanning", detail: "" };
  }

  _ended(run) {
    const status = run.fields.exit_status;
    if (status && status !== "success") return { kind: "bad", label: `Scan ${status}`, detail: "" };
    const result = this.currentResult;
    if (result?.fields.error) return { kind: "bad", label: "No result", detail: result.fields.error };
    if (result) return { kind: "ok", label: "Refined", detail: "" };
    if (this.estimates.get("refined")?.run === run.run) return { kind: "ok", label: "Refined", detail: "" };
    return { kind: "busy", label: "Scan done", detail: "refining" };
  }

  /** {kind, state, silent (s or 0)} of a service's message at server time `now`. */
  service(message, now) {
    const state = String(message.fields.state);
    const age = now - message.published_s;
    if (["failed", "dead", "stopped", "error"].includes(state)) return { kind: "bad", state, age };
    if (now - this.restarted.get(message.fields.service) < RESTARTED_S) return { kind: "bad", state: "died, started again", age };
    if (age > SILENT_S) return { kind: "bad", state: `silent ${Math.floor(age)} s`, age };
    if (["ready", "running", "ok"].includes(state)) return { kind: "ok", state, age };
    return { kind: state === "busy" ? "busy" : "warn", state, age };
  }

  /**
   * Indices of frames that should have come and did not: gaps so far during a scan, and of one that was aborted;
   * all that lack of one that ended well.
   */
  missing() {
    const live = this.currentLive;
    if (live === null || !live.arrays.have) return [];
    const have = live.arrays.have.data;
    const end = this.ended && this.run.fields.exit_status === "success" ? have.length : have.lastIndexOf(1);
    const indices = [];
    for (let index = 0; index < end; index++) if (!have[index]) indices.push(index);
    return indices;
  }
}
