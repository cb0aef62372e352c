// An open session: its window, what is before it, and what is said in it.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { Api, Problem } from "../../src/sessile/console/static/api.js";
import { Outbox } from "../../src/sessile/console/static/outbox.js";
import { OpenSession } from "../../src/sessile/console/static/session.js";

const AT = "2026-11-28T01:00:00.000Z";

/** Tell the stream that is open of one more entry. */
let tell = () => {};

/** A server of one session with this log; `post` answers what is posted. Streams stay open. */
async function serving(log, { post, queued = [] } = {}) {
  const server = createServer(async (request, reply) => {
    let body = "";
    for await (const piece of request) body += piece;
    const url = new URL(request.url, "http://here");
    const json = (status, value) => reply.writeHead(status).end(JSON.stringify(value));
    if (request.method === "POST") return post(reply, { key: request.headers["idempotency-key"], body: JSON.parse(body), json });
    if (url.pathname.endsWith("/turns")) return json(200, { items: queued, next: null });
    if (url.pathname === "/v1/sessions/ses_1") {
      const session = { session_id: "ses_1", title: "T", assistant: "demo", user_id: "alice", grants: [], status: "active" };
      return json(200, { ...session, head: log.at(-1)?.seq ?? 0, running_turn_id: null, queued: queued.length });
    }
    if (request.headers.accept === "application/json") {
      const after = Number(url.searchParams.get("after"));
      const items = log.filter(({ seq }) => seq > after).slice(0, Math.min(200, Number(url.searchParams.get("limit"))));
      return json(200, { items, next: null });
    }
    reply.writeHead(200, { "content-type": "text/event-stream" });
    reply.write(": here\n\n");
    const cursor = Number(request.headers["last-event-id"]);
    tell = (entry) => reply.write(`id: ${entry.seq}\nevent: ${entry.kind}\ndata: ${JSON.stringify(entry)}\n\n`);
    log.filter(({ seq }) => seq > cursor).forEach(tell);
    return undefined;
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${server.address().port}`;
  const real = globalThis.fetch;
  globalThis.fetch = (path, options) => real(new URL(path, url), options);
  return () => {
    globalThis.fetch = real;
    server.closeAllConnections();
    server.close();
  };
}

/** Open it, do `what`, and leave. */
async function opened(log, what, options) {
  const close = await serving(log, options);
  const open = new OpenSession(new Api("tok"), "ses_1", new Outbox());
  const until = (holds) =>
    new Promise((resolve) => {
      const look = () => holds() && (deaf(), resolve());
      const deaf = open.listen(look);
      look();
    });
  try {
    open.start();
    await what(open, until);
  } finally {
    open.stop();
    close();
  }
}

function numbered(all) {
  return all.map(([kind, turn_id, body], index) => ({ seq: index + 1, kind, turn_id, at: AT, body }));
}

const said = (n) => ["message.added", "trn_0", { message_id: `msg_${n}`, role: "user", parts: [{ type: "text", text: `${n}` }], state: "complete", steer_id: null }];
const written = (n) => ["message.delta", "trn_1", { message_id: "msg_r", offset: n * 3, text: `${n % 10}é😀`, channel: "text" }];
const TALK = numbered(Array.from({ length: 1300 }, (_, n) => said(n)));

test("the newest are loaded, and earlier ones when they are asked for", async () => {
  await opened(TALK, async (open, until) => {
    await until(() => open.log.head === 1300);
    assert.equal(open.log.messages.length, 500);
    assert.equal(open.earlier, true);

    await open.loadEarlier();
    assert.deepEqual(open.log.messages.map((message) => message.text), TALK.slice(300).map((entry) => entry.body.parts[0].text));
    await open.loadEarlier();
    assert.equal(open.log.messages.length, 1300);
    assert.equal(open.earlier, false);
  });
});

test("what is being written is there from its beginning, however long it is", async () => {
  const log = numbered([said(0), ...Array.from({ length: 1250 }, (_, n) => written(n))]);
  await opened(log, async (open, until) => {
    await until(() => open.log.messages.at(-1)?.starts.text === 0);
    const { text } = open.log.messages.at(-1);
    assert.equal(text, Array.from({ length: 1250 }, (_, n) => `${n % 10}é😀`).join(""));
  });
});

test("what waits since before the window is in the queue", async () => {
  const waiting = { turn_id: "trn_9", position: 9, status: "queued", input: { type: "message", text: "old" }, created_at: AT };
  await opened(TALK, async (open, until) => {
    await until(() => open.log.head === 1300);
    assert.deepEqual(open.log.queue.map((turn) => turn.input.text), ["old"]);
  }, { queued: [waiting] });
});

test("what could not be sent is kept, and sent again under the same key", async () => {
  const keys = [];
  const post = (reply, { key, json }) => {
    keys.push(key);
    if (keys.length < 3) reply.destroy();
    else json(202, { turn_id: "trn_7", seq: 1 });
  };
  await opened(TALK, async (open, until) => {
    await until(() => open.log.head === 1300);
    await open.send({ type: "message", text: "hi" }, "enqueue").catch(() => {});
    const [item] = open.outbox.shown;
    assert.equal(item.state, "unsent");
    await open.again(item).catch(() => {});
    assert.deepEqual(open.outbox.shown, [item]);
    await open.again(item);
    assert.deepEqual(open.outbox.items, []);
  }, { post });
  assert.equal(keys.length, 3);
  assert.equal(new Set(keys).size, 1);
});

test("what was refused is not kept, and says why", async () => {
  const post = (_, { json }) => json(409, { code: "session_busy", detail: "a turn runs" });
  await opened(TALK, async (open, until) => {
    await until(() => open.log.head === 1300);
    const refusal = await open.send({ type: "message", text: "hi" }, "reject").catch((error) => error);
    assert.ok(refusal instanceof Problem);
    assert.deepEqual(open.outbox.items, []);
  }, { post });
});

test("what retention folded before the window does not keep what is before it from being loaded", async () => {
  const note = (seq) => ({ seq, kind: "session.updated", turn_id: null, at: AT, body: { title: String(seq) } });
  const fold = { seq: 1800, kind: "log.compacted", turn_id: null, at: AT, body: { from_seq: 3, to_seq: 1800 } };
  const tail = Array.from({ length: 100 }, (_, index) => note(1801 + index));
  await opened([note(1), note(2), fold, ...tail], async (open, until) => {
    await until(() => open.log.head === 1900);
    assert.equal(open.earlier, true);
    for (let times = 0; open.earlier && times < 10; times += 1) await open.loadEarlier();
    assert.equal(open.earlier, false);
    assert.deepEqual(open.entries.slice(0, 3).map(({ seq }) => seq), [1, 2, 1800]);
  });
});

test("to load earlier ones leaves the messages that are there as they are", async () => {
  await opened(TALK, async (open, until) => {
    await until(() => open.log.head === 1300);
    const shown = open.log.messages;
    await open.loadEarlier();
    assert.equal(open.log.messages.length, 1000);
    open.log.messages.slice(500).forEach((message, at) => assert.equal(message, shown[at]));
  });
});

test("what was read before a redaction is read again, and what else told it is gone", async () => {
  const log = TALK.slice(0, 600);
  log[598] = { ...log[598], kind: "session.updated", turn_id: null, body: { title: "secret" } };
  await opened(log, async (open, until) => {
    await until(() => open.log.head === 600);
    await open.loadEarlier();
    assert.equal(open.log.title, "secret");
    log[598] = { ...log[598], body: { title: null } };
    log[0] = { ...log[0], body: { ...log[0].body, parts: [{ type: "text", text: "", redacted: true }] } };
    log.push({ seq: 601, kind: "session.redacted", turn_id: null, at: AT, body: { message_ids: ["msg_0"], by: "alice", reason: "" } });
    tell(log.at(-1));
    await until(() => open.log.title === null);
    assert.equal(open.log.messages.length, 599);
    assert.equal(open.log.messages[0].state, "redacted");
    assert.ok(!JSON.stringify(open.entries).includes("secret"));
    assert.equal(open.log.head, 601);
  });
});
