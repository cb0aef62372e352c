// What was said is shown at once, and once, whichever comes first: its reply or its log.
import assert from "node:assert/strict";
import { test } from "node:test";
import { empty, fold } from "../../src/sessile/console/static/log.js";
import { Outbox } from "../../src/sessile/console/static/outbox.js";

const AT = "2026-11-28T01:00:00.000Z";
const HI = { type: "message", text: "hi" };

function queued(seq, input = HI) {
  const body = { position: seq, input, message_id: `msg_${seq}`, by: "alice", when_busy: "enqueue" };
  return { seq, kind: "turn.queued", turn_id: `trn_${seq}`, at: AT, body };
}

function shown(outbox) {
  return outbox.shown.map((item) => item.input.text ?? item.input.button);
}

test("the reply first: it is shown until the log has it", () => {
  const outbox = new Outbox();
  const log = empty();
  const item = outbox.add(HI, "enqueue", 0);
  item.state = "sent";
  item.seq = 2;
  fold(log, queued(1, { type: "message", text: "other" }));
  outbox.settle(log);
  assert.deepEqual(shown(outbox), ["hi"]);

  fold(log, queued(2));
  outbox.settle(log);
  assert.deepEqual(outbox.items, []);
});

test("the log first: it is not shown twice", () => {
  const outbox = new Outbox();
  const log = empty();
  const item = outbox.add(HI, "enqueue", 0);
  fold(log, queued(1));
  outbox.settle(log);
  assert.deepEqual(shown(outbox), []);
  assert.equal(outbox.items.length, 1);

  item.state = "sent";
  item.seq = 1;
  outbox.settle(log);
  assert.deepEqual(outbox.items, []);
});

test("two that say the same are two", () => {
  const outbox = new Outbox();
  const log = empty();
  outbox.add(HI, "enqueue", 0);
  outbox.add(HI, "enqueue", 0);
  fold(log, queued(1));
  outbox.settle(log);
  assert.deepEqual(shown(outbox), ["hi"]);
  fold(log, queued(2));
  outbox.settle(log);
  assert.deepEqual(shown(outbox), []);
});

test("what was said before is not taken for it", () => {
  const outbox = new Outbox();
  const log = fold(empty(), queued(1));
  outbox.add(HI, "enqueue", log.head);
  outbox.settle(log);
  assert.deepEqual(shown(outbox), ["hi"]);
});

test("what another said while the connection was lost does not take its place", () => {
  const outbox = new Outbox();
  const log = empty();
  const item = outbox.add(HI, "enqueue", 0);
  fold(log, queued(1));
  outbox.settle(log);
  item.state = "unsent";
  item.seen = false;
  fold(log, queued(2));
  outbox.settle(log);
  assert.deepEqual(shown(outbox), ["hi"]);
});

test("a press is known by its button, whatever it reads as", () => {
  const outbox = new Outbox();
  const log = empty();
  outbox.add({ type: "button", button: "more", payload: {}, message_id: "m" }, "enqueue", 0);
  fold(log, queued(1, { type: "button", button: "less", payload: {} }));
  outbox.settle(log);
  assert.deepEqual(shown(outbox), ["more"]);
  fold(log, queued(2, { type: "button", button: "more", payload: {}, text: "More" }));
  outbox.settle(log);
  assert.deepEqual(shown(outbox), []);
});

test("a steered message is found too", () => {
  const outbox = new Outbox();
  const log = empty();
  outbox.add(HI, "steer", 0);
  const body = { steer_id: "trn_s", message_id: "msg_s", input: HI, by: "alice" };
  fold(log, { seq: 1, kind: "turn.steered", turn_id: "trn_1", at: AT, body });
  outbox.settle(log);
  assert.deepEqual(shown(outbox), []);
});
