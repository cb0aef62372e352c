// How a node is: its figures as they change.

import { t } from "./i18n.js";
import { CHARTS } from "./health/charts.js";
import { Chart } from "./health/chart.js";
import { Figures, POLL_SECONDS } from "./health/figures.js";
import { KEPT_SECONDS, mustStayZero, nodeShown, nodesHeard } from "./metrics.js";
import { explained } from "./parts.js";
import { html, useEffect, useReducer, useState } from "./ui.js";
import { style } from "./view.js";
import "./words/health.js";

style("vendor/uplot-1.6.32.css");
style("health.css");

export function Health({ api, kept: holder }) {
  const { ready, error, readings } = useFigures(api, holder);
  const [wanted, setWanted] = useState(null);
  const node = nodeShown(readings, wanted);
  useEffect(() => setWanted(node), [node]);
  const kept = readings.get(node) ?? [];
  return html`<section class="health" tabindex="0" aria-label=${t("health.title")}>
    <header>
      <h1>${t("health.title")}</h1>
      <${Readiness} ready=${ready} />
      <${Nodes} ...${{ readings, node, setWanted }} />
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

/** What is kept, drawn again at each reading. `kept`: where the page holds it, for as long as it is open. */
function useFigures(api, kept) {
  const [, redraw] = useReducer((n) => n + 1, 0);
  kept.current ??= new Figures(api);
  const figures = kept.current;
  useEffect(() => figures.listen(redraw), [figures]);
  return figures;
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
function Nodes({ readings, node, setWanted }) {
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
