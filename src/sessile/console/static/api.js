// The public API over fetch. Every reply is JSON; every refusal is a Problem.

const SECONDS_MAX = 30;

/** A refusal that the server told: RFC 9457. */
export class Problem extends Error {
  /** `retryAfterSeconds`: when to try again, where the server says it, else null. */
  constructor(status, body, { retryAfterSeconds = null } = {}) {
    super(body.detail || body.title || `HTTP ${status}`);
    this.name = "Problem";
    this.status = status;
    this.code = body.code ?? "";
    this.title = body.title ?? "";
    this.detail = body.detail ?? "";
    this.errors = body.errors ?? [];
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** Nobody answered: whether the request arrived is not known. */
export class Offline extends Error {
  constructor(cause) {
    super("the server cannot be reached", { cause });
    this.name = "Offline";
  }
}

/** A new idempotency key. */
export function newKey() {
  // Not randomUUID, which pages have only where they came over TLS or from this machine.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Api {
  constructor(token, onUnauthorised = () => {}) {
    this.token = token;
    this.onUnauthorised = onUnauthorised;
  }

  headers() {
    return { authorization: `Bearer ${this.token}` };
  }

  get(path) {
    return this.request("GET", path);
  }

  /** A retry of the same request passes the same `key`. */
  post(path, body, { key = newKey() } = {}) {
    return this.request("POST", path, { body: body ?? {}, headers: { "idempotency-key": key } });
  }

  patch(path, body) {
    return this.request("PATCH", path, { body });
  }

  put(path, body) {
    return this.request("PUT", path, { body });
  }

  del(path) {
    return this.request("DELETE", path);
  }

  /** The reply as it is: it may be long, and take its time. */
  async text(path) {
    const reply = await this.#sent("GET", path, { headers: { accept: "*/*" } });
    return reply.text().catch(cut);
  }

  async request(method, path, options = {}) {
    const signal = AbortSignal.timeout(SECONDS_MAX * 1000);
    const reply = await this.#sent(method, path, { ...options, signal });
    return reply.status === 204 ? null : reply.json().catch(cut);
  }

  async #sent(method, path, { body, headers = {}, signal }) {
    const given = { ...this.headers(), accept: "application/json", ...headers };
    if (body !== undefined) given["content-type"] = "application/json";
    const reply = await fetch(path, {
      method,
      headers: given,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
    }).catch(cut);
    if (reply.ok) return reply;
    throw await this.refusal(reply);
  }

  /** The Problem that a reply tells; a 401 is told to the page as well. */
  async refusal(reply) {
    const told = await reply.json().catch(() => ({}));
    if (reply.status === 401) this.onUnauthorised();
    return new Problem(reply.status, told, { retryAfterSeconds: secondsOf(reply.headers.get("retry-after")) });
  }
}

/** Of a Retry-After: what it says in seconds, which is how this server says it. */
function secondsOf(header) {
  return /^\d+$/.test(header ?? "") ? Number(header) : null;
}

function cut(error) {
  throw new Offline(error);
}
