// Small pieces that several views use: icons, errors, empty states.
import { Offline, Problem } from "./api.js";
import { t } from "./i18n.js";
import { html, useLayoutEffect, useRef, useState } from "./ui.js";

const PATHS = {
  plus: "M8 3v10M3 8h10",
  menu: "M2 4h12M2 8h12M2 12h12",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6ZM8 1v2M8 13v2M1 8h2M13 8h2M3 3l1.4 1.4M11.6 11.6 13 13M3 13l1.4-1.4M11.6 4.4 13 3",
  moon: "M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7Z",
  system: "M2 3h12v8H2zM6 14h4M8 11v3",
  leave: "M9 3H3v10h6M7 8h7M11.5 5.5 14 8l-2.5 2.5",
  down: "M8 3v10M4 9l4 4 4-4",
  tool: "M10 2a4 4 0 0 0-3.6 5.6L2 12l2 2 4.4-4.4A4 4 0 0 0 14 6l-2.3 2.3-2-2L12 4",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
}

/** What went wrong, and what to do: `[what, hint]`. */
export function explained(error) {
  if (error instanceof Offline) return [t("app.offline"), t("app.offline.hint")];
  if (!(error instanceof Problem)) return [t("app.broken", { why: String(error?.message ?? error) }), ""];
  const why = error.errors[0]?.message || error.message;
  if (error.status >= 500 && error.status !== 503) {
    return [t("app.failed", { why, code: error.code || String(error.status) }), t("app.failed.hint")];
  }
  switch (error.status) {
    case 404:
      return [t("app.refused.404"), t("app.refused.404.hint")];
    case 401:
    case 403:
    case 409:
    case 429:
    case 503:
      return [t(`app.refused.${error.status}`, { why }), ""];
    default:
      return [t("app.refused", { why }), ""];
  }
}

/** `[busy, once]`: `once(what)` does what takes a while, unless it is still at it: a second click
 * is not a second request. */
export function useOnce() {
  const [busy, setBusy] = useState(false);
  const running = useRef(false);
  const once = async (what) => {
    if (running.current) return;
    running.current = true;
    setBusy(true);
    try {
      await what();
    } finally {
      running.current = false;
      setBusy(false);
    }
  };
  return [busy, once];
}

/** An error with what to do next. `retry`: called by its button, where there is one. */
export function Alert({ error, retry, dismiss }) {
  if (!error) return null;
  const [what, hint] = explained(error);
  return html`<div class="alert" role="alert">
    <p><strong>${what}</strong> ${hint}</p>
    ${retry && html`<button type="button" onClick=${retry}>${t("app.retry")}</button>`}
    ${dismiss && html`<button type="button" class="quiet" aria-label=${t("app.cancel")} onClick=${dismiss}>×</button>`}
  </div>`;
}

/** Open for as long as it is drawn. `close`: called where a person dismisses it. */
export function Dialog({ label, close, children }) {
  const dialog = useRef();
  useLayoutEffect(() => {
    const { current } = dialog;
    current.addEventListener("close", close);
    current.showModal();
    return () => {
      current.removeEventListener("close", close);
      current.close(); // gives the focus back
    };
  }, []);
  return html`<dialog ref=${dialog} aria-label=${label}><h2>${label}</h2>${children}</dialog>`;
}

export function Empty({ title, hint, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p><p>${hint}</p>${children}</div>`;
}

export function Loading() {
  return html`<p class="loading" aria-busy="true">${t("app.loading")}</p>`;
}

/** A session's title as it is shown. */
export function titleOf(session) {
  return session.title || t("app.untitled", { id: session.session_id.slice(-6) });
}
