// clock.js: what time it is for the server, and a tick each second while somebody looks.
import { signal } from "@preact/signals";

/** How far the server's clock is ahead of this machine's, in ms. Small differences are the network's. */
let ahead = 0;

/** The server's time now, in ms since 1970. */
export function serverNow() {
  return Date.now() + ahead;
}

/** What the server's clock said at a moment of this machine's. @param {number} local */
export function serverTimeOf(local) {
  return local + ahead;
}

/** @param {number} time the server's time, a moment ago */
export function learnServerTime(time) {
  const difference = time - Date.now();
  if (Number.isFinite(difference)) ahead = Math.abs(difference - ahead) > 2500 ? difference : ahead;
}

/** The server's time, once a second. Whoever reads its value in a component is drawn again. */
export const now = signal(serverNow());

/** @type {Set<() => void>} */
const listeners = new Set();

/**
 * Calls back once a second, in hidden tabs as often as the browser lets them.
 * @param {() => void} listener
 * @returns {() => void} ends it
 */
export function everySecond(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tick() {
  if (!document.hidden) now.value = serverNow();
  for (const listener of listeners) listener();
}

setInterval(tick, 1000);
document.addEventListener("visibilitychange", tick);
