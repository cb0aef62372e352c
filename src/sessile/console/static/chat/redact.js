// Have what a message says removed, after it was asked whether that is meant.
import { t } from "../i18n.js";
import { Alert, Dialog, useOnce } from "../parts.js";
import { html, useState } from "../ui.js";

/** The session's owner may, and an admin: the server says the same. */
export function mayRedact(me, session) {
  return Boolean(me) && (me.user_id === session.user_id || me.roles.includes("admin"));
}

export function Redact({ api, path, message_id, close }) {
  const [error, setError] = useState(null);
  const [busy, once] = useOnce();
  const submit = (event) => {
    event.preventDefault();
    const reason = new FormData(event.currentTarget).get("reason").trim();
    return once(async () => {
      setError(null);
      try {
        await api.post(`${path}/messages/${encodeURIComponent(message_id)}/redact`, { reason });
        close(); // what is shown goes when the log says so
      } catch (refusal) {
        setError(refusal);
      }
    });
  };
  return html`<${Dialog} label=${t("chat.redact")} close=${close}>
    <form class="redact" onSubmit=${submit}>
      <p>${t("chat.redact.ask")}</p>
      <label>${t("chat.redact.reason")}
        <input type="text" name="reason" maxlength="40" pattern="[a-z0-9_.\\-]*" placeholder="personal_data"
          title=${t("chat.redact.code")} autocomplete="off" autocapitalize="none" spellcheck=${false} autofocus />
      </label>
      <p class="hint">${t("chat.redact.code")}</p>
      ${error?.code === "message_in_use"
        ? html`<div class="alert" role="alert"><p>${t("chat.redact.in_use")}</p></div>`
        : html`<${Alert} error=${error} />`}
      <div class="row">
        <button type="submit" class="danger" aria-busy=${busy}>${t("chat.redact.do")}</button>
        <button type="button" class="quiet" onClick=${close}>${t("chat.cancel")}</button>
      </div>
    </form>
  <//>`;
}
