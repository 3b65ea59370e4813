// page_account.js: /account and /claim-trial: the user's plan, password, sessions.
import { useState } from "preact/hooks";
import { useAnswer } from "./answers.js";
import { post, remove } from "./api.js";
import { now } from "./clock.js";
import { dateTime, duration } from "./format.js";
import { Ago, Confirm, Field, Form, Trouble, say } from "./parts.js";
import { loadUser, signOut, user } from "./session.js";
import { PagedTable, Section } from "./table.js";
import { html } from "./view.js";

/** @typedef {import("./types.js").UserSession} UserSession */

// --- plan --------------------------------------------------------------------------------------------------------

/** @type {{name: string, word: string, tunnels: string, traffic: string, how: string}[]} */
const PLANS = [
  { name: "trial", word: "Trial", tunnels: "1 tunnel at a time", traffic: "10 GB a month", how: "24 hours, once" },
  { name: "pro", word: "Pro", tunnels: "5 tunnels at a time", traffic: "100 GB a month", how: "30 days" },
  {
    name: "enterprise",
    word: "Enterprise",
    tunnels: "20 tunnels at a time",
    traffic: "999 GB a month",
    how: "given by an admin"
  }
];

/** @param {string} name */
const planWord = (name) => PLANS.find((plan) => plan.name === name)?.word ?? name;

function PlanState() {
  const account = user.value;
  if (!account) return null;
  if (account.plan_expires === null) return html`<b>${planWord(account.plan)}</b>, without end`;
  const left = Date.parse(account.plan_expires) - now.value;
  return left > 0
    ? html`<b>${planWord(account.plan)}</b>, ${duration(left)} left <span class="soft">(until ${dateTime(account.plan_expires)})</span>`
    : html`<b>${planWord(account.plan)}</b>, <span class="over">expired ${dateTime(account.plan_expires)}</span>`;
}

/** @param {{plan: typeof PLANS[number]}} properties */
function PlanCard({ plan }) {
  const isCurrent = user.value?.plan === plan.name;
  const claim = async () => {
    await post("/auth/claim-plan", { plan: plan.name });
    await loadUser();
    say(`You are on the plan ${plan.word} now.`);
  };
  return html`<section class=${`card plan ${isCurrent ? "current" : ""}`} aria-label=${plan.word}>
    <h2>${plan.word} ${isCurrent && html`<span class="tag">yours</span>`}</h2>
    <ul><li>${plan.tunnels}</li><li>${plan.traffic}</li><li>${plan.how}</li></ul>
    ${
      plan.name === "enterprise"
        ? html`<p class="hint">Ask whoever runs this server.</p>`
        : html`<${Form} act=${claim} action=${isCurrent ? `Renew ${plan.word}` : `Take ${plan.word}`} />`
    }
  </section>`;
}

export function PlansPage() {
  return html`<main id="main" class="wide" tabindex="-1">
    <header class="title"><div><h1>Plans</h1><p class="soft">You have: <${PlanState} /></p></div></header>
    <div class="plans">${PLANS.map((plan) => html`<${PlanCard} plan=${plan} key=${plan.name} />`)}</div>
  </main>`;
}

// --- password ----------------------------------------------------------------------------------------------------

function Password() {
  const [number, setNumber] = useState(0);
  /** @param {Record<string, string>} values */
  const act = async ({ current_password, new_password }) => {
    await post("/auth/change-password", { current_password, new_password });
    say("Your password is changed. All other sessions have ended.");
    setNumber(number + 1);
  };
  /** @param {import("./api.js").Problem} problem @returns {Record<string, string>} */
  const place = (problem) =>
    problem.code === "invalid_credentials" ? { current_password: "This is not your present password." } : {};
  return html`<${Section} title="Password">
    <${Form} act=${act} action="Change password" place=${place} key=${number}>
      ${(/** @type {Record<string, string>} */ problems) => html`
        <input class="unseen" type="text" name="username" autocomplete="username" value=${user.value?.email} tabindex="-1" aria-hidden="true" readonly />
        <${Field} name="current_password" label="Present password" type="password" autocomplete="current-password" problems=${problems} />
        <${Field} name="new_password" label="New password" type="password" autocomplete="new-password" hint="All your other sessions end." problems=${problems} />`}
    <//>
  <//>`;
}

// --- sessions ----------------------------------------------------------------------------------------------------

/** A browser's name out of its long description. @param {string|null} agent */
function browserName(agent) {
  if (!agent) return "unknown program";
  const known = [
    [/Edg\//, "Edge"],
    [/Firefox\//, "Firefox"],
    [/Chrom(e|ium)\//, "Chrome"],
    [/Safari\//, "Safari"],
    [/curl\//, "curl"]
  ];
  const systems = [
    [/Android/, "Android"],
    [/iPhone|iPad/, "iOS"],
    [/Windows/, "Windows"],
    [/Mac OS/, "macOS"],
    [/Linux/, "Linux"]
  ];
  const find = (/** @type {any[][]} */ list) => list.find(([pattern]) => pattern.test(agent))?.[1];
  const name = find(known);
  const system = find(systems);
  return name ? `${name}${system ? ` on ${system}` : ""}` : agent.slice(0, 60);
}

function Sessions() {
  const { data, problem, reload } = /** @type {import("./answers.js").Answer<{sessions: UserSession[]}>} */ (
    useAnswer("/auth/sessions?limit=100", { every: 30000 })
  );
  const [ending, setEnding] = useState(/** @type {UserSession|null} */ (null));
  const end = async () => {
    await remove(`/auth/sessions/${ending?.id}`);
    say("The session has ended.");
    reload();
  };
  /** @type {import("./table.js").Column<UserSession>[]} */
  const columns = [
    {
      label: "Where",
      cell: (one) =>
        html`<span title=${one.user_agent ?? ""}>${browserName(one.user_agent)}</span> ${one.current && html`<span class="tag">this one</span>`}`
    },
    { label: "Address", cell: (one) => one.address ?? "unknown" },
    { label: "Signed in", cell: (one) => dateTime(one.created_at) },
    { label: "Last used", cell: (one) => html`<${Ago} at=${one.last_used_at} />` },
    {
      label: "",
      cell: (one) =>
        !one.current &&
        html`<button type="button" class="small" onClick=${() => setEnding(one)} aria-label=${`End the session of ${browserName(one.user_agent)}, ${dateTime(one.created_at)}`}>End</button>`,
      end: true
    }
  ];
  const pages = { items: data?.sessions ?? null, problem, reload, more: null, isBusy: false };
  return html`<${Section} title="Where you are signed in" flush>
    <${PagedTable} what="Your sessions" pages=${pages} columns=${columns} empty="None." />
    ${
      ending &&
      html`<${Confirm} title="End this session?" action="End session" act=${end} onClose=${() => setEnding(null)}>
      <p>${browserName(ending.user_agent)} at ${ending.address ?? "an unknown address"} is signed out at once.</p><//>`
    }
  <//>`;
}

// --- the page ----------------------------------------------------------------------------------------------------

export function AccountPage() {
  const [asks, setAsks] = useState(false);
  const [problem, setProblem] = useState(/** @type {unknown} */ (null));
  const leave = () => signOut().catch(setProblem);
  return html`<main id="main" class="narrow" tabindex="-1">
    <header class="title"><h1>Account</h1>
      <div class="does"><button type="button" onClick=${leave}>Sign out</button><button type="button" onClick=${() => setAsks(true)}>Sign out everywhere</button></div></header>
    ${problem && html`<${Trouble} what="Signing out" problem=${problem} />`}
    <${Section} title="You">
      <dl class="facts plain-facts">
        <div><dt>Name</dt><dd class="break">${user.value?.name}</dd></div>
        <div><dt>E-mail address</dt><dd class="break">${user.value?.email}</dd></div>
        <div><dt>Plan</dt><dd><span><${PlanState} /></span> <a href="/claim-trial">Plans</a></dd></div>
      </dl>
    <//>
    <${Password} />
    <${Sessions} />
    ${
      asks &&
      html`<${Confirm} title="Sign out everywhere?" action="Sign out everywhere" act=${() => signOut({ everywhere: true })} onClose=${() => setAsks(false)}>
      <p>All your sessions end within a second, on every machine, this one included. Programs that use a token of yours must sign in again.</p><//>`
    }
  </main>`;
}
