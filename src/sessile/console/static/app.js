// The page: who is signed in, where it is, and what is around the views.
import { Api, Problem } from "./api.js";
import { language, onLanguage, setLanguage, t } from "./i18n.js";
import { Alert, Empty, Icon, Loading } from "./parts.js";
import { OpenSession } from "./session.js";
import { SessionHead } from "./head.js";
import { Sessions } from "./sessions.js";
import { Shelf } from "./shelf.js";
import { Replace, SignIn, SignOut, useMe, Who } from "./sign.js";
import { setTheme, theme, THEMES } from "./theme.js";
import { isToken, keep, kept, plain, taken } from "./token.js";
import { html, mount, useEffect, useErrorBoundary, useMemo, useReducer, useRef, useState } from "./ui.js";
import "./words/app.js";
import "./words/chat.js";

const ID = /^[\w-]{1,200}$/;
const VIEWS = {
  chat: () => import("./chat.js").then((module) => module.Chat),
  timeline: () => import("./timeline.js").then((module) => module.Timeline),
  tools: () => import("./tools.js").then((module) => module.Tools),
  health: () => import("./health.js").then((module) => module.Health),
};

/** Where the address says to be: `{view, session_id}`. */
function place() {
  const hash = location.hash.replace(/^#\/?/, "");
  if (hash === "health") return { view: "health", session_id: null };
  const [, given, view] = /^s\/([^/]+)(?:\/(timeline|tools))?$/.exec(hash) ?? [];
  if (!given) return { view: "list", session_id: null };
  const id = plain(given);
  // What no session is called is not asked for: a path with dots in it would be another path.
  return ID.test(id) ? { view: view ?? "chat", session_id: id } : { view: "missing", session_id: null };
}

/** Who is here already, or comes by a link; `offered`: the link's token, where both are. */
function arrival(held) {
  const given = taken();
  const token = [held, given].find(isToken) ?? "";
  keep(token);
  const refused = token === "" && (held || given) !== "";
  return { token, refused, offered: isToken(given) && given !== token ? given : "" };
}

function Page() {
  const [{ token, refused, offered }, set] = useState(() => arrival(kept()));
  const [, redraw] = useReducer((n) => n + 1, 0);
  useEffect(() => onLanguage(redraw), []);
  useEffect(() => {
    document.documentElement.lang = language();
  }, [language()]);
  const newest = useRef();
  newest.current = { token, offered };
  useEffect(() => {
    // A link with a token may be opened where the page is already.
    const moved = () => /^#token=/.test(location.hash) && set(arrival(newest.current.token));
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  const shelf = useRef(new Shelf());
  const enter = (given, why = false) => {
    if (!shelf.current.owner) shelf.current = new Shelf(); // whose it was is not known
    keep(given);
    set({ token: given, refused: why, offered: "" });
  };
  const leave = () => {
    shelf.current = new Shelf();
    enter("");
  };
  const api = useMemo(() => {
    return new Api(token, () => {
      if (newest.current.token === token) enter(newest.current.offered, true);
      // else it is a late answer to whoever was here before
    });
  }, [token]);
  const me = useMe(api);
  if (me) shelf.current = shelf.current.of(me);
  useEffect(() => {
    const ask = (event) => shelf.current.hasUnsent && event.preventDefault();
    addEventListener("beforeunload", ask);
    return () => removeEventListener("beforeunload", ask);
  }, []);
  if (!token) return html`<${SignIn} refused=${refused} enter=${enter} settings=${html`<${Settings} />`} />`;
  // What was not sent when a token ended waits until it is known whether its owner is back.
  if (shelf.current.owner && me === undefined) return html`<${Loading} />`;
  return html`<${Console} key=${token} api=${api} me=${me} shelf=${shelf.current} leave=${leave} />
    ${offered && html`<${Replace} me=${me} token=${offered} unsent=${shelf.current.hasUnsent}
      take=${() => enter(offered)} leave=${() => set((now) => ({ ...now, offered: "" }))} />`}`;
}

function Settings() {
  const [chosen, setChosen] = useState(theme);
  const next = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length];
  const change = () => {
    setTheme(next);
    setChosen(next);
  };
  const icon = { system: "system", light: "sun", dark: "moon" }[chosen];
  return html`
    <button type="button" class="quiet icon-button" aria-label=${t("app.theme")} title=${t(`app.theme.${chosen}`)}
      onClick=${change}><${Icon} name=${icon} /></button>
    <select class="quiet" aria-label=${t("app.language")} value=${language()}
      onChange=${(event) => setLanguage(event.currentTarget.value)}>
      <option value="en" lang="en">English</option>
      <option value="fr" lang="fr">Français</option>
    </select>`;
}

function Console({ api, me, shelf, leave }) {
  const [at, setAt] = useState(place);
  const [menu, setMenu] = useState(false);
  const [leaving, setLeaving] = useState(false);
  const figures = useRef(null); // of health, once it was looked at
  useEffect(() => {
    const moved = () => {
      setAt(place());
      setMenu(false);
    };
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  useEffect(() => {
    shelf.begin();
    return () => {
      shelf.stop();
      figures.current?.stop();
    };
  }, []);
  const open = useSession(api, at.session_id, shelf);
  const signOut = async () => {
    // What was given for a password ends here; another token is its owner's to keep.
    if (me?.signed_in_by === "token") await api.del("/v1/tokens/current").catch(() => {});
    leave();
  };
  const dismiss = (event) => event.key === "Escape" && setMenu(false);
  return html`<div class="page" data-view=${at.view} data-menu=${menu ? "open" : "closed"} onKeyDown=${dismiss}>
    <a class="skip" href="#main" onClick=${toMain}>${t("app.skip")}</a>
    <header class="top" role="banner">
      <button type="button" class="quiet icon-button only-narrow" aria-label=${t("app.menu")}
        aria-expanded=${menu} aria-controls="sessions" onClick=${() => setMenu(!menu)}><${Icon} name="menu" /></button>
      <a class="brand" href="#/"><span class="mark" aria-hidden="true"></span> Sessile</a>
      <span class="grow"></span>
      <a class="top-link" href="#/health" aria-current=${at.view === "health" ? "page" : null}>${t("app.health")}</a>
      <${Who} me=${me} />
      <${Settings} />
      <button type="button" class="quiet icon-button" aria-label=${t("app.sign_out")} title=${t("app.sign_out")}
        onClick=${() => (shelf.hasUnsent ? setLeaving(true) : signOut())}><${Icon} name="leave" /></button>
    </header>
    ${leaving && html`<${SignOut} leave=${signOut} stay=${() => setLeaving(false)} />`}
    <${Sessions} api=${api} session_id=${at.session_id} open=${open} />
    <div class="scrim" onClick=${() => setMenu(false)}></div>
    <main id="main" tabindex="-1">
      ${at.session_id && open
        ? html`<${Opened} key=${at.session_id} api=${api} me=${me} open=${open} view=${at.view} drafts=${shelf.drafts} />`
        : html`<${Elsewhere} api=${api} view=${at.view} figures=${figures} />`}
    </main>
  </div>`;
}

function toMain(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

/** The session that the address names, followed as long as it does; drawn again as it changes. */
function useSession(api, session_id, shelf) {
  const [, redraw] = useReducer((n) => n + 1, 0);
  const open = useMemo(() => {
    if (!session_id) return null;
    return new OpenSession(api, session_id, shelf.outbox(session_id));
  }, [api, session_id]);
  useEffect(() => {
    if (!open) return undefined;
    const deaf = open.listen(redraw);
    open.start();
    return () => {
      deaf();
      open.stop();
    };
  }, [open]);
  return open;
}

function Opened({ api, me, open, view, drafts }) {
  if (open.failed && !open.session) {
    return html`<div class="view"><${Alert} error=${open.failed} retry=${() => open.start()} /></div>`;
  }
  if (!open.session) return html`<div class="view"><${Loading} /></div>`;
  const { session, session_id } = open;
  const props = {
    chat: { api, me, open, drafts },
    timeline: { api, session_id, head: open.head, entry: open.entry, redactions: open.redactions },
    tools: { api, session_id, session: { ...session, head: open.head, grants: open.log.grants, assistant: open.log.assistant } },
  }[view];
  return html`
    <${SessionHead} api=${api} open=${open} view=${view} />
    <${View} key=${view} name=${view} props=${props} />`;
}

function Elsewhere({ api, view, figures }) {
  useEffect(() => {
    document.title = view === "health" ? `${t("app.health")} · Sessile` : "Sessile";
  });
  if (view === "health") return html`<${View} key="health" name="health" props=${{ api, kept: figures }} />`;
  if (view === "missing") return html`<div class="view"><${Alert} error=${new Problem(404, {})} /></div>`;
  return html`<div class="view"><${Empty} title=${t("app.welcome")} hint=${t("app.welcome.hint")} /></div>`;
}

const loaded = {};

/** A view, loaded when it is first shown. What it throws stays in it. */
function View({ name, props }) {
  const [, redraw] = useReducer((n) => n + 1, 0);
  const [missing, setMissing] = useState(null);
  const [broken, mend] = useErrorBoundary((error) => console.error(error));
  const load = () => {
    setMissing(null);
    VIEWS[name]().then(
      (component) => {
        loaded[name] = component;
        redraw();
      },
      setMissing,
    );
  };
  useEffect(() => {
    if (!loaded[name]) load();
  }, [name]);
  if (broken) return html`<div class="view"><${Alert} error=${broken} retry=${mend} /></div>`;
  // A module that could not be fetched stays so for the browser until the page is loaded again.
  if (missing) return html`<div class="view"><${Alert} error=${missing} retry=${() => location.reload()} /></div>`;
  const Shown = loaded[name];
  return Shown ? html`<${Shown} ...${props} />` : html`<div class="view"><${Loading} /></div>`;
}

mount(html`<${Page} />`);
