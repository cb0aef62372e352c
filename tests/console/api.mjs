// The API over fetch: what is sent, and what comes of each reply.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { Api, newKey, Offline, Problem } from "../../src/sessile/console/static/api.js";

async function asked(answer, ask) {
  const requests = [];
  const server = createServer(async (request, reply) => {
    let body = "";
    for await (const piece of request) body += piece;
    requests.push({ method: request.method, url: request.url, headers: request.headers, body });
    answer(reply, request);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const real = globalThis.fetch;
  globalThis.fetch = (path, options) => real(`http://127.0.0.1:${server.address().port}${path}`, options);
  try {
    return [await ask().catch((error) => error), requests];
  } finally {
    globalThis.fetch = real;
    server.closeAllConnections();
    server.close();
  }
}

const json = (status, value) => (reply) => reply.writeHead(status).end(JSON.stringify(value));

test("each method sends its token, and a body only where there is one", async () => {
  const api = new Api("tok");
  for (const [name, method, body] of [["get", "GET", ""], ["del", "DELETE", ""], ["post", "POST", '{"a":1}'], ["patch", "PATCH", '{"a":1}'], ["put", "PUT", '{"a":1}']]) {
    const [value, [request]] = await asked(json(200, { ok: true }), () => api[name]("/v1/x", body ? { a: 1 } : undefined));
    assert.deepEqual(value, { ok: true });
    assert.equal(request.method, method);
    assert.equal(request.url, "/v1/x");
    assert.equal(request.headers.authorization, "Bearer tok");
    assert.equal(request.headers.accept, "application/json");
    assert.equal(request.body, body);
    assert.equal(request.headers["content-type"], body ? "application/json" : undefined);
  }
});

test("a post has a key of its own, or the one that it is given", async () => {
  const api = new Api("tok");
  const [, requests] = await asked(json(200, {}), async () => {
    await api.post("/a", {});
    await api.post("/a", {});
    await api.post("/a", {}, { key: "mine" });
  });
  const keys = requests.map((request) => request.headers["idempotency-key"]);
  assert.equal(new Set(keys).size, 3);
  assert.match(keys[0], /^[0-9a-f]{32}$/);
  assert.equal(keys[2], "mine");
  assert.notEqual(newKey(), newKey());
});

test("a refusal is a Problem with all that it says", async () => {
  const told = { status: 409, code: "session_busy", title: "Busy", detail: "a turn runs", errors: [{ field: "f", message: "m" }] };
  const [error] = await asked(json(409, told), () => new Api("tok").post("/a"));
  assert.ok(error instanceof Problem);
  assert.deepEqual([error.status, error.code, error.title, error.detail, error.errors], [409, "session_busy", "Busy", "a turn runs", told.errors]);

  const [plain] = await asked((reply) => reply.writeHead(502).end("<html>"), () => new Api("tok").get("/a"));
  assert.ok(plain instanceof Problem);
  assert.deepEqual([plain.status, plain.code], [502, ""]);
});

test("who is not known is told to the page", async () => {
  let told = 0;
  const api = new Api("tok", () => (told += 1));
  const [error] = await asked(json(401, { code: "unauthenticated" }), () => api.get("/a"));
  assert.equal(error.status, 401);
  assert.equal(told, 1);

  await asked(json(403, {}), () => api.get("/a"));
  assert.equal(told, 1);
});

test("no answer, and half an answer, is Offline: nobody knows what became of it", async () => {
  const [none] = await asked((reply) => reply.destroy(), () => new Api("tok").post("/a"));
  assert.ok(none instanceof Offline);

  const half = (reply) => {
    reply.writeHead(200, { "content-length": "100" });
    reply.write('{"a":');
    setTimeout(() => reply.destroy(), 10);
  };
  for (const ask of [() => new Api("tok").get("/a"), () => new Api("tok").text("/a")]) {
    const [cut] = await asked(half, ask);
    assert.ok(cut instanceof Offline, String(cut));
  }
});

test("nothing and text are what they are", async () => {
  const [nothing] = await asked((reply) => reply.writeHead(204).end(), () => new Api("tok").del("/a"));
  assert.equal(nothing, null);
  const [text] = await asked((reply) => reply.end('{"seq":1}\n'), () => new Api("tok").text("/a"));
  assert.equal(text, '{"seq":1}\n');
});
