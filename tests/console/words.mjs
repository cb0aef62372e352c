// Both languages say the same things, and all that the page says.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

const STATIC = new URL("../../src/sessile/console/static/", import.meta.url);
const files = readdirSync(STATIC, { recursive: true }).filter((name) => /\.js$/.test(name) && !/vendor/.test(name));
const text = (name) => readFileSync(new URL(name, STATIC), "utf8");
const isWords = (name) => name.startsWith("words/");

/** The words of a file, `{en: {key: text}, fr: {key: text}}`. */
function words(name) {
  const [en, fr] = text(name).split(/^ +fr: \{$/m);
  const read = (part) => Object.fromEntries([...part.matchAll(/"([\w.-]+)":\s*"((?:[^"\\]|\\.)*)"/g)].map(([, key, said]) => [key, said]));
  return { en: read(en), fr: read(fr) };
}

const placeholders = (said) => [...said.matchAll(/\{\w+\}/g)].map(String).sort();

for (const name of files.filter(isWords)) {
  test(`${name} has the same words in both languages`, () => {
    const { en, fr } = words(name);
    assert.ok(Object.keys(en).length > 5);
    assert.deepEqual(Object.keys(fr).sort(), Object.keys(en).sort());
    for (const key of Object.keys(en)) {
      assert.deepEqual(placeholders(fr[key]), placeholders(en[key]), key);
    }
  });
}

test("what is asked for by name is there", () => {
  const known = new Set(files.filter(isWords).flatMap((name) => Object.keys(words(name).en)));
  for (const name of files.filter((each) => !isWords(each))) {
    for (const [, key] of text(name).matchAll(/\bt\("([^"]+)"/g)) {
      assert.ok(known.has(key), `${name} asks for ${key}`);
    }
  }
});
