// Above the views of a session: what it is called, how it is, and what can be done with it.
import { t } from "./i18n.js";
import { Alert, titleOf } from "./parts.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./ui.js";

const VIEWS = ["chat", "timeline", "tools"];

export function SessionHead({ api, open, view }) {
  const { session_id, path, log } = open;
  const [error, setError] = useState(null);
  const [naming, setNaming] = useState(false);
  const asking = useRef();
  const renaming = useRef();
  const title = titleOf({ session_id, title: log.title });
  useEffect(() => {
    document.title = `${title} · Sessile`;
  }, [title]);
  const attempt = async (what) => {
    setError(null);
    try {
      await what();
    } catch (refusal) {
      setError(refusal);
    }
  };
  const close = () => {
    asking.current.close();
    attempt(() => api.post(`${path}/close`, {}));
  };
  const named = () => {
    setNaming(false);
    setTimeout(() => renaming.current?.focus());
  };
  const rename = (name) => {
    named();
    attempt(() => api.patch(path, { title: name || null }));
  };
  const save = () => attempt(async () => download(await api.text(`${path}/export`), `${session_id}.jsonl`));
  return html`<header class="head" role="group" aria-label=${title}>
    <div class="head-row">
      ${naming
        ? html`<${NameForm} name=${log.title ?? ""} save=${rename} cancel=${named} />`
        : html`<h1><bdi>${title}</bdi></h1><bdi class="chip">${log.assistant}</bdi>`}
      <${State} open=${open} />
      <span class="grow"></span>
      ${!naming && html`<button ref=${renaming} type="button" class="quiet"
        onClick=${() => setNaming(true)}>${t("chat.rename")}</button>`}
      <button type="button" class="quiet" onClick=${save}>${t("chat.export")}</button>
      ${!log.closed && html`<button type="button" class="quiet" onClick=${() => asking.current.showModal()}>${t("chat.close")}</button>`}
    </div>
    <nav class="tabs" aria-label=${t("app.views")}>
      ${VIEWS.map((name) => html`<a key=${name} href=${`#/s/${session_id}${name === "chat" ? "" : `/${name}`}`}
        aria-current=${name === view ? "page" : null}>${t(`app.${name}`)}</a>`)}
    </nav>
    <${Alert} error=${error} dismiss=${() => setError(null)} />
    <dialog ref=${asking} aria-label=${t("chat.close")}>
      <p>${t("chat.close.ask")}</p>
      <div class="row">
        <button type="button" class="danger" onClick=${close}>${t("chat.close")}</button>
        <button type="button" class="quiet" onClick=${() => asking.current.close()}>${t("chat.cancel")}</button>
      </div>
    </dialog>
  </header>`;
}

function State({ open }) {
  const { connection, ended, log } = open;
  const words = connection === "ended" && ended !== "closed" ? "gone" : connection;
  return html`<span class="state" role="status" data-state=${log.closed ? "ended" : connection}>
    <span class="state-dot" aria-hidden="true"></span>${t(log.closed ? "app.ended" : `app.${words}`)}</span>`;
}

function NameForm({ name, save, cancel }) {
  const field = useRef();
  useLayoutEffect(() => field.current.select(), []);
  const submit = (event) => {
    event.preventDefault();
    save(field.current.value.trim());
  };
  return html`<form class="name-form" onSubmit=${submit} onKeyDown=${(event) => event.key === "Escape" && cancel()}>
    <input ref=${field} type="text" aria-label=${t("chat.title")} maxlength="200" defaultValue=${name} />
    <button type="submit" class="primary">${t("chat.save")}</button>
    <button type="button" class="quiet" onClick=${cancel}>${t("chat.cancel")}</button>
  </form>`;
}

function download(text, name) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/jsonl" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
