// The timeline: which rows are in sight, what they say, and how they are read.

import assert from "node:assert/strict";
import { test } from "node:test";

const at = "../../src/sessile/console/static/timeline";
const { LIST_PX_MAX, ROW_PX, atEnd, heightOf, scrollTo, windowOf } = await import(`${at}/window.js`);
const { annotate, curlOf, oneLine, rawJson, rowOf } = await import(`${at}/rows.js`);
const { BLOCK, BLOCKS_MAX, Pages } = await import(`${at}/pages.js`);
const { Scan, takes } = await import(`${at}/scan.js`);

const AT = "2026-11-28T01:00:00.000Z";
const entry = (seq, kind = "message.delta", body = {}, turn_id = "trn_1") => ({ seq, kind, turn_id, at: AT, body });
const started = (seq, attempt, node, turn_id = "trn_1") =>
  entry(seq, "turn.started", { attempt, fence: attempt + 6, node, strikes: 0 }, turn_id);

/** A server of these entries; `pages` tells what was asked for. */
function served(entries) {
  const pages = [];
  const read = async (after, limit) => {
    pages.push(after);
    const behind = entries.filter(({ seq }) => seq > after);
    return { items: behind.slice(0, limit), next: behind.length > limit ? behind[limit - 1].seq : null };
  };
  return { entries, pages, read };
}

function log(count, change = {}) {
  return Array.from({ length: count }, (_, i) => change[i + 1] ?? entry(i + 1));
}

/** Ask for these rows, and wait until all is read that this takes. */
async function settled(pages, seqs) {
  pages.want(seqs);
  for (let i = 0; i < 200; i++) await new Promise((done) => setImmediate(done));
}

test("the rows in sight cover the view, and no more than it takes", () => {
  const height = 10 * ROW_PX;
  for (const count of [10, 11, 1000, 285_714, 10_000_000]) {
    const end = heightOf(count) - height;
    for (const scrollTop of [0, 1, ROW_PX, end / 3, end - 1, end].filter((top) => top >= 0 && top <= end)) {
      const { first, last, offset } = windowOf({ scrollTop, height, count, over: 2 });
      assert.ok(offset <= scrollTop + 1e-6, "the first row is not below the upper edge");
      const below = offset + (last - first + 1) * ROW_PX;
      assert.ok(below >= scrollTop + height - 1e-6, "the last row is not above the lower edge");
      assert.ok(first >= 0 && last < count && last - first <= 15, `${first} to ${last} of ${count}`);
    }
    assert.equal(windowOf({ scrollTop: 0, height, count }).first, 0);
    assert.equal(windowOf({ scrollTop: end, height, count }).last, count - 1);
  }
});

test("a list that fits scrolls a pixel for a pixel, one that does not is squeezed", () => {
  const height = 280;
  const { first, offset } = windowOf({ scrollTop: 1000, height, count: 10_000, over: 0 });
  assert.equal(first, Math.floor(1000 / ROW_PX));
  assert.equal(offset, first * ROW_PX);
  assert.equal(heightOf(10_000_000), LIST_PX_MAX);
  assert.deepEqual(windowOf({ scrollTop: 0, height, count: 0 }), { first: 0, last: -1, offset: 0 });
});

test("a row is brought into sight by the least that does it", () => {
  const height = 10 * ROW_PX;
  const view = { scrollTop: 100 * ROW_PX, height, count: 1000 };
  assert.equal(scrollTo({ ...view, index: 105 }), 100 * ROW_PX);
  assert.equal(scrollTo({ ...view, index: 99 }), 99 * ROW_PX);
  assert.equal(scrollTo({ ...view, index: 110 }), 101 * ROW_PX);
  for (const index of [0, 999_999, 9_999_999]) {
    const count = 10_000_000;
    const scrollTop = scrollTo({ scrollTop: 4_000_000, height, count, index });
    const { first, last } = windowOf({ scrollTop, height, count, over: 1 });
    assert.ok(first <= index && index <= last);
  }
  assert.ok(atEnd({ scrollTop: 1000 * ROW_PX - height, height, count: 1000 }));
  assert.ok(!atEnd({ scrollTop: 900 * ROW_PX, height, count: 1000 }));
  assert.ok(atEnd({ scrollTop: 0, height, count: 3 }));
});

test("a row says what its entry says, on one line, with nothing hidden in it", () => {
  const what = (kind, body) => rowOf(entry(1, kind, body)).what;
  assert.equal(what("tool.completed", { name: "look", result: { a: 1 } }), 'look → {"a":1}');
  assert.equal(what("turn.started", { fence: 4, node: "node_x", attempt: 1 }), "fence 4 · node_x");
  assert.equal(what("session.opened", { assistant: "a", user_id: "u", title: null }), "a · u");
  assert.equal(what("turn.queued", { position: 2, when_busy: "steer", input: { type: "button", button: "more", payload: {} } }), "#2 · steer · more · {}");
  assert.equal(what("turn.failed", { error: {} }), "undefined: undefined");
  assert.equal(what("turn.failed", {}), "{}", "a body of another shape is shown as it is");
  assert.equal(what("kind.of_tomorrow", { new: true }), '{"new":true}');
  assert.equal(what("turn.completed", { output: "a\nb\x1b[31m\u202egnp" }), "a\\u000ab\\u001b[31m\\u202egnp");
  assert.ok(what("turn.completed", { output: "x".repeat(2_000_000) }).length < 300);
  assert.equal(oneLine("💥💥💥", 2), "💥💥…");
});

test("raw JSON is the entry, with what turns text around as escapes", () => {
  const whole = entry(1, "turn.completed", { output: "\u202egnp\u200f <b>\u0007" });
  assert.deepEqual(JSON.parse(rawJson(whole)), whole);
  assert.match(rawJson(whole), /"\\u202egnp\\u200f <b>\\u0007"/);
});

test("curl asks for the same, and has no token in it", () => {
  const text = curlOf("http://localhost:3006", "ses_1'; rm", { after: 4, limit: 1 });
  assert.match(text, /Bearer \$TOKEN/);
  assert.match(text, /'http:\/\/localhost:3006\/v1\/sessions\/ses_1%27%3B%20rm\/events\?after=4&limit=1'$/);
});

test("each row of a turn has its attempt, and its node where it is the node's to write", () => {
  const rows = [
    entry(1, "turn.queued"), started(2, 1, "n1"), entry(3), entry(4, "turn.cancel_requested"),
    entry(5, "turn.queued", {}, "trn_2"), started(6, 2, "n2"), entry(7, "turn.completed"),
    entry(8), started(9, 1, "n2", "trn_2"),
  ].map(rowOf);
  const state = annotate(rows, null);

  assert.deepEqual(rows.map((row) => row.attempt), [null, 1, 1, 1, null, 2, 2, null, 1]);
  assert.deepEqual(rows.map((row) => row.fenced?.node ?? ""), ["", "n1", "n1", "", "", "n2", "n2", "", "n2"]);
  assert.deepEqual(rows[5].note, { key: "timeline.takeover", values: { node: "n1", fence: "7" } });
  assert.equal(rows[5].tone, "warning");
  assert.equal(rows[8].note, null);
  assert.equal(state.turn_id, "trn_2");
});

test("a turn that goes on after its approval was not taken over", () => {
  const rows = [
    started(1, 1, "n1"), entry(2, "turn.awaiting"), entry(3, "approval.granted"), started(4, 2, "n2"),
    entry(5), started(6, 3, "n2"),
  ].map(rowOf);
  annotate(rows, null);

  assert.equal(rows[2].fenced, null);
  assert.equal(rows[3].note.key, "timeline.resumed");
  assert.equal(rows[3].tone, "");
  assert.equal(rows[5].note.key, "timeline.again");
});

test("blocks are read where they are looked at, and each once", async () => {
  const server = served(log(5000));
  const pages = new Pages(server.read, () => {});
  pages.grow(5000);
  await settled(pages, [1, 20, 4990]);

  assert.deepEqual(server.pages.slice(0, 2), [0, 4500]);
  assert.equal(pages.row(20).seq, 20);
  assert.equal(pages.row(4990).seq, 4990);
  const asked = server.pages.length;
  await settled(pages, [1, 20]);
  assert.equal(server.pages.length, asked);
});

test("an attempt that began long before is looked for", async () => {
  const server = served(log(4000, { 600: started(600, 3, "n1") }));
  const pages = new Pages(server.read, () => {});
  pages.grow(4000);
  await settled(pages, [3900]);

  assert.equal(pages.row(3900).attempt, 3);
  assert.deepEqual(server.pages, [3500, 3000, 2500, 2000, 1500, 1000, 500]);
});

test("a hole is told apart: folded into another entry, or missing", async () => {
  const compacted = entry(8, "log.compacted", { from_seq: 5, to_seq: 8 }, null);
  const all = log(30, { 8: compacted }).filter(({ seq }) => ![5, 6, 7, 20, 30].includes(seq));
  const pages = new Pages(served(all).read, () => {});
  pages.grow(30);
  await settled(pages, [1]);

  assert.deepEqual(
    [5, 6, 7, 8, 20, 30].map((seq) => [pages.row(seq).note?.key, pages.row(seq).tone]),
    [
      ["timeline.compacted", ""], ["timeline.compacted", ""], ["timeline.compacted", ""],
      [undefined, ""], ["timeline.missing", "bad"], ["timeline.missing", "bad"],
    ],
  );
});

test("a page that the server ends early is gone on with", async () => {
  const server = served(log(BLOCK));
  const read = server.read;
  const pages = new Pages((after) => read(after, 120), () => {});
  pages.grow(BLOCK);
  await settled(pages, [1]);

  assert.deepEqual(server.pages, [0, 120, 240, 360, 480]);
  assert.ok(Array.from({ length: BLOCK }, (_, i) => pages.row(i + 1)).every((row, i) => row.kind && row.seq === i + 1));
});

test("the tail grows by what comes, and by a read where something was passed over", async () => {
  const server = served(log(10));
  const pages = new Pages(server.read, () => {});
  pages.grow(10);
  await settled(pages, [10]);
  server.entries.push(entry(11), entry(12), entry(13));
  pages.grow(11, entry(11));
  assert.equal(pages.row(11).seq, 11);
  pages.grow(13, entry(13));
  assert.equal(pages.row(13), null);
  await settled(pages, [13]);

  assert.deepEqual(server.pages, [0, 11]);
  assert.deepEqual([12, 13].map((seq) => pages.row(seq).kind), ["message.delta", "message.delta"]);
});

test("a log that was set back is read anew", async () => {
  const server = served(log(10));
  const pages = new Pages(server.read, () => {});
  assert.equal(pages.grow(10), false);
  await settled(pages, [10]);
  server.entries.splice(4, 6, entry(5, "session.closed"));
  assert.equal(pages.grow(5), true);
  assert.equal(pages.row(3), null);
  await settled(pages, [5]);

  assert.equal(pages.row(5).kind, "session.closed");
  assert.equal(pages.row(6), null);
});

test("what cannot be read is told, and read when it is tried again", async () => {
  const server = served(log(10));
  let down = true;
  const pages = new Pages((...asked) => (down ? Promise.reject(new Error("down")) : server.read(...asked)), () => {});
  pages.grow(10);
  await settled(pages, [1]);
  assert.equal(pages.error.message, "down");
  down = false;
  pages.retry();
  await settled(pages, [1]);

  assert.equal(pages.error, null);
  assert.equal(pages.row(1).seq, 1);
});

test("memory has an end, and keeps what is looked at", async () => {
  const count = (BLOCKS_MAX + 5) * BLOCK;
  const read = async (after, limit) => ({
    items: Array.from({ length: limit }, (_, i) => entry(after + i + 1, "session.updated", {}, null)),
    next: after + limit,
  });
  const pages = new Pages(read, () => {});
  pages.grow(count);
  for (let number = 0; number < BLOCKS_MAX + 5; number++) await settled(pages, [number * BLOCK + 1]);

  const kept = Array.from({ length: BLOCKS_MAX + 5 }, (_, n) => pages.row(n * BLOCK + 1)).filter(Boolean);
  assert.equal(kept.length, BLOCKS_MAX);
  assert.equal(pages.row(1), null);
  assert.equal(kept.at(-1).seq, (BLOCKS_MAX + 4) * BLOCK + 1);
});

test("a filter finds all that fits, and what comes later", async () => {
  const server = served(log(2600, {
    3: entry(3, "tool.started"), 1200: entry(1200, "tool.failed"), 2550: entry(2550, "tool.refused"),
    2600: entry(2600, "turn.failed", {}, "trn_2"),
  }));
  const pages = new Pages(server.read, () => {});
  pages.grow(2600);
  const scan = new Scan(pages, { turn: "", kind: "tool." }, () => {});
  await scan.run();
  assert.deepEqual(scan.rows.map(({ seq }) => seq), [3, 1200, 2550]);

  pages.grow(2601, entry(2601, "tool.completed"));
  await scan.run();
  assert.deepEqual(scan.rows.map(({ seq }) => seq), [3, 1200, 2550, 2601]);
  assert.equal(scan.upto, 2601);

  const asked = server.pages.length;
  const other = new Scan(pages, { turn: "trn_2", kind: "" }, () => {});
  await other.run();
  assert.deepEqual(other.rows.map(({ seq }) => seq), [2600]);
  assert.equal(server.pages.length, asked, "what was read is not read again");
});

test("what stands out is what went wrong, was refused or was taken over", () => {
  const rows = [
    entry(1, "turn.queued"), started(2, 1, "a"), started(3, 2, "b"), entry(4, "tool.refused"),
    entry(5, "message.reset"), entry(6, "turn.failed"), entry(7, "session.closed"),
  ].map(rowOf);
  annotate(rows, null);

  assert.deepEqual(rows.filter((row) => takes(row, { kind: "!" })).map(({ seq }) => seq), [3, 4, 5, 6]);
  assert.ok(!takes(entry(1), { kind: "-message.delta" }));
  assert.ok(takes(entry(1), { kind: "", turn: "trn_1" }) && !takes(entry(1), { kind: "", turn: "trn_2" }));
});

test("a filter that fails says why, and goes on when it is run again", async () => {
  const server = served(log(700));
  let down = true;
  const pages = new Pages((...asked) => (down ? Promise.reject(new Error("down")) : server.read(...asked)), () => {});
  pages.grow(700);
  const scan = new Scan(pages, { kind: "message.delta" }, () => {});
  await scan.run();
  assert.equal(scan.error.message, "down");
  down = false;
  await scan.run();
  assert.deepEqual([scan.error, scan.rows.length], [null, 700]);
});
