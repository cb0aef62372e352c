// One message of the conversation.
import { t, time } from "../i18n.js";
import { explained, useOnce } from "../parts.js";
import { isCut } from "../session.js";
import { html, useMemo, useState } from "../ui.js";
import { copied } from "../view.js";
import { Card } from "./card.js";
import { Notice } from "./notice.js";
import { Progress } from "./progress.js";
import { Text } from "./prose.js";

/** Drawn again only where what it shows has changed: a conversation may be long. */
export function Message(props) {
  const { message, version, ended, closed, expires, act, owner } = props;
  return useMemo(
    () => html`<${Drawn} ...${props} />`,
    [message, version, ended, closed, expires, act, owner, t("chat.copy")],
  );
}

function Drawn({ message, ended, closed, expires, act, owner }) {
  if (message.call) return html`<${Article} message=${message} nested=${message.call.parent_call_id !== null}>
    <${Card} call=${message.call} expires=${expires} answer=${act.answer} redacted=${message.state === "redacted"}
      tools=${html`<${RedactIt} message=${message} ended=${ended} act=${act} />`} /><//>`;
  if (message.progress) return html`<${Article} message=${message}><${Progress} turn=${message.progress} /><//>`;
  if (message.notice) return html`<${Article} message=${message}><${Notice} notice=${message.notice} /><//>`;
  if (isHollow(message)) return null;
  const writing = message.state === "partial";
  const note = ["cancelled", "failed", "interrupted", "steered"].includes(message.state);
  return html`<${Article} message=${message} busy=${writing}>
    <div class="by">
      <bdi>${message.by ?? (message.role === "user" ? owner : t("chat.assistant"))}</bdi>
      <time datetime=${message.at}>${time(message.at)}</time>
      ${note && html`<span class="tag" data-tag=${message.state}>${t(`chat.state.${message.state}`)}</span>`}
      <span class="grow"></span>
      <${Tools} message=${message} ended=${ended} act=${act} />
    </div>
    ${message.thinking && html`<details class="thinking" open=${writing && !message.text}>
      <summary>${t("chat.thinking")}</summary><div class="plain">${message.thinking}</div></details>`}
    ${isCut(message) && html`<p class="hint">${t("chat.mid")}</p>`}
    ${message.state === "redacted"
      ? html`<p class="hint">${t("chat.redacted")}</p>`
      : html`<${Text} text=${message.text} writing=${writing} plain=${message.role === "user"} />`}
    ${message.buttons.length > 0 && html`<div class="offers">
      ${message.buttons.map((each, at) => html`<${Offer} key=${at} offer=${each} closed=${closed}
        press=${() => act.press(message.message_id, each)} />`)}</div>`}
  <//>`;
}

function Offer({ offer, closed, press }) {
  const [busy, once] = useOnce();
  return html`<button type="button" aria-pressed=${offer.pressed ? "true" : null} aria-busy=${busy}
    disabled=${closed} onClick=${() => once(press)}><bdi>${offer.label}</bdi></button>`;
}

/** A message that only asked for tools shows as their cards; one that is void does not show. */
function isHollow(message) {
  return !message.text && !message.thinking && !message.buttons.length && message.state !== "redacted";
}

function Article({ message, busy, nested, children }) {
  return html`<article class="message" data-role=${message.role} data-message-id=${message.message_id}
    data-state=${message.state} data-nested=${nested ? "" : null} aria-busy=${busy ? "true" : null}>${children}</article>`;
}

function Tools({ message, ended, act }) {
  const [copy, setCopy] = useState("copy");
  const [busy, once] = useOnce();
  const onCopy = async () => setCopy((await copied(message.text)) ? "copied" : "not_copied");
  return html`<div class="message-tools">
    <button type="button" class="quiet small" onClick=${onCopy} onBlur=${() => setCopy("copy")}>
      ${t(`chat.${copy}`)}</button>
    ${ended && message.turn_id && html`<button type="button" class="quiet small" aria-busy=${busy}
      onClick=${() => once(() => act.fork(message.turn_id))}>
      ${t("chat.fork")}</button>`}
    <${RedactIt} message=${message} ended=${ended} act=${act} />
  </div>`;
}

function RedactIt({ message, ended, act }) {
  const can = act.redact && (ended || !message.turn_id) && message.state !== "redacted";
  return can && html`<button type="button" class="quiet small" onClick=${() => act.redact(message.message_id)}>
    ${t("chat.redact.open")}</button>`;
}

/** Why it is not sent, and when it is tried again. */
function whyNot({ error, again_at_ms }) {
  const [what, hint] = explained(error);
  const kept = again_at_ms === null
    ? t("chat.unsent.kept")
    : t("chat.unsent.again", { at: time(again_at_ms, { seconds: true }) });
  return html`<strong>${t("chat.unsent")}</strong> ${what} ${hint} ${kept}`;
}

/** What was said here and is not in the log yet. */
export function Pending({ item, state, act, owner }) {
  const text = item.input.text ?? item.input.button;
  return html`<article class="message" data-role="user" data-state=${state}>
    <div class="by"><bdi>${owner}</bdi>${state !== "unsent" && html`<span class="tag">${t("chat.sending")}</span>`}</div>
    <${Text} text=${text} plain=${true} />
    ${state === "unsent" && html`<div class="alert" role="alert"><p>${whyNot(item)}</p>
      <button type="button" onClick=${() => act.again(item)}>${t("chat.again")}</button>
      <button type="button" class="quiet" onClick=${() => act.discard(item)}>${t("chat.discard")}</button></div>`}
  </article>`;
}
