// table.js: tables that become cards on narrow screens, and the frames that sections stand in.
import { Trouble } from "./parts.js";
import { html } from "./view.js";

/** @typedef {import("preact").ComponentChildren} Children */

/**
 * A part of a page with a heading.
 * @param {{title: string, aside?: Children, children: Children, flush?: boolean}} properties flush: content to the edges
 */
export function Section({ title, aside, children, flush = false }) {
  const id = `section-${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
  return html`<section class=${`card section ${flush ? "flush" : ""}`} aria-labelledby=${id}>
    <header><h2 id=${id}>${title}</h2>${aside}</header>
    ${children}
  </section>`;
}

/**
 * @template T
 * @typedef {{label: string, cell: (item: T) => Children, end?: boolean}} Column end: numbers, at the end of the cell
 */

/**
 * @template T
 * @param {{label: string, columns: Column<T>[], items: T[], name: (item: T) => string|number}} properties name: unique
 */
export function Table({ label, columns, items, name }) {
  return html`<table role="table" aria-label=${label}>
    <thead><tr role="row">${columns.map((column) => html`<th role="columnheader" scope="col" class=${column.end ? "end" : ""}>${column.label}</th>`)}</tr></thead>
    <tbody>${items.map(
      (item) => html`<tr role="row" key=${name(item)}>
      ${columns.map((column) => html`<td role="cell" data-label=${column.label} class=${column.end ? "end" : ""}><div>${column.cell(item)}</div></td>`)}
    </tr>`
    )}</tbody>
  </table>`;
}

/**
 * A list in pages as a table, with everything that may be instead of it.
 * @template {{id: string|number}} T
 * @param {{what: string, pages: {items: T[]|null, problem: unknown, reload: () => void, more: (() => void)|null, isBusy: boolean},
 *   columns: Column<T>[], empty: Children}} properties
 */
export function PagedTable({ what, pages, columns, empty }) {
  const { items, problem, reload, more, isBusy } = pages;
  return html`${problem && html`<${Trouble} what=${what} problem=${problem} retry=${reload} />`}
    ${items === null && !problem && html`<p class="wait" role="status">Loading…</p>`}
    ${items?.length === 0 && html`<p class="empty">${empty}</p>`}
    ${items && items.length > 0 && html`<${Table} label=${what} columns=${columns} items=${items} name=${(/** @type {T} */ { id }) => id} />`}
    ${more && html`<div class="more"><button type="button" class="small" onClick=${more} disabled=${isBusy}>${isBusy ? "Loading…" : "Show more"}</button></div>`}`;
}
