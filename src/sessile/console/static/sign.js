// Who is signed in, and how: by a user and a password, or by a token that one has.
import { Api, Problem } from "./api.js";
import { t } from "./i18n.js";
import { html, useEffect, useState } from "./ui.js";

/** `enter(token)` is called with what lets one in. */
export function SignIn({ refused, enter, settings }) {
  const [why, setWhy] = useState(refused ? "sign.refused" : "");
  const [asking, setAsking] = useState(false);
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
    if (token) enter(token);
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

/** As `GET /v1/me` tells it; null until it is known. */
export function useMe(api) {
  const [me, setMe] = useState(null);
  useEffect(() => {
    let gone = false;
    api.get("/v1/me").then((told) => gone || setMe(told), () => {});
    return () => {
      gone = true;
    };
  }, [api]);
  return me;
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
