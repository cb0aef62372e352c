// What of a text that grows is finished stays as it was.
import assert from "node:assert/strict";
import { test } from "node:test";
import { blocks } from "../../src/sessile/console/static/blocks.js";

const PART = `# Title

A paragraph
of two lines.

\`\`\`js
const a = 1;

// Behind an empty line, inside.
\`\`\`

- one

- two
  deeper

1. first

2. second

> quoted

| a | b |
|---|---|
| 1 | 2 |

~~~
\`\`\`

not the end
~~~

The end.

`;
const TEXT = PART.repeat(20);

test("a short text is one piece", () => {
  assert.deepEqual(blocks("a\n\nb"), ["a\n\nb"]);
  assert.deepEqual(blocks(""), [""]);
});

test("the pieces are the text", () => {
  for (let end = 0; end <= TEXT.length; end += 7) {
    assert.equal(blocks(TEXT.slice(0, end)).join(""), TEXT.slice(0, end));
  }
  assert.ok(blocks(TEXT).length > 60);
});

test("what is finished does not change as the text grows", () => {
  let before = blocks(TEXT.slice(0, 2_001));
  for (let end = 2_002; end <= TEXT.length; end += 1) {
    const now = blocks(TEXT.slice(0, end));
    assert.deepEqual(now.slice(0, before.length - 1), before.slice(0, -1), `at ${end}`);
    before = now;
  }
});

test("no piece ends inside of a fence, and lists are not torn apart", () => {
  for (const piece of blocks(TEXT)) {
    assert.equal((piece.match(/^(```|~~~)/gm) ?? []).length % 2, piece.includes("~~~") ? 1 : 0, piece);
    assert.ok(!/^- two/.test(piece));
    assert.ok(!/^2\. second/.test(piece));
  }
});
