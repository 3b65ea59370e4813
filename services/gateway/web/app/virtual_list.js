// virtual_list.js: a long list of rows of one height, of which only those near the window are on the page.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { html } from "./view.js";

const BEYOND = 6; // rows above and below the window, so that the Tab key always finds the next one

/**
 * @param {{ids: string[], label: string, row: import("preact").ComponentType<{id: string}>}} properties the height of a
 *   row is the list's CSS variable --row
 */
export function VirtualList({ ids, label, row }) {
  const list = useRef(/** @type {HTMLUListElement|null} */ (null));
  const [range, setRange] = useState({ first: 0, last: 20, height: 80 });
  const [held, setHeld] = useState("");
  const measure = () => {
    const element = list.current;
    if (!element) return;
    const height = parseFloat(getComputedStyle(element).getPropertyValue("--row")) || 80;
    const top = -element.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / height) - BEYOND);
    const last = Math.ceil((top + innerHeight) / height) + BEYOND;
    setRange((old) =>
      old.first === first && old.last === last && old.height === height ? old : { first, last, height }
    );
  };
  useLayoutEffect(measure, [ids.length]);
  useEffect(() => {
    let frame = 0;
    const later = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        measure();
      });
    };
    addEventListener("scroll", later, { passive: true });
    addEventListener("resize", later);
    return () => {
      removeEventListener("scroll", later);
      removeEventListener("resize", later);
      cancelAnimationFrame(frame);
    };
  }, []);
  /** The row that has the focus stays, wherever it is. @param {FocusEvent} event */
  const onFocus = (event) =>
    setHeld(event.target instanceof Element ? (event.target.closest("li")?.id.slice(4) ?? "") : "");
  const shown = ids.map((id, index) => ({ id, index })).slice(range.first, range.last);
  const heldIndex = held === "" ? -1 : ids.indexOf(held);
  if (heldIndex >= 0 && heldIndex < range.first) shown.unshift({ id: held, index: heldIndex });
  if (heldIndex >= range.last) shown.push({ id: held, index: heldIndex });
  return html`<ul ref=${list} class="rows" aria-label=${label} style=${{ height: `${ids.length * range.height}px` }} onFocusCapture=${onFocus}>
    ${shown.map(
      ({ id, index }) => html`<li key=${id} id=${`row-${id}`} aria-setsize=${ids.length} aria-posinset=${index + 1}
      style=${{ transform: `translateY(${index * range.height}px)` }}><${row} id=${id} /></li>`
    )}
  </ul>`;
}
