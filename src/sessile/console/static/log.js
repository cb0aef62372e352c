// A session's log, folded into what a conversation shows. No DOM: it runs anywhere.
import {
  addNotice, answered, cardOf, changed, isAlike, joined, messageOf, offer, points, removed, showProgress, toCard,
  voided, write,
} from "./log/messages.js";
import { newTurn, raise, turnOf } from "./log/turns.js";

export { points } from "./log/messages.js";
export { hasEnded } from "./log/turns.js";

export function empty() {
  return {
    first: null,
    head: 0,
    messages: [],
    turns: new Map(),
    queue: [],
    running: null,
    awaiting: null,
    closed: false,
    title: null,
    assistant: null,
    grants: [],
    inputs: [],
    byId: new Map(),
  };
}

/** What a window that begins in mid-log cannot tell: the session, and the turns that wait. */
export function seed(state, session, queued = []) {
  state.title = session.title;
  state.assistant = session.assistant;
  state.grants = [...session.grants];
  state.running = session.running_turn_id;
  for (const record of queued) {
    state.turns.set(record.turn_id, { ...newTurn(record.turn_id), ...record, at: record.created_at });
  }
  listQueue(state);
  return state;
}

/** `state`, with the messages of `before` wherever they say the same: these are not drawn again. */
export function keep(before, state) {
  const kept = new Map();
  for (const message of state.messages) {
    const old = before.byId.get(message.message_id);
    if (old && isAlike(old, message)) kept.set(message, old);
  }
  const chosen = (message) => kept.get(message) ?? message;
  state.messages = state.messages.map(chosen);
  for (const [id, message] of state.byId) state.byId.set(id, chosen(message));
  for (const turn of state.turns.values()) turn.messages = turn.messages.map(chosen);
  return state;
}

/** `state` with the entry; one that it has already changes nothing. */
export function fold(state, entry) {
  if (entry.seq <= state.head) return state;
  state.first ??= entry.seq;
  state.head = entry.seq;
  if (Object.hasOwn(KINDS, entry.kind)) KINDS[entry.kind](state, entry.body, entry);
  return state;
}

const KINDS = {
  "session.opened"(state, body) {
    state.title = body.title;
    state.assistant = body.assistant;
  },
  "session.updated"(state, body) {
    state.title = body.title;
  },
  "session.forked"(state, body, entry) {
    addNotice(state, entry, "forked", body);
  },
  "session.handed_off"(state, body, entry) {
    state.assistant = body.assistant;
    addNotice(state, entry, "handed_off", body);
  },
  "session.granted"(state, body, entry) {
    if (!state.grants.includes(body.grant)) state.grants.push(body.grant);
    addNotice(state, entry, "granted", body);
  },
  "session.revoked"(state, body, entry) {
    state.grants = state.grants.filter((grant) => grant !== body.grant);
    addNotice(state, entry, "revoked", body);
  },
  "session.summarized"(state, body, entry) {
    addNotice(state, entry, "summarized", body);
  },
  "session.redacted"(state, body) {
    const ids = new Set(body.message_ids);
    for (const id of ids) {
      const message = state.byId.get(id);
      if (message) voided(message, "redacted");
    }
    for (const turn of state.turns.values()) {
      if (ids.has(turn.message_id)) turn.input = { ...turn.input, text: "" };
    }
    state.inputs = state.inputs.filter(({ message_id }) => !ids.has(message_id));
  },
  "session.closed"(state, body, entry) {
    state.closed = true;
    addNotice(state, entry, "closed", body);
  },

  "turn.queued"(state, body, entry) {
    const turn = turnOf(state, entry);
    Object.assign(turn, {
      status: "queued",
      position: body.position,
      input: body.input,
      message_id: body.message_id,
      by: body.by,
      at: entry.at,
    });
    state.inputs.push({ seq: entry.seq, message_id: body.message_id, input: body.input });
    // A steered message that was not read is said as a turn of its own.
    const steered = state.byId.get(body.message_id);
    if (steered?.state === "steered") removed(state, steered);
    listQueue(state);
  },
  "turn.edited"(state, body, entry) {
    turnOf(state, entry).input = body.input;
    listQueue(state);
  },
  "turn.started"(state, body, entry) {
    const turn = turnOf(state, entry);
    turn.status = "running";
    turn.attempt = body.attempt;
    state.running = entry.turn_id;
    state.awaiting = null;
    listQueue(state);
  },
  "turn.steered"(state, body, entry) {
    const message = messageOf(state, body.message_id, entry, "user");
    state.inputs.push({ seq: entry.seq, message_id: body.message_id, input: body.input });
    message.text = body.input.text ?? "";
    message.by = body.by;
    message.state = "steered";
    message.steer_id = body.steer_id;
    changed(message);
  },
  "turn.progress"(state, body, entry) {
    const turn = turnOf(state, entry);
    raise(turn, body);
    if (body.note) turn.note = body.note;
    if (turn.input?.type === "task" || turn.total_iterations > 0 || turn.note) {
      showProgress(state, turn, entry);
    }
  },
  "turn.awaiting"(state, body, entry) {
    const turn = turnOf(state, entry);
    turn.status = "awaiting";
    state.running = entry.turn_id;
    state.awaiting = {
      turn_id: entry.turn_id,
      call_ids: body.call_ids,
      expires_at_ms: body.expires_at_ms,
    };
    for (const call of body.calls) {
      const waits = body.call_ids.includes(call.call_id);
      if (waits) cardOf(state, call, entry).call.status = "awaiting";
    }
  },
  "turn.cancel_requested"(state, body, entry) {
    turnOf(state, entry).cancelling = true;
  },
  "turn.completed": ended,
  "turn.failed": ended,
  "turn.cancelled": ended,
  "turn.interrupted": ended,

  "message.added"(state, body, entry) {
    const message = messageOf(state, body.message_id, entry, body.role);
    message.role = body.role;
    message.by ??= body.role === "user" ? (turnOf(state, entry)?.by ?? null) : state.assistant;
    message.text = joined(body.parts, "text");
    message.thinking = joined(body.parts, "thinking");
    message.lengths = { text: points(message.text), thinking: points(message.thinking) };
    message.starts = { text: 0, thinking: 0 };
    message.state = body.state === "complete" ? "whole" : "partial";
    // A fork has what was void before it was made, and no entry that says so.
    if (body.parts.some((part) => part.redacted)) message.state = "redacted";
    message.steer_id = body.steer_id;
    for (const part of body.parts) if (part.type === "button") offer(message, part);
    changed(message);
  },
  "message.delta"(state, body, entry) {
    const message = messageOf(state, body.message_id, entry, "assistant");
    if (message.state === "whole") return;
    message.by ??= state.assistant;
    message.state = "partial";
    write(message, body.channel ?? "text", body.offset, body.text);
    changed(message);
  },
  "message.reset"(state, body) {
    const message = state.byId.get(body.message_id);
    if (message) voided(message, "void");
  },

  "tool.started"(state, body, entry) {
    toCard(state, body, entry, "started");
  },
  "tool.completed"(state, body, entry) {
    toCard(state, body, entry, "completed").result = body.result;
  },
  "tool.failed"(state, body, entry) {
    toCard(state, body, entry, "failed").reason = body.error;
  },
  "tool.interrupted"(state, body, entry) {
    toCard(state, body, entry, "interrupted").reason = body.reason;
  },
  "tool.refused"(state, body, entry) {
    const call = toCard(state, body, entry, "refused");
    call.reason = body.reason;
    call.verdict = body.verdict;
  },
  "approval.requested"(state, body, entry) {
    toCard(state, body, entry, "awaiting");
  },
  "approval.granted"(state, body) {
    answered(state, body, "started");
  },
  "approval.denied"(state, body) {
    const call = answered(state, body, "refused");
    if (call) call.reason = body.reason;
  },
  "intent.decided"(state, body, entry) {
    turnOf(state, entry).intent = body;
  },
  "button.offered"(state, body, entry) {
    const message = messageOf(state, body.message_id, entry, "assistant");
    offer(message, body);
    changed(message);
  },
  "button.pressed"(state, body) {
    const pressed = JSON.stringify(body.payload);
    for (let at = state.messages.length - 1; at >= 0; at -= 1) {
      const message = state.messages[at];
      const found = message.buttons.find(
        (each) => each.button === body.button && JSON.stringify(each.payload) === pressed,
      );
      if (!found) continue;
      found.pressed = true;
      changed(message);
      return;
    }
  },
};

function ended(state, body, entry) {
  const turn = turnOf(state, entry);
  const begun = turn.status !== "queued";
  raise(turn, body);
  turn.status = entry.kind.slice("turn.".length);
  turn.error = body.error ?? null;
  turn.reason = body.reason ?? "";
  if (state.running === entry.turn_id) state.running = null;
  if (state.awaiting?.turn_id === entry.turn_id) state.awaiting = null;
  for (const message of turn.messages) {
    if (message.state === "partial") message.state = turn.status;
    changed(message);
  }
  listQueue(state);
  if (turn.status !== "completed") {
    const why = begun ? turn.status : "withdrawn";
    addNotice(state, entry, why, { reason: turn.reason, error: turn.error, by: body.by });
  }
}

function listQueue(state) {
  state.queue = [...state.turns.values()]
    .filter((turn) => turn.status === "queued")
    .sort((a, b) => a.position - b.position);
}
