// The timeline: a session's log, a row an entry, of any length.

import { t } from "./i18n.js";
import { Entry } from "./timeline/entry.js";
import { Grid } from "./timeline/grid.js";
import { BLOCK, Pages } from "./timeline/pages.js";
import { curlOf, oneLine } from "./timeline/rows.js";
import { STANDS_OUT, Scan, WITHOUT_DELTAS } from "./timeline/scan.js";
import { read, total } from "./metrics.js";
import { Alert } from "./parts.js";
import { html, useCallback, useEffect, useMemo, useRef, useState } from "./ui.js";
import { copied, style } from "./view.js";
import "./words/timeline.js";

style("timeline.css");

const TURN_PAGES_MAX = 10;
const TURN_TEXT_CHARS = 40;
const REFUSED_SECONDS = 10;
const REFUSALS = "sessile_fence_refusals_total";
const KINDS = {
  session: ["opened", "updated", "forked", "handed_off", "granted", "revoked", "summarized",
    "redacted", "closed"],
  turn: ["queued", "edited", "started", "steered", "progress", "awaiting", "cancel_requested",
    "completed", "failed", "cancelled", "interrupted"],
  message: ["added", "delta", "reset"],
  tool: ["started", "completed", "failed", "interrupted", "refused"],
  approval: ["requested", "granted", "denied"],
  intent: ["decided"],
  button: ["offered", "pressed"],
  log: ["compacted"],
};

/** `head`: how many entries there are now; `entry`: the last of them; `redactions`: how often what
 * was read before was voided since. */
export function Timeline({ api, session_id, head, entry, redactions }) {
  const log = useLog(api, session_id, head, entry, redactions);
  const [filter, setFilter] = useState({ turn: "", kind: "" });
  const [follow, setFollow] = useState(true);
  const [open, setOpen] = useState(null);
  const scan = useScan(log, filter, head);
  const turns = useTurns(api, session_id, entry, redactions);
  const rows = scan
    ? { count: scan.rows.length, at: (index) => scan.rows[index] }
    : { count: head, at: (index) => log.pages.row(index + 1) };
  const wanted = useCallback(
    (first, last) => {
      if (!scan) log.pages.want(seqs(first, last));
    },
    [scan, log.pages],
  );
  useEffect(() => setOpen(null), [session_id]);
  const error = scan?.error ?? log.pages.error;
  const retry = () => (scan?.error ? scan.run() : log.pages.retry());
  const range = open
    ? { after: open.seq - 1, limit: 1 }
    : { after: Math.max(0, head - BLOCK), limit: BLOCK };
  return html`<section class="tl" aria-label=${t("timeline.title")}>
    <${Toolbar} ...${{ filter, setFilter, follow, setFollow, turns }}
      curl=${curlOf(location.origin, session_id, range)} />
    <p class="tl-told">
      <span>${told(scan, head)}</span>
      <${Refused} api=${api} />
    </p>
    ${log.anew && html`<p role="alert" class="tl-warning">${t("timeline.reset")}</p>`}
    <${Alert} ...${{ error, retry }} />
    <div class="tl-body">
      <${Grid} ...${{ rows, follow, setFollow, open, wanted }} onOpen=${setOpen}
        list=${scan ?? log.pages} empty=${scan ? "timeline.none" : "timeline.empty"}
        searching=${scan !== null && scan.upto < head && !scan.full} />
      ${open && html`<${Entry} key=${`${redactions} ${open.seq}`} ...${{ api, session_id }} row=${open}
        onClose=${() => setOpen(null)} />`}
    </div>
  </section>`;
}

function seqs(first, last) {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i + 1);
}

function told(scan, head) {
  if (!scan) return t("timeline.entries", { count: head });
  const count = scan.rows.length;
  if (scan.full) return t("timeline.full", { count });
  if (scan.upto >= head) return t("timeline.found", { count, total: head });
  return t("timeline.searching", { count, share: Math.floor((100 * scan.upto) / head) });
}

/** The log's pages, grown to the head before they are shown; `anew`: it was once set back. */
function useLog(api, session_id, head, entry, redactions) {
  const [, redraw] = useState(0);
  const log = useMemo(() => {
    const read = (after, limit) => api.get(eventsPath(session_id, after, limit));
    return { pages: new Pages(read, () => redraw((n) => n + 1)), redraw, anew: false, redactions };
  }, [api, session_id]);
  if (redactions !== log.redactions) {
    log.redactions = redactions;
    log.pages.forget();
    log.pages.retry();
  }
  if (head !== log.pages.head) log.anew = log.pages.grow(head, entry) || log.anew;
  return log;
}

function eventsPath(session_id, after, limit) {
  return `/v1/sessions/${encodeURIComponent(session_id)}/events?after=${after}&limit=${limit}`;
}

/** What goes through the log for a filter; null where there is none. */
function useScan({ pages, redraw }, { turn, kind }, head) {
  const scan = useMemo(
    () => (turn || kind ? new Scan(pages, { turn, kind }, () => redraw((n) => n + 1)) : null),
    [pages, pages.era, turn, kind],
  );
  useEffect(() => () => scan?.stop(), [scan]);
  useEffect(() => void scan?.run(), [scan, head]);
  return scan;
}

/** The session's turns, read again when there is one more. */
function useTurns(api, session_id, entry, redactions) {
  const [turns, setTurns] = useState([]);
  const queued = entry?.kind === "turn.queued" ? entry.seq : 0;
  const newest = useRef(0);
  newest.current = Math.max(newest.current, queued);
  useEffect(() => {
    let left = false;
    readTurns(api, session_id).then(
      (found) => left || setTurns(found),
      () => {}, // the log's own reading says what is wrong
    );
    return () => (left = true);
  }, [api, session_id, newest.current, redactions]);
  return turns;
}

async function readTurns(api, session_id) {
  const found = [];
  let after = 0;
  for (let page = 0; page < TURN_PAGES_MAX && after !== null; page++) {
    const path = `/v1/sessions/${encodeURIComponent(session_id)}/turns?limit=200&after=${after}`;
    const { items, next } = await api.get(path);
    found.push(...items);
    after = next;
  }
  return found;
}

function Toolbar({ filter, setFilter, follow, setFollow, turns, curl }) {
  const [copy, setCopy] = useState(null);
  const onCopy = async () => setCopy((await copied(curl)) ? "copied" : curl);
  useEffect(() => setCopy(null), [curl]);
  return html`<div class="tl-bar">
    <span><label for="tl-turn">${t("timeline.turn")}</label>
      <select id="tl-turn" value=${filter.turn}
        onChange=${(e) => setFilter({ ...filter, turn: e.currentTarget.value })}>
        <option value="">${t("timeline.all_turns")}</option>
        ${turns.map((turn) => html`<option key=${turn.turn_id} value=${turn.turn_id}>
          ${turnName(turn)}
        </option>`)}
      </select>
    </span>
    <span><label for="tl-kind">${t("timeline.kind")}</label>
      <select id="tl-kind" value=${filter.kind}
        onChange=${(e) => setFilter({ ...filter, kind: e.currentTarget.value })}>
        <${KindOptions} />
      </select>
    </span>
    <label class="tl-check">
      <input type="checkbox" checked=${follow}
        onChange=${(e) => setFollow(e.currentTarget.checked)} />
      ${t("timeline.follow")}
    </label>
    <button type="button" onClick=${onCopy}>${t("timeline.curl")}</button>
    <span class="tl-copied" aria-live="polite">${copy === "copied" && t("timeline.copied")}</span>
    ${copy && copy !== "copied" && html`<p class="tl-by-hand" role="alert">
      ${t("timeline.copy_failed")} <code>${copy}</code>
    </p>`}
  </div>`;
}

function KindOptions() {
  return html`
    <option value="">${t("timeline.all_kinds")}</option>
    <option value=${STANDS_OUT}>${t("timeline.stands_out")}</option>
    <option value=${WITHOUT_DELTAS}>${t("timeline.without_deltas")}</option>
    ${Object.entries(KINDS).map(([group, kinds]) => html`<optgroup key=${group} label=${group}>
      ${kinds.length > 1 && html`<option value=${`${group}.`}>
        ${t("timeline.group", { group: `${group}.*` })}
      </option>`}
      ${kinds.map((kind) => html`<option key=${kind} value=${`${group}.${kind}`}>
        ${group}.${kind}
      </option>`)}
    </optgroup>`)}`;
}

function turnName({ position, turn_id, status, input }) {
  const text = oneLine(input.text ?? input.button ?? "", TURN_TEXT_CHARS);
  return `#${position} ${turn_id.slice(-8)} ${status} ${text}`;
}

/** Late writes that the store refused this node: in no log, since they were refused. */
function Refused({ api }) {
  const [count, setCount] = useState(null);
  useEffect(() => {
    let timer = null;
    let left = false;
    const look = async () => {
      try {
        const found = document.hidden ? undefined : total(await read(api), REFUSALS);
        if (!left && found !== undefined) setCount(found);
      } catch {
        if (!left) setCount(null);
      }
      if (!left) timer = setTimeout(look, REFUSED_SECONDS * 1000);
    };
    look();
    return () => {
      left = true;
      clearTimeout(timer);
    };
  }, [api]);
  if (count === null) return null;
  const tone = count ? "tl-warning" : "";
  return html`<span class=${tone}>${t("timeline.refused", { count: count })}</span>`;
}
