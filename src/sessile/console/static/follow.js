// A session's log as it grows: an event stream over fetch, resumed by its cursor.

const IDLE_SECONDS = 40; // the server says something each 15 s
const WAIT_MS_MIN = 250;
const WAIT_MS_MAX = 5000;
const HIDDEN_SECONDS = 60;

/** Reads the text of an event stream, in pieces of any size. */
export class Parser {
  #rest = "";
  #data = [];
  #event = "";
  #id = "";
  lastId = null;
  retryMs = null;

  /** The events `{event, data, id}` that are whole now. */
  push(text) {
    this.#rest += text;
    const events = [];
    for (;;) {
      const end = this.#rest.search(/[\r\n]/);
      // Behind a CR at the end of a piece its LF may come.
      if (end < 0 || (this.#rest[end] === "\r" && end + 1 === this.#rest.length)) return events;
      const line = this.#rest.slice(0, end);
      const both = this.#rest[end] === "\r" && this.#rest[end + 1] === "\n";
      this.#rest = this.#rest.slice(end + (both ? 2 : 1));
      if (line === "") this.#dispatch(events);
      else this.#field(line);
    }
  }

  #field(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retryMs = Number(value);
  }

  #dispatch(events) {
    if (this.#data.length) {
      if (this.#id) this.lastId = this.#id;
      const data = this.#data.join("\n");
      events.push({ event: this.#event || "message", data, id: this.lastId });
    }
    this.#data = [];
    this.#event = "";
  }
}

/**
 * Follow a session behind the cursor `after`, until what comes back is called or nothing more can
 * come. A lost connection is made again, and misses nothing.
 *
 * `onState(state, reason)`: live, connecting, lost, or ended (closed, gone, unauthorised).
 * A page that nobody has seen for `hiddenSeconds` lets go of its connection, of which a browser has
 * six for all its pages of a server, and comes back when it is looked at.
 */
export function follow(api, session_id, after, handlers, { hiddenSeconds = HIDDEN_SECONDS } = {}) {
  const follower = new Follower(api, session_id, String(after), handlers, hiddenSeconds);
  follower.run();
  return () => follower.stop();
}

class Follower {
  #connection = null;
  #stopped = false;
  #state = "";
  #wake = () => {};
  #waitMs = WAIT_MS_MIN;
  #unseen = false;
  #unseenTimer;

  constructor(api, session_id, cursor, handlers, hiddenSeconds) {
    this.api = api;
    this.path = `/v1/sessions/${encodeURIComponent(session_id)}/events`;
    this.cursor = cursor;
    this.handlers = handlers;
    this.onOnline = () => this.#wake();
    this.onOffline = () => this.#connection?.abort();
    this.onVisible = () => this.#seen(document.visibilityState === "visible", hiddenSeconds);
  }

  #seen(visible, hiddenSeconds) {
    clearTimeout(this.#unseenTimer);
    if (visible) {
      this.#unseen = false;
      this.#wake();
      return;
    }
    this.#unseenTimer = setTimeout(() => {
      this.#unseen = true;
      this.#connection?.abort();
    }, hiddenSeconds * 1000);
  }

  async run() {
    globalThis.addEventListener?.("online", this.onOnline);
    globalThis.addEventListener?.("offline", this.onOffline);
    globalThis.document?.addEventListener("visibilitychange", this.onVisible);
    if (globalThis.document) this.onVisible(); // it may have been opened behind another
    this.#tell("connecting");
    while (!this.#stopped) {
      let waitMs;
      try {
        waitMs = await this.#connect();
        if (!this.#stopped) this.#tell("connecting");
      } catch {
        if (this.#stopped) break;
        this.#tell(this.#unseen ? "connecting" : "lost");
        waitMs = this.#waitMs;
        this.#waitMs = Math.min(WAIT_MS_MAX, this.#waitMs * 2);
      }
      if (!this.#stopped) await this.#pause(waitMs);
    }
  }

  stop() {
    this.#stopped = true;
    this.#connection?.abort();
    this.#wake();
    clearTimeout(this.#unseenTimer);
    globalThis.removeEventListener?.("online", this.onOnline);
    globalThis.removeEventListener?.("offline", this.onOffline);
    globalThis.document?.removeEventListener("visibilitychange", this.onVisible);
  }

  /** One connection to its end. Answers after how many ms to come back; raises where it was lost. */
  async #connect() {
    const connection = new AbortController();
    this.#connection = connection;
    let idle = setTimeout(() => connection.abort(), IDLE_SECONDS * 1000);
    const reply = await fetch(this.path, {
      headers: { ...this.api.headers(), accept: "text/event-stream", "last-event-id": this.cursor },
      signal: connection.signal,
      cache: "no-store",
      credentials: "omit",
    }).finally(() => clearTimeout(idle));
    if (reply.status === 204) return this.#end("closed");
    if (!reply.ok) return this.#refused(reply);
    const parser = new Parser();
    const decoder = new TextDecoder();
    const reader = reply.body.getReader();
    try {
      for (;;) {
        idle = setTimeout(() => connection.abort(), IDLE_SECONDS * 1000);
        const { value, done } = await reader.read().finally(() => clearTimeout(idle));
        if (this.#stopped || done) break;
        this.#waitMs = WAIT_MS_MIN;
        this.#tell("live");
        for (const event of parser.push(decoder.decode(value, { stream: true }))) {
          if (this.#stopped) return 0;
          this.#took(event);
        }
      }
    } finally {
      connection.abort();
    }
    return Math.min(WAIT_MS_MAX, parser.retryMs ?? WAIT_MS_MIN);
  }

  #took({ event, data, id }) {
    const told = JSON.parse(data);
    if (event === "end") {
      this.#end(told.reason);
      return;
    }
    // Before the entry is told: one that a view cannot draw is not asked for again and again.
    if (id) this.cursor = id;
    if (event === "reset") this.handlers.onReset(told, id);
    else this.handlers.onEntry(told);
  }

  async #refused(reply) {
    const refusal = await this.api.refusal(reply);
    if (reply.status === 401) return this.#end("unauthorised");
    if (reply.status === 404) return this.#end("gone");
    throw refusal;
  }

  #end(reason) {
    if (!this.#stopped) this.#tell("ended", reason);
    this.stop();
    return 0;
  }

  #tell(state, reason = "") {
    if (this.#state === state) return;
    this.#state = state;
    this.handlers.onState(state, reason);
  }

  #pause(ms) {
    return new Promise((resolve) => {
      const timer = this.#unseen ? null : setTimeout(resolve, ms * (0.8 + 0.4 * Math.random()));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
