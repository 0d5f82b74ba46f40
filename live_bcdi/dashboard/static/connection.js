// One websocket, opened again for ever when it closes or falls silent.

import { decode } from "./wire.js";

const SILENT_S = 3; // the server ticks once a second
const FIRST_PAUSE_S = 0.5;
const LONGEST_PAUSE_S = 5;
const CLOCK_SAMPLES = 10;
const SETTLED_SAMPLES = 3;

const localTime = () => (performance.timeOrigin + performance.now()) / 1000;

export class Connection {
  /** `onMessage(message)` for every message but ticks; `onChange()` when `open` or `title` changed. */
  constructor(onMessage, onChange) {
    this.open = false;
    this.title = "";
    this.lostSince = localTime();
    this._onMessage = onMessage;
    this._onChange = onChange;
    this._offsets = [];
    this._pause = FIRST_PAUSE_S;
    this._heard = 0;
    this._connect();
    setInterval(() => this._checkSilence(), 500);
  }

  /** The server's clock in seconds since the epoch: the tick that travelled fastest tells it best. */
  now() {
    return localTime() + (this._offsets.length ? Math.max(...this._offsets) : 0);
  }

  /** Whether enough ticks came that one of them travelled fast, and `now` can be trusted to milliseconds. */
  get settled() {
    return this._offsets.length >= SETTLED_SAMPLES;
  }

  lostFor() {
    return localTime() - this.lostSince;
  }

  _connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/ws`);
    socket.binaryType = "arraybuffer";
    this._socket = socket;
    this._heard = localTime();
    socket.onmessage = (event) => this._receive(socket, decode(event.data));
    socket.onclose = () => this._lost(socket);
  }

  _receive(socket, message) {
    if (socket !== this._socket) return;
    this._heard = localTime();
    if (message.topic !== "tick") {
      this._onMessage(message);
      return;
    }
    this._offsets = [...this._offsets, message.fields.time_s - this._heard].slice(-CLOCK_SAMPLES);
    this._pause = FIRST_PAUSE_S;
    const changed = !this.open || this.title !== message.fields.title;
    const reopened = !this.open;
    this.open = true;
    this.title = message.fields.title;
    if (changed) this._onChange(reopened);
  }

  _lost(socket) {
    if (socket !== this._socket) return;
    this._socket = null;
    if (this.open) this.lostSince = localTime();
    this.open = false;
    this._onChange(false);
    this._askWhy();
    setTimeout(() => this._connect(), this._pause * 1000);
    this._pause = Math.min(2 * this._pause, LONGEST_PAUSE_S);
  }

  // A refused websocket tells nothing; where the key is another one now, the page itself asks for it.
  async _askWhy() {
    const answer = await fetch("health").catch(() => null);
    if (answer?.status === 401) location.reload();
  }

  // A cable that was pulled closes nothing; only the missing ticks tell.
  _checkSilence() {
    const socket = this._socket;
    if (socket === null || localTime() - this._heard < SILENT_S) return;
    socket.close();
    this._lost(socket);
  }
}
