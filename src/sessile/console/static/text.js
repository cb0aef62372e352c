// Markdown as HTML that can do nothing: no script, no style, no address that loads by itself.
import DOMPurify from "./vendor/dompurify-3.5.0.mjs";
import { Marked } from "./vendor/marked-18.2.1.mjs";
import { isDear } from "./dear.js";

const TAGS = [
  "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol",
  "p", "pre", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul", "bdi",
];
const ATTRIBUTES = ["href", "start", "align"];
const ADDRESS = /^(?:https?:|mailto:)/i;

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    // What is written as HTML is shown as it was written.
    html({ text }) {
      return escaped(text);
    },
    image({ href, text }) {
      return `<a href="${escaped(href)}">${escaped(text || href)}</a>`;
    },
    checkbox({ checked }) {
      return checked ? "☑ " : "☐ ";
    },
  },
});

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    if (!ADDRESS.test(node.getAttribute("href") ?? "")) node.removeAttribute("href");
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
  // What is wider than the screen scrolls in itself, by the keyboard too.
  if (["PRE", "TABLE"].includes(node.tagName)) node.setAttribute("tabindex", "0");
  // Each block finds its own direction; what is marked in one does not reach into another.
  if (["P", "LI", "TD", "TH", "BLOCKQUOTE"].includes(node.tagName) || /^H[1-6]$/.test(node.tagName)) {
    node.setAttribute("dir", "auto");
  }
});

/** HTML for `innerHTML` (a TrustedHTML where the browser has them); null where the text is to be
 * shown as it is: dear to read, or not understood. */
export function markdown(text) {
  if (isDear(text)) return null;
  try {
    return DOMPurify.sanitize(marked.parse(text), {
      ALLOWED_TAGS: TAGS,
      ALLOWED_ATTR: ATTRIBUTES,
      ALLOWED_URI_REGEXP: ADDRESS,
      ADD_URI_SAFE_ATTR: ["start", "align"],
      ALLOW_DATA_ATTR: false,
      ALLOW_ARIA_ATTR: false,
      RETURN_TRUSTED_TYPE: true,
    });
  } catch {
    return null;
  }
}

function escaped(text) {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
