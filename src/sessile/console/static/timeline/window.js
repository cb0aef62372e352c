// Which rows of a long list are in sight, and where they stand.

export const ROW_PX = 28;
export const LIST_PX_MAX = 8_000_000;
/** Browsers draw nothing past some height (17.8 million pixels in Firefox): a longer list is
 * squeezed, and a step of the scroll bar is more than a row. */

/** How high the list is drawn, in pixels. */
export function heightOf(count) {
  return Math.min(count * ROW_PX, LIST_PX_MAX);
}

/**
 * The rows `first` to `last` (both in sight, or up to `over` beyond; `last` is -1 where there are
 * none), and `offset`, where the first one stands, in pixels. `height` is that of the view.
 */
export function windowOf({ scrollTop, height, count, over = 12 }) {
  const top = topRow({ scrollTop, height, count });
  const first = Math.max(0, Math.floor(top) - over);
  const last = Math.min(count - 1, Math.ceil(top + height / ROW_PX) + over);
  return { first, last, offset: clamped({ scrollTop, height, count }) - (top - first) * ROW_PX };
}

/** Where to scroll so that a row is in sight: nowhere if it is, else the least that does it. */
export function scrollTo({ index, scrollTop, height, count }) {
  const top = topRow({ scrollTop, height, count });
  const rows = height / ROW_PX;
  const wanted = index < top ? index : index + 1 > top + rows ? index + 1 - rows : top;
  if (wanted === top) return scrollTop;
  return Math.round((wanted / (count - rows)) * scrollable({ height, count }));
}

/** Whether the end of the list is in sight. */
export function atEnd({ scrollTop, height, count }) {
  return scrollTop >= scrollable({ height, count }) - ROW_PX / 2;
}

function scrollable({ height, count }) {
  return Math.max(0, heightOf(count) - height);
}

function clamped({ scrollTop, height, count }) {
  return Math.max(0, Math.min(scrollTop, scrollable({ height, count })));
}

/** The row at the upper edge, as a fraction. */
function topRow(view) {
  const range = scrollable(view);
  if (range === 0) return 0;
  return (clamped(view) / range) * (view.count - view.height / ROW_PX);
}
