// router.js: which page the address names, and moving between pages without loading anything again.
import { signal } from "@preact/signals";

/** Pathname and query of the page that is shown. */
export const address = signal({ path: location.pathname, query: new URLSearchParams(location.search) });

/** Whether another page was shown before this one, without loading anything. */
export let hasMoved = false;

function read() {
  hasMoved = true;
  address.value = { path: location.pathname, query: new URLSearchParams(location.search) };
}

/**
 * Shows another page.
 * @param {string} target path with query
 * @param {{replace?: boolean}} [options] replace: the present page leaves the browser's history
 */
export function go(target, { replace = false } = {}) {
  const current = location.pathname + location.search;
  if (target === current) return;
  history[replace ? "replaceState" : "pushState"](null, "", target);
  read();
  scrollTo(0, 0);
}

/**
 * A path of our own that somebody's link may name as the place to go to next; otherwise the dashboard.
 * @param {string|null} next
 */
export function safeNext(next) {
  if (next === null || !next.startsWith("/") || /^\/[/\\]/.test(next) || /[\0-\x1f]/.test(next)) return "/dashboard";
  const { origin, pathname, search } = new URL(next, location.origin);
  const isElsewhere = origin !== location.origin || /^\/(login|signup|api|docs)?$/.test(pathname);
  return isElsewhere ? "/dashboard" : pathname + search;
}

/** @param {MouseEvent} event */
function onClick(event) {
  const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!isPlain || event.defaultPrevented || link === null || link.target !== "" || link.hasAttribute("download"))
    return;
  const isOurs = link.origin === location.origin && !/^\/(docs|api|assets)(\/|$)/.test(link.pathname);
  if (!isOurs || link.hash !== "") return;
  event.preventDefault();
  go(link.pathname + link.search);
}

addEventListener("popstate", read);
document.addEventListener("click", onClick);
