// An entry of the log as one readable row. A row is small however large its entry is: it holds no
// body, so that a hundred thousand of them fit into memory; the body is asked for when it is shown.

export const WHAT_CHARS_MAX = 240;

const ENDS = new Set(["turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"]);
const BAD = new Set(["turn.failed", "turn.interrupted", "tool.failed", "tool.interrupted"]);
const WARNING = new Set(["message.reset", "tool.refused", "approval.denied", "turn.cancelled"]);
/** Written by people or without a lease, whatever runs meanwhile: no node stands behind them. */
const UNFENCED = new Set([
  "turn.queued", "turn.edited", "turn.steered", "turn.cancel_requested",
  "approval.granted", "approval.denied", "log.compacted",
]);
// Controls, line ends, and what turns the direction of text: as in `sessile log`.
const CONTROL = /[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]/g;
const HIDDEN_IN_JSON = /[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]/g;

/**
 * `{seq, at, turn_id, kind, what, tone, note, begins}`: `tone` is "", "warning" or "bad"; `note`
 * `{key, values}` of words to come before `what`, or null; `begins` what `turn.started` says, or
 * null.
 */
export function rowOf(entry) {
  const { seq, at, turn_id, kind, body } = entry;
  return {
    seq,
    at,
    turn_id,
    kind,
    what: oneLine(whatOf(kind, body ?? {})),
    tone: BAD.has(kind) ? "bad" : WARNING.has(kind) ? "warning" : "",
    note: null,
    begins: kind === "turn.started" ? begun(body) : null,
  };
}

/** The row of a seq that no entry has: `by` is the seq of the `log.compacted` that stands for it,
 * or null where nothing does. */
export function holeOf(seq, by) {
  const note =
    by === null
      ? { key: "timeline.missing", values: { seq: String(seq) } }
      : { key: "timeline.compacted", values: { seq: String(by) } };
  const tone = by === null ? "bad" : "";
  return { seq, at: null, turn_id: null, kind: null, what: "", tone, note, begins: null };
}

/** Whether a row is one to look at when something went wrong. */
export function standsOut(row) {
  return row.tone !== "" || row.note?.key === "timeline.takeover";
}

/**
 * Give rows that follow one another their attempts, and tell of each attempt but a turn's first
 * why it began. `state` is what holds before them: `{turn_id, attempt, fence, node, waits}` of the
 * turn that runs, null where none does, undefined where it is not known. Returns what holds after.
 */
export function annotate(rows, state) {
  for (const row of rows) {
    if (row.begins) {
      row.note = noteOf(row, state);
      row.tone = row.note?.key === "timeline.takeover" ? "warning" : "";
      state = { turn_id: row.turn_id, ...row.begins, waits: false };
    }
    const mine = state && row.turn_id !== null && row.turn_id === state.turn_id;
    row.attempt = mine ? state.attempt : state === undefined && row.turn_id ? undefined : null;
    row.fenced = mine && !state.waits && !UNFENCED.has(row.kind) ? state : null;
    if (mine && ENDS.has(row.kind)) state = null;
    else if (state === undefined && ENDS.has(row.kind)) state = null;
    else if (mine && row.kind === "turn.awaiting") state = { ...state, waits: true };
  }
  return state;
}

function begun({ attempt, fence, node }) {
  return { attempt, fence, node };
}

function noteOf(row, state) {
  const { attempt, node } = row.begins;
  if (!(attempt > 1)) return null;
  const last = state && state.turn_id === row.turn_id ? state : null;
  if (last?.waits) return { key: "timeline.resumed", values: {} };
  const values = { node: oneLine(String(last?.node ?? "…")), fence: String(last?.fence ?? "…") };
  if (last?.node === node) return { key: "timeline.again", values };
  return { key: "timeline.takeover", values };
}

/** What an entry says, in a few words; of a kind that is not known here, its body. */
function whatOf(kind, body) {
  try {
    return said(kind, body) ?? json(body);
  } catch {
    return json(body);
  }
}

function said(kind, body) {
  switch (kind) {
    case "session.opened":
      return dotted(body.assistant, body.user_id, body.title);
    case "session.updated":
      return dotted(body.title, json(body.metadata), body.by);
    case "session.forked":
      return dotted(body.from_session_id, body.from_turn_id, body.from_seq);
    case "session.handed_off":
      return dotted(body.assistant, body.reason);
    case "session.granted":
    case "session.revoked":
      return dotted(body.grant, body.by);
    case "session.summarized":
      return dotted(`…${body.upto_seq}`, body.summary);
    case "session.redacted":
      return dotted(body.message_ids.join(" "), body.by, body.reason);
    case "session.closed":
      return dotted(body.by, body.reason);
    case "turn.queued":
      return dotted(`#${body.position}`, body.when_busy, input(body));
    case "turn.edited":
    case "turn.steered":
      return dotted(body.by, input(body));
    case "turn.started":
      return dotted(`fence ${body.fence}`, body.node);
    case "turn.progress": {
      const { current_iteration, total_iterations, tokens_used, total_tokens, note } = body;
      const tokens = `${tokens_used}/${total_tokens || "?"} tokens`;
      return dotted(`${current_iteration}/${total_iterations || "?"}`, tokens, note);
    }
    case "turn.awaiting":
      return dotted(body.calls.map(({ name }) => name).join(", "), atOf(body.expires_at_ms));
    case "turn.completed":
      return body.output;
    case "turn.failed":
      return `${body.error.code}: ${body.error.message}`;
    case "turn.cancelled":
    case "turn.cancel_requested":
      return dotted(body.reason, body.by);
    case "turn.interrupted":
      return body.reason;
    case "message.added":
      return `${body.role}: ${body.parts.map(part).join(" ")}`;
    case "message.delta":
      return `+${body.offset} ${body.text}`;
    case "message.reset":
      return body.message_id;
    case "tool.started":
    case "approval.requested":
      return `${body.name} ${json(body.arguments)}`;
    case "tool.completed":
      return `${body.name} → ${json(body.result)}`;
    case "tool.failed":
      return `${body.name}: ${body.error}`;
    case "tool.interrupted":
    case "tool.refused":
      return `${body.name}: ${body.reason}`;
    case "approval.granted":
    case "approval.denied":
      return dotted(body.call_id, body.by, body.reason);
    case "intent.decided":
      return dotted(body.path, body.intent, body.score, body.reason);
    case "button.offered":
    case "button.pressed":
      return dotted(body.label, body.button, json(body.payload));
    case "log.compacted":
      return `${body.from_seq}–${body.to_seq}`;
    default:
      return null;
  }
}

/** What there is of the values, with dots between: words would be of one language. */
function dotted(...values) {
  return values.filter((value) => value !== null && value !== undefined && value !== "").join(" · ");
}

function input({ input: { text, button, payload } }) {
  return text ?? dotted(button, json(payload));
}

function atOf(at_ms) {
  return new Date(at_ms).toISOString();
}

function part(each) {
  if (each.type === "tool_call") return `[${each.name} ${json(each.arguments)}]`;
  if (each.type === "button") return `[${each.label}]`;
  return each.text ?? "";
}

function json(value) {
  return JSON.stringify(value) ?? "";
}

/** At most so many characters, each control character as its escape. */
export function oneLine(text, most = WHAT_CHARS_MAX) {
  const whole = String(text ?? "");
  // Cut before it is looked through: it may be a megabyte.
  const start = [...whole.slice(0, 2 * most)].slice(0, most).join("");
  return escaped(start, CONTROL) + (start.length < whole.length ? "…" : "");
}

/** A value as indented JSON in which nothing is hidden and nothing turns the text around. */
export function rawJson(value) {
  return escaped(JSON.stringify(value, null, 2), HIDDEN_IN_JSON);
}

function escaped(text, what) {
  return text.replace(what, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** `curl` that reads entries again; the token stays in the shell that runs it. */
export function curlOf(origin, session_id, { after, limit }) {
  const id = encodeURIComponent(session_id).replaceAll("'", "%27");
  const url = `${origin}/v1/sessions/${id}/events`;
  const heads = `-H "Authorization: Bearer $TOKEN" -H "Accept: application/json"`;
  return `curl -s ${heads} '${url}?after=${after}&limit=${limit}'`;
}
