// What of a text that is still being written will not change any more. No DOM.

const WHOLE_CHARS_MAX = 2_000;

/**
 * The text in pieces, each Markdown of its own: all but the last are finished, so that only the
 * last is read again when the text grows. A short text is one piece.
 */
export function blocks(text) {
  if (text.length <= WHOLE_CHARS_MAX) return [text];
  const found = [];
  let begin = 0;
  let fence = null;
  let at = 0;
  for (const line of text.split("\n")) {
    const mark = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1];
    if (fence) {
      if (mark && mark[0] === fence[0] && mark.length >= fence.length) fence = null;
    } else if (mark) {
      fence = mark;
    }
    const end = at + line.length + 1;
    // Behind an empty line, what is not part of a list, a quote or a table begins anew.
    if (!fence && line === "" && at > begin && /^[^\s\-*+>|\d]/.test(text.slice(end, end + 1))) {
      found.push(text.slice(begin, end));
      begin = end;
    }
    at = end;
  }
  found.push(text.slice(begin));
  return found;
}
