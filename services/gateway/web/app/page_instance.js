// page_instance.js: /instances/:id, everything that is known of one instance.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useAnswer, usePages } from "./answers.js";
import { Problem } from "./api.js";
import { Chart } from "./chart.js";
import { now, serverTimeOf } from "./clock.js";
import { ask } from "./dialogs.js";
import { count, dateTime, duration, percent, size } from "./format.js";
import { Icon } from "./icons.js";
import { STRIP_HOURS, ids, instance, strip } from "./instances.js";
import { happened, listProblem, loadList } from "./live.js";
import { Ago, CopyButton, IconButton, Since, StatusBadge, Strip, Trouble } from "./parts.js";
import { describe } from "./status.js";
import { PagedTable, Section } from "./table.js";
import { html } from "./view.js";

/** @typedef {import("./types.js").Instance} Instance */
/** @typedef {import("./types.js").Sample} Sample */
/** @typedef {import("./types.js").Entry} Entry */
/** @typedef {import("./types.js").Uptime} Uptime */
/** @typedef {import("./types.js").TunnelSession} TunnelSession */

const REFRESH_MS = 15000;
const GAP_MS = 90000; // samples further apart are not joined by a line

/** A number that changes when something happened to this instance. @param {string} id */
function useMark(id) {
  const mark = useRef(0);
  const { id: whose, number } = happened.value;
  if (whose === id || whose === "") mark.current = number;
  return mark.current;
}

// --- head --------------------------------------------------------------------------------------------------------

/** @param {{label: string, children: any}} properties */
function Fact({ label, children }) {
  return html`<div><dt>${label}</dt><dd>${children}</dd></div>`;
}

/** @param {{row: Instance}} properties */
function Facts({ row }) {
  return html`<dl class="card facts">
    <${Fact} label="Public address">${
      row.public_url
        ? html`<span class="break">${row.public_url}</span> <${CopyButton} text=${row.public_url} label="Public address" />`
        : html`<span class="soft">none while not connected</span>`
    }<//>
    <${Fact} label="Local port">${row.local_port}<//>
    <${Fact} label="Last heartbeat">${row.heard_at ? html`<${Ago} at=${serverTimeOf(row.heard_at)} />` : html`<span class="soft">never</span>`}<//>
    <${Fact} label="Bore-server">${row.assigned_server ?? row.server_host ?? html`<span class="soft">not chosen yet</span>`} <span class="soft">· ${row.region}</span><//>
    <${Fact} label="Created">${dateTime(row.created_at)}<//>
    <${Fact} label="Id"><code class="break">${row.id}</code> <${CopyButton} text=${row.id} label="Id" /><//>
  </dl>`;
}

/** @param {{row: Instance}} properties */
function Head({ row }) {
  const isUp = row.tunnel_connected || row.status === "starting";
  return html`<a class="up" href="/dashboard"><${Icon} name="back" />Instances</a>
    <header class="title">
      <div class="naming"><h1 class="break">${row.name}</h1>
        <p class="status-line"><${StatusBadge} status=${row.status} large /><span>${row.status_reason} <span class="soft">· <${Since} at=${row.status_since} /></span></span></p></div>
      <div class="does">
        <button type="button" class=${isUp ? "" : "primary"} onClick=${() => ask(isUp ? "disconnect" : "connect", row.id)}>${isUp ? "Disconnect" : "Connect"}</button>
        <${IconButton} icon="pencil" label="Rename" onClick=${() => ask("rename", row.id)} />
        <${IconButton} icon="trash" label="Delete" danger onClick=${() => ask("delete", row.id)} />
      </div>
    </header>
    <${Facts} row=${row} />`;
}

// --- uptime ------------------------------------------------------------------------------------------------------

/** @param {{id: string, span: string, words: string, mark: number}} properties */
function UptimeTile({ id, span, words, mark }) {
  const { data, problem } = /** @type {import("./answers.js").Answer<{uptime_data: Uptime}>} */ (
    useAnswer(`/instances/${id}/status-history?window=${span}&limit=1`, { every: 60000, mark })
  );
  const uptime = data?.uptime_data;
  const detail =
    uptime &&
    (uptime.incident_count === 0
      ? "no incident"
      : `${count(uptime.incident_count)} ${uptime.incident_count === 1 ? "incident" : "incidents"}, down ${duration(uptime.total_downtime_ms)}`);
  return html`<div class="tile"><p class="soft">${words}</p>
    <p class="figure">${uptime ? (uptime.history_span_ms > 0 ? percent(uptime.uptime_percentage) : "–") : problem ? "?" : " "}</p>
    <p class="soft">${detail ?? (problem ? "could not be loaded" : " ")}</p></div>`;
}

/** @param {{id: string, mark: number}} properties */
function UptimeSection({ id, mark }) {
  const stretches = strip(id).value;
  const hours = [STRIP_HOURS, 18, 12, 6, 0];
  return html`<${Section} title="Uptime">
    <div class="tiles three">
      <${UptimeTile} id=${id} span="24h" words="24 hours" mark=${mark} />
      <${UptimeTile} id=${id} span="7d" words="7 days" mark=${mark} />
      <${UptimeTile} id=${id} span="30d" words="30 days" mark=${mark} />
    </div>
    <${Strip} stretches=${stretches} hours=${STRIP_HOURS} />
    <p class="scale" aria-hidden="true">${hours.map((hour) => html`<span>${hour === 0 ? "now" : `${hour} h ago`}</span>`)}</p>
  <//>`;
}

// --- health ------------------------------------------------------------------------------------------------------

/** Whether the code server answered, as stretches. @param {Sample[]} samples ascending @returns {import("./types.js").Stretch[]} */
function responsiveness(samples) {
  return samples.map((sample, index) => {
    const end = Math.min(samples[index + 1]?.timestamp ?? sample.timestamp + REFRESH_MS, sample.timestamp + GAP_MS);
    const status = !sample.has_code_server ? "inactive" : sample.vscode_responsive ? "online" : "degraded";
    return {
      status: /** @type {import("./types.js").Status} */ (status),
      from: new Date(sample.timestamp).toISOString(),
      to: new Date(end).toISOString()
    };
  });
}

/** Times, and a column of values, with an empty moment where nothing was heard for long. @param {Sample[]} samples */
function columns(samples) {
  /** @type {number[]} */
  const times = [];
  /** @type {(number|null)[]} */
  const cpu = [];
  /** @type {(number|null)[]} */
  const memory = [];
  for (const [index, sample] of samples.entries()) {
    if (index > 0 && sample.timestamp - samples[index - 1].timestamp > GAP_MS) {
      times.push((sample.timestamp - 1) / 1000);
      cpu.push(null);
      memory.push(null);
    }
    times.push(sample.timestamp / 1000);
    cpu.push(sample.cpu_usage);
    memory.push(sample.memory_usage);
  }
  return { times, cpu, memory };
}

/** @param {{samples: Sample[]}} properties */
function Responsiveness({ samples }) {
  const withServer = samples.filter(({ has_code_server }) => has_code_server);
  if (withServer.length === 0) return html`<p class="soft">No heartbeat spoke of a code server.</p>`;
  const good = withServer.filter(({ vscode_responsive }) => vscode_responsive).length;
  const words = `${percent((good / withServer.length) * 100)} of ${count(withServer.length)} samples responsive`;
  const from = samples[0].timestamp;
  const hours = Math.max(now.value - from, 60000) / 3600000;
  return html`<figure class="chart"><figcaption><b>Code server</b><span class="soft">${words}</span></figcaption>
    <${Strip} stretches=${responsiveness(samples)} hours=${hours} names=${{ online: "responsive", degraded: "not responsive", inactive: "no code server" }} /></figure>`;
}

/** @param {{id: string, mark: number}} properties */
function HealthSection({ id, mark }) {
  const [number, setNumber] = useState(240);
  const { data, problem, reload } = /** @type {import("./answers.js").Answer<{samples: Sample[]}>} */ (
    useAnswer(`/instances/${id}/health?samples=${number}`, { every: REFRESH_MS, mark })
  );
  const samples = useMemo(
    () => [...(data?.samples ?? [])].sort((left, right) => left.timestamp - right.timestamp),
    [data]
  );
  const { times, cpu, memory } = useMemo(() => columns(samples), [samples]);
  const choose = html`<div class="switch" role="group" aria-label="Samples">
    ${[240, 1000].map(
      (value) => html`
      <button type="button" class="small" aria-pressed=${number === value} onClick=${() => setNumber(value)}>${count(value)}</button>`
    )}
  </div>`;
  return html`<${Section} title="Health" aside=${choose}>
    ${problem && html`<${Trouble} what="Health" problem=${problem} retry=${reload} />`}
    ${data && samples.length === 0 && html`<p class="empty">No heartbeat was heard yet. Clients that send heartbeats draw their processor and memory here.</p>`}
    ${
      samples.length > 0 &&
      html`<div class="charts">
      <${Chart} title="Processor" unit="%" top=${100} times=${times} values=${cpu} />
      <${Chart} title="Memory" unit="MiB" times=${times} values=${memory} />
      <${Responsiveness} samples=${samples} /></div>`
    }
    ${!data && !problem && html`<p class="wait" role="status">Loading…</p>`}
  <//>`;
}

// --- timeline, sessions, alerts ----------------------------------------------------------------------------------

/** How long a status lasted, or lasts. @param {{entry: Entry, next: Entry|undefined}} properties */
function Lasted({ entry, next }) {
  if (!next) return html`<${Since} at=${entry.timestamp} />`;
  return html`for ${duration(Date.parse(next.timestamp) - Date.parse(entry.timestamp))}`;
}

/** @param {{id: string, mark: number}} properties */
function Timeline({ id, mark }) {
  const pages = /** @type {import("./answers.js").Pages<Entry>} */ (
    usePages(`/instances/${id}/status-history?limit=10`, "status_history", { mark })
  );
  const { items, problem, reload, more, isBusy } = pages;
  return html`<${Section} title="Timeline">
    ${problem && html`<${Trouble} what="The timeline" problem=${problem} retry=${reload} />`}
    <ol class="timeline">${items?.map(
      (entry, index) => html`<li key=${entry.id} data-status=${entry.status}>
      <span class="dot"><${Icon} name=${describe(entry.status).icon} /></span>
      <div><p><b>${describe(entry.status).word}</b> <span class="soft"><${Lasted} entry=${entry} next=${items[index - 1]} /></span></p>
        <p>${entry.reason}</p><p class="soft">${dateTime(entry.timestamp)}</p></div>
    </li>`
    )}</ol>
    ${more && html`<div class="more"><button type="button" class="small" onClick=${more} disabled=${isBusy}>Show more</button></div>`}
  <//>`;
}

/** @param {TunnelSession} one */
function bytes({ bytes_in, bytes_out, bytes_transferred }) {
  if (bytes_in === null && bytes_out === null) return size(bytes_transferred);
  return html`<span title="to the tunnel">↓ ${size(bytes_in)}</span> <span title="from the tunnel">↑ ${size(bytes_out)}</span>`;
}

/** @type {import("./table.js").Column<TunnelSession>[]} */
const SESSION_COLUMNS = [
  { label: "Began", cell: (one) => dateTime(one.connected_at ?? one.created_at) },
  {
    label: "State",
    cell: (one) =>
      one.state === "closed" && one.connected_at && one.closed_at
        ? `closed after ${duration(Date.parse(one.closed_at) - Date.parse(one.connected_at))}`
        : one.state
  },
  { label: "Why it ended", cell: (one) => one.close_reason ?? "" },
  { label: "Bore-server", cell: (one) => [one.server_id, one.remote_port && `port ${one.remote_port}`].filter(Boolean).join(", ") },
  { label: "Bytes", cell: bytes, end: true }
];

/** @param {{id: string, mark: number}} properties */
function Sessions({ id, mark }) {
  const pages = usePages(`/instances/${id}/sessions?limit=10`, "sessions", { mark, every: 60000 });
  return html`<${Section} title="Tunnel sessions" flush>
    <${PagedTable} what="Tunnel sessions" pages=${pages} columns=${SESSION_COLUMNS} empty="No tunnel was opened yet." /><//>`;
}

/** @param {{id: string, mark: number}} properties */
function Alerts({ id, mark }) {
  const { items, problem, reload, more, isBusy } =
    /** @type {import("./answers.js").Pages<import("./types.js").Alert>} */ (
      usePages(`/instances/${id}/alerts?limit=10`, "alerts", { mark })
    );
  return html`<${Section} title="Alerts">
    ${problem && html`<${Trouble} what="Alerts" problem=${problem} retry=${reload} />`}
    ${items?.length === 0 && html`<p class="empty">No alert was sent.</p>`}
    <ol class="alerts">${items?.map(
      (alert) => html`<li key=${alert.id}>
      <p><b>${alert.alert_type}</b></p><p>${alert.message}</p><p class="soft">${dateTime(alert.sent_at)}</p></li>`
    )}</ol>
    ${more && html`<div class="more"><button type="button" class="small" onClick=${more} disabled=${isBusy}>Show more</button></div>`}
  <//>`;
}

// --- the page ----------------------------------------------------------------------------------------------------

/** @param {{match: RegExpExecArray}} properties */
export function InstancePage({ match }) {
  const id = match[1];
  const row = ids.value && instance(id)?.value;
  const mark = useMark(id);
  const title = row ? row.name : "Instance";
  useEffect(() => {
    document.title = `${title} · Bore`;
  }, [title]);
  if (!row) {
    const problem = listProblem.value && new Problem(0, "", listProblem.value);
    return html`<main id="main" class="wide" tabindex="-1">
      ${
        ids.value
          ? html`<h1>There is no such instance</h1><p class="lead">It was deleted, or it is not yours.</p>
            <a class="button" href="/dashboard">To your instances</a>`
          : problem
            ? html`<${Trouble} what="The instance" problem=${problem} retry=${loadList} />`
            : html`<p class="wait" role="status">Loading…</p>`
      }
    </main>`;
  }
  return html`<main id="main" class="wide" tabindex="-1">
    <${Head} row=${row} />
    <div class="columns">
      <div><${UptimeSection} id=${id} mark=${mark} /><${HealthSection} id=${id} mark=${mark} /><${Sessions} id=${id} mark=${mark} /></div>
      <div><${Timeline} id=${id} mark=${mark} /><${Alerts} id=${id} mark=${mark} /></div>
    </div>
  </main>`;
}
