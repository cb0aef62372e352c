// How a node is: its figures as they change.

import { Offline } from "./api.js";
import { t } from "./i18n.js";
import { CHARTS } from "./health/charts.js";
import { Chart } from "./health/chart.js";
import {
  KEPT_SECONDS, added, mustStayZero, nodeShown, nodesHeard, parse,
} from "./metrics.js";
import { explained } from "./parts.js";
import { html, useEffect, useState } from "./ui.js";
import { style } from "./view.js";
import "./words/health.js";

style("vendor/uplot-1.6.32.css");
style("health.css");

const POLL_SECONDS = 2;
const ANSWER_SECONDS_MAX = 5;
/** Kept while another view is looked at: coming back, the curve is there, with its gap. */
let readings = new Map();

export function Health({ api }) {
  const { ready, error } = useFigures(api);
  const [wanted, setWanted] = useState(null);
  const node = nodeShown(readings, wanted);
  useEffect(() => setWanted(node), [node]);
  const kept = readings.get(node) ?? [];
  return html`<section class="health" tabindex="0" aria-label=${t("health.title")}>
    <header>
      <h1>${t("health.title")}</h1>
      <${Readiness} ready=${ready} />
      <${Nodes} ...${{ node, setWanted }} />
    </header>
    ${error && html`<${Unread} error=${error} />`}
    ${kept.length === 0 && !error && html`<p class="health-muted">${t("health.loading")}</p>`}
    ${kept.length > 0 && html`
      <p class="health-muted">${t("health.since", {
        node, minutes: KEPT_SECONDS / 60, seconds: POLL_SECONDS,
      })}</p>
      <${Zero} counters=${mustStayZero(kept.at(-1))} />
      <div class="health-charts">
        ${CHARTS.map((chart) => html`<${Chart} key=${chart.name} ...${{ chart, kept }} />`)}
      </div>`}
  </section>`;
}

/** Asks every `POLL_SECONDS`, while the page is seen. */
function useFigures(api) {
  const [state, setState] = useState({ ready: null, error: null });
  useEffect(() => {
    let looks = 0; // the last one goes on; one that was overtaken, or left behind, does not
    let timer = null;
    const look = async () => {
      clearTimeout(timer);
      const mine = ++looks;
      const [ready, error] = await Promise.all([readReadiness(api), readFigures(api)]);
      if (mine !== looks) return;
      setState({ ready, error });
      if (!document.hidden) timer = setTimeout(look, POLL_SECONDS * 1000);
    };
    const onSeen = () => document.hidden || look();
    document.addEventListener("visibilitychange", onSeen);
    look();
    return () => {
      looks = -1;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onSeen);
    };
  }, [api]);
  return state;
}

function asked(api, path) {
  const signal = AbortSignal.timeout(ANSWER_SECONDS_MAX * 1000);
  return fetch(path, { headers: api.headers(), cache: "no-store", credentials: "omit", signal }).catch(
    (error) => {
      throw new Offline(error);
    },
  );
}

/** `{ok, why}`; `why` is null where nobody answered. */
async function readReadiness(api) {
  try {
    const reply = await asked(api, "/readyz");
    if (reply.ok) return { ok: true, why: null };
    return { ok: false, why: (await api.refusal(reply)).message };
  } catch {
    return { ok: false, why: null };
  }
}

/** Adds a reading. Answers why there is none, or null. */
async function readFigures(api) {
  try {
    const reply = await asked(api, "/metrics");
    if (!reply.ok) return await api.refusal(reply);
    // The id of a request begins with the node that answered it.
    const [, node] = /^req_(\w+)_/.exec(reply.headers.get("x-request-id") ?? "") ?? [null, "–"];
    const reading = parse(await reply.text(), { at: Date.now(), node });
    if (!reading.samples.has("sessile_turns_running")) throw new Error("no figures of Sessile");
    readings = added(readings, reading);
    return null;
  } catch (error) {
    return error;
  }
}

function Readiness({ ready }) {
  if (ready === null) return null;
  const text = ready.ok
    ? t("health.ready")
    : ready.why === null
      ? t("health.unreachable", { seconds: POLL_SECONDS })
      : t("health.not_ready", { why: ready.why });
  return html`<p class="health-ready" aria-live="polite" data-ready=${ready.ok}>${text}</p>`;
}

function Unread({ error }) {
  return html`<p role="alert" class="health-alert">
    ${t("health.unread", { why: explained(error).join(" ") })} ${t("health.unread_hint", { seconds: POLL_SECONDS })}
  </p>`;
}

/** Where a proxy spreads what is asked: whose figures to show. */
function Nodes({ node, setWanted }) {
  const heard = readings.size ? nodesHeard(readings) : [];
  if (heard.length < 2) return null;
  return html`<label title=${t("health.nodes")}>${t("health.node")}
    <select value=${node} onChange=${(event) => setWanted(event.currentTarget.value)}>
      ${heard.sort().map((each) => html`<option key=${each} value=${each}>${each}</option>`)}
    </select>
  </label>`;
}

function Zero({ counters }) {
  const bad = counters.some(({ value }) => value !== 0);
  const word = !counters.length ? "zero_none" : bad ? "zero_bad" : "zero_fine";
  return html`<section class="health-zero" role="region" aria-label=${t("health.zero")}>
    <h2>${t("health.zero")}</h2>
    <p role=${bad ? "alert" : undefined} class=${bad ? "health-alert" : "health-muted"}>
      ${t(`health.${word}`)}
    </p>
    <dl>${counters.map(({ name, help, value }) => html`<div key=${name} data-counter=${name}
      data-value=${value}>
      <dt>${said(name, help)}</dt><dd>${String(value)}</dd>
    </div>`)}</dl>
  </section>`;
}

/** What a counter counts, in the reader's language where it is known here. */
function said(name, help) {
  const words = t(`health.${name}`);
  return words === `health.${name}` ? help || name : words;
}
