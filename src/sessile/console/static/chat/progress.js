// How far a turn is.
import { t } from "../i18n.js";
import { html } from "../ui.js";

export function Progress({ turn }) {
  const { current_iteration, total_iterations, tokens_used, total_tokens, note } = turn;
  const open = total_iterations === 0;
  const iterations = open
    ? t("chat.iteration.open", { now: current_iteration })
    : t("chat.iteration", { now: current_iteration, all: total_iterations });
  const tokens = total_tokens === 0
    ? t("chat.tokens.open", { now: tokens_used })
    : t("chat.tokens", { now: tokens_used, all: total_tokens });
  const part = open ? null : Math.min(1, current_iteration / total_iterations);
  return html`<section class="progress" data-open=${open && turn.status === "running" ? "" : null}>
    <div role="progressbar" aria-label=${t("chat.progress")} aria-valuemin="0"
      aria-valuemax=${open ? null : total_iterations} aria-valuenow=${open ? null : current_iteration}
      aria-valuetext=${`${iterations}, ${tokens}`} class="bar"><span style=${{ width: `${(part ?? 0) * 100}%` }}></span></div>
    <p class="progress-words"><span>${iterations}</span><span>${tokens}</span>${note && html`<bdi>${note}</bdi>`}</p>
  </section>`;
}
