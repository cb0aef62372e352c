// A server's figures, read for as long as the page is open: once health was looked at, it has
// been drawn since, whatever is looked at meanwhile.

import { added, asked, read } from "../metrics.js";

export const POLL_SECONDS = 2;

/** `ready`: `{ok, why}`, null until it is known; `error`: why there is no reading now, or null;
 * `readings`: as `added` keeps them. Asks while the page is seen, until `stop`. */
export class Figures {
  #listeners = new Set();
  #looks = 0; // the last one goes on; one that was overtaken, or left behind, does not
  #timer = null;
  #seen = () => document.hidden || this.#look();

  constructor(api) {
    this.api = api;
    this.ready = null;
    this.error = null;
    this.readings = new Map();
    document.addEventListener("visibilitychange", this.#seen);
    this.#look();
  }

  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  stop() {
    this.#looks = -1;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#seen);
  }

  async #look() {
    clearTimeout(this.#timer);
    const mine = ++this.#looks;
    const [ready, found] = await Promise.all([this.#readiness(), read(this.api).catch(failed)]);
    if (mine !== this.#looks) return;
    this.ready = ready;
    this.error = found.error ?? null;
    if (!found.error) this.readings = added(this.readings, found);
    for (const listener of this.#listeners) listener();
    if (!document.hidden) this.#timer = setTimeout(() => this.#look(), POLL_SECONDS * 1000);
  }

  /** `why` is null where nobody answered. */
  async #readiness() {
    try {
      const reply = await asked(this.api, "/readyz");
      if (reply.ok) return { ok: true, why: null };
      return { ok: false, why: (await this.api.refusal(reply)).message };
    } catch {
      return { ok: false, why: null };
    }
  }
}

function failed(error) {
  return { error };
}
