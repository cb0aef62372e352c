// A message's text: Markdown where it can be, and as it is where it cannot.
import { blocks } from "../blocks.js";
import { isDear } from "../dear.js";
import { t } from "../i18n.js";
import { markdown } from "../text.js";
import { html, useMemo, useState } from "../ui.js";

const SHOWN_CHARS_MAX = 100_000;
/** A longer piece is read as Markdown when it is finished: until then it would be at each frame. */
const GROWING_CHARS_MAX = 20_000;

/** While it is `writing`, only its last piece is read again. `plain`: not Markdown. */
export function Text({ text, writing = false, plain = false }) {
  const asIs = useMemo(() => plain || isDear(text), [text, plain]);
  if (!text) return null;
  if (asIs) return html`<${Plain} text=${text} />`;
  const pieces = writing ? blocks(text) : [text];
  return html`<div class="prose" dir="auto">${pieces.map(
    (piece, at) => html`<${Piece} key=${at} text=${piece} growing=${writing && at === pieces.length - 1} />`,
  )}</div>`;
}

function Piece({ text, growing }) {
  const plain = growing && text.length > GROWING_CHARS_MAX;
  const safe = useMemo(() => (plain ? null : markdown(text)), [text, plain]);
  return useMemo(() => {
    return safe === null
      ? html`<div class="plain" dir="auto">${text}</div>`
      : html`<div class="piece" dangerouslySetInnerHTML=${{ __html: safe }}></div>`;
  }, [safe ?? text]);
}

export function Plain({ text }) {
  const [all, setAll] = useState(false);
  const cut = !all && text.length > SHOWN_CHARS_MAX;
  return html`<div class="plain" dir="auto">${cut ? text.slice(0, SHOWN_CHARS_MAX) : text}</div>
    ${cut && html`<button type="button" class="quiet" onClick=${() => setAll(true)}>
      ${t("chat.show_all", { count: text.length })}</button>`}`;
}
