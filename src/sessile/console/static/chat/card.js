// A tool call: one card that goes from its start to its outcome in place.
import { t, time } from "../i18n.js";
import { Icon, useOnce } from "../parts.js";
import { html, useMemo } from "../ui.js";
import { Plain } from "./prose.js";

const BRIEF_CHARS_MAX = 60;
const ROW_CHARS_MAX = 100;
const ROWS_MAX = 8;

/** `tools`: what can be done with it. */
export function Card({ call, expires, answer, redacted, tools }) {
  const { call_id, name, status } = call;
  return html`<section class="card" data-call-id=${call_id} data-status=${status} role="group"
    aria-label=${t("chat.tool", { name })}>
    <header class="card-head">
      <${Icon} name="tool" /><bdi class="card-name">${name}</bdi>
      <code class="card-brief"><bdi>${brief(call.arguments)}</bdi></code>
      <span class="grow"></span>
      <span class="message-tools">${tools}</span>
      ${call.ended && html`<span class="card-took">${took(call)}</span>`}
      <span class="tag" data-tag=${status}>${t(`chat.status.${status}`)}</span>
    </header>
    ${redacted && html`<p class="hint">${t("chat.redacted")}</p>`}
    ${status === "awaiting" && html`<${Ask} call_id=${call_id} expires=${expires} answer=${answer} />`}
    ${call.reason && html`<p class="card-reason" dir="auto">${call.reason}</p>`}
    ${!isBrief(call.arguments) && html`<${Value} label=${t("chat.arguments")} value=${call.arguments} />`}
    ${status === "completed" && !redacted && html`<${Value} label=${t("chat.result")} value=${call.result} open=${true} />`}
  </section>`;
}

function Ask({ call_id, expires, answer }) {
  const [busy, once] = useOnce();
  const say = (verb) => once(() => answer(call_id, verb));
  return html`<div class="ask">
    <p>${t("chat.approve.hint")} ${expires && t("chat.expires", { at: time(expires) })}</p>
    <div class="row">
      <button type="button" class="primary" disabled=${busy} onClick=${() => say("approve")}>${t("chat.approve")}</button>
      <button type="button" disabled=${busy} onClick=${() => say("deny")}>${t("chat.deny")}</button>
    </div>
  </div>`;
}

/** A value as people read it; what is long is folded away. */
function Value({ label, value, open = false }) {
  const text = useMemo(() => written(value), [value]);
  if (text === "" || text === "{}" || text === "null") return null;
  const shown = open && text.length <= ROW_CHARS_MAX * ROWS_MAX && text.split("\n").length <= ROWS_MAX;
  return html`<details class="card-value" open=${shown}><summary>${label}</summary><${Plain} text=${text} /></details>`;
}

function written(value) {
  if (typeof value === "string") return value;
  const row = JSON.stringify(value) ?? "";
  return row.length <= ROW_CHARS_MAX ? row : JSON.stringify(value, null, 2);
}

function line(value) {
  return Object.entries(value ?? {}).map(([name, each]) => `${name}: ${JSON.stringify(each)}`).join(", ");
}

/** Whether its line says it all. */
function isBrief(value) {
  return line(value).length <= BRIEF_CHARS_MAX;
}

function brief(value) {
  const text = line(value);
  return isBrief(value) ? text : `${text.slice(0, BRIEF_CHARS_MAX)}…`;
}

function took({ began, ended }) {
  const ms = new Date(ended) - new Date(began);
  return ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}
