// Words in English and French. A view registers its own: {en: {"chat.send": "Send"}, fr: {…}}.

const LANGUAGES = ["en", "fr"];
const words = { en: {}, fr: {} };
const listeners = new Set();
let chosen = first();

function first() {
  const kept = stored();
  if (LANGUAGES.includes(kept)) return kept;
  const asked = globalThis.navigator?.language ?? "en";
  return asked.toLowerCase().startsWith("fr") ? "fr" : "en";
}

function stored() {
  try {
    return globalThis.localStorage?.getItem("sessile.language");
  } catch {
    return null; // storage is forbidden here
  }
}

export function register(more) {
  for (const language of LANGUAGES) Object.assign(words[language], more[language]);
}

/** The words of `key`, with each `{name}` replaced by its value; numbers as the language writes them. */
export function t(key, values = {}) {
  const text = words[chosen][key] ?? words.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? shown(values[name]) : whole));
}

function shown(value) {
  return typeof value === "number" ? number(value) : String(value);
}

export function number(value) {
  return new Intl.NumberFormat(locale()).format(value);
}

const formats = new Map();

/** Made once: a conversation of thousands of messages has as many times. */
function format(options) {
  const key = `${locale()} ${JSON.stringify(options)}`;
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(locale(), options));
  return formats.get(key);
}

/** A time of the API, as people of the language write it: short, or of the day where it is today. */
export function time(at, { seconds = false } = {}) {
  const when = new Date(at);
  const clock = { hour: "2-digit", minute: "2-digit", ...(seconds ? { second: "2-digit" } : {}) };
  const today = when.toDateString() === new Date().toDateString();
  const options = today ? clock : { month: "short", day: "numeric", ...clock };
  return format(options).format(when);
}

/** The reader's own kind of the language: English times are written in two ways. */
export function locale() {
  const asked = globalThis.navigator?.languages ?? [];
  return asked.find((each) => each.split("-")[0] === chosen) ?? chosen;
}

export function language() {
  return chosen;
}

export function setLanguage(wanted) {
  if (!LANGUAGES.includes(wanted) || wanted === chosen) return;
  chosen = wanted;
  try {
    globalThis.localStorage?.setItem("sessile.language", wanted);
  } catch {
    // It holds until the page is left.
  }
  for (const listener of listeners) listener(wanted);
}

/** Call `listener` at each change; answers how to stop. */
export function onLanguage(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
