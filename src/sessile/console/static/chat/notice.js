// What happened to the session or to a turn, in a line.
import { t } from "../i18n.js";
import { html } from "../ui.js";

const REASONS = new Set(["asked", "displaced", "closed", "redacted"]);

export function Notice({ notice }) {
  const { what } = notice;
  const bad = what === "failed" || what === "interrupted";
  return html`<p class="notice" data-what=${what}>
    <span dir="auto">${words(notice)}</span>
    ${bad && notice.error?.retry && html` <span>${t("chat.notice.retry")}</span>`}
    ${what === "forked" && html` <a href=${`#/s/${notice.from_session_id}`}>${t("chat.notice.forked.open")}</a>`}
  </p>`;
}

function words({ what, error, reason, assistant, grant }) {
  switch (what) {
    case "failed":
      return t("chat.notice.failed", { why: error?.message ?? "" });
    case "cancelled":
    case "withdrawn":
      return t(`chat.notice.${what}`, { why: REASONS.has(reason) ? t(`chat.reason.${reason}`) : reason });
    case "interrupted":
      return t("chat.notice.interrupted", { why: reason });
    case "handed_off":
      return t("chat.notice.handed_off", { assistant });
    case "granted":
    case "revoked":
      return t(`chat.notice.${what}`, { grant });
    default:
      return t(`chat.notice.${what}`);
  }
}
