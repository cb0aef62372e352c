// What is read from the figures of a node, and figured from several readings.

import assert from "node:assert/strict";
import { test } from "node:test";

const { added, fell, growth, lines, mustStayZero, nodeShown, nodesHeard, parse, quantile, rate, total } =
  await import("../../src/sessile/console/static/metrics.js");

const reading = (text, at = 0, node = "a") => parse(text, { at: at * 1000, node });

const histogram = (...counts) =>
  ["0.1", "0.5", "1.0", "+Inf"]
    .map((le, i) => `wait_bucket{route="/x",le="${le}"} ${counts[i]}`)
    .concat(`# TYPE wait histogram`, `wait_count{route="/x"} ${counts[3]}`)
    .join("\n");

test("what Prometheus may write is read", () => {
  const text = [
    "# HELP ended_total Turns by how\\nthey ended \\\\ so",
    "# TYPE ended_total counter",
    'ended_total{status="completed",why="a \\"b\\", {c}=\\n\\\\d"} 1.5e+02 1395066363000',
    'ended_total{status="failed",} 2',
    "plain 3",
    "odd +Inf",
    "no number here",
    "",
    "broken{",
  ].join("\r\n".slice(1));
  const found = reading(text);

  assert.equal(found.help.get("ended_total"), "Turns by how\nthey ended \\ so");
  assert.equal(found.types.get("ended_total"), "counter");
  assert.deepEqual(found.samples.get("ended_total"), [
    { labels: { status: "completed", why: 'a "b", {c}=\n\\d' }, value: 150 },
    { labels: { status: "failed" }, value: 2 },
  ]);
  assert.equal(total(found, "plain"), 3);
  assert.equal(total(found, "odd"), Infinity);
  assert.equal(total(found, "ended_total"), 152);
  assert.equal(total(found, "ended_total", ({ status }) => status === "failed"), 2);
  assert.equal(total(found, "missing"), null);
  assert.deepEqual([...found.samples.keys()].sort(), ["ended_total", "odd", "plain"]);
});

test("a rate is a difference over the time between", () => {
  const then = reading("n_total 10", 100);
  const now = reading("n_total 25\nnew_total 4", 105);

  assert.equal(rate(then, now, "n_total"), 3);
  assert.equal(growth(then, now, "new_total"), 4, "a counter begins at 0");
  assert.equal(rate(then, now, "missing"), null);
  assert.equal(rate(now, now, "n_total"), null, "no time passed");
});

test("a quantile lies inside its bucket, of what came between two readings alone", () => {
  const then = reading(histogram(100, 100, 100, 100));
  const now = reading(histogram(100, 110, 120, 120));

  assert.equal(quantile(then, now, "wait", 0.5), 0.5);
  assert.equal(quantile(then, now, "wait", 0.2).toFixed(6), "0.260000");
  assert.equal(quantile(then, now, "wait", 0.75), 0.75);
  assert.equal(quantile(then, now, "wait", 0.5, ({ route }) => route === "/y"), null);
  assert.equal(quantile(now, now, "wait", 0.5), null, "nothing was observed");
});

test("a quantile of several series is that of them all, and beyond the last bound that bound", () => {
  const two = histogram(8, 8, 8, 8) + "\n" + histogram(0, 0, 0, 2).replaceAll("/x", "/y");

  assert.equal(quantile(reading(""), reading(two), "wait", 0.99), 1);
  assert.equal(quantile(reading(""), reading(two), "wait", 0.4), 0.05);
});

test("what must stay 0 is found by its name, with its meaning", () => {
  const found = mustStayZero(
    reading("# HELP x_must_stay_zero_total A fault\nx_must_stay_zero_total 2\nx_total 1\ny_zero_total 1\nx_must_stay_zero_created 7"),
  );

  assert.deepEqual(found, [{ name: "x_must_stay_zero", help: "A fault", value: 2 }]);
});

test("a counter that fell means a node that began anew", () => {
  const counter = (value) => reading(`# TYPE n_total counter\nn_total ${value}\n# TYPE g gauge\ng ${-value}`);

  assert.ok(fell(counter(5), counter(4)));
  assert.ok(!fell(counter(5), counter(5)));
  assert.ok(!fell(counter(4), counter(5)), "a gauge may fall");
  assert.ok(fell(reading(histogram(1, 1, 1, 9)), reading(histogram(1, 1, 1, 2))));
  const kept = added(added(new Map(), counter(5)), counter(4)).get("a");
  assert.equal(kept.length, 1, "nothing from before is compared with what is after");
});

test("ten minutes are kept, of each node apart", () => {
  let readings = new Map();
  for (let at = 0; at <= 700; at += 2) readings = added(readings, reading("g 1", at, at % 4 ? "b" : "a"));

  const at = (node) => readings.get(node).map((each) => each.at / 1000);
  assert.deepEqual([...readings.keys()].sort(), ["a", "b"]);
  assert.deepEqual([at("a")[0], at("a").at(-1)], [104, 700]);
  assert.deepEqual([at("b")[0], at("b").at(-1)], [102, 698]);
});

test("a node that is not heard any more is not shown any more", () => {
  let readings = added(new Map(), reading("g 1", 0, "a"));
  assert.equal(nodeShown(readings, null), "a");
  readings = added(readings, reading("g 1", 4, "b"));
  assert.equal(nodeShown(readings, "a"), "a", "it may be the other's turn to answer");
  assert.deepEqual(nodesHeard(readings).sort(), ["a", "b"]);
  readings = added(readings, reading("g 1", 12, "b"));
  assert.equal(nodeShown(readings, "a"), "b");
  assert.deepEqual(nodesHeard(readings), ["b"]);
  assert.equal(nodeShown(new Map(), "a"), null);
});

test("a line has a hole where readings are missing", () => {
  const kept = [0, 2, 20, 22].map((at) => reading(`n_total ${at * 2}`, at));
  const measure = (now, back, last) => {
    const from = back(10);
    return from && rate(from, now, "n_total");
  };

  const [times, values] = lines(kept, [measure]);

  assert.deepEqual(times, [0, 2, 3, 20, 22]);
  assert.deepEqual(values, [null, 2, null, null, 2]);
});
