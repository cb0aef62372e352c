// Which texts are too dear to be read as Markdown: they are shown as they were written. No DOM.

/** In UTF-16 units. */
export const MARKDOWN_CHARS_MAX = 100_000;
const ITEMS_MAX = 5_000;
const MARKS_MAX = 20_000;
const CELLS_MAX = 10_000;
/** What a parser pairs with each other, or begins again from the middle of, costs it their square. */
const MARKS_SQUARED_MAX = 4_000_000;
const WORDS_SQUARED_MAX = 20_000_000;

/** Quotes and lists that begin in one line, or far in: they give a page of any depth. */
const DEEP = /(?:>[ \t]*|(?:[-+*]|\d{1,9}[.)])[ \t]+){40}|^[ \t]{120,}[-+*\d]/m;
const LONG = /[ \t]{1000}|[[(!]{200}|[*_~]{1000}|`{100}/;
const WORD = /\S{500,}/g;
const ITEM = /^[ \t>]*(?:[-+*]|\d{1,9}[.)])(?:[ \t]|$)/gm;
/** Emphasis does not reach from one side to the other. */
const BETWEEN = /\n *\n|\n(?= {0,3}[-+*][ \t]+\S)/;

/** Whether it takes a parser far more time than it has characters, or a page far more to lay out. */
export function isDear(text) {
  if (text.length > MARKDOWN_CHARS_MAX || DEEP.test(text) || LONG.test(text)) return true;
  if (squared(text.match(WORD) ?? [], (word) => word.length) > WORDS_SQUARED_MAX) return true;
  if (count(text, ITEM) > ITEMS_MAX || count(text, /[*_~`]+/g) > MARKS_MAX) return true;
  const whole = text.replace(/\r\n?/g, "\n");
  const marks = squared(whole.split(BETWEEN), (each) => count(each, /[*_~]+/g));
  return marks > MARKS_SQUARED_MAX || cells(whole.split("\n")) > CELLS_MAX;
}

function count(text, what) {
  return text.match(what)?.length ?? 0;
}

function squared(all, size) {
  return all.reduce((sum, each) => sum + size(each) ** 2, 0);
}

/** At most so many cells have its tables: each row is filled up to as many as its head has. */
function cells(lines) {
  let found = 0;
  let end = 0; // of the lines behind which no table goes on
  lines.forEach((line, at) => {
    if (!/^[ \t>*+\d.):|-]*$/.test(line) || !line.includes("-") || !line.includes("|")) return;
    if (end <= at) for (end = at + 1; /[^ ]/.test(lines[end] ?? ""); ) end += 1;
    found += line.split("|").length * (end - at);
  });
  return found;
}
