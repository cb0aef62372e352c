// What was not sent is one user's.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Offline } from "../../src/sessile/console/static/api.js";
import { Shelf } from "../../src/sessile/console/static/shelf.js";

const ANA = { tenant_id: "demo", user_id: "ana" };

function filled() {
  const shelf = new Shelf().of(ANA);
  const outbox = shelf.outbox("ses_1");
  const item = outbox.add({ type: "message", text: "hi" }, "enqueue", 0);
  return { shelf, outbox, item };
}

test("it is its owner's, and no other user's or tenant's", () => {
  const { shelf } = filled();

  assert.equal(shelf.of({ ...ANA, roles: ["admin"] }), shelf);
  for (const other of [{ ...ANA, user_id: "ben" }, { ...ANA, tenant_id: "acme" }]) {
    assert.notEqual(shelf.of(other), shelf);
    assert.deepEqual(shelf.of(other).outbox("ses_1").items, []);
    assert.equal(shelf.of(other).drafts.size, 0);
  }
});

test("it has something unsent while a message is", () => {
  const { shelf, outbox, item } = filled();

  assert.equal(shelf.hasUnsent, false);
  outbox.keep(item, new Offline(), () => {});
  assert.equal(shelf.hasUnsent, true);
});

test("while it is stopped nothing is sent by itself", () => {
  const { shelf, outbox, item } = filled();
  const late = Object.assign(new Error("later"), { retryAfterSeconds: 60 });

  outbox.keep(item, late, () => {});
  shelf.stop();
  assert.equal(item.again_at_ms, null);
  outbox.keep(item, late, () => {});
  assert.equal(item.timer?._destroyed ?? true, true);
  assert.equal(item.again_at_ms, null);
  shelf.begin();
  outbox.keep(item, late, () => {});
  assert.ok(item.again_at_ms > Date.now());
  shelf.stop();
});
