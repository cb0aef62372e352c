// Where to say something.
import { Problem } from "../api.js";
import { t } from "../i18n.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../ui.js";

const POLICIES = ["enqueue", "reject", "interrupt", "steer"];
const HEIGHT_PX_MAX = 240;
/** So many never fit, however wide it is. A browser takes seconds for a long text, at each key, to
 * measure it or to find its direction. */
const FITTING_CHARS_MAX = 4_000;
const RIGHT_TO_LEFT = /^\P{L}*[\p{sc=Hebrew}\p{sc=Arabic}\p{sc=Syriac}\p{sc=Thaana}\p{sc=Nko}]/u;

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
    if (field.current) fit(field.current, text);
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
  const pasted = ({ data, currentTarget }) => {
    if (data?.length > FITTING_CHARS_MAX) currentTarget.dir = direction(data); // before it is laid out
  };
  const pressed = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !isComposing(event)) send(event);
  };
  return html`<form class="composer" onSubmit=${send}>
    <textarea ref=${field} rows="1" aria-label=${t("chat.message")} placeholder=${t("chat.message.hint")}
      title=${t("chat.message.keys")} dir=${direction(text)}
      value=${text} onBeforeInput=${pasted} onInput=${(event) => write(event.currentTarget.value)} onKeyDown=${pressed}></textarea>
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

/** As high as its text, up to a height. */
function fit(field, text) {
  if (text.length > FITTING_CHARS_MAX) {
    field.style.height = `${HEIGHT_PX_MAX}px`;
    return;
  }
  field.style.height = "auto";
  field.style.height = `${Math.min(HEIGHT_PX_MAX, field.scrollHeight + 2)}px`;
}

/** Of a long text, that of its first letter. */
function direction(text) {
  if (text.length <= FITTING_CHARS_MAX) return "auto";
  return RIGHT_TO_LEFT.test(text.slice(0, FITTING_CHARS_MAX)) ? "rtl" : "ltr";
}
