// chart.js: a line over time, drawn by uPlot, which is loaded when the first chart is shown.
import { useEffect, useRef, useState } from "preact/hooks";
import { timeOfDay } from "./format.js";
import { html } from "./view.js";

const HEIGHT = 152;
const SPAN_MIN_S = 300;

/**
 * A CSS variable as it is now, in light or dark: "rgb(…)".
 * @param {HTMLElement} element
 * @param {string} name
 */
function colour(element, name) {
  element.style.color = `var(${name})`;
  const { color } = getComputedStyle(element);
  element.style.color = "";
  return color;
}

/**
 * @param {HTMLElement} element where it is drawn
 * @param {string} unit
 * @param {number|undefined} top the end of the scale, where it is known
 * @param {(index: number|null) => void} onPoint
 * @returns {import("uplot").Options}
 */
function options(element, unit, top, onPoint) {
  const axis = {
    stroke: colour(element, "--soft"),
    font: "12px system-ui",
    grid: { stroke: colour(element, "--line"), width: 1 },
    ticks: { show: false }
  };
  return {
    width: element.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: {
      x: { range: (_, low, high) => [Math.min(low, high - SPAN_MIN_S), high] },
      y: { range: (_, low, high) => [0, top ?? Math.max(1, (high ?? 1) * 1.15)] }
    },
    axes: [
      {
        ...axis,
        size: 28,
        values: [
          [3600 * 24, "{D} {MMM}"],
          [3600, "{HH}:{mm}"],
          [60, "{HH}:{mm}"],
          [1, "{HH}:{mm}:{ss}"]
        ]
      },
      { ...axis, size: 76, space: 36, values: (_, ticks) => ticks.map((tick) => `${tick} ${unit}`) }
    ],
    series: [
      {},
      {
        stroke: colour(element, "--accent"),
        width: 1.5,
        fill: colour(element, "--accent").replace(")", ", 0.11)"),
        points: { show: false },
        spanGaps: false
      }
    ],
    hooks: { setCursor: [(plot) => onPoint(plot.cursor.idx ?? null)] }
  };
}

/** Least, mean and greatest of what is there. @param {(number|null)[]} values */
function summary(values) {
  const present = values.filter((value) => value !== null);
  if (present.length === 0) return null;
  const mean = present.reduce((sum, value) => sum + value, 0) / present.length;
  return { last: present[present.length - 1], mean, top: Math.max(...present) };
}

/**
 * @param {{title: string, unit: string, top?: number, times: number[], values: (number|null)[]}} properties times in Unix
 *   seconds, ascending; null where nothing was said
 */
export function Chart({ title, unit, top, times, values }) {
  const place = useRef(/** @type {HTMLDivElement|null} */ (null));
  const plot = useRef(/** @type {import("uplot")|null} */ (null));
  const data = useRef(/** @type {[number[], (number|null)[]]} */ ([[], []]));
  const [point, setPoint] = useState(/** @type {number|null} */ (null));
  data.current = [times, values];
  useEffect(() => {
    const element = /** @type {HTMLDivElement} */ (place.current);
    let isGone = false;
    const draw = async () => {
      const { default: UPlot } = await import("uplot");
      if (isGone) return;
      plot.current?.destroy();
      plot.current = new UPlot(options(element, unit, top, setPoint), data.current, element);
    };
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }));
    const themed = new MutationObserver(draw);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    resized.observe(element);
    themed.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    dark.addEventListener("change", draw);
    void draw();
    return () => {
      isGone = true;
      resized.disconnect();
      themed.disconnect();
      dark.removeEventListener("change", draw);
      plot.current?.destroy();
    };
  }, [unit, top]);
  useEffect(() => plot.current?.setData(data.current), [times, values]);

  const numbers = summary(values);
  const show = (/** @type {number} */ value) =>
    `${value >= 100 ? Math.round(value) : Math.round(value * 10) / 10} ${unit}`;
  const words = numbers
    ? `now ${show(numbers.last)}, mean ${show(numbers.mean)}, highest ${show(numbers.top)}`
    : "nothing reported";
  const at =
    point !== null && times[point] !== undefined
      ? `${timeOfDay(times[point] * 1000)}: ${values[point] === null ? "nothing" : show(/** @type {number} */ (values[point]))}`
      : words;
  return html`<figure class="chart"><figcaption><b>${title}</b><span class="soft">${at}</span></figcaption>
    <div ref=${place} class="plot" role="img" aria-label=${`${title} over time: ${words}`} /></figure>`;
}
