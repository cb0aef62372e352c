// One open session: its log as it grows, and what was said here and is not in it yet.
import { Offline, Problem } from "./api.js";
import { follow } from "./follow.js";
import { empty, fold, seed } from "./log.js";

const WINDOW = 500;
const AGAIN_MS = 2_000;

/** Loads the newest entries and follows the log. `listen` is told of changes, at most once a frame. */
export class OpenSession {
  #listeners = new Set();
  #stop = () => {};
  #stopped = false;
  #scheduled = false;

  constructor(api, session_id, outbox) {
    this.api = api;
    this.session_id = session_id;
    this.path = `/v1/sessions/${encodeURIComponent(session_id)}`;
    this.outbox = outbox;
    this.session = null;
    this.connection = "connecting";
    this.failed = null;
    this.loading = true;
    this.loadingEarlier = false;
    this.entries = [];
    this.log = empty();
    this.queued = [];
    this.entry = null;
  }

  get head() {
    return Math.max(this.log.head, this.session?.head ?? 0);
  }

  get running() {
    return this.log.running;
  }

  /** Whether entries before the window are not loaded. */
  get earlier() {
    return this.log.first !== null && this.log.first > 1;
  }

  /** Until it succeeds, where nobody answers; what is refused is told in `failed`. */
  async start() {
    this.loading = true;
    this.#told();
    try {
      const session = await this.api.get(this.path);
      const after = Math.max(0, session.head - WINDOW);
      const waiting = after > 0 && session.queued > 0;
      this.queued = waiting ? await this.#waiting() : [];
      if (this.#stopped) return;
      this.session = session;
      this.failed = null;
      this.entries = [];
      this.log = seed(empty(), session, this.queued);
      if (session.head === 0) this.loading = false;
      this.#follow(after);
    } catch (error) {
      if (this.#stopped) return;
      this.failed = error;
      this.loading = false;
      if (error instanceof Offline) {
        this.connection = "lost";
        setTimeout(() => this.#stopped || this.start(), AGAIN_MS);
      }
    }
    this.#told();
  }

  stop() {
    this.#stopped = true;
    this.#stop();
    this.#listeners.clear();
  }

  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #follow(after) {
    this.#stop();
    this.#stop = follow(this.api, this.session_id, after, {
      onEntry: (entry) => this.#took(entry),
      onState: (state, reason) => {
        this.connection = state;
        this.ended = reason;
        if (state === "live" || state === "ended") this.loading = false;
        this.#told();
      },
      onReset: () => {
        // The snapshot has no cards and no approvals: what there is is read from the log.
        this.#stop();
        this.start();
      },
    });
  }

  #took(entry) {
    this.entries.push(entry);
    fold(this.log, entry);
    this.entry = entry;
    this.outbox.settle(this.log);
    this.#told();
    if (entry.seq === this.session.head) this.#begun();
  }

  /** The window is there. What is being written is shown from its beginning, however long it is. */
  async #begun() {
    const cut = () => this.log.messages.some((message) => message.state === "partial" && isCut(message));
    try {
      while (!this.#stopped && this.earlier && cut()) await this.loadEarlier();
    } catch {
      // The message says that its beginning is missing, and the button to load it is there.
    }
  }

  async #waiting() {
    const found = [];
    for (let after = 0; after !== null; ) {
      const page = await this.api.get(`${this.path}/turns?queued=true&limit=200&after=${after}`);
      found.push(...page.items);
      after = page.next;
    }
    return found;
  }

  async loadEarlier() {
    if (this.loadingEarlier || !this.earlier) return;
    this.loadingEarlier = true;
    this.#told();
    try {
      const last = this.log.first - 1;
      const found = [];
      for (let after = Math.max(0, last - WINDOW); after < last; ) {
        const path = `${this.path}/events?after=${after}&limit=${Math.min(WINDOW, last - after)}`;
        const page = await this.api.get(path);
        if (!page.items.length) break;
        found.push(...page.items.filter((entry) => entry.seq <= last));
        after = page.items.at(-1).seq;
      }
      this.entries = [...found, ...this.entries];
      const log = seed(empty(), this.session, this.queued);
      this.log = this.entries.reduce(fold, log);
    } finally {
      this.loadingEarlier = false;
      this.#told();
    }
  }

  /** Say something. It is shown at once, and kept until the log has it. */
  async send(input, when_busy) {
    await this.#deliver(this.outbox.add(input, when_busy, this.log.head));
  }

  async again(item) {
    item.state = "sending";
    await this.#deliver(item);
  }

  discard(item) {
    this.outbox.remove(item);
    this.#told();
  }

  async #deliver(item) {
    this.#told();
    const body = { input: item.input, when_busy: item.when_busy };
    try {
      const turn = await this.api.post(`${this.path}/turns`, body, { key: item.key });
      item.seq = turn.seq;
      item.state = "sent";
      this.outbox.settle(this.log);
    } catch (error) {
      item.state = "unsent";
      item.seen = false;
      item.error = error;
      const refused = error instanceof Problem && error.status < 500;
      if (refused) {
        this.outbox.remove(item);
        throw error;
      }
    } finally {
      this.#told();
    }
  }

  #told() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    const tell = () => {
      if (!this.#scheduled) return;
      this.#scheduled = false;
      for (const listener of this.#listeners) listener();
    };
    // A page that nobody sees gets no frames.
    if (globalThis.document?.visibilityState === "visible") requestAnimationFrame(tell);
    setTimeout(tell, 100);
  }
}

/** Whether a message's first entries are not in the window. */
export function isCut({ starts }) {
  return starts.text > 0 || starts.thinking > 0;
}
