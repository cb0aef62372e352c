// The list at the side, and the form that opens a session.
import { newKey } from "./api.js";
import { t, time } from "./i18n.js";
import { Alert, Icon, titleOf } from "./parts.js";
import { html, useEffect, useMemo, useRef, useState } from "./ui.js";

const REFRESH_MS = 15_000;
const PAGE = 50;

export function Sessions({ api, session_id, open }) {
  const list = useList(api);
  const [opening, setOpening] = useState(false);
  const opener = useRef();
  const close = () => {
    setOpening(false);
    opener.current.focus();
  };
  const items = withOpened(list.items, open);
  const several = new Set(items.map((each) => each.user_id)).size > 1;
  useEffect(() => {
    if (session_id && !list.items.some((each) => each.session_id === session_id)) list.refresh();
  }, [session_id]);
  return html`<aside id="sessions" class="side">
    <div class="side-top">
      <button ref=${opener} type="button" class="wide" aria-expanded=${opening} onClick=${() => setOpening(!opening)}>
        <${Icon} name="plus" /> ${t("app.new")}</button>
      ${opening && html`<${OpenForm} api=${api} close=${close} opened=${list.refresh} />`}
    </div>
    <nav aria-label=${t("app.sessions")} class="side-list">
      <${Alert} error=${list.error} retry=${list.refresh} />
      ${list.loading && html`<p class="loading">${t("app.loading")}</p>`}
      ${!list.loading && !list.error && items.length === 0 &&
        html`<div class="side-empty"><p>${t("app.empty")}</p><p>${t("app.empty.hint")}</p></div>`}
      <ul>${items.map((session) => html`<${Item} key=${session.session_id} session=${session} several=${several}
        current=${session.session_id === session_id} />`)}</ul>
      ${list.next && html`<button type="button" class="quiet wide" onClick=${list.more}>${t("app.more")}</button>`}
    </nav>
  </aside>`;
}

/** The opened one as its log has it, which is newer than the list. */
function withOpened(items, open) {
  if (!open?.session) return items;
  const { session, log } = open;
  const fresh = {
    ...session,
    title: log.title,
    assistant: log.assistant,
    running_turn_id: log.running,
    blocked_by: log.awaiting,
    status: log.closed ? "closed" : session.status,
  };
  return items.map((each) => (each.session_id === session.session_id ? fresh : each));
}

function Item({ session, current, several }) {
  const { session_id, user_id, assistant, created_at, status, running_turn_id, blocked_by } = session;
  const mark = blocked_by ? "awaiting" : running_turn_id ? "running" : status === "closed" ? "closed" : "";
  return html`<li>
    <a href=${`#/s/${session_id}`} aria-current=${current ? "page" : null} aria-describedby=${`about-${session_id}`}>
      <bdi class="side-title">${titleOf(session)}</bdi>
    </a>
    <span class="side-about" id=${`about-${session_id}`}>
      ${mark && html`<span class="dot" data-mark=${mark} title=${t(`app.${mark}`)} role="img" aria-label=${t(`app.${mark}`)}></span>`}
      <span class="side-who">${several && html`<bdi>${user_id}</bdi> · `}<bdi>${assistant}</bdi></span><time datetime=${created_at}>${time(created_at)}</time>
    </span>
  </li>`;
}

/** The newest sessions, asked for again now and then while the page is looked at. */
function useList(api) {
  const [state, setState] = useState({ items: [], next: null, loading: true, error: null });
  const pages = useRef(1);
  const actions = useMemo(() => {
    const read = async () => {
      try {
        const items = [];
        let next = null;
        for (let page = 0; page < pages.current; page += 1) {
          const before = next ? `&before=${next}` : "";
          const found = await api.get(`/v1/sessions?limit=${PAGE}${before}`);
          items.push(...found.items);
          next = found.next;
          if (!next) break;
        }
        setState({ items, next, loading: false, error: null });
      } catch (error) {
        // What is shown already stays: the connection's state is told elsewhere.
        setState((old) => ({ ...old, loading: false, error: old.items.length ? null : error }));
      }
    };
    const more = () => {
      pages.current += 1;
      read();
    };
    return { refresh: read, more };
  }, [api]);
  useEffect(() => {
    const look = () => document.visibilityState === "visible" && actions.refresh();
    look();
    const timer = setInterval(look, REFRESH_MS);
    addEventListener("focus", look);
    addEventListener("online", look);
    return () => {
      clearInterval(timer);
      removeEventListener("focus", look);
      removeEventListener("online", look);
    };
  }, [actions]);
  return { ...state, ...actions };
}

function OpenForm({ api, close, opened }) {
  const [assistants, setAssistants] = useState(null);
  const [chosen, setChosen] = useState("");
  const [title, setTitle] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const first = useRef();
  // One key for the form: a second try at opening finds what the first has opened.
  const key = useMemo(newKey, [chosen, title]);
  const load = async () => {
    setError(null);
    try {
      const { items } = await api.get("/v1/assistants");
      setAssistants(items);
      setChosen((items.find((each) => each.is_default) ?? items[0]).name);
    } catch (refusal) {
      setError(refusal);
    }
  };
  useEffect(() => {
    load();
  }, []);
  useEffect(() => first.current?.focus(), [assistants]);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const body = { assistant: chosen, ...(title.trim() ? { title: title.trim() } : {}) };
      const session = await api.post("/v1/sessions", body, { key });
      close();
      opened();
      location.hash = `#/s/${session.session_id}`;
    } catch (refusal) {
      setError(refusal);
      setBusy(false);
    }
  };
  const about = assistants?.find((each) => each.name === chosen)?.description;
  return html`<form class="open-form" onSubmit=${submit} onKeyDown=${(event) => event.key === "Escape" && close()}>
    <label>${t("app.assistant")}
      <select ref=${first} value=${chosen} disabled=${!assistants} onChange=${(event) => setChosen(event.currentTarget.value)}>
        ${assistants?.map(({ name, is_default }) => html`<option key=${name} value=${name}>
          ${is_default ? t("app.default", { name }) : name}</option>`)}
      </select>
    </label>
    ${about && html`<p class="hint">${about}</p>`}
    <label>${t("app.title")}
      <input type="text" maxlength="200" placeholder=${t("app.title.hint")} value=${title}
        onInput=${(event) => setTitle(event.currentTarget.value)} />
    </label>
    <${Alert} error=${error} retry=${assistants ? null : load} />
    <div class="row">
      <button type="submit" class="primary" disabled=${!assistants || busy}>${t("app.open")}</button>
      <button type="button" class="quiet" onClick=${close}>${t("app.cancel")}</button>
    </div>
  </form>`;
}
