// A session's log, folded into what a conversation shows.
import assert from "node:assert/strict";
import { test } from "node:test";
import { empty, fold, keep, points, seed } from "../../src/sessile/console/static/log.js";

const AT = "2026-11-28T01:00:00.000Z";

/** Entries from `first` on; each is `[kind, turn_id, body]`. */
function entries(all, first = 1) {
  return all.map(([kind, turn_id, body], index) => ({ seq: first + index, kind, turn_id, at: AT, body }));
}

function folded(all, first = 1) {
  return entries(all, first).reduce(fold, empty());
}

function queued(turn_id, text, position = 1, more = {}) {
  const body = { position, input: { type: "message", text }, message_id: `msg_${turn_id}`, by: "alice", when_busy: "enqueue" };
  return ["turn.queued", turn_id, { ...body, ...more }];
}

function started(turn_id, attempt = 1) {
  return ["turn.started", turn_id, { attempt, fence: attempt, node: "node_1", strikes: 0 }];
}

function added(turn_id, message_id, role, text, more = {}) {
  const parts = [{ type: "text", text }];
  return ["message.added", turn_id, { message_id, role, parts, state: "complete", steer_id: null, asked_again: false, ...more }];
}

function delta(turn_id, message_id, offset, text, channel = "text") {
  return ["message.delta", turn_id, { message_id, offset, text, channel }];
}

function ended(turn_id, how = "completed", more = {}) {
  const numbers = { current_iteration: 1, total_iterations: 1, tokens_used: 5, total_tokens: 5 };
  return [`turn.${how}`, turn_id, { ...numbers, output: "", ...more }];
}

const CALL = { call_id: "call_1", message_id: "msg_card", name: "orders.refund", arguments: { number: 7 }, parent_call_id: null };

const opened = ["session.opened", null, { user_id: "alice", assistant: "demo", title: "T", metadata: {}, exclusive_key: null }];

test("a turn that is answered is two messages, and nothing runs", () => {
  const state = folded([opened, queued("a", "hi"), started("a"), added("a", "msg_a", "user", "hi"),
    delta("a", "msg_r", 0, "he"), delta("a", "msg_r", 2, "llo"), added("a", "msg_r", "assistant", "hello"), ended("a")]);

  assert.deepEqual(state.messages.map(({ role, text, state: s }) => [role, text, s]), [["user", "hi", "whole"], ["assistant", "hello", "whole"]]);
  assert.equal(state.running, null);
  assert.equal(state.title, "T");
  assert.equal(state.assistant, "demo");
  assert.equal(state.head, 8);
  assert.equal(state.turns.get("a").status, "completed");
});

test("any cut of a log, folded on from there, gives what the whole gives", () => {
  const all = entries([opened, queued("a", "hi"), started("a"), added("a", "msg_a", "user", "hi"), queued("b", "next", 2),
    delta("a", "msg_r", 0, "h"), ["tool.started", "a", { ...CALL, idempotent: true, grant: null }],
    ["tool.completed", "a", { ...CALL, result: { ok: 1 } }], delta("a", "msg_r", 1, "ello"),
    added("a", "msg_r", "assistant", "hello"), ended("a"), started("b"), added("b", "msg_b", "user", "next"), ended("b", "failed", { error: { code: "x", message: "no", retry: true } })]);
  const whole = all.reduce(fold, empty());

  for (let cut = 0; cut <= all.length; cut += 1) {
    const first = all.slice(0, cut).reduce(fold, empty());
    // What a reader that comes back is sent again changes nothing.
    const again = all.slice(Math.max(0, cut - 3)).reduce(fold, first);
    assert.deepEqual(again.messages.map((m) => m.text), whole.messages.map((m) => m.text));
    assert.equal(again.head, whole.head);
    assert.deepEqual(again.queue, whole.queue);
  }
  const versions = whole.messages.map((message) => message.version);
  all.reduce(fold, whole);
  assert.deepEqual(whole.messages.map((message) => message.version), versions);
  assert.equal(whole.running, null);
});

test("offsets count code points", () => {
  const state = folded([started("a"), delta("a", "m", 0, "a😀"), delta("a", "m", 2, "é😀"), delta("a", "m", 4, "!")]);
  assert.equal(state.messages[0].text, "a😀é😀!");
  assert.equal(folded([started("a"), delta("a", "m", 0, "a😀")]).messages[0].lengths.text, 2);

  const rewritten = folded([started("a"), delta("a", "m", 0, "😀😀😀"), delta("a", "m", 1, "x")]);
  assert.equal(rewritten.messages[0].text, "😀x");
  assert.equal(points("a😀\ud800b"), 4);
});

test("text and thinking have offsets of their own", () => {
  const state = folded([started("a"), delta("a", "m", 0, "hm", "thinking"), delta("a", "m", 0, "yes"), delta("a", "m", 2, "…", "thinking")]);
  assert.equal(state.messages[0].text, "yes");
  assert.equal(state.messages[0].thinking, "hm…");
});

test("a window that begins in mid-message knows that its beginning is missing", () => {
  const state = folded([delta("a", "m", 120, "rest"), delta("a", "m", 124, "!")], 90);
  assert.equal(state.first, 90);
  assert.equal(state.messages[0].text, "rest!");
  assert.equal(state.messages[0].starts.text, 120);

  const whole = entries([added("a", "m", "assistant", "all of the rest!")], 92).reduce(fold, state);
  assert.equal(whole.messages[0].text, "all of the rest!");
  assert.equal(whole.messages[0].starts.text, 0);
});

test("a whole message is not touched by a late delta", () => {
  const state = folded([started("a"), added("a", "m", "assistant", "all"), delta("a", "m", 3, "more")]);
  assert.equal(state.messages[0].text, "all");
});

test("a reset voids the text of a lost attempt, and the next attempt writes anew", () => {
  const state = folded([started("a"), delta("a", "m", 0, "half"), ["message.reset", "a", { message_id: "m" }], started("a", 2)]);
  assert.equal(state.messages[0].text, "");
  assert.equal(state.messages[0].state, "void");
  assert.equal(state.turns.get("a").attempt, 2);

  entries([delta("a", "m", 0, "new")], 5).reduce(fold, state);
  assert.equal(state.messages[0].text, "new");
  assert.equal(state.messages[0].state, "partial");
});

test("a card goes from its start to its outcome in place", () => {
  for (const [kind, more, status, field] of [
    ["completed", { result: [1] }, "completed", "result"],
    ["failed", { error: "broken" }, "failed", "reason"],
    ["interrupted", { reason: "lost" }, "interrupted", "reason"],
    ["refused", { verdict: "needs_grant", reason: "no grant" }, "refused", "reason"],
  ]) {
    const state = folded([started("a"), ["tool.started", "a", { ...CALL }], added("a", "later", "assistant", "x"), [`tool.${kind}`, "a", { ...CALL, ...more }]]);
    const card = state.messages[0];
    assert.equal(card.message_id, "msg_card");
    assert.equal(card.call.status, status);
    assert.deepEqual(card.call[field], more.result ?? more.error ?? more.reason);
    assert.equal(state.messages.length, 2);
  }
});

test("an outcome without its start is a card all the same", () => {
  const state = folded([["tool.completed", "a", { ...CALL, result: 1 }]], 70);
  assert.equal(state.messages[0].call.status, "completed");
  assert.equal(state.messages[0].call.name, "orders.refund");
});

test("an approval is asked for on the card, and answered there", () => {
  const asked = [started("a"), ["approval.requested", "a", { ...CALL }],
    ["turn.awaiting", "a", { call_ids: ["call_1"], expires_at_ms: 9, calls: [CALL], output: "", open_message_id: null }]];
  const waiting = folded(asked);
  assert.equal(waiting.messages[0].call.status, "awaiting");
  assert.deepEqual(waiting.awaiting, { turn_id: "a", call_ids: ["call_1"], expires_at_ms: 9 });
  assert.equal(waiting.running, "a");

  const granted = folded([...asked, ["approval.granted", "a", { call_id: "call_1", by: "bob", unanswered: 0 }], started("a", 2)]);
  assert.equal(granted.messages[0].call.status, "started");
  assert.equal(granted.awaiting, null);

  const denied = folded([...asked, ["approval.denied", "a", { call_id: "call_1", by: "bob", unanswered: 0, reason: "not now" }]]);
  assert.equal(denied.messages[0].call.status, "refused");
  assert.equal(denied.messages[0].call.reason, "not now");
});

test("a window that begins behind the request still shows what waits", () => {
  const state = folded([["turn.awaiting", "a", { call_ids: ["call_1"], expires_at_ms: 9, calls: [CALL, { ...CALL, call_id: "call_2", message_id: "msg_2" }], output: "", open_message_id: null }]], 400);
  assert.deepEqual(state.messages.map((m) => [m.call.call_id, m.call.status]), [["call_1", "awaiting"]]);
});

test("the queue is in the order accepted, is edited and withdrawn", () => {
  const state = folded([started("a"), queued("b", "two", 2), queued("c", "three", 3),
    ["turn.edited", "c", { input: { type: "message", text: "3" }, by: "alice" }]]);
  assert.deepEqual(state.queue.map((turn) => turn.input.text), ["two", "3"]);

  entries([ended("b", "cancelled", { reason: "asked", by: "alice" })], 5).reduce(fold, state);
  assert.deepEqual(state.queue.map((turn) => turn.turn_id), ["c"]);
  assert.deepEqual(state.messages.at(-1).notice.what, "withdrawn");
  assert.equal(state.running, "a");
});

test("what a stopped turn wrote is kept and says so", () => {
  const state = folded([started("a"), delta("a", "m", 0, "half"), ["turn.cancel_requested", "a", { by: "alice", reason: "asked" }],
    added("a", "m", "assistant", "half", { state: "partial" }), ended("a", "cancelled", { reason: "asked", by: "alice" })]);
  assert.equal(state.messages[0].text, "half");
  assert.equal(state.messages[0].state, "cancelled");
  assert.equal(state.messages[1].notice.what, "cancelled");
});

test("a steered message shows at once; unread at the end it becomes a turn of its own", () => {
  const steer = ["turn.steered", "a", { steer_id: "s", message_id: "msg_s", input: { type: "message", text: "left" }, by: "alice" }];
  const read = folded([started("a"), steer, added("a", "msg_s", "user", "left", { steer_id: "s" })]);
  assert.deepEqual(read.messages.map((m) => [m.text, m.state]), [["left", "whole"]]);

  const unread = folded([started("a"), steer, ended("a"), queued("s", "left", 2, { message_id: "msg_s" })]);
  assert.deepEqual(unread.messages, []);
  assert.deepEqual(unread.queue.map((turn) => turn.turn_id), ["s"]);
});

test("progress never falls, and shows for tasks", () => {
  const numbers = (now, used) => ({ current_iteration: now, total_iterations: 12, tokens_used: used, total_tokens: 5000, note: "" });
  const state = folded([queued("a", "job", 1, { input: { type: "task", text: "job" } }), started("a"),
    ["turn.progress", "a", numbers(3, 1234)], ["turn.progress", "a", numbers(2, 99)]]);
  const { progress } = state.messages[0];
  assert.deepEqual([progress.current_iteration, progress.total_iterations, progress.tokens_used], [3, 12, 1234]);
  assert.equal(state.messages.length, 1);

  const talk = folded([queued("a", "hi"), started("a"), ["turn.progress", "a", { ...numbers(1, 5), total_iterations: 0 }]]);
  assert.deepEqual(talk.messages, []);
});

test("how far a turn is stands under all that it says, and above the next", () => {
  const numbers = { current_iteration: 1, total_iterations: 2, tokens_used: 3, total_tokens: 4, note: "" };
  const state = folded([started("a"), ["turn.progress", "a", numbers], ["tool.started", "a", CALL], delta("a", "m", 0, "x"), ended("a"),
    started("b"), added("b", "msg_b", "user", "next")]);
  assert.deepEqual(state.messages.map((m) => m.message_id), ["msg_card", "m", "progress_a", "msg_b"]);
});

test("buttons are offered once and remember that they were pressed", () => {
  const offer = { message_id: "m", button: "more", label: "More", payload: { page: 2 } };
  const state = folded([started("a"), ["button.offered", "a", offer],
    added("a", "m", "assistant", "one", { parts: [{ type: "text", text: "one" }, { type: "button", ...offer }] }),
    ["button.pressed", "b", { button: "more", payload: { page: 2 } }]]);
  assert.deepEqual(state.messages[0].buttons, [{ button: "more", label: "More", payload: { page: 2 }, pressed: true }]);
});

test("what was redacted is gone", () => {
  const state = folded([added("a", "m", "user", "secret"), ["tool.completed", "a", { ...CALL, result: "secret" }],
    ["session.redacted", null, { message_ids: ["m", "msg_card"], by: "alice" }]]);
  assert.ok(!JSON.stringify(state.messages).includes("secret"));
  assert.equal(state.messages[0].state, "redacted");
});

test("title, assistant, grants and the end are the session's", () => {
  const state = folded([opened, ["session.updated", null, { title: "New", metadata: {}, by: "alice" }],
    ["session.granted", null, { grant: "deploy", by: "admin" }], ["session.granted", null, { grant: "x", by: "admin" }],
    ["session.revoked", null, { grant: "x", by: "admin" }], ["session.handed_off", "a", { assistant: "support", reason: "" }],
    ["session.closed", null, { by: "alice", reason: "" }]]);
  assert.equal(state.title, "New");
  assert.equal(state.assistant, "support");
  assert.deepEqual(state.grants, ["deploy"]);
  assert.equal(state.closed, true);
});

test("a kind that is not known is passed over", () => {
  const state = folded([opened, ["moon.risen", null, {}], added(null, "m", "user", "hi")]);
  assert.equal(state.head, 3);
  assert.equal(state.messages.length, 1);
});

test("what a window cannot tell is seeded, and the log goes on from it", () => {
  const session = { title: "T", assistant: "demo", grants: ["g"], running_turn_id: "a" };
  const turn = (turn_id, position) => ({ turn_id, position, status: "queued", input: { type: "message", text: turn_id }, created_at: AT });
  const state = seed(empty(), session, [turn("c", 3), turn("b", 2)]);
  assert.deepEqual(state.queue.map((each) => each.turn_id), ["b", "c"]);
  assert.equal(state.running, "a");

  entries([ended("a"), started("b")], 900).reduce(fold, state);
  assert.deepEqual(state.queue.map((each) => each.turn_id), ["c"]);
  assert.equal(state.running, "b");
});

test("a message is counted on when it changes, and only then", () => {
  const state = folded([started("a"), added("a", "one", "user", "1"), delta("a", "two", 0, "2")]);
  const [one, two] = state.messages.map((message) => message.version);
  entries([delta("a", "two", 1, "3")], 4).reduce(fold, state);
  assert.equal(state.messages[0].version, one);
  assert.equal(state.messages[1].version, two + 1);
});

const BUTTON = { type: "button", button: "pick", label: "Secret", payload: { it: "secret" } };
const said = [opened, queued("a", "secret"), started("a"), added("a", "msg_a", "user", "secret"), delta("a", "msg_r", 0, "secret"),
  ["tool.started", "a", { ...CALL, arguments: { it: "secret" }, idempotent: true, grant: null }],
  ["tool.completed", "a", { ...CALL, arguments: { it: "secret" }, result: "secret" }],
  added("a", "msg_r", "assistant", "secret", { parts: [{ type: "text", text: "secret" }, BUTTON] }), ended("a")];

test("of what is redacted nothing is left", () => {
  const body = { message_ids: ["msg_a", "msg_r", "msg_card"], by: "alice", reason: "" };
  const state = folded([...said, ["session.redacted", null, body]]);

  assert.deepEqual(state.messages.map((message) => message.state), ["redacted", "redacted", "redacted"]);
  assert.ok(!JSON.stringify([state.messages, state.inputs]).includes("ecret"));
});

test("a fork, which has no entry that says so, shows what was void before it was made", () => {
  const parts = [{ type: "text", text: "", redacted: true }, { ...BUTTON, label: "", payload: {} }];
  const state = folded([opened, added(null, "msg_a", "user", ""), added(null, "msg_r", "assistant", "", { parts, redacted: true })]);

  assert.equal(state.messages[1].state, "redacted");
  assert.deepEqual(state.messages[1].buttons, []);
});

test("a log that is folded anew keeps the messages that say the same, and folds on", () => {
  const session = { title: "T", assistant: "demo", grants: [], running_turn_id: null };
  const before = entries([...said, started("b"), delta("b", "msg_b", 0, "he")]).slice(4).reduce(fold, seed(empty(), session));
  const old = new Map(before.byId);
  const state = keep(before, folded([...said, started("b"), delta("b", "msg_b", 0, "hello")]));

  assert.equal(state.byId.get("msg_r"), old.get("msg_r"));
  assert.notEqual(state.byId.get("msg_b"), old.get("msg_b"));
  for (const message of state.messages) assert.equal(state.byId.get(message.message_id), message);
  for (const turn of state.turns.values()) for (const each of turn.messages) assert.ok(state.messages.includes(each));
  const { version } = state.byId.get("msg_r");
  fold(state, { seq: state.head + 1, kind: "session.redacted", turn_id: null, at: AT, body: { message_ids: ["msg_r"] } });
  assert.ok(state.byId.get("msg_r").version > version);
});

test("a kind that has the name of something else is not known", () => {
  for (const kind of ["__proto__", "constructor", "__defineGetter__"]) {
    assert.equal(folded([[kind, null, {}]]).head, 1);
  }
});
