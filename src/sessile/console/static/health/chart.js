// One chart and what it says in words.

import { language, t } from "../i18n.js";
import { html, useEffect, useRef } from "../ui.js";
import { KEPT_SECONDS, lines, total } from "../metrics.js";
import Plot from "../vendor/uplot-1.6.32.mjs";

const HEIGHT_PX = 132;
const DRAWN_SECONDS_MIN = 120;
const COLOURS = {
  accent: "--accent", good: "--good", warning: "--warn", bad: "--bad", muted: "--text-soft",
};
const DIGITS = { rate: 1, count: 0, sum: 0 };
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];
/** Lines are told apart without their colours, too. */

/** `kept`: a node's readings, the oldest first. */
export function Chart({ chart, kept }) {
  const columns = lines(kept, chart.lines.map(({ of }) => of));
  const title = t(`health.${chart.name}`);
  return html`<figure class="health-figure" data-chart=${chart.name}>
    <figcaption>${title}</figcaption>
    <ul class="health-legend">
      ${chart.lines.map((line, index) => html`<li key=${line.name} data-line=${line.name}>
        <svg width="20" height="8" aria-hidden="true" class=${`health-in-${line.colour}`}>
          <line x1="0" y1="4" x2="20" y2="4" stroke-width="2" stroke-dasharray=${DASHES[index].join(" ")} />
        </svg>
        <span>${t(`health.${line.name}`)}</span>
        <b>${summary(chart, line, columns[index + 1], kept.at(-1))}</b>
      </li>`)}
    </ul>
    <${Drawn} ...${{ chart, columns }} />
  </figure>`;
}

/** The line in words, for those who do not see it. */
function summary({ unit }, line, values, now) {
  const known = values.filter((value) => value !== null);
  if (unit === "sum") {
    const all = total(now, line.counter);
    if (all === null) return t("health.nothing");
    const sum = known.reduce((a, b) => a + b, 0);
    return t("health.in_all", { now: shown(sum, unit), most: shown(all, unit), minutes: KEPT_SECONDS / 60 });
  }
  if (!known.length) return t("health.nothing");
  const most = shown(Math.max(...known), unit);
  return t("health.summary", { now: shown(known.at(-1), unit), most });
}

/** A value with its unit, as the language writes it. */
export function shown(value, unit) {
  if (value === null) return "–";
  const number = (n, digits) =>
    new Intl.NumberFormat(language(), { maximumFractionDigits: digits }).format(n);
  if (unit !== "seconds") return number(value, DIGITS[unit]);
  return value < 1 ? `${number(value * 1000, value < 0.01 ? 1 : 0)} ms` : `${number(value, 2)} s`;
}

function Drawn({ chart, columns }) {
  const place = useRef(null);
  const plot = useRef(null);
  const spoken = language();
  useEffect(() => {
    const made = new Plot(options(chart, place.current.clientWidth), columns, place.current);
    plot.current = made;
    const size = new ResizeObserver(([{ contentRect }]) =>
      made.setSize({ width: Math.max(1, Math.floor(contentRect.width)), height: HEIGHT_PX }),
    );
    size.observe(place.current);
    const stop = onTheme(() => made.redraw());
    return () => {
      stop();
      size.disconnect();
      made.destroy();
    };
  }, [chart, spoken]);
  useEffect(() => plot.current.setData(columns), [columns]);
  return html`<div class="health-plot" aria-hidden="true" ref=${place}></div>`;
}

function options(chart, width) {
  const axis = { stroke: colour("--text-soft"), grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false }, font: "11px system-ui, sans-serif" };
  const clock = new Intl.DateTimeFormat(language(), {
    hour: "2-digit", minute: "2-digit", hourCycle: "h23",
  });
  return {
    width: Math.max(1, width),
    height: HEIGHT_PX,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 20, 0, 0],
    scales: {
      x: { range: (_plot, min, max) => [max - Math.max(DRAWN_SECONDS_MIN, max - min), max] },
      y: { range: (_plot, _min, max) => [0, max > 0 ? max * 1.15 : 1] },
    },
    series: [{}, ...chart.lines.map((line, index) => ({
      stroke: colour(COLOURS[line.colour]),
      width: 1.5,
      dash: DASHES[index],
      points: { show: false },
    }))],
    axes: [
      { ...axis, size: 24, space: 60, incrs: [60, 120, 300],
        values: (_plot, ticks) => ticks.map((at) => clock.format(new Date(at * 1000))) },
      { ...axis, size: 56, space: 28,
        incrs: chart.unit === "count" || chart.unit === "sum"
          ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] : undefined,
        values: (_plot, ticks) => ticks.map((value) => shown(value, chart.unit)) },
    ],
  };
}

/** Looked up at each drawing, so that it is the theme's: a canvas knows no variables. */
function colour(name) {
  return ({ root }) => {
    root.style.color = `var(${name})`;
    return getComputedStyle(root).color;
  };
}

/** Call `listener` when the theme changes; answers how to stop. */
function onTheme(listener) {
  const later = () => requestAnimationFrame(listener);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const switched = new MutationObserver(later);
  switched.observe(document.documentElement, { attributes: true });
  dark.addEventListener("change", later);
  return () => {
    switched.disconnect();
    dark.removeEventListener("change", later);
  };
}
