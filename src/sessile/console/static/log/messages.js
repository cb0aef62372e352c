// The messages of a log: what was said, tool cards, notices, and how far a turn is.
import { turnOf } from "./turns.js";

/** The message of this id; a new one, at the end, where there is none. */
export function messageOf(state, message_id, entry, role) {
  let message = state.byId.get(message_id);
  if (message) return message;
  message = {
    message_id,
    turn_id: entry.turn_id,
    seq: entry.seq,
    at: entry.at,
    role,
    by: null,
    text: "",
    thinking: "",
    starts: { text: null, thinking: null },
    lengths: { text: 0, thinking: 0 },
    state: "partial",
    steer_id: null,
    buttons: [],
    call: null,
    notice: null,
    progress: null,
    version: 0,
  };
  state.byId.set(message_id, message);
  // How far a turn is stands under all that it has said.
  const last = state.messages.at(-1);
  const under = last?.progress && last.turn_id === entry.turn_id;
  state.messages.splice(state.messages.length - (under ? 1 : 0), 0, message);
  if (entry.turn_id) turnOf(state, entry).messages.push(message);
  return message;
}

/** Whether two of one id are drawn alike. How far a turn is belongs to its log's turn. */
export function isAlike(one, other) {
  return !one.progress && !other.progress && said(one) === said(other);
}

function said(message) {
  return JSON.stringify({ ...message, version: 0 });
}

export function changed(message) {
  message.version += 1;
}

export function voided(message, state) {
  message.text = "";
  message.thinking = "";
  message.starts = { text: 0, thinking: 0 };
  message.lengths = { text: 0, thinking: 0 };
  message.buttons = [];
  message.state = state;
  if (message.call) Object.assign(message.call, { arguments: null, result: null, reason: "" });
  changed(message);
}

export function removed(state, message) {
  state.messages.splice(state.messages.indexOf(message), 1);
  state.byId.delete(message.message_id);
}

export function addNotice(state, entry, what, about) {
  const message = messageOf(state, `notice_${entry.seq}`, entry, "system");
  message.notice = { what, ...about };
  message.state = "whole";
  changed(message);
}

export function showProgress(state, turn, entry) {
  const message = messageOf(state, `progress_${turn.turn_id}`, entry, "system");
  message.progress = turn;
  message.state = "whole";
  changed(message);
}

/** The card that a call's events update in place. */
export function cardOf(state, body, entry) {
  const message = messageOf(state, body.message_id, entry, "tool");
  message.state = "whole";
  message.call ??= {
    call_id: body.call_id,
    name: body.name,
    arguments: body.arguments,
    parent_call_id: body.parent_call_id ?? null,
    status: "started",
    result: null,
    reason: "",
    verdict: "",
    began: entry.at,
    ended: null,
  };
  changed(message);
  return message;
}

export function toCard(state, body, entry, status) {
  const { call } = cardOf(state, body, entry);
  call.status = status;
  if (status === "started") call.began = entry.at;
  else if (status !== "awaiting") call.ended = entry.at;
  return call;
}

export function answered(state, body, status) {
  const card = state.messages.findLast((message) => message.call?.call_id === body.call_id);
  if (!card) return null;
  card.call.status = status;
  card.call.by = body.by;
  changed(card);
  return card.call;
}

/** One without words was voided. */
export function offer(message, { button, label, payload }) {
  if (!label) return;
  const wanted = JSON.stringify(payload ?? {});
  const known = message.buttons.some(
    (each) => each.button === button && JSON.stringify(each.payload) === wanted,
  );
  if (!known) message.buttons.push({ button, label, payload: payload ?? {}, pressed: false });
}

export function joined(parts, type) {
  return parts.filter((part) => part.type === type).map((part) => part.text ?? "").join("");
}

/** Text at an offset in code points of its channel. What is before the window is not known. */
export function write(message, channel, offset, text) {
  const start = message.starts[channel] ?? offset;
  if (message.starts[channel] === null) message.lengths[channel] = offset;
  message.starts[channel] = start;
  const have = message.lengths[channel];
  if (offset < have) {
    const kept = Array.from(message[channel]).slice(0, Math.max(0, offset - start));
    message[channel] = kept.join("");
  }
  message[channel] += text;
  message.lengths[channel] = offset + points(text);
}

/** How many code points a text has. */
export function points(text) {
  let count = text.length;
  for (let at = 0; at < text.length - 1; at += 1) {
    const unit = text.charCodeAt(at);
    if (unit >= 0xd800 && unit <= 0xdbff) {
      const next = text.charCodeAt(at + 1);
      if (next >= 0xdc00 && next <= 0xdfff) {
        count -= 1;
        at += 1;
      }
    }
  }
  return count;
}
