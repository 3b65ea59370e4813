// strip.js: stretches of status as a strip of colours over time. Pure.

/** @typedef {import("./types.js").Stretch} Stretch */

const LAST_SHARE = 0.012; // the present status is always seen, however young it is

/**
 * The part of each stretch that lies between two moments, in shares of the time between them.
 * @param {Stretch[]} stretches oldest first
 * @param {number} from
 * @param {number} to
 * @returns {{status: string, start: number, end: number}[]}
 */
export function shares(stretches, from, to) {
  const span = to - from;
  const parts = stretches
    .map((one) => ({
      status: one.status,
      start: Math.max(0, (Date.parse(one.from) - from) / span),
      end: Math.min(1, ((one.to === null ? to : Date.parse(one.to)) - from) / span)
    }))
    .filter((one) => one.end > one.start);
  const last = parts.at(-1);
  if (!last || stretches.at(-1)?.to !== null) return parts;
  const start = Math.min(last.start, 1 - LAST_SHARE);
  return [
    ...parts
      .slice(0, -1)
      .filter((one) => one.start < start)
      .map((one) => ({ ...one, end: Math.min(one.end, start) })),
    { ...last, start }
  ];
}

/**
 * The same as a CSS background; what is before the first stretch stays clear.
 * @param {{status: string, start: number, end: number}[]} parts
 */
export function gradient(parts) {
  const stops = [];
  let at = 0;
  for (const { status, start, end } of parts) {
    if (start > at) stops.push(`transparent ${(at * 100).toFixed(2)}% ${(start * 100).toFixed(2)}%`);
    stops.push(
      `var(--fill-${/^[a-z]+$/.test(status) ? status : "inactive"}) ${(start * 100).toFixed(2)}% ${(end * 100).toFixed(2)}%`
    );
    at = end;
  }
  if (at < 1) stops.push(`transparent ${(at * 100).toFixed(2)}% 100%`);
  return `linear-gradient(to right, ${stops.join(", ")})`;
}

/**
 * How long each status lasted, longest first.
 * @param {{status: string, start: number, end: number}[]} parts
 */
export function totals(parts) {
  /** @type {Map<string, number>} */
  const sums = new Map();
  for (const { status, start, end } of parts) sums.set(status, (sums.get(status) ?? 0) + end - start);
  return [...sums].map(([status, share]) => ({ status, share })).sort((left, right) => right.share - left.share);
}
