// What is in this page alone: drafts, and what was said and is not sent. No DOM.
import { Outbox } from "./outbox.js";

/** `owner`: whose it is, as `GET /v1/me` tells it; null until that is known. */
export class Shelf {
  drafts = new Map();
  #outboxes = new Map();

  constructor(owner = null) {
    this.owner = owner;
  }

  /** The outbox of a session. */
  outbox(session_id) {
    if (!this.#outboxes.has(session_id)) this.#outboxes.set(session_id, new Outbox());
    return this.#outboxes.get(session_id);
  }

  get hasUnsent() {
    return [...this.#outboxes.values()].some(({ items }) => items.some(({ state }) => state === "unsent"));
  }

  /** What is tried again by itself is not any more, until it begins. */
  stop() {
    for (const outbox of this.#outboxes.values()) outbox.stop();
  }

  begin() {
    for (const outbox of this.#outboxes.values()) outbox.begin();
  }

  /** This one where it is that user's, or nobody's yet; else an empty one. */
  of(me) {
    this.owner ??= me;
    return isSame(this.owner, me) ? this : new Shelf(me);
  }
}

export function isSame(one, other) {
  return one.tenant_id === other.tenant_id && one.user_id === other.user_id;
}
