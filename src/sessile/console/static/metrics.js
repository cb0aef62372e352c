// The text of Prometheus, parsed; and what several readings of it tell.
//
// A reading is `{at, node, samples, help, types}`: `at` in milliseconds, `samples` a Map from a
// sample's name to its `[{labels, value}]`, `help` and `types` Maps by the names of their lines.

import { Offline } from "./api.js";

export const KEPT_SECONDS = 600;
export const WINDOW_SECONDS = 10;
export const QUANTILE_SECONDS = 30;
export const LOST_SECONDS = 10;
/** After as long without an answer of the node that is shown, another one is. */

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?$/;
const LABEL = /\s*([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"\s*,?/gy;
const ESCAPED = { "\\\\": "\\", '\\"': '"', "\\n": "\n" };
const NUMBERS = { "+Inf": Infinity, "-Inf": -Infinity, NaN };

const ANSWER_SECONDS_MAX = 5;

/** What the server answers at a path that is none of the API's. Raises Offline. */
export function asked(api, path) {
  const signal = AbortSignal.timeout(ANSWER_SECONDS_MAX * 1000);
  const options = { headers: api.headers(), cache: "no-store", credentials: "omit", signal };
  return fetch(path, options).catch((error) => {
    throw new Offline(error);
  });
}

/** A reading of the node that answers. Raises Offline, or a Problem. */
export async function read(api) {
  const reply = await asked(api, "/metrics");
  if (!reply.ok) throw await api.refusal(reply);
  // The id of a request begins with the node that answered it.
  const [, node] = /^req_(\w+)_/.exec(reply.headers.get("x-request-id") ?? "") ?? [null, "–"];
  const reading = parse(await reply.text(), { at: Date.now(), node });
  if (!reading.samples.has("sessile_turns_running")) throw new Error("no figures of Sessile");
  return reading;
}

/** A reading; lines that are none of the format's are passed over. */
export function parse(text, { at = 0, node = "" } = {}) {
  const reading = { at, node, samples: new Map(), help: new Map(), types: new Map() };
  for (const line of text.split("\n")) {
    if (line.startsWith("#")) {
      const [, word, name, rest] = /^# (HELP|TYPE) (\S+) ?(.*)$/.exec(line) ?? [];
      if (word === "HELP") reading.help.set(name, unescaped(rest));
      if (word === "TYPE") reading.types.set(name, rest);
      continue;
    }
    const found = SAMPLE.exec(line);
    const value = found && numberOf(found[3]);
    if (value === null) continue;
    const [, name, labels] = found;
    if (!reading.samples.has(name)) reading.samples.set(name, []);
    reading.samples.get(name).push({ labels: labelsOf(labels ?? ""), value });
  }
  return reading;
}

function numberOf(text) {
  if (Object.hasOwn(NUMBERS, text)) return NUMBERS[text];
  const value = Number(text);
  return Number.isNaN(value) ? null : value;
}

function labelsOf(text) {
  return Object.fromEntries(
    [...text.matchAll(LABEL)].map(([, name, value]) => [name, unescaped(value)]),
  );
}

function unescaped(text) {
  return text.replace(/\\[\\"n]/g, (found) => ESCAPED[found]);
}

/** The sum of a name's samples whose labels `wanted` takes; null where there is none. */
export function total(reading, name, wanted = () => true) {
  const found = (reading.samples.get(name) ?? []).filter(({ labels }) => wanted(labels));
  return found.length ? found.reduce((sum, { value }) => sum + value, 0) : null;
}

/** How much a counter grew; one that is new began at 0. Null where it is not there. */
export function growth(before, now, name, wanted) {
  const present = total(now, name, wanted);
  return present === null ? null : present - (total(before, name, wanted) ?? 0);
}

/** How much a counter grew a second; null where it is not there or no time passed. */
export function rate(before, now, name, wanted) {
  const seconds = (now.at - before.at) / 1000;
  const grown = growth(before, now, name, wanted);
  return grown === null || seconds <= 0 ? null : grown / seconds;
}

/**
 * What the share `q` of the observations between two readings stayed below, in the histogram's
 * unit, evenly spread inside a bucket; null where nothing was observed. Beyond the last finite
 * bound nothing is known: there it is that bound.
 */
export function quantile(before, now, name, q, wanted = () => true) {
  const bounds = new Map();
  for (const { labels } of now.samples.get(`${name}_bucket`) ?? []) {
    if (wanted(labels)) bounds.set(labels.le, numberOf(labels.le));
  }
  const buckets = [...bounds]
    .sort(([, a], [, b]) => a - b)
    .map(([le, bound]) => {
      const here = (labels) => labels.le === le && wanted(labels);
      return { bound, count: growth(before, now, `${name}_bucket`, here) };
    });
  const all = buckets.at(-1)?.count ?? 0;
  if (all <= 0) return null;
  const rank = q * all;
  let [below, low] = [0, 0];
  for (const { bound, count } of buckets) {
    if (count >= rank) {
      if (bound === Infinity || count === below) return low;
      return low + ((bound - low) * (rank - below)) / (count - below);
    }
    [below, low] = [count, bound];
  }
  return low;
}

/** The counters that are faults of Sessile itself when they are not 0: `[{name, help, value}]`. */
export function mustStayZero(reading) {
  return [...reading.samples.keys()]
    .filter((name) => name.endsWith("_must_stay_zero_total"))
    .map((name) => ({
      name: name.replace(/_total$/, ""),
      help: reading.help.get(name) ?? "",
      value: total(reading, name),
    }));
}

/** Whether a counter is less than it was: its process began anew. */
export function fell(before, now) {
  return [...now.types].some(([name, type]) => {
    const counted = type === "counter" ? name : type === "histogram" ? `${name}_count` : null;
    if (counted === null) return false;
    const [then, present] = [total(before, counted), total(now, counted)];
    return then !== null && present !== null && present < then;
  });
}

/**
 * Add a reading to those of its node, in a Map from node to its readings, the oldest first. What
 * is older than `KEPT_SECONDS` goes; all of a node that began anew, and nodes that are not heard.
 */
export function added(readings, reading) {
  const next = new Map();
  for (const [node, kept] of new Map([[reading.node, []], ...readings])) {
    const mine = node === reading.node;
    const anew = mine && kept.length && fell(kept.at(-1), reading);
    const all = [...(anew ? [] : kept), ...(mine ? [reading] : [])];
    const young = all.filter(({ at }) => at > reading.at - KEPT_SECONDS * 1000);
    if (young.length) next.set(node, young);
  }
  return next;
}

/**
 * Which node to show: `shown` as long as it is heard, else the one heard last. Behind a proxy each
 * answer may be another node's, and their counters must not be mixed. Null where there is none.
 */
export function nodeShown(readings, shown) {
  const heard = [...readings].map(([node, kept]) => ({ node, at: kept.at(-1).at }));
  const last = heard.reduce((a, b) => (a === null || b.at >= a.at ? b : a), null);
  const mine = heard.find(({ node }) => node === shown);
  return mine && mine.at > last.at - LOST_SECONDS * 1000 ? shown : (last?.node ?? null);
}

/** Nodes that answered within `LOST_SECONDS` of the last answer. */
export function nodesHeard(readings) {
  const last = Math.max(...[...readings.values()].map((kept) => kept.at(-1).at));
  return [...readings.keys()].filter(
    (node) => readings.get(node).at(-1).at > last - LOST_SECONDS * 1000,
  );
}

/** The reading to compare the `index`-th with: the oldest within `seconds` before it, or null. */
export function before(kept, index, seconds) {
  const from = kept[index].at - seconds * 1000;
  let found = null;
  for (let i = index - 1; i >= 0 && kept[i].at >= from; i--) found = kept[i];
  return found;
}

/** What the measures of a reading are: they look back, so that they stay. */
const measured = new WeakMap();

function valueOf(measure, kept, index) {
  const now = kept[index];
  if (!measured.has(now)) measured.set(now, new Map());
  const values = measured.get(now);
  if (!values.has(measure)) {
    const back = (seconds) => before(kept, index, seconds);
    values.set(measure, measure(now, back, index ? kept[index - 1] : null));
  }
  return values.get(measure);
}

/**
 * A line for each of `measures` over a node's readings, as uPlot wants them: first the times in
 * seconds, then values or nulls. A measure is `(now, back, last) -> number | null`: `back(seconds)`
 * is the oldest reading within them, `last` the one before, each null where there is none. Where
 * readings are missing there is a null, so that no line is drawn across.
 */
export function lines(kept, measures, { gapSeconds = 8 } = {}) {
  const columns = [[], ...measures.map(() => [])];
  kept.forEach((now, index) => {
    const last = index ? kept[index - 1] : null;
    if (last && now.at - last.at > gapSeconds * 1000) {
      columns.forEach((column, i) => column.push(i ? null : last.at / 1000 + 1));
    }
    columns.forEach((column, i) =>
      column.push(i ? valueOf(measures[i - 1], kept, index) : now.at / 1000),
    );
  });
  return columns;
}
