// Who is signed in, and how: by a user and a password, or by a token that one has.
import { Api, Offline, Problem } from "./api.js";
import { t } from "./i18n.js";
import { Dialog } from "./parts.js";
import { isSame } from "./shelf.js";
import { isToken } from "./token.js";
import { html, useEffect, useState } from "./ui.js";

const AGAIN_MS = 2_000;

/** `enter(token)` is called with what lets one in. */
export function SignIn({ refused, enter, settings }) {
  const [why, setWhy] = useState("");
  const [asking, setAsking] = useState(false);
  useEffect(() => void (refused && setWhy("sign.refused")), [refused]);
  useEffect(() => {
    document.title = `${t("sign.title")} · Sessile`;
  });
  const byPassword = async (event) => {
    event.preventDefault();
    const { user, password, tenant } = Object.fromEntries(new FormData(event.currentTarget));
    setAsking(true);
    setWhy("");
    try {
      const body = { user: user.trim(), password, ...(tenant.trim() && { tenant: tenant.trim() }) };
      enter((await new Api("").request("POST", "/v1/tokens", { body })).token);
    } catch (refusal) {
      setWhy(said(refusal));
      setAsking(false);
    }
  };
  const byToken = (event) => {
    event.preventDefault();
    const token = new FormData(event.currentTarget).get("token").trim();
    if (isToken(token)) enter(token);
    else setWhy("sign.refused");
  };
  const [before, file] = t("sign.hint").split("`sessile serve`");
  return html`<div class="sign-in">
    <header class="sign-top">${settings}</header>
    <main class="sign-card">
      <h1><span class="mark" aria-hidden="true"></span> Sessile</h1>
      ${why && html`<div class="alert" role="alert"><p>${t(why)}</p></div>`}
      <form aria-label=${t("sign.by_password")} onSubmit=${byPassword}>
        <label>${t("sign.user")}
          <input type="text" name="user" autocomplete="username" autocapitalize="none" spellcheck=${false} maxlength="200"
            required autofocus />
        </label>
        <label>${t("sign.password")}
          <input type="password" name="password" autocomplete="current-password" maxlength="1000" required />
        </label>
        <label>${t("sign.tenant")}
          <input type="text" name="tenant" autocomplete="organization" autocapitalize="none" spellcheck=${false} maxlength="200"
            placeholder=${t("sign.tenant.hint")} />
        </label>
        <button type="submit" class="primary" disabled=${asking}>${t("sign.in")}</button>
      </form>
      <form aria-label=${t("sign.by_token")} onSubmit=${byToken}>
        <label>${t("sign.token")}
          <input type="password" name="token" autocomplete="off" spellcheck=${false} required />
        </label>
        <button type="submit">${t("sign.by_token")}</button>
      </form>
      <p class="hint">${before}<code>sessile serve</code>${file}</p>
      <pre class="hint-code">awk '$4 == "admin" {print $1}' sessile-data/dev-tokens</pre>
      <p class="hint">${t("sign.kept")}</p>
    </main>
  </div>`;
}

/** As `GET /v1/me` tells it; undefined until it is known, null where it is not told. */
export function useMe(api) {
  const [told, setTold] = useState({ api: null });
  useEffect(() => {
    let timer = null;
    let gone = false;
    const ask = async () => {
      const me = await api.get("/v1/me").catch((error) => error);
      if (gone) return;
      if (me instanceof Offline || me.status >= 500) timer = setTimeout(ask, AGAIN_MS);
      else setTold({ api, me: me instanceof Error ? null : me });
    };
    if (api.token) ask();
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [api]);
  return told.api === api ? told.me : undefined;
}

/** Asks before a link's token takes the place of another user's. */
export function Replace({ me, token, unsent, take, leave }) {
  const [other, setOther] = useState(undefined);
  useEffect(() => {
    let gone = false;
    new Api(token).get("/v1/me").catch(() => null).then((told) => gone || setOther(told));
    return () => {
      gone = true;
    };
  }, [token]);
  const same = me && other && isSame(me, other);
  useEffect(() => void (same && take()), [same]);
  if (same || me === undefined || other === undefined) return null;
  const values = { user: other?.user_id, tenant: other?.tenant_id };
  return html`<${Dialog} label=${t("sign.replace")} close=${leave}>
    <p>${t(other ? "sign.replace.ask" : "sign.replace.unknown", values)} ${other && unsent && t("sign.unsent")}</p>
    <div class="row">
      ${other && html`<button type="button" class="danger" onClick=${take}><bdi>${t("sign.as", values)}</bdi></button>`}
      <button type="button" class="quiet" autofocus onClick=${leave}>${t("sign.stay")}</button>
    </div>
  <//>`;
}

export function SignOut({ leave, stay }) {
  return html`<${Dialog} label=${t("app.sign_out")} close=${stay}>
    <p>${t("sign.unsent")}</p>
    <div class="row">
      <button type="button" class="danger" onClick=${leave}>${t("app.sign_out")}</button>
      <button type="button" class="quiet" autofocus onClick=${stay}>${t("sign.stay")}</button>
    </div>
  <//>`;
}

export function Who({ me }) {
  if (!me) return null;
  const roles = me.roles.length ? ` (${me.roles.join(", ")})` : "";
  return html`<span class="who" title=${t("sign.who", { user: me.user_id, tenant: me.tenant_id }) + roles}>
    <bdi>${me.user_id}</bdi> <bdi class="who-tenant">${me.tenant_id}</bdi></span>`;
}

function said(refusal) {
  if (!(refusal instanceof Problem)) return "app.offline";
  if (refusal.status === 401 || refusal.status === 422) return "sign.wrong";
  return refusal.status === 429 ? "sign.too_often" : "app.refused.503";
}
