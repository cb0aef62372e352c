// What was said in this page and is not in the log yet. No DOM.
import { newKey } from "./api.js";

const AGAIN_SECONDS_MAX = 300;

/** What was said here, until the log has it. It outlives the views of its session. */
export class Outbox {
  items = [];
  /** Told of what became of an item, wherever it was sent from. */
  onChange = () => {};
  #seen = new Set();
  #stopped = false;

  add(input, when_busy, head) {
    const item = {
      key: newKey(),
      input,
      when_busy,
      head,
      state: "sending",
      seq: null,
      seen: false,
      error: null,
      again_at_ms: null,
      timer: null,
    };
    this.items.push(item);
    return item;
  }

  /** Not sent, and why; tried again by `again` where the server says when. */
  keep(item, error, again) {
    Object.assign(item, { state: "unsent", seen: false, error });
    if (error.retryAfterSeconds == null || this.#stopped) return;
    const ms = 1000 * Math.min(error.retryAfterSeconds, AGAIN_SECONDS_MAX);
    item.again_at_ms = Date.now() + ms;
    item.timer = setTimeout(again, ms);
  }

  sending(item) {
    clearTimeout(item.timer);
    Object.assign(item, { state: "sending", error: null, again_at_ms: null, timer: null });
  }

  /** Nothing is tried again by itself, until it begins. */
  stop() {
    this.#stopped = true;
    for (const item of this.items) {
      clearTimeout(item.timer);
      item.again_at_ms = null;
    }
  }

  begin() {
    this.#stopped = false;
  }

  remove(item) {
    clearTimeout(item.timer);
    this.items = this.items.filter((each) => each !== item);
  }

  /** Those that are to be shown beside the log. */
  get shown() {
    return this.items.filter((item) => !item.seen);
  }

  /**
   * Let go of what the log has. The log may have it before its reply has come: what says the same
   * is taken for it, and shown in its place, until the reply says.
   */
  settle(log) {
    for (const item of this.items) {
      if (item.seq !== null && log.head >= item.seq) this.remove(item);
      else if (item.state === "sending" && !item.seen) item.seen = this.#find(log, item);
    }
  }

  #find(log, item) {
    for (const { seq, input } of log.inputs) {
      if (seq <= item.head || this.#seen.has(seq) || !alike(input, item.input)) continue;
      this.#seen.add(seq);
      return true;
    }
    return false;
  }
}

function alike(a, b) {
  if (a.type !== b.type) return false;
  return a.type === "button" ? a.button === b.button : a.text === b.text;
}
