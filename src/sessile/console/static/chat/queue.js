// What waits behind the turn that runs.
import { t } from "../i18n.js";
import { useOnce } from "../parts.js";
import { html, useLayoutEffect, useRef, useState } from "../ui.js";
import { isComposing } from "./composer.js";

export function Queue({ queue, act }) {
  if (queue.length === 0) return null;
  return html`<section class="queue" aria-label=${t("chat.queue")}>
    <h2>${t("chat.queue")} <span class="count">${queue.length}</span></h2>
    <ol>${queue.map((turn) => html`<${Waiting} key=${turn.turn_id} turn=${turn} act=${act} />`)}</ol>
  </section>`;
}

function Waiting({ turn, act }) {
  const [editing, setEditing] = useState(false);
  const [busy, once] = useOnce();
  const { turn_id, input } = turn;
  const text = input?.text ?? input?.button ?? "";
  const save = async (changed) => {
    setEditing(false);
    if (changed !== text && changed.trim()) await act.edit(turn_id, { ...input, text: changed });
  };
  if (editing) return html`<li><${Edit} text=${text} save=${save} cancel=${() => setEditing(false)} /></li>`;
  return html`<li>
    <span class="queue-text" dir="auto">${text}</span>
    ${input?.type !== "button" && html`<button type="button" class="quiet small" onClick=${() => setEditing(true)}>${t("chat.edit")}</button>`}
    <button type="button" class="quiet small" disabled=${busy}
      onClick=${() => once(() => act.withdraw(turn_id))}>${t("chat.withdraw")}</button>
  </li>`;
}

function Edit({ text, save, cancel }) {
  const field = useRef();
  useLayoutEffect(() => {
    field.current.focus();
    field.current.setSelectionRange(text.length, text.length);
  }, []);
  const submit = (event) => {
    event?.preventDefault();
    save(field.current.value);
  };
  const pressed = (event) => {
    if (event.key === "Escape") cancel();
    if (event.key === "Enter" && !event.shiftKey && !isComposing(event)) submit(event);
  };
  return html`<form class="queue-edit" onSubmit=${submit}>
    <textarea ref=${field} rows="2" aria-label=${t("chat.edit")} defaultValue=${text} onKeyDown=${pressed}></textarea>
    <button type="submit" class="primary small">${t("chat.save")}</button>
    <button type="button" class="quiet small" onClick=${cancel}>${t("chat.cancel")}</button>
  </form>`;
}
