// One open session: its log as it grows, and what was said here and is not in it yet.
import { Offline, Problem } from "./api.js";
import { follow } from "./follow.js";
import { empty, fold, keep, seed } from "./log.js";

const WINDOW = 500;
const AGAIN_MS = 2_000;
/** Where the server says nothing of when to try again. */

/** Loads the newest entries and follows the log. `listen` is told of changes, at most once a frame. */
export class OpenSession {
  #listeners = new Set();
  #stop = () => {};
  #stopped = false;
  #scheduled = false;
  #again;
  #starts = 0;

  constructor(api, session_id, outbox) {
    this.api = api;
    this.session_id = session_id;
    this.path = `/v1/sessions/${encodeURIComponent(session_id)}`;
    this.outbox = outbox;
    outbox.onChange = () => {
      outbox.settle(this.log);
      this.#told();
    };
    this.session = null;
    this.connection = "connecting";
    this.failed = null;
    this.loading = true;
    this.loadingEarlier = false;
    this.entries = [];
    this.log = empty();
    this.queued = [];
    this.entry = null;
    this.after = 0;
    this.redactions = 0; // heard of while it is open: what was read before tells what is void now
  }

  get head() {
    return Math.max(this.log.head, this.session?.head ?? 0);
  }

  get running() {
    return this.log.running;
  }

  /** Whether entries before the window are not loaded. */
  get earlier() {
    return this.log.first !== null && this.after > 0;
  }

  /** Until it succeeds, where nobody answers or the server fails; why not is told in `failed`. */
  async start() {
    clearTimeout(this.#again);
    const mine = ++this.#starts; // the last one goes on; one that was overtaken does not
    const left = () => this.#stopped || mine !== this.#starts;
    this.loading = true;
    this.#told();
    try {
      const session = await this.api.get(this.path);
      const after = Math.max(0, session.head - WINDOW);
      const waiting = after > 0 && session.queued > 0;
      const queued = waiting ? await this.#waiting() : [];
      if (left()) return;
      this.queued = queued;
      this.session = session;
      this.failed = null;
      this.entries = [];
      this.after = after;
      this.log = seed(empty(), session, this.queued);
      if (session.head === 0) this.loading = false;
      this.#follow(after);
    } catch (error) {
      if (left()) return;
      this.failed = error;
      this.loading = false;
      if (error instanceof Offline || error.status >= 500) {
        this.connection = "lost";
        const ms = error.retryAfterSeconds == null ? AGAIN_MS : 1000 * error.retryAfterSeconds;
        this.#again = setTimeout(() => this.start(), ms);
      } else {
        this.connection = "ended";
        this.ended = "gone";
      }
    }
    this.#told();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#again);
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
    if (entry.kind === "session.redacted" && entry.seq > this.session.head) this.#redacted();
  }

  /** Entries that are here already were voided: what these told besides the messages, as a title
   * or a summary may, is known by reading them again. */
  async #redacted() {
    const mine = ++this.redactions;
    try {
      for (let of = null; of !== this.log; ) {
        of = this.log;
        const { head } = of;
        const { title, metadata } = await this.api.get(this.path);
        const found = await this.#read(this.after, head);
        if (this.#stopped || mine !== this.redactions) return;
        if (of !== this.log) continue; // earlier ones came meanwhile, and may be as they were
        this.session = { ...this.session, title, metadata };
        this.#foldAnew([...found, ...this.entries.filter(({ seq }) => seq > head)]);
        of = this.log;
      }
      this.#told();
    } catch {
      if (!this.#stopped) this.start(); // until it succeeds
    }
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
      for (let of = null; of !== this.log && this.earlier; ) {
        of = this.log;
        const last = this.after;
        const begin = Math.max(0, last - WINDOW);
        const found = await this.#read(begin, last);
        if (this.#stopped) return;
        if (of !== this.log) continue; // read anew meanwhile: what was found may be void
        this.after = begin;
        this.#foldAnew([...found, ...this.entries]);
        of = this.log;
      }
    } finally {
      this.loadingEarlier = false;
      this.#told();
    }
  }

  /** The entries behind `after`, up to `last`. */
  async #read(after, last) {
    const found = [];
    while (after < last) {
      const path = `${this.path}/events?after=${after}&limit=${Math.min(WINDOW, last - after)}`;
      const { items } = await this.api.get(path);
      if (!items.length) break;
      found.push(...items.filter((entry) => entry.seq <= last));
      after = items.at(-1).seq;
    }
    return found;
  }

  #foldAnew(entries) {
    this.entries = entries;
    const log = seed(empty(), this.session, this.queued);
    this.log = keep(this.log, entries.reduce(fold, log));
  }

  /** Say something. It is shown at once, and kept until the log has it. Raises a refusal: what the
   * server will not have is not kept. */
  async send(input, when_busy) {
    const item = this.outbox.add(input, when_busy, this.log.head);
    const error = await this.#deliver(item);
    if (!(error instanceof Problem && error.status < 500)) return;
    this.discard(item);
    throw error;
  }

  /** Under the same key; kept with the reason where it is not taken now either. */
  async again(item) {
    if (item.state !== "unsent") return;
    this.outbox.sending(item);
    await this.#deliver(item);
  }

  discard(item) {
    this.outbox.remove(item);
    this.#told();
  }

  async #deliver(item) {
    this.outbox.onChange();
    const body = { input: item.input, when_busy: item.when_busy };
    try {
      const turn = await this.api.post(`${this.path}/turns`, body, { key: item.key });
      item.seq = turn.seq;
      item.state = "sent";
      return null;
    } catch (error) {
      this.outbox.keep(item, error, () => this.again(item));
      return error;
    } finally {
      this.outbox.onChange();
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
