// format.js: times, sizes and shares in words. Pure.

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/**
 * A length of time with at most two units: "12 s", "3 min", "2 h 5 min", "4 d 3 h".
 * @param {number} ms
 */
export function duration(ms) {
  const time = Math.max(0, ms);
  if (time < MINUTE) return `${Math.floor(time / SECOND)} s`;
  if (time < HOUR) return `${Math.floor(time / MINUTE)} min`;
  const [large, small, names] = time < DAY ? [HOUR, MINUTE, ["h", "min"]] : [DAY, HOUR, ["d", "h"]];
  const rest = Math.floor((time % large) / small);
  return `${Math.floor(time / large)} ${names[0]}${rest > 0 ? ` ${rest} ${names[1]}` : ""}`;
}

/**
 * How long ago: "just now", "12 s ago".
 * @param {number} ms
 */
export function ago(ms) {
  return ms < 2 * SECOND ? "just now" : `${duration(ms)} ago`;
}

/** @param {number|null|undefined} bytes */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "not reported";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/**
 * A percentage that never rounds up to 100.
 * @param {number} value
 */
export function percent(value) {
  const digits = value >= 99 && value < 100 ? 2 : 1;
  const cut = Math.floor(value * 10 ** digits) / 10 ** digits;
  return `${Number.isInteger(cut) ? cut : cut.toFixed(digits)} %`;
}

/** @param {number} value */
export function count(value) {
  return value.toLocaleString("en");
}

const dateTimes = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const times = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

/** @param {string|number|null} time */
export function dateTime(time) {
  return time === null ? "never" : dateTimes.format(new Date(time));
}

/** @param {number} time */
export function timeOfDay(time) {
  return times.format(new Date(time));
}
