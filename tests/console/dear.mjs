// What is too dear to be read as Markdown, and what is not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { isDear } from "../../src/sessile/console/static/dear.js";

const table = (columns, rows) => `${"| a ".repeat(columns)}|\n${"|:--".repeat(columns)}|\n${"|x\n".repeat(rows)}\n`;

const DEAR = {
  "a long text": "word ".repeat(20_001),
  "many items": "-\n".repeat(5_001),
  "many marks": "`a` **b**\n\n".repeat(5_001),
  "many marks in a paragraph": "*a **b ".repeat(1_001),
  "many marks in its lines": "*a\r\n".repeat(2_001),
  "a word without an end": "a".repeat(5_000),
  "long words": `${"a".repeat(2_000)} `.repeat(6),
  blanks: `a${" ".repeat(1_000)}b`,
  "lists in a line": `${"- ".repeat(40)}x`,
  "numbers in a line": `${"1. ".repeat(40)}x`,
  "quotes and lists in a line": `${"> - ".repeat(20)}x`,
  "quotes without blanks": `${">".repeat(40)}x`,
  "lists far in": `${" ".repeat(120)}- x`,
  "a wide table": table(1_000, 10),
  "a long table": table(3, 4_000),
  "many tables": table(10, 100).repeat(10),
  "tables without an empty line between": `${"|-".repeat(10)}|\n`.repeat(50),
};
const CHEAP = {
  "a report": `# Title\n\n${"A paragraph **of** two `words`.\n\n".repeat(1_000)}`,
  "a table": table(8, 500),
  "tables behind one another": table(4, 20).repeat(50),
  code: `\`\`\`\n${"    const a = 1; // much\n".repeat(3_000)}\`\`\``,
  "a long address": `https://example.com/?q=${"a".repeat(4_000)}`,
  rules: `${"-".repeat(900)}\n\n${"* ".repeat(30)}`,
  "a list": "- **one**: of many\n".repeat(2_000),
  "lines of code": `\`\`\`\n${"a = 1\n".repeat(9_000)}\`\`\``,
};

for (const [name, text] of Object.entries(DEAR)) {
  test(`${name} is dear`, () => assert.equal(isDear(text), true));
}

for (const [name, text] of Object.entries(CHEAP)) {
  test(`${name} is not dear`, () => assert.equal(isDear(text), false));
}

test("to find out costs next to nothing", () => {
  const begun = performance.now();
  for (const piece of ["- ", "> ", "1. ", "|-", "|", " ", "*a", "(", "a ", "-\n", "|-\n", "0", "0 ", ">\t"]) {
    isDear(piece.repeat(100_000 / piece.length));
  }
  assert.ok(performance.now() - begun < 1_000);
});
