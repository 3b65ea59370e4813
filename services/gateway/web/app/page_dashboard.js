// page_dashboard.js: /dashboard, all instances of the user, live.
import { computed, signal } from "@preact/signals";
import { serverTimeOf } from "./clock.js";
import { ask } from "./dialogs.js";
import { count } from "./format.js";
import { Icon } from "./icons.js";
import { STRIP_HOURS, ids, instance, strip } from "./instances.js";
import { connection, listProblem, loadList } from "./live.js";
import { Ago, CopyButton, IconButton, Since, StatusBadge, Strip, Trouble } from "./parts.js";
import { STATUS_NAMES, describe } from "./status.js";
import { html } from "./view.js";
import { VirtualList } from "./virtual_list.js";

/** @typedef {import("./types.js").Instance} Instance */
/** @typedef {import("./types.js").Status} Status */

const search = signal("");
/** @type {import("@preact/signals").Signal<Status|"">} */
const chosen = signal("");

/** @param {Instance} row @param {string[]} words */
function has(row, words) {
  const text =
    `${row.name} ${row.public_url ?? ""} ${row.local_port} ${row.status} ${row.status_reason ?? ""} ${row.region} ${row.id}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

/** Instances that have the words searched for. */
const found = computed(() => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  return (ids.value ?? [])
    .map((id) => /** @type {Instance} */ (instance(id)?.value))
    .filter((row) => row && has(row, words));
});
const counts = computed(() => {
  /** @type {Map<string, number>} */
  const sums = new Map();
  for (const { status } of found.value) sums.set(status, (sums.get(status) ?? 0) + 1);
  return sums;
});
/** @type {string[]} */
let shownBefore = [];
/** The ids to show; the same array as long as they are the same. */
const shown = computed(() => {
  const list = found.value.filter(({ status }) => chosen.value === "" || status === chosen.value).map(({ id }) => id);
  if (list.length !== shownBefore.length || list.some((id, index) => id !== shownBefore[index])) shownBefore = list;
  return shownBefore;
});

// --- one row -----------------------------------------------------------------------------------------------------

/** @param {{row: Instance}} properties */
function Heartbeat({ row }) {
  if (row.heard_at === null || row.heard_at === undefined)
    return html`<span class="soft" title="No heartbeat was ever heard">no heartbeat</span>`;
  return html`<span class="unseen">Last heartbeat </span><${Icon} name="pulse" /> <${Ago} at=${serverTimeOf(row.heard_at)} />`;
}

/** @param {{row: Instance}} properties */
function PublicUrl({ row }) {
  if (!row.public_url)
    return html`<span class="soft">${row.tunnel_connected ? "no public address" : "not connected"}</span>`;
  const isWeb = /^https?:\/\//.test(row.public_url);
  return html`<span class="url">${isWeb ? html`<a href=${row.public_url} target="_blank" rel="noreferrer noopener">${row.public_url}</a>` : html`<span>${row.public_url}</span>`}</span>
    <${CopyButton} text=${row.public_url} label="Public address" />`;
}

/** @param {{id: string}} properties */
function Row({ id }) {
  const row = instance(id)?.value;
  if (!row) return null;
  const isUp = row.tunnel_connected || row.status === "starting";
  return html`<article class="row" aria-label=${row.name}>
    <div class="state"><${StatusBadge} status=${row.status} /></div>
    <div class="what">
      <h2><a href=${`/instances/${id}`} title=${row.name}>${row.name}</a></h2>
      <p class="soft" title=${row.status_reason ?? ""}><span class="reason">${row.status_reason ?? "no reason given"}</span> · <${Since} at=${row.status_since} /></p>
    </div>
    <div class="where"><${PublicUrl} row=${row} /></div>
    <div class="beat"><${Heartbeat} row=${row} /></div>
    <div class="day"><${Strip} stretches=${strip(id).value} hours=${STRIP_HOURS} /></div>
    <div class="does">
      <button type="button" class="small" onClick=${() => ask(isUp ? "disconnect" : "connect", id)} aria-label=${`${isUp ? "Disconnect" : "Connect"} ${row.name}`}>
        ${isUp ? "Disconnect" : "Connect"}
      </button>
      <${IconButton} icon="pencil" label=${`Rename ${row.name}`} onClick=${() => ask("rename", id)} />
      <${IconButton} icon="trash" label=${`Delete ${row.name}`} danger onClick=${() => ask("delete", id)} />
    </div>
  </article>`;
}

// --- the page ----------------------------------------------------------------------------------------------------

function FirstSteps() {
  return html`<section class="card steps">
    <h2>Your first tunnel</h2>
    <ol>
      <li><b>Create an instance.</b> It stands for one port on one machine: a web server, a database, an editor.</li>
      <li><b>Connect it.</b> You get a command with a token; run it on that machine with the <code>bore</code> client.</li>
      <li><b>Watch it here.</b> The public address appears as soon as the tunnel is up, and every change of its status after that.</li>
    </ol>
    <button type="button" class="primary" onClick=${() => ask("create")}><${Icon} name="plus" />Create your first instance</button>
  </section>`;
}

function Filters() {
  const total = found.value.length;
  /** @param {Status|""} status @param {string} word @param {number} number */
  const chip = (
    status,
    word,
    number
  ) => html`<button type="button" class="chip" data-status=${status} aria-pressed=${chosen.value === status} key=${status}
    onClick=${() => (chosen.value = status)}>${word} <span class="number">${count(number)}</span></button>`;
  const present = STATUS_NAMES.filter((status) => counts.value.has(status) || chosen.value === status);
  return html`<div class="filters">
    <label class="search"><span class="unseen">Search instances</span><${Icon} name="search" />
      <input type="search" placeholder="Search by name, address, port" value=${search.value} spellcheck=${false} autocomplete="off"
        onInput=${(/** @type {Event} */ event) => (search.value = /** @type {HTMLInputElement} */ (event.target).value)} /></label>
    <div class="chips" role="group" aria-label="Show only">
      ${chip("", "All", total)}${present.map((status) => chip(status, describe(status).word, counts.value.get(status) ?? 0))}
    </div>
  </div>`;
}

function Loading() {
  return html`<div class="rows skeleton" aria-hidden="true">${[1, 2, 3].map((key) => html`<div class="row" key=${key}><i /><i /><i /></div>`)}</div>
    <p class="unseen" role="status">Loading your instances…</p>`;
}

function NothingFound() {
  const reset = () => {
    search.value = "";
    chosen.value = "";
  };
  return html`<div class="card nothing"><p>No instance is like that.</p><button type="button" onClick=${reset}>Show all</button></div>`;
}

function Content() {
  if (ids.value === null) {
    return listProblem.value
      ? html`<${Trouble} what="Your instances" problem=${listProblem.value} retry=${loadList} />`
      : html`<${Loading} />`;
  }
  if (ids.value.length === 0) return html`<${FirstSteps} />`;
  return html`<${Filters} />
    ${shown.value.length === 0 ? html`<${NothingFound} />` : html`<${VirtualList} ids=${shown.value} label="Instances" row=${Row} />`}`;
}

export function DashboardPage() {
  const { isReachable } = connection.value;
  return html`<main id="main" class="wide" tabindex="-1">
    <header class="title">
      <h1>Instances</h1>
      <button type="button" class="primary" onClick=${() => ask("create")}><${Icon} name="plus" />New instance</button>
    </header>
    <div class=${isReachable ? "" : "stale"}><${Content} /></div>
  </main>`;
}
