// dialogs.js: what a user does with an instance.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { patch, post, remove, sentence } from "./api.js";
import { now } from "./clock.js";
import { duration } from "./format.js";
import { instance } from "./instances.js";
import { changed, gone } from "./live.js";
import { Confirm, CopyButton, Dialog, Field, Form, StatusBadge, say } from "./parts.js";
import { address, go } from "./router.js";
import { html } from "./view.js";

/** @typedef {import("./types.js").Instance} Instance */
/** @typedef {import("./types.js").Ticket} Ticket */

const CLIENT_PORT = 7835; // the only port that bore clients dial

/** Which dialog is open. @type {import("@preact/signals").Signal<{kind: ""|"create"|"rename"|"connect"|"disconnect"|"delete", id: string}>} */
const open = signal({ kind: "", id: "" });

/** @param {"create"|"rename"|"connect"|"disconnect"|"delete"} kind @param {string} [id] */
export function ask(kind, id = "") {
  open.value = { kind, id };
}

function close() {
  open.value = { kind: "", id: "" };
}

// --- create and rename -------------------------------------------------------------------------------------------

/** The last attempt to create something: sent again after a lost answer, it must not create a second one. */
let attempt = { fields: "", key: "" };

/** @param {object} fields */
function keyOf(fields) {
  const text = JSON.stringify(fields);
  if (attempt.fields !== text)
    attempt = { fields: text, key: [...crypto.getRandomValues(new Uint32Array(4))].join("-") };
  return attempt.key;
}

/** @param {Record<string, string>} values */
async function create({ name, local_port, region }) {
  const fields = {
    name: name.trim(),
    local_port: Number(local_port),
    ...(region.trim() ? { region: region.trim() } : {})
  };
  const row = await post("/instances", fields, keyOf(fields));
  attempt = { fields: "", key: "" };
  changed(row);
  say(`${row.name} was created.`);
}

function CreateDialog() {
  return html`<${Dialog} title="New instance" onClose=${close}>
    <${Form} act=${create} done=${close} action="Create instance" cancel=${close}>
      ${(/** @type {Record<string, string>} */ problems) => html`
        <${Field} name="name" label="Name" autocomplete="off" maxLength=${255} hint="What you will recognise it by, such as workstation." problems=${problems} />
        <${Field} name="local_port" label="Local port" type="number" inputmode="numeric" min="1" max="65535"
          hint="The port on your machine that the tunnel leads to." problems=${problems} />
        <${Field} name="region" label="Region (optional)" autocomplete="off" hint="Where its bore-server shall be." problems=${problems} />`}
    <//>
  <//>`;
}

/** @param {{row: Instance}} properties */
function RenameDialog({ row }) {
  const act = async (/** @type {Record<string, string>} */ { name }) => {
    changed((await patch(`/instances/${row.id}`, { name: name.trim() })).instance);
  };
  return html`<${Dialog} title="Rename" onClose=${close}>
    <${Form} act=${act} done=${close} action="Rename" cancel=${close}>
      ${(/** @type {Record<string, string>} */ problems) => html`
        <${Field} name="name" label="Name" value=${row.name} autocomplete="off" maxLength=${255} problems=${problems} />`}
    <//>
  <//>`;
}

// --- connect -----------------------------------------------------------------------------------------------------

/** An argument as a POSIX shell takes it. @param {string} text */
function quoted(text) {
  return /^[\w./:@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** The command that opens the tunnel. @param {Ticket} ticket */
export function command({ local_port, server_host, remote_port, tunnel_token }) {
  const port = remote_port > 0 ? ` --port ${remote_port}` : "";
  return `bore local ${local_port} --to ${quoted(server_host)}${port} --secret ${quoted(tunnel_token)}`;
}

/** @param {{ticket: Ticket}} properties */
function Expiry({ ticket }) {
  const left = Date.parse(ticket.expires_at) - now.value;
  return left > 0
    ? html`<p class="hint">The token is shown only here and only now. It is good for ${duration(left)}.</p>`
    : html`<p class="problem">The token has expired. Close this, and connect again.</p>`;
}

/** @param {{row: Instance}} properties */
function Outcome({ row }) {
  const isUp = row.tunnel_connected && row.status !== "starting";
  const up = row.public_url ? html`Reachable at <b>${row.public_url}</b>` : "The tunnel is up.";
  return html`<div class="outcome" role="status">
    <${StatusBadge} status=${row.status} />
    <span>${isUp ? up : row.status === "starting" ? "Waiting for the tunnel…" : row.status_reason}</span>
  </div>`;
}

/** @param {{row: Instance, ticket: Ticket}} properties */
function Ticket({ row, ticket }) {
  const text = command(ticket);
  return html`<p>Run this where port ${ticket.local_port} is:</p>
    <pre class="command" tabindex="0" aria-label="Command"><code>${text}</code></pre>
    <div class="actions start">
      <${CopyButton} text=${text} label="Command">Copy the command<//>
      <${CopyButton} text=${ticket.tunnel_token} label="Token">Copy the token alone<//>
    </div>
    <${Expiry} ticket=${ticket} />
    ${ticket.server_port !== CLIENT_PORT && html`<p class="problem">This bore-server listens on port ${ticket.server_port}, but bore clients dial ${CLIENT_PORT}.</p>`}
    <${Outcome} row=${row} />
    <div class="actions"><button type="button" class="primary" onClick=${close}>Done</button></div>`;
}

/** @param {{row: Instance}} properties */
function ConnectDialog({ row }) {
  const [ticket, setTicket] = useState(/** @type {Ticket|null} */ (null));
  const [problem, setProblem] = useState("");
  const replaces = row.tunnel_connected || row.status === "starting";
  const fetchTicket = async () => {
    setProblem("");
    setTicket(await post(`/instances/${row.id}/connect`));
  };
  useEffect(() => {
    if (!replaces) fetchTicket().catch((error) => setProblem(sentence(error)));
  }, []);
  if (ticket === null && replaces) {
    const what = row.tunnel_connected
      ? "It is connected now. A new token ends the one in use."
      : "A token was already issued. A new one replaces it.";
    return html`<${Dialog} title=${`Connect ${row.name}`} onClose=${close}>
      <${Form} act=${fetchTicket} action="Issue a new token" cancel=${close}><p>${what}</p><//>
    <//>`;
  }
  return html`<${Dialog} title=${`Connect ${row.name}`} onClose=${close}>
    ${ticket && html`<${Ticket} row=${row} ticket=${ticket} />`}
    ${
      problem &&
      html`<p class="problem" role="alert">${problem}</p>
      <div class="actions">${problem.includes("plan") && html`<a class="button" href="/claim-trial" onClick=${close}>Plans</a>`}
        <button type="button" class="primary" onClick=${() => fetchTicket().catch((error) => setProblem(sentence(error)))}>Try again</button></div>`
    }
    ${!ticket && !problem && html`<p class="hint">Asking for a token…</p>`}
  <//>`;
}

// --- disconnect and delete ---------------------------------------------------------------------------------------

/** @param {{row: Instance}} properties */
function DisconnectDialog({ row }) {
  return html`<${Confirm} title=${`Disconnect ${row.name}?`} action="Disconnect" danger=${false} onClose=${close} act=${() => post(`/instances/${row.id}/disconnect`)}>
    <p>Its token is revoked${row.tunnel_connected ? " and whoever uses the tunnel now is cut off" : ""}. You can connect again at any time.</p>
  <//>`;
}

/** @param {{row: Instance}} properties */
function DeleteDialog({ row }) {
  const act = async () => {
    await remove(`/instances/${row.id}`);
    gone(row.id);
    say(`${row.name} was deleted.`);
    if (address.peek().path === `/instances/${row.id}`) go("/dashboard", { replace: true });
  };
  return html`<${Confirm} title=${`Delete ${row.name}?`} action="Delete" onClose=${close} act=${act}>
    <p>The instance, its history and its token are gone for good${row.tunnel_connected ? ", and its tunnel is closed" : ""}.</p>
  <//>`;
}

const WITH_INSTANCE = {
  rename: RenameDialog,
  connect: ConnectDialog,
  disconnect: DisconnectDialog,
  delete: DeleteDialog
};

/** The dialog that is open, if any. */
export function Dialogs() {
  const { kind, id } = open.value;
  const path = address.value.path;
  useEffect(close, [path]);
  if (kind === "") return null;
  if (kind === "create") return html`<${CreateDialog} />`;
  const row = instance(id)?.value;
  return row ? html`<${WITH_INSTANCE[kind]} row=${row} key=${`${kind}-${id}`} />` : null;
}
