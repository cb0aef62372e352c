// What was said in this page and is not in the log yet. No DOM.
import { newKey } from "./api.js";

/** What was said here, until the log has it. */
export class Outbox {
  items = [];
  #seen = new Set();

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
    };
    this.items.push(item);
    return item;
  }

  remove(item) {
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
