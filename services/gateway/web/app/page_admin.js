// page_admin.js: /admin and what is below it, for admins alone: the frame, the overview, bore-servers.
import { useEffect } from "preact/hooks";
import { AlertsPart, AuditPart, InstancesPart } from "./admin_lists.js";
import { UsersPart } from "./admin_users.js";
import { useAnswer } from "./answers.js";
import { Problem } from "./api.js";
import { count, duration } from "./format.js";
import { Ago, StatusBadge, Trouble } from "./parts.js";
import { loadUser } from "./session.js";
import { STATUS_NAMES, describe } from "./status.js";
import { PagedTable, Section } from "./table.js";
import { html } from "./view.js";

/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./types.js").Server} Server */
/** @typedef {import("./types.js").Stats} Stats */

const STATS_MS = 2000;
const PARTS_MS = 5000;

// --- overview ----------------------------------------------------------------------------------------------------

/** @param {{words: string, figure: string|null, detail?: string}} properties */
function Tile({ words, figure, detail }) {
  return html`<div class="tile card"><p class="soft">${words}</p><p class="figure">${figure ?? "–"}</p>${detail && html`<p class="soft">${detail}</p>`}</div>`;
}

/** @param {{stats: Stats}} properties */
function Tiles({ stats }) {
  const { sse, socketio } = stats.active_streams ?? { sse: null, socketio: null };
  const streams = sse === null ? undefined : `${count(sse)} SSE, ${count(socketio)} Socket.IO`;
  return html`<div class="tiles">
    <${Tile} words="Users" figure=${count(stats.total_users)} />
    <${Tile} words="Instances" figure=${count(stats.total_instances)} />
    <${Tile} words="Open tunnels" figure=${count(stats.active_tunnels)} />
    <${Tile} words="Heartbeats / s" figure=${stats.heartbeats_per_second === null ? null : stats.heartbeats_per_second.toFixed(1)} />
    <${Tile} words="Open streams" figure=${sse === null ? null : count(sse + socketio)} detail=${streams} />
    <${Tile} words="Up for" figure=${stats.uptime === null ? null : duration(stats.uptime * 1000)} />
  </div>`;
}

/** @param {{stats: Stats}} properties */
function Distribution({ stats }) {
  const total = Math.max(1, stats.total_instances);
  const parts = STATUS_NAMES.map((status) => ({ status, number: stats.by_status[status] ?? 0 }));
  return html`<${Section} title="Instances by status">
    <div class="distribution" aria-hidden="true">
      ${parts.map(({ status, number }) => number > 0 && html`<i key=${status} data-status=${status} style=${{ flexGrow: number }} />`)}
    </div>
    <ul class="shares">${parts.map(
      ({ status, number }) => html`<li key=${status}>
      <a href=${`/admin/instances?status=${status}`} aria-label=${`${describe(status).word}: ${number}`}><${StatusBadge} status=${status} /></a>
      <b>${count(number)}</b><span class="soft">${Math.round((number / total) * 100)} %</span></li>`
    )}</ul>
  <//>`;
}

/** GET /health is not below /api, and 503 is an answer too. */
async function fetchHealth() {
  const answer = await fetch("/health", { cache: "no-store" }).catch(() => null);
  const body = await answer?.json().catch(() => null);
  if (!body?.checks) throw new Problem(0, "unreachable", body?.message ?? "The server cannot be reached.");
  return body;
}

function Parts() {
  const { data, problem, reload } =
    /** @type {import("./answers.js").Answer<{status: string, checks: Record<string, {status: string, message?: string}>}>} */ (
      useAnswer("/health", { every: PARTS_MS, load: fetchHealth })
    );
  return html`<${Section} title="Parts of the system">
    ${problem && html`<${Trouble} what="The health" problem=${problem} retry=${reload} />`}
    <ul class="parts">${Object.entries(data?.checks ?? {}).map(
      ([name, check]) => html`<li key=${name}>
      <${PartBadge} status=${check.status} /><b>${name}</b><span class="soft break">${check.message}</span></li>`
    )}</ul>
  <//>`;
}

/** @param {{status: string}} properties */
function PartBadge({ status }) {
  const isGood = status === "healthy";
  return html`<span class="mark" data-good=${isGood ? "yes" : "no"}>${status}</span>`;
}

/** @param {{stats: Stats}} properties */
function Overview({ stats }) {
  return html`<${Tiles} stats=${stats} /><div class="columns even"><div><${Distribution} stats=${stats} /></div><div><${Parts} /></div></div>`;
}

// --- bore-servers ------------------------------------------------------------------------------------------------

/** @type {import("./table.js").Column<Server>[]} */
const SERVER_COLUMNS = [
  { label: "Bore-server", cell: (one) => html`<b class="break">${one.id}</b>` },
  {
    label: "State",
    cell: (one) =>
      html`<span class="mark" data-good=${one.alive && one.active ? "yes" : "no"}>${one.alive ? (one.active ? "alive" : "takes no tunnels") : "silent"}</span>`
  },
  { label: "Address", cell: (one) => html`<span class="break">${one.host}:${one.port}</span>` },
  { label: "Region", cell: (one) => one.region },
  {
    label: "Tunnels",
    cell: (one) => `${count(one.tunnels)} of ${count(one.max_tunnels)} (${Math.round(one.utilization * 100)} %)`,
    end: true
  },
  {
    label: "Lease",
    cell: (one) =>
      one.lease_expires_at === null
        ? "none"
        : Date.parse(one.lease_expires_at) > Date.now()
          ? "valid"
          : html`ended <${Ago} at=${one.lease_expires_at} />`
  }
];

/** @param {{stats: Stats}} properties */
function Servers({ stats }) {
  const pages = { items: stats.servers, problem: null, reload: () => {}, more: null, isBusy: false };
  return html`<${Section} title="Bore-servers" flush>
    <${PagedTable} what="Bore-servers" pages=${pages} columns=${SERVER_COLUMNS} empty="None has registered. Tunnels go to the default bore-server of the settings." /><//>`;
}

// --- the page ----------------------------------------------------------------------------------------------------

/** What needs the numbers, loaded every two seconds. @param {{part: import("preact").ComponentType<{stats: Stats}>}} properties */
function WithStats({ part: Part }) {
  const { data, problem, reload } = /** @type {import("./answers.js").Answer<Stats>} */ (
    useAnswer("/admin/stats", { every: STATS_MS })
  );
  useEffect(() => {
    // No admin any more: then there is no such page either.
    if (problem instanceof Problem && problem.status === 403) void loadUser();
  }, [problem]);
  return html`${problem && html`<${Trouble} what=${data ? "Newer numbers" : "The numbers"} problem=${problem} retry=${reload} />`}
    ${data ? html`<${Part} stats=${data} />` : !problem && html`<p class="wait" role="status">Loading…</p>`}`;
}

/** @type {{name: string, word: string, part: import("preact").ComponentType<any>}[]} */
const PLACES = [
  { name: "", word: "Overview", part: () => html`<${WithStats} part=${Overview} />` },
  { name: "instances", word: "Instances", part: InstancesPart },
  { name: "users", word: "Users", part: UsersPart },
  { name: "servers", word: "Bore-servers", part: () => html`<${WithStats} part=${Servers} />` },
  { name: "alerts", word: "Alerts", part: AlertsPart },
  { name: "audit", word: "Audit", part: AuditPart }
];

/** @param {{match: RegExpExecArray}} properties */
export function AdminPage({ match }) {
  const here = PLACES.find(({ name }) => name === (match[1] ?? "")) ?? PLACES[0];
  return html`<main id="main" class="wide" tabindex="-1">
    <header class="title"><h1>Admin</h1></header>
    <nav class="places" aria-label="Admin">
      ${PLACES.map(
        ({ name, word }) => html`
        <a key=${name} href=${name ? `/admin/${name}` : "/admin"} aria-current=${name === here.name ? "page" : undefined}>${word}</a>`
      )}
    </nav>
    <${here.part} />
  </main>`;
}
