// The rows in sight, of as many as there are.

import { locale, t } from "../i18n.js";
import { html, useEffect, useRef, useState } from "../ui.js";
import { atEnd, heightOf, scrollTo, windowOf } from "./window.js";

const COLUMNS = ["seq", "time", "turn_short", "attempt", "kind", "what", "node"];
const HEAD_PX = 32;
const UNDONE_PX = 4;

/**
 * `rows`: `{count, at(index) -> row | null}`; `list`: what they come from, another one after each
 * change of the filter; `wanted(first, last)` is told which indexes are in sight.
 */
export function Grid({ rows, list, follow, setFollow, open, onOpen, wanted, empty, searching }) {
  const grid = useRef(null);
  const last = useRef(0);
  const [view, setView] = useState({ scrollTop: 0, height: 400 });
  const [active, setActive] = useState(-1);
  const { count } = rows;
  const sight = { ...view, count };
  const shown = windowOf(sight);

  useEffect(() => watched(grid.current, setView), []);
  useEffect(() => {
    last.current = 0;
    setActive(-1);
  }, [list]);
  useEffect(() => {
    if (follow && grid.current) grid.current.scrollTop = grid.current.scrollHeight;
  }, [follow, count, view.height, list]);
  useEffect(() => wanted(shown.first, shown.last), [wanted, shown.first, shown.last, count]);

  const onScroll = () => {
    const { scrollTop } = grid.current;
    const up = scrollTop < last.current - UNDONE_PX;
    last.current = scrollTop;
    if (up && follow && !atEnd({ ...sight, scrollTop })) setFollow(false);
    setView((before) => ({ ...before, scrollTop }));
  };
  const go = (index) => {
    const to = Math.max(0, Math.min(count - 1, index));
    const top = scrollTo({ ...sight, scrollTop: grid.current.scrollTop, index: to });
    if (to < count - 1 && follow) setFollow(false);
    grid.current.focus({ preventScroll: true });
    grid.current.scrollTop = top;
    setActive(to);
  };
  const onKeyDown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const from = active < 0 ? (follow ? count - 1 : shown.first) : active;
    const to = moved(event.key, from, active < 0, Math.floor(view.height / 28) - 1, count);
    if (to !== null) {
      event.preventDefault();
      go(to);
    } else if (event.key === "Enter" && active >= 0 && rows.at(active)) {
      event.preventDefault();
      onOpen(rows.at(active));
    } else if (event.key === "Escape" && open) {
      onOpen(null);
    }
  };
  const items = [];
  for (let i = shown.first; i <= shown.last; i++) {
    items.push(html`<${Row} key=${i} index=${i} row=${rows.at(i)} active=${i === active}
      open=${open !== null && rows.at(i)?.seq === open.seq} onFocus=${() => setActive(i)}
      onOpen=${(row) => { setActive(i); onOpen(row); }} />`);
  }
  const here = active >= shown.first && active <= shown.last ? `tl-row-${active}` : undefined;
  return html`<div class="tl-grid" role="grid" tabindex="0" ref=${grid}
    aria-label=${t("timeline.title")} aria-rowcount=${count} aria-colcount=${COLUMNS.length}
    aria-busy=${searching} aria-activedescendant=${here} onScroll=${onScroll}
    onKeyDown=${onKeyDown}>
    <${Heading} />
    <div role="rowgroup" class="tl-rows" style=${{ height: `${heightOf(count)}px` }}>
      <div role="presentation" style=${{ transform: `translateY(${shown.offset}px)` }}>${items}</div>
    </div>
    ${count === 0 && html`<p class="tl-empty" role="presentation">
      ${t(searching ? "timeline.loading" : empty)}
    </p>`}
  </div>`;
}

/** Tell of a view's size now and whenever it changes. */
function watched(element, setView) {
  const observer = new ResizeObserver(() => {
    const height = Math.max(0, element.clientHeight - HEAD_PX);
    setView((before) => ({ ...before, height, scrollTop: element.scrollTop }));
  });
  observer.observe(element);
  return () => observer.disconnect();
}

/** Where a key leads; null where it leads nowhere. The first key only enters the list. */
function moved(key, from, entering, page, count) {
  if (count === 0) return null;
  switch (key) {
    case "ArrowDown":
      return entering ? from : from + 1;
    case "ArrowUp":
      return entering ? from : from - 1;
    case "PageDown":
      return from + page;
    case "PageUp":
      return from - page;
    case "Home":
      return 0;
    case "End":
      return count - 1;
    default:
      return null;
  }
}

function Heading() {
  return html`<div role="rowgroup" class="tl-heading">
    <div role="row" class="tl-row">
      ${COLUMNS.map((name) => html`<span role="columnheader" key=${name} class=${`tl-${name}`}
        title=${name === "attempt" ? t("timeline.attempt_long") : undefined}>
        ${t(`timeline.${name}`)}
      </span>`)}
    </div>
  </div>`;
}

function Row({ index, row, active, open, onFocus, onOpen }) {
  const tone = row?.tone ? ` tl-is-${row.tone}` : "";
  const now = `${active ? " tl-active" : ""}${open ? " tl-open" : ""}`;
  const group = row?.kind?.split(".")[0] ?? "none";
  const common = {
    role: "row",
    id: `tl-row-${index}`,
    "aria-rowindex": index + 1,
    class: `tl-row tl-entry${tone}${now}`,
  };
  if (!row) {
    return html`<div ...${common}><span role="gridcell" class="tl-wait">${t("timeline.loading")}</span></div>`;
  }
  const { turn_id, fenced } = row;
  return html`<div ...${common} data-seq=${row.seq} data-kind=${row.kind ?? "gap"} tabindex="-1"
    aria-selected=${open} onFocus=${onFocus} onClick=${() => onOpen(row)}>
    <span role="gridcell" class="tl-seq">${row.seq}</span>
    <span role="gridcell" class="tl-time" title=${row.at}>
      ${row.at && html`<span class="tl-date">${written(row.at, "day")} </span>${written(row.at, "clock")}`}
    </span>
    <span role="gridcell" class="tl-turn_short" title=${turn_id}>${turn_id?.slice(-8)}</span>
    <span role="gridcell" class="tl-attempt">${row.attempt === undefined ? "…" : row.attempt}</span>
    <span role="gridcell" class=${`tl-kind tl-of-${group}`}>${row.kind ?? "—"}</span>
    <span role="gridcell" class="tl-what">
      ${row.tone && html`<span class="tl-mark" role="img" aria-label=${t(`timeline.${row.tone}`)}>
        ${row.tone === "bad" ? "✕" : "!"}
      </span>`}
      ${row.note && html`<b>${t(row.note.key, row.note.values)} </b>`}
      <bdi>${row.what}</bdi>
    </span>
    <span role="gridcell" class="tl-node" title=${fenced ? `${fenced.node} · ${fenced.fence}` : null}>
      ${fenced ? `${String(fenced.node).slice(-6)} · ${fenced.fence}` : ""}
    </span>
  </div>`;
}

const DATES = {
  day: { month: "2-digit", day: "2-digit" },
  clock: {
    hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23",
  },
};
let formats = {};
let formatsOf = "";

/** In the reader's time zone, to the millisecond. */
function written(at, what) {
  if (formatsOf !== locale()) {
    formatsOf = locale();
    formats = Object.fromEntries(
      Object.entries(DATES).map(([name, options]) => [name, new Intl.DateTimeFormat(formatsOf, options)]),
    );
  }
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? at : formats[what].format(date);
}
