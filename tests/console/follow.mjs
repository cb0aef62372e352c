// An event stream that is cut anywhere and goes on where it was.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { Api } from "../../src/sessile/console/static/api.js";
import { follow, Parser } from "../../src/sessile/console/static/follow.js";

const STREAM = "retry: 1000\n\nid: 1\nevent: a\ndata: {\"seq\":1,\n: beat\ndata: \"x\":\"é😀\"}\n\n:\n\nid: 2\r\nevent: b\r\ndata:2\r\n\r\ndata: three\rid: 0.3\r\rid: 9\n\n";

test("events are the same however the stream is cut", () => {
  const whole = new Parser().push(STREAM);
  assert.deepEqual(whole, [
    { event: "a", data: '{"seq":1,\n"x":"é😀"}', id: "1" },
    { event: "b", data: "2", id: "2" },
    { event: "message", data: "three", id: "0.3" },
  ]);

  for (let cut = 0; cut <= STREAM.length; cut += 1) {
    const parser = new Parser();
    const events = [...parser.push(STREAM.slice(0, cut)), ...parser.push(STREAM.slice(cut))];
    assert.deepEqual(events, whole);
    assert.equal(parser.retryMs, 1000);
  }
  const parser = new Parser();
  assert.deepEqual([...STREAM].flatMap((each) => parser.push(each)), whole);
});

test("the cursor is that of the last event that was whole", () => {
  const parser = new Parser();
  parser.push("id: 1\ndata: x\n\nid: 2\ndata: y\n");
  assert.equal(parser.lastId, "1");
});

/** A server that does to its n-th request what the n-th of `acts` says; what it was asked. */
async function serving(acts) {
  const asked = [];
  const server = createServer((request, reply) => {
    asked.push({ cursor: request.headers["last-event-id"], token: request.headers.authorization });
    const act = acts[asked.length - 1];
    if (act) act(reply);
    else reply.destroy();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${server.address().port}`;
  const real = globalThis.fetch;
  globalThis.fetch = (path, options) => real(new URL(path, url), options);
  const close = () => {
    globalThis.fetch = real;
    server.closeAllConnections();
    server.close();
  };
  return { asked, close };
}

function begin(reply) {
  reply.writeHead(200, { "content-type": "text/event-stream" });
  reply.write("retry: 1\n\n");
}

function say(reply, ...ids) {
  for (const id of ids) reply.write(`id: ${id}\nevent: k\ndata: {"seq":${String(id).split(".").at(-1)}}\n\n`);
}

/** Follow until it ends; all that was told. */
async function followed(after, acts) {
  const server = await serving(acts);
  const entries = [];
  const states = [];
  const resets = [];
  try {
    await new Promise((resolve) => {
      follow(new Api("tok"), "ses_1", after, {
        onEntry: (entry) => entries.push(entry.seq),
        onState: (state, reason) => {
          states.push(reason ? `${state} ${reason}` : state);
          if (state === "ended") resolve();
        },
        onReset: (snapshot, cursor) => resets.push([snapshot, cursor]),
      });
    });
  } finally {
    server.close();
  }
  return { entries, states, resets, asked: server.asked };
}

const over = (reply) => reply.writeHead(204).end();

test("a stream that is cut goes on behind what was seen, and misses nothing", async () => {
  const { entries, states, asked } = await followed(0, [
    (reply) => {
      begin(reply);
      say(reply, 1, 2);
      reply.write("id: 3\nevent: k\ndata: {\"se");
      setTimeout(() => reply.destroy(), 20);
    },
    (reply) => reply.destroy(),
    (reply) => {
      begin(reply);
      say(reply, 3, 4);
      reply.end();
    },
    over,
  ]);

  assert.deepEqual(entries, [1, 2, 3, 4]);
  assert.deepEqual(asked.map((each) => each.cursor), ["0", "2", "2", "4"]);
  assert.deepEqual(asked.map((each) => each.token), Array(4).fill("Bearer tok"));
  assert.deepEqual(states, ["connecting", "live", "lost", "live", "connecting", "ended closed"]);
});

test("a cursor is handed back as it came", async () => {
  const { asked, entries } = await followed("5", [
    (reply) => {
      begin(reply);
      say(reply, "2.6", "2.7");
      reply.end();
    },
    over,
  ]);
  assert.deepEqual(asked.map((each) => each.cursor), ["5", "2.7"]);
  assert.deepEqual(entries, [6, 7]);
});

test("a reset is told with where to go on from", async () => {
  const { resets, asked } = await followed(99, [
    (reply) => {
      begin(reply);
      reply.end('id: 12\nevent: reset\ndata: {"messages":[]}\n\n');
    },
    over,
  ]);
  assert.deepEqual(resets, [[{ messages: [] }, "12"]]);
  assert.deepEqual(asked.map((each) => each.cursor), ["99", "12"]);
});

test("an end is the end, and says why", async () => {
  for (const [act, told] of [
    [(reply) => { begin(reply); reply.end('event: end\ndata: {"reason":"gone"}\n\n'); }, "ended gone"],
    [(reply) => { begin(reply); reply.end('event: end\ndata: {"reason":"closed"}\n\n'); }, "ended closed"],
    [(reply) => reply.writeHead(404).end("{}"), "ended gone"],
    [(reply) => reply.writeHead(401).end("{}"), "ended unauthorised"],
    [over, "ended closed"],
  ]) {
    const { states, asked } = await followed(0, [act]);
    assert.equal(states.at(-1), told);
    assert.equal(asked.length, 1);
  }
});

test("a server that refuses for now is asked again", async () => {
  const { states, asked } = await followed(0, [(reply) => reply.writeHead(503).end("{}"), over]);
  assert.deepEqual(states, ["connecting", "lost", "ended closed"]);
  assert.equal(asked.length, 2);
});

test("what is stopped says nothing more", async () => {
  let stream;
  const server = await serving([(reply) => { begin(reply); stream = reply; say(reply, 1); }]);
  const told = [];
  await new Promise((resolve) => {
    const stop = follow(new Api("tok"), "ses_1", 0, {
      onEntry: (entry) => {
        told.push(entry.seq);
        stop();
        say(stream, 2);
        stream.on("close", resolve);
      },
      onState: (state) => told.push(state),
      onReset: () => told.push("reset"),
    });
  });
  server.close();
  assert.deepEqual(told, ["connecting", "live", 1]);
  assert.equal(server.asked.length, 1);
});

test("a page that nobody sees lets go of its connection, and comes back to all that it missed", async () => {
  const page = Object.assign(new EventTarget(), { visibilityState: "visible" });
  const look = (state) => {
    page.visibilityState = state;
    page.dispatchEvent(new Event("visibilitychange"));
  };
  globalThis.document = page;
  const told = [];
  const server = await serving([
    (reply) => {
      begin(reply);
      say(reply, 1);
      reply.on("close", () => {
        // Longer than it waits before it tries again.
        setTimeout(() => {
          told.push(`asked ${server.asked.length}`);
          look("visible");
        }, 400);
      });
    },
    (reply) => {
      begin(reply);
      say(reply, 2);
      reply.end();
    },
    over,
  ]);
  try {
    await new Promise((resolve) => {
      const handlers = {
        onEntry: (entry) => {
          told.push(entry.seq);
          if (entry.seq === 1) look("hidden");
        },
        onState: (state) => {
          told.push(state);
          if (state === "ended") resolve();
        },
        onReset: () => told.push("reset"),
      };
      follow(new Api("tok"), "ses_1", 0, handlers, { hiddenSeconds: 0.02 });
    });
  } finally {
    server.close();
    delete globalThis.document;
  }
  assert.deepEqual(told, ["connecting", "live", 1, "connecting", "asked 1", "live", 2, "connecting", "ended"]);
  assert.deepEqual(server.asked.map((each) => each.cursor), ["0", "1", "2"]);
});

test("a page that was opened behind another lets go of its connection too", async () => {
  globalThis.document = Object.assign(new EventTarget(), { visibilityState: "hidden" });
  const server = await serving([begin]);
  let stop = () => {};
  try {
    const told = [];
    await new Promise((resolve) => {
      const handlers = {
        onEntry: () => {},
        onState: (state) => {
          told.push(state);
          if (told.join() === "connecting,live,connecting") resolve();
        },
        onReset: () => {},
      };
      stop = follow(new Api("tok"), "ses_1", 0, handlers, { hiddenSeconds: 0.2 });
    });
    assert.equal(server.asked.length, 1);
  } finally {
    stop();
    server.close();
    delete globalThis.document;
  }
});
