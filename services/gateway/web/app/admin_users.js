// admin_users.js: users as admins see them, and what admins do with them.
import { useState } from "preact/hooks";
import { Search } from "./admin_lists.js";
import { usePages } from "./answers.js";
import { post, remove } from "./api.js";
import { now } from "./clock.js";
import { count, dateTime } from "./format.js";
import { Ago, CopyButton, Dialog, Form, say } from "./parts.js";
import { user } from "./session.js";
import { PagedTable, Section } from "./table.js";
import { html } from "./view.js";

/** @typedef {import("./types.js").AdminUser} AdminUser */

const LIST_MS = 5000;
const PLANS = ["trial", "pro", "enterprise"];

// --- what is done with a user ------------------------------------------------------------------------------------

/** @type {Record<string, {title: string, action: string, words: string, danger?: boolean}>} */
const ACTS = {
  "make-admin": {
    title: "Make admin",
    action: "Make admin",
    words: "Admins see all users and instances, and may do everything that you may."
  },
  "remove-admin": { title: "Remove admin", action: "Remove admin", words: "This becomes an ordinary account at once." },
  "revoke-sessions": {
    title: "Revoke sessions",
    action: "Revoke all sessions",
    words: "All sessions and streams of this user end within a second."
  },
  "reset-password": {
    title: "Reset password",
    action: "Make a one-time password",
    words: "The present password stops working and all sessions end. You see the new password once."
  },
  disable: {
    title: "Disable",
    action: "Disable",
    words: "The user is signed out and cannot sign in until enabled again.",
    danger: true
  },
  enable: { title: "Enable", action: "Enable", words: "The user may sign in again." },
  delete: {
    title: "Delete",
    action: "Delete user",
    words: "The user, all instances and their history are gone for good.",
    danger: true
  }
};

/** @param {{one: AdminUser, kind: string, onDone: () => void, onBack: () => void}} properties */
function Act({ one, kind, onDone, onBack }) {
  const { action, words, danger } = ACTS[kind];
  const [password, setPassword] = useState("");
  const act = async () => {
    const path = `/admin/users/${encodeURIComponent(one.id)}`;
    const answer = kind === "delete" ? await remove(path) : await post(`${path}/${kind}`);
    if (kind === "reset-password") {
      setPassword(answer.password);
    } else {
      say(`${one.email}: ${action.toLowerCase()}, done.`);
      onDone();
    }
  };
  if (password) {
    return html`<p>The one-time password of ${one.email}, shown only now:</p>
      <pre class="command" tabindex="0" aria-label="One-time password"><code>${password}</code></pre>
      <div class="actions"><${CopyButton} text=${password} label="Password">Copy<//><button type="button" class="primary" onClick=${onDone}>Done</button></div>`;
  }
  return html`<${Form} act=${act} action=${action} danger=${danger} cancel=${onBack}><p>${words}</p><//>`;
}

/** @param {{one: AdminUser, onDone: () => void}} properties */
function Plan({ one, onDone }) {
  /** @param {Record<string, string>} values */
  const act = async ({ plan, days }) => {
    await post(`/admin/users/${encodeURIComponent(one.id)}/plan`, { plan, ...(days ? { days: Number(days) } : {}) });
    say(`${one.email} is on the plan ${plan} now.`);
    onDone();
  };
  return html`<${Form} act=${act} action="Set plan"><div class="pair">
    <label>Plan <select name="plan">
      ${PLANS.map((name) => html`<option value=${name} selected=${name === one.plan}>${name}</option>`)}
    </select></label>
    <label>For days <input name="days" type="number" min="1" max="36500" inputmode="numeric" placeholder="as usual" /></label></div><//>`;
}

/** @param {{one: AdminUser, onClose: () => void, onDone: () => void}} properties */
function Manage({ one, onClose, onDone }) {
  const [kind, setKind] = useState("");
  const isSelf = one.id === user.value?.id;
  const kinds = [
    one.is_admin ? "remove-admin" : "make-admin",
    "revoke-sessions",
    "reset-password",
    one.disabled ? "enable" : "disable",
    "delete"
  ];
  return html`<${Dialog} title=${kind ? `${ACTS[kind].title}: ${one.email}` : one.email} onClose=${onClose}>
    ${
      kind
        ? html`<${Act} one=${one} kind=${kind} onDone=${onDone} onBack=${() => setKind("")} key=${kind} />`
        : html`
      <${Plan} one=${one} onDone=${onDone} />
      ${isSelf && html`<p class="hint">This is your own account.</p>`}
      <div class="choices">${kinds.map(
        (name) => html`
        <button type="button" key=${name} class=${ACTS[name].danger ? "grave" : ""} onClick=${() => setKind(name)}>${ACTS[name].title}</button>`
      )}
      </div>`
    }
  <//>`;
}

// --- the list ----------------------------------------------------------------------------------------------------

/** @param {AdminUser} one */
function plan(one) {
  const isOver = one.plan_expires !== null && Date.parse(one.plan_expires) <= now.value;
  const end =
    one.plan_expires === null ? "without end" : `${isOver ? "expired" : "until"} ${dateTime(one.plan_expires)}`;
  return html`<div class="two"><span>${one.plan}</span><span class=${isOver ? "over" : "soft"}>${end}</span></div>`;
}

export function UsersPart() {
  const [words, setWords] = useState("");
  const [managed, setManaged] = useState(/** @type {AdminUser|null} */ (null));
  const query = new URLSearchParams({ limit: "50", ...(words && { q: words }) });
  const pages = /** @type {any} */ (usePages(`/admin/users?${query}`, "users", { every: LIST_MS }));
  /** As the list has it now; or as it was, when the list shows others. */
  const one = pages.items?.find((/** @type {AdminUser} */ { id }) => id === managed?.id) ?? managed;
  const done = () => {
    setManaged(null);
    pages.reload();
  };
  /** @type {import("./table.js").Column<AdminUser>[]} */
  const columns = [
    {
      label: "User",
      cell: (row) =>
        html`<div class="two">
          <span><b class="break">${row.name}</b> ${row.is_admin && html`<span class="tag">admin</span>`} ${row.disabled && html`<span class="tag bad">disabled</span>`}</span>
          <span class="soft break">${row.email}</span>
        </div>`
    },
    { label: "Plan", cell: plan },
    { label: "Instances", cell: (row) => `${count(row.instances)}, ${count(row.active_tunnels)} connected`, end: true },
    { label: "Since", cell: (row) => dateTime(row.created_at) },
    { label: "Last sign-in", cell: (row) => html`<${Ago} at=${row.last_login_at} />` },
    {
      label: "",
      cell: (row) =>
        html`<button type="button" class="small" onClick=${() => setManaged(row)} aria-label=${`Manage ${row.email}`}>Manage</button>`,
      end: true
    }
  ];
  return html`<div class="filters"><${Search} label="Search by name or e-mail" onWords=${setWords} /></div>
    <${Section} title="Users" aside=${pages.total !== null && html`<span class="soft">${count(pages.total)}</span>`} flush>
      <${PagedTable} what="Users" pages=${pages} columns=${columns} empty="There is no such user." /><//>
    ${managed && html`<${Manage} one=${one} onClose=${() => setManaged(null)} onDone=${done} key=${managed.id} />`}`;
}
