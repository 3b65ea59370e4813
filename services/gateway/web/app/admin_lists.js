// admin_lists.js: lists of the admin's pages that are only read: instances, alerts, audit.
import { useState } from "preact/hooks";
import { usePages } from "./answers.js";
import { count, dateTime } from "./format.js";
import { Icon } from "./icons.js";
import { happened } from "./live.js";
import { Ago, Since, StatusBadge } from "./parts.js";
import { address, go } from "./router.js";
import { STATUS_NAMES, describe } from "./status.js";
import { PagedTable, Section } from "./table.js";
import { html } from "./view.js";

/** @typedef {import("./types.js").AdminInstance} AdminInstance */
/** @typedef {import("./types.js").Alert} Alert */
/** @typedef {import("./types.js").AuditEntry} AuditEntry */

const LIST_MS = 5000;

/**
 * A search field whose words arrive when typing pauses.
 * @param {{label: string, onWords: (words: string) => void}} properties
 */
export function Search({ label, onWords }) {
  const [timer, setTimer] = useState(0);
  const onInput = (/** @type {Event} */ event) => {
    const { value } = /** @type {HTMLInputElement} */ (event.target);
    clearTimeout(timer);
    setTimer(setTimeout(() => onWords(value.trim()), 250));
  };
  return html`<label class="search"><span class="unseen">${label}</span><${Icon} name="search" />
    <input type="search" placeholder=${label} spellcheck=${false} autocomplete="off" maxLength=${255} onInput=${onInput} /></label>`;
}

// --- instances ---------------------------------------------------------------------------------------------------

/** @param {AdminInstance} one */
function health(one) {
  const numbers = [
    one.cpu_usage !== null && `${Math.round(one.cpu_usage)} % CPU`,
    one.memory_usage !== null && `${count(Math.round(one.memory_usage))} MiB`
  ];
  const code = one.has_code_server ? (one.vscode_responsive ? "editor responds" : "editor silent") : null;
  const words = [...numbers, code].filter(Boolean).join(", ");
  return words || html`<span class="soft">none reported</span>`;
}

/** @type {import("./table.js").Column<AdminInstance>[]} */
const INSTANCE_COLUMNS = [
  { label: "Status", cell: (one) => html`<${StatusBadge} status=${one.status} />` },
  {
    label: "Instance",
    cell: (one) =>
      html`<div class="two"><b class="break">${one.name}</b><span class="soft">${one.status_reason} · <${Since} at=${one.status_since} /></span></div>`
  },
  {
    label: "Owner",
    cell: (one) =>
      html`<div class="two roomy"><span class="break">${one.user_name}</span><span class="soft break">${one.user_email}</span></div>`
  },
  {
    label: "Public address",
    cell: (one) => html`<span class="break roomy">${one.public_url ?? html`<span class="soft">none</span>`}</span>`
  },
  { label: "Health", cell: health },
  {
    label: "Last heartbeat",
    cell: (one) =>
      one.last_heartbeat === null ? html`<span class="soft">never</span>` : html`<${Ago} at=${one.last_heartbeat} />`,
    end: true
  }
];

export function InstancesPart() {
  const [words, setWords] = useState("");
  const status = address.value.query.get("status") ?? "";
  const query = new URLSearchParams({ limit: "50", ...(words && { q: words }), ...(status && { status }) });
  const pages = /** @type {any} */ (usePages(`/admin/instances?${query}`, "instances", { every: LIST_MS }));
  const choose = (/** @type {Event} */ event) => {
    const { value } = /** @type {HTMLSelectElement} */ (event.target);
    go(value ? `/admin/instances?status=${value}` : "/admin/instances", { replace: true });
  };
  return html`<div class="filters"><${Search} label="Search by name or owner" onWords=${setWords} />
      <label class="choice">Status <select onChange=${choose} value=${status}><option value="">all</option>
        ${STATUS_NAMES.map((name) => html`<option value=${name} selected=${name === status}>${describe(name).word}</option>`)}</select></label></div>
    <${Section} title="All instances" aside=${pages.total !== null && html`<span class="soft">${count(pages.total)}</span>`} flush>
      <${PagedTable} what="Instances" pages=${pages} columns=${INSTANCE_COLUMNS} empty="There is no such instance." /><//>`;
}

// --- alerts ------------------------------------------------------------------------------------------------------

/** @param {Alert} one */
function deliveries(one) {
  if (one.deliveries.length === 0) return html`<span class="soft">recorded only, no channel is set up</span>`;
  return html`<ul class="deliveries">${one.deliveries.map(
    (delivery) => html`<li key=${delivery.channel}>
    <b>${delivery.channel}</b> <span class="mark" data-good=${delivery.state === "delivered" ? "yes" : delivery.state === "failed" ? "no" : "open"}>${delivery.state}</span>
    <span class="soft"> ${count(delivery.attempts)} ${delivery.attempts === 1 ? "attempt" : "attempts"}</span>
    ${delivery.last_error && html`<span class="soft break reason">${delivery.last_error}</span>`}</li>`
  )}</ul>`;
}

/** @type {import("./table.js").Column<Alert>[]} */
const ALERT_COLUMNS = [
  { label: "When", cell: (one) => dateTime(one.sent_at) },
  {
    label: "What",
    cell: (one) => html`<div class="two"><b>${one.alert_type}</b><span class="break">${one.message}</span></div>`
  },
  { label: "Instance", cell: (one) => html`<code class="break">${one.instance_id ?? "deleted"}</code>` },
  { label: "Deliveries", cell: deliveries }
];

export function AlertsPart() {
  const pages = /** @type {any} */ (
    usePages("/admin/alerts?limit=50", "alerts", {
      every: LIST_MS,
      mark: happened.value.what === "alert" ? happened.value.number : 0
    })
  );
  return html`<${Section} title="Alerts" flush>
    <${PagedTable} what="Alerts" pages=${pages} columns=${ALERT_COLUMNS} empty="No alert was sent yet." /><//>`;
}

// --- audit -------------------------------------------------------------------------------------------------------

/** @type {import("./table.js").Column<AuditEntry>[]} */
const AUDIT_COLUMNS = [
  { label: "When", cell: (one) => dateTime(one.at) },
  { label: "Who", cell: (one) => html`<span class="break">${one.actor_email ?? one.actor_id ?? "the system"}</span>` },
  { label: "What", cell: (one) => html`<b>${one.action}</b>` },
  { label: "Whom or what", cell: (one) => html`<span class="break">${one.target ?? ""}</span>` },
  { label: "Details", cell: (one) => html`<span class="break">${one.details ?? ""}</span>` },
  { label: "From", cell: (one) => one.address ?? "" }
];

export function AuditPart() {
  const pages = /** @type {any} */ (usePages("/admin/audit?limit=50", "entries", { every: LIST_MS }));
  return html`<${Section} title="Audit" flush>
    <${PagedTable} what="The audit log" pages=${pages} columns=${AUDIT_COLUMNS} empty="Nothing was done yet." /><//>`;
}
