// The strip under the readings: what came, what did not, how late, and what waits. Grey while all is well.

import { duration, fixed } from "./plot.js";
import { GLYPHS, mark, put } from "./text.js";

const WAITING_S = 1; // frames of so long in the queue: the intake is behind
const WAITING_LEAST = 20;

const plural = (count, thing) => `${count} ${thing}${count === 1 ? "" : "s"}`;

/** Seconds as a person reads them: 0.4 s, 17 s, 2:05. */
function seconds(value) {
  if (!Number.isFinite(value)) return "\u2013";
  return value < 100 ? `${value < 10 ? fixed(Math.max(0, value), 1) : Math.round(value)} s` : duration(value);
}

/** Services that do not work, those first that are known to have died. */
function awayServices(store, now) {
  const bad = [...store.services].map(([name, message]) => [name, store.service(message, now)]);
  return bad
    .filter(([, { kind }]) => kind === "bad")
    .sort(([, one], [, other]) => one.state.startsWith("silent") - other.state.startsWith("silent"))
    .map(([name, { state }]) => `${name.replaceAll("_", " ")} ${state}`);
}

/** {kind, words} in one sentence: the worst that there is to say. */
function verdict(store, now) {
  const away = awayServices(store, now);
  if (away.length) return { kind: "bad", words: away[0] + (away.length > 1 ? `, and ${away.length - 1} more` : "") };
  const { run, currentLive: live } = store;
  if (run === null) return { kind: "idle", words: "no scan yet" };
  const { lost = 0, refilled = 0, waiting = 0 } = live?.fields ?? {};
  const missing = store.missing().length;
  if (store.ended) {
    if (missing) return { kind: "bad", words: `${plural(missing, "frame")} missing, in no file` };
    if (refilled) return { kind: "warn", words: `${plural(refilled, "frame")} lost on the way, taken from the file` };
    if (lost) return { kind: "warn", words: `${plural(lost, "frame")} lost on the way` };
  } else {
    const state = store.state(now);
    if (state.kind === "warn") return { kind: "warn", words: state.detail };
    if (lost > refilled) return { kind: "warn", words: `${plural(lost - refilled, "frame")} lost, to be taken from the file` };
    if (refilled) return { kind: "warn", words: `${plural(refilled, "frame")} lost on the way, taken from the file` };
    if (isBehind(live)) return { kind: "warn", words: `${plural(waiting, "frame")} wait: the intake is behind` };
  }
  if (store.isTiledLate(now)) {
    return { kind: "warn", words: `${plural(store.queue.fields.outbox, "result")} on disk that Tiled has not taken` };
  }
  if (live === null) return { kind: "idle", words: store.ended ? "ended" : "waiting for the first frame" };
  return { kind: "idle", words: store.ended ? "every frame is there" : "no frame lost" };
}

const isBehind = (live) => live?.fields.waiting > Math.max(WAITING_LEAST, WAITING_S * (live?.fields.rate_hz ?? 0));

/** [id, text, kind] of each figure. */
function figures(store, now) {
  const fields = store.currentLive?.fields ?? {};
  const queue = store.queue?.fields ?? {};
  const result = store.currentResult?.fields ?? {};
  const number = (value) => (Number.isFinite(value) ? String(value) : "\u2013");
  const missing = store.missing().length;
  const stale = !store.ended && store.state(now).kind === "warn";
  return [
    ["age", `${seconds(store.newestAge(now))}${store.currentLive ? " ago" : ""}`, stale ? "warn" : ""],
    ["received", number(fields.received), ""],
    ["lost-frames", number(fields.lost), fields.lost > 0 ? "warn" : ""],
    ["refilled", number(fields.refilled), fields.refilled > 0 ? "warn" : ""],
    ["missing", store.ended && store.currentLive ? String(missing) : "\u2013", store.ended && missing ? "bad" : ""],
    ["duplicates", number(fields.duplicates), ""],
    ["waiting", number(fields.waiting), isBehind(store.currentLive) ? "warn" : ""],
    ["skipped", number(fields.skipped), ""],
    ["to-preview", seconds(store.currentPreview?.fields.lag_s ?? NaN), ""],
    ["to-result", seconds(result.last_frame_to_result_s ?? result.stop_to_result_s ?? NaN), ""],
    ["running", number(queue.running), ""],
    ["runs-waiting", number(queue.waiting), ""],
    ["later", number(queue.later), ""],
    ["outbox", number(queue.outbox), store.isTiledLate(now) ? "warn" : ""],
  ];
}

export function showStream(store, now) {
  const { kind, words } = verdict(store, now);
  mark("stream", kind);
  put("stream-glyph", kind === "idle" && store.currentLive ? GLYPHS.ok : GLYPHS[kind]);
  put("stream-words", words);
  for (const [id, text, tone] of figures(store, now)) {
    put(id, text);
    mark(id, tone);
  }
}
