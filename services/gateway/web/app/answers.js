// answers.js: answers of the interface that a page shows, kept fresh while somebody looks.
import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "./api.js";
import { everySecond } from "./clock.js";

const GATHER_MS = 150;
const RETRY_MS = 5000; // what failed is tried again

/**
 * @template T
 * @typedef {{data: T|null, problem: unknown, reload: () => void}} Answer data stays what it was while it, or another path, is loaded
 */

/**
 * Loads a path, anew when `mark` changes and every so many milliseconds while the page is visible (0: not).
 * @template T
 * @param {string} path below /api
 * @param {{every?: number, mark?: unknown, load?: (path: string) => Promise<any>}} [options] load: instead of a GET below /api
 * @returns {Answer<T>}
 */
export function useAnswer(path, { every = 0, mark, load: fetchIt = get } = {}) {
  const [state, setState] = useState({
    path: "",
    data: /** @type {T|null} */ (null),
    problem: /** @type {unknown} */ (null)
  });
  const asked = useRef({ number: 0, at: 0 });
  const load = async () => {
    const number = ++asked.current.number;
    asked.current.at = Date.now();
    try {
      const data = await fetchIt(path);
      if (number === asked.current.number) setState({ path, data, problem: null });
    } catch (problem) {
      if (number === asked.current.number)
        setState((old) => ({ path, data: old.path === path ? old.data : null, problem }));
    }
  };
  const isFirst = state.path !== path;
  useEffect(() => {
    const timer = setTimeout(load, isFirst ? 0 : GATHER_MS);
    return () => clearTimeout(timer);
  }, [path, mark]);
  const again = state.problem ? RETRY_MS : every;
  useEffect(() => {
    if (again === 0) return undefined;
    return everySecond(() => {
      if (!document.hidden && Date.now() - asked.current.at >= again) void load();
    });
  }, [path, again]);
  useEffect(() => () => void asked.current.number++, []);
  return { data: state.data, problem: isFirst ? null : state.problem, reload: load };
}

/**
 * @template T
 * @typedef {object} Pages
 * @property {T[]|null} items
 * @property {number|null} total
 * @property {unknown} problem
 * @property {() => void} reload
 * @property {(() => void)|null} more null at the end
 * @property {boolean} isBusy
 */

/**
 * A list that comes in pages. The first page is kept fresh, further ones are loaded when asked for.
 * @template {{id: string|number}} T
 * @param {string} path below /api, with at least one parameter
 * @param {string} key the list's member
 * @param {{every?: number, mark?: unknown}} [options]
 * @returns {Pages<T>}
 */
export function usePages(path, key, options) {
  const first = /** @type {Answer<any>} */ (useAnswer(path, options));
  const [further, setFurther] = useState({
    path: "",
    items: /** @type {T[]} */ ([]),
    next: /** @type {string|null} */ (null)
  });
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const isExtended = further.path === path;
  /** @type {T[]|null} */
  const begin = first.data?.[key] ?? null;
  const known = new Set(begin?.map(({ id }) => id));
  const items = begin && [...begin, ...(isExtended ? further.items.filter(({ id }) => !known.has(id)) : [])];
  const next = isExtended ? further.next : (first.data?.next_cursor ?? null);
  const more = async () => {
    setBusy(true);
    setProblem(null);
    try {
      const page = await get(`${path}&cursor=${encodeURIComponent(next)}`);
      setFurther({ path, items: [...(isExtended ? further.items : []), ...page[key]], next: page.next_cursor ?? null });
    } catch (error) {
      setProblem(error);
    }
    setBusy(false);
  };
  return {
    items,
    total: first.data?.total ?? null,
    problem: first.problem ?? problem,
    reload: first.reload,
    more: next ? more : null,
    isBusy
  };
}
