// Which charts there are: of what, in which unit.

import { QUANTILE_SECONDS, WINDOW_SECONDS, growth, quantile, rate, total } from "../metrics.js";

/** A page of the console, a probe and a collector are not what people wait for, nor is a stream
 * that is open for hours. */
const ASIDE = ["/metrics", "/readyz", "/healthz", "/events"];

const isWaitedFor = ({ route = "" }) => !ASIDE.some((end) => route.endsWith(end));

function rateOf(name, wanted) {
  return (now, back) => {
    const before = back(WINDOW_SECONDS);
    return before && rate(before, now, name, wanted);
  };
}

function quantileOf(name, q, wanted) {
  return (now, back) => {
    const before = back(QUANTILE_SECONDS);
    return before && quantile(before, now, name, q, wanted);
  };
}

/** Between two readings, so that each that happened is one step on the chart. */
function growthOf(name) {
  return (now, back, last) => last && growth(last, now, name);
}

const endedAs = (status) => rateOf("sessile_turns_ended_total", (labels) => labels.status === status);
const gauge = (name) => (now) => total(now, name);
const quantiles = (name, wanted) => [
  { name: "p50", of: quantileOf(name, 0.5, wanted), colour: "accent" },
  { name: "p99", of: quantileOf(name, 0.99, wanted), colour: "warning" },
];

/** `unit`: "rate", "count", "seconds", or "sum" for what is added up over the time that is shown;
 * `colour`: of the theme's. `counter`: whose total since the node's start is told too. */
export const CHARTS = [
  {
    name: "turns",
    unit: "rate",
    lines: [
      { name: "completed", of: endedAs("completed"), colour: "good" },
      { name: "failed", of: endedAs("failed"), colour: "bad" },
      { name: "cancelled", of: endedAs("cancelled"), colour: "muted" },
      { name: "interrupted", of: endedAs("interrupted"), colour: "warning" },
    ],
  },
  {
    name: "queue",
    unit: "count",
    lines: [
      { name: "running", of: gauge("sessile_turns_running"), colour: "accent" },
      { name: "waiting", of: gauge("sessile_sessions_waiting"), colour: "warning" },
    ],
  },
  { name: "turn_seconds", unit: "seconds", lines: quantiles("sessile_turn_seconds") },
  {
    name: "request_seconds",
    unit: "seconds",
    lines: quantiles("sessile_http_request_seconds", isWaitedFor),
  },
  {
    name: "connections",
    unit: "count",
    lines: [
      { name: "streams", of: gauge("sessile_streams_open"), colour: "accent" },
      { name: "sockets", of: gauge("sessile_pusher_sockets_open"), colour: "good" },
    ],
  },
  {
    name: "fences",
    unit: "sum",
    lines: ["takeovers", "refusals"].map((name, index) => {
      const counter = ["sessile_turns_taken_over_total", "sessile_fence_refusals_total"][index];
      return { name, counter, of: growthOf(counter), colour: ["warning", "bad"][index] };
    }),
  },
  {
    name: "entries",
    unit: "rate",
    lines: [
      { name: "written", of: rateOf("sessile_entries_appended_total"), colour: "accent" },
      { name: "requests", of: rateOf("sessile_http_requests_total"), colour: "good" },
    ],
  },
];
