// What the session's assistant may use and why not, and what it would be given now.

import { number, t } from "./i18n.js";
import { Alert, Loading } from "./parts.js";
import { html, useEffect, useMemo, useState } from "./ui.js";
import { style } from "./view.js";
import "./words/tools.js";

style("tools.css");

const SETTLE_MILLISECONDS = 400;
/** How long the log is still before all is read again: not at each entry of a turn. */

export function Tools({ api, session_id, session }) {
  const path = `/v1/sessions/${encodeURIComponent(session_id)}`;
  const { found, error, read } = useFound(api, path, session);
  if (!found) {
    return html`<div class="tools">
      ${error ? html`<${Alert} error=${error} retry=${read} />` : html`<${Loading} />`}
    </div>`;
  }
  return html`<div class="tools" role="group" tabindex="0" aria-label=${t("tools.title")}>
    <${Alert} error=${error} retry=${read} />
    <${Verdicts} ...${{ api, path, found, read }} />
    <${Context} ...${found} />
  </div>`;
}

/** What is shown, read again when the log has grown and is still. */
function useFound(api, path, session) {
  const [state, setState] = useState({ found: null, error: null });
  const reader = useMemo(() => {
    let last = 0; // an answer that a later question has overtaken is dropped
    const read = async () => {
      const mine = ++last;
      try {
        const found = await readAll(api, path);
        if (mine === last) setState({ found, error: null });
      } catch (error) {
        if (mine === last) setState((before) => ({ ...before, error }));
      }
    };
    return { read, leave: () => (last = -1), begun: false };
  }, [api, path]);
  useEffect(() => reader.leave, [reader]);
  const { head, assistant, grants, status } = session;
  useEffect(() => {
    const timer = setTimeout(reader.read, reader.begun ? SETTLE_MILLISECONDS : 0);
    reader.begun = true;
    return () => clearTimeout(timer);
  }, [reader, head, assistant, String(grants), status]);
  return { ...state, read: reader.read };
}

async function readAll(api, path) {
  const [session, tools, context] = await Promise.all([
    api.get(path),
    api.get(`${path}/tools`),
    api.get(`${path}/context`),
  ]);
  const seq = context.last_summary_seq;
  let summary = null;
  if (seq !== null) {
    const page = await api.get(`${path}/events?after=${seq - 1}&limit=1`);
    summary = page.items.find((item) => item.seq === seq) ?? null;
  }
  return { session, tools: tools.items, context, summary };
}

function Verdicts({ api, path, found, read }) {
  const { session, tools } = found;
  const [busy, setBusy] = useState(false);
  const [said, setSaid] = useState({ done: "", error: null });
  const closed = session.status === "closed";
  const named = new Set(tools.map(({ grant }) => grant));
  const other = session.grants.filter((grant) => !named.has(grant));
  const set = async (grant, given) => {
    if (busy) return;
    setBusy(true);
    setSaid({ done: "", error: null });
    try {
      // Of what it has now, not of what is shown: another may have changed it meanwhile.
      const { grants } = await api.get(path);
      const rest = grants.filter((each) => each !== grant);
      await api.put(`${path}/grants`, { grants: given ? [...rest, grant] : rest });
      await read();
      setSaid({ done: t(given ? "tools.granted" : "tools.revoked", { grant }), error: null });
    } catch (error) {
      setSaid({ done: "", error });
    } finally {
      setBusy(false);
    }
  };
  const change = (grant) => html`<${Change} ...${{ grant, set }} held=${session.grants.includes(grant)}
    disabled=${closed} busy=${busy} />`;
  return html`<section class="tools-card">
    <h2 id="tools-title">${t("tools.title")}</h2>
    <${Alert} error=${said.error} dismiss=${() => setSaid({ done: "", error: null })} />
    <p aria-live="polite" class="tools-muted">${said.done || (closed && t("tools.closed"))}</p>
    ${tools.length === 0
      ? html`<p class="tools-muted">${t("tools.empty", { assistant: session.assistant })}</p>`
      : html`<div class="tools-wide"><table aria-labelledby="tools-title">
        <thead><tr>
          ${["tool", "verdict", "reason", "change"].map((name) => html`<th scope="col" key=${name}>
            ${t(`tools.${name}`)}
          </th>`)}
        </tr></thead>
        <tbody>${tools.map(({ tool, status, reason, grant }, index) => html`<tr key=${tool}
          data-tool=${tool}>
          <th scope="row"><bdi>${tool}</bdi></th>
          <td><span class=${`tools-verdict tools-is-${status}`}>${t(`tools.${status}`)}</span></td>
          <td><bdi>${reason}</bdi></td>
          <td>${grant !== null && (tools.findIndex((each) => each.grant === grant) === index
            ? change(grant)
            : html`<code>${grant}</code>`)}</td>
        </tr>`)}</tbody>
      </table></div>`}
    ${other.length > 0 && html`<h3>${t("tools.other")}</h3>
      <p class="tools-other">${other.map((grant) => html`<span key=${grant}>${change(grant)}</span>`)}</p>`}
  </section>`;
}

/** Not disabled while it is busy: it would lose the focus. */
function Change({ grant, held, set, disabled, busy }) {
  const name = t(held ? "tools.revoke" : "tools.grant", { grant });
  return html`<button type="button" class="small" disabled=${disabled} aria-busy=${busy}
    onClick=${() => set(grant, !held)}>
    <bdi>${name}</bdi>
  </button>`;
}

function Context({ context, summary }) {
  const most = context.history_entries_max;
  return html`<section class="tools-card" aria-label=${t("tools.context")}>
    <h2>${t("tools.context")}</h2>
    <dl>
      <div><dt>${t("tools.assistant")}</dt><dd><bdi>${context.assistant}</bdi></dd></div>
      <div>
        <dt>${t("tools.messages")}</dt>
        <dd>
          ${t("tools.of_most", { count: context.messages, most })}
          <meter min="0" max=${most} value=${Math.min(context.messages, most)}
            aria-label=${t("tools.messages")}></meter>
        </dd>
      </div>
      <div><dt>${t("tools.tokens")}</dt><dd>${number(context.tokens_estimated)}</dd></div>
      <div><dt>${t("tools.characters")}</dt><dd>${number(context.characters)}</dd></div>
    </dl>
    <h3>${t("tools.summary")}</h3>
    ${summary === null
      ? html`<p class="tools-muted">${t("tools.no_summary")}</p>`
      : html`<p class="tools-muted">${t("tools.summary_at", {
        seq: String(summary.seq), upto: String(summary.body.upto_seq),
      })}</p>
      <blockquote><bdi>${summary.body.summary}</bdi></blockquote>`}
  </section>`;
}
