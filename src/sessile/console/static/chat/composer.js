// Where to say something.
import { Problem } from "../api.js";
import { t } from "../i18n.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../ui.js";

const POLICIES = ["enqueue", "reject", "interrupt", "steer"];
const HEIGHT_PX_MAX = 240;

/** Where there is none, the focus would open one on the screen. */
export function hasKeyboard() {
  return matchMedia("(hover: hover)").matches;
}

/** Whether the key is an input method's. Safari ends a composition before the Enter that ends it. */
export function isComposing(event) {
  return event.isComposing || event.keyCode === 229;
}

export function Composer({ open, drafts, act, closed, running, cancelling }) {
  const { session_id } = open;
  const field = useRef();
  const [text, setText] = useState(drafts.get(session_id) ?? "");
  const [policy, setPolicy] = useState("enqueue");
  const [task, setTask] = useState(false);
  const write = (given) => {
    drafts.set(session_id, given);
    setText(given);
  };
  useEffect(() => {
    if (hasKeyboard()) field.current?.focus({ preventScroll: true });
  }, []);
  useLayoutEffect(() => {
    if (!field.current) return;
    field.current.style.height = "auto";
    field.current.style.height = `${Math.min(HEIGHT_PX_MAX, field.current.scrollHeight + 2)}px`;
  }, [text]);
  if (closed) return html`<p class="closed">${t("chat.closed")}</p>`;
  const send = async (event) => {
    event?.preventDefault();
    if (!text.trim()) return;
    write("");
    field.current.focus();
    const refusal = await act.send({ type: task ? "task" : "message", text }, policy);
    // What was refused is given back, unless something else was begun.
    if (refusal instanceof Problem && !drafts.get(session_id)) write(text);
  };
  const pressed = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !isComposing(event)) send(event);
  };
  return html`<form class="composer" onSubmit=${send}>
    <textarea ref=${field} rows="1" aria-label=${t("chat.message")} placeholder=${t("chat.message.hint")}
      title=${t("chat.message.keys")} dir="auto"
      value=${text} onInput=${(event) => write(event.currentTarget.value)} onKeyDown=${pressed}></textarea>
    <div class="composer-row">
      <label class="inline"><input type="checkbox" checked=${task} onChange=${(event) => setTask(event.currentTarget.checked)} />
        ${t("chat.as_task")}</label>
      <label class="inline" title=${t(`chat.${policy}.hint`)}><span class="label">${t("chat.when_busy")}</span>
        <select value=${policy} onChange=${(event) => setPolicy(event.currentTarget.value)}>
          ${POLICIES.map((each) => html`<option key=${each} value=${each}>${t(`chat.${each}`)}</option>`)}
        </select>
      </label>
      <span class="composer-do">${running && html`<button type="button" disabled=${cancelling} onClick=${() => act.stop(running)}>
        <span class="square" aria-hidden="true"></span>${t(cancelling ? "chat.stopping" : "chat.stop")}</button>`}
      <button type="submit" class="primary" disabled=${!text.trim()}>${t("chat.send")}</button></span>
    </div>
  </form>`;
}
