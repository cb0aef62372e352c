// One entry as it is: raw JSON, read from the log when it is opened.

import { t } from "../i18n.js";
import { Alert, Loading } from "../parts.js";
import { html, useEffect, useState } from "../ui.js";
import { copied } from "../view.js";
import { rawJson } from "./rows.js";

const SHOWN_CHARS_MAX = 100_000;

export function Entry({ api, session_id, row, onClose }) {
  const [found, setFound] = useState({ text: null, error: null });
  const [copy, setCopy] = useState(null);
  const read = () => readEntry(api, session_id, row.seq).then(
    (text) => setFound({ text, error: null }),
    (error) => setFound({ text: null, error }),
  );
  useEffect(() => void read(), []);
  const { text, error } = found;
  const onKeyDown = (event) => event.key === "Escape" && onClose();
  const onCopy = async () => setCopy(await copied(text));
  const name = t("timeline.entry", { seq: String(row.seq) });
  return html`<section class="tl-detail" role="region" aria-label=${name}
    onKeyDown=${onKeyDown}>
    <header>
      <h2>${name}</h2>
      <button type="button" onClick=${onCopy} disabled=${text === null}>
        ${copy ? t("timeline.copied") : t("timeline.copy_json")}
      </button>
      <button type="button" onClick=${onClose}>${t("timeline.close")}</button>
    </header>
    ${row.fenced && html`<p class="tl-muted">
      ${t("timeline.attempt_long")} ${row.attempt} · ${row.fenced.node} · fence ${row.fenced.fence}
    </p>`}
    ${row.note && html`<p>${t(row.note.key, row.note.values)}</p>`}
    ${copy === false && html`<p role="alert">${t("timeline.copy_failed")}</p>`}
    <${Alert} error=${error} retry=${read} />
    ${text === null && !error && html`<${Loading} />`}
    ${text !== null && html`<pre tabindex="0"><bdi>${text.slice(0, SHOWN_CHARS_MAX)}</bdi></pre>`}
    ${text !== null && text.length > SHOWN_CHARS_MAX && html`<p class="tl-muted">
      ${t("timeline.cut", { count: SHOWN_CHARS_MAX, total: text.length })}
    </p>`}
  </section>`;
}

/** Of a seq that no entry has, what is read is what the log has in its place: nothing. */
async function readEntry(api, session_id, seq) {
  const at = `/v1/sessions/${encodeURIComponent(session_id)}`;
  const { items } = await api.get(`${at}/events?after=${seq - 1}&limit=1`);
  return rawJson(items.find((item) => item.seq === seq) ?? null);
}
