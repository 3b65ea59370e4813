// page_login.js: /login and /signup.
import { post } from "./api.js";
import { Field, Form } from "./parts.js";
import { address, go, safeNext } from "./router.js";
import { notice, signedIn } from "./session.js";
import { html } from "./view.js";

/** @typedef {import("./api.js").Problem} Problem */

const NOTICES = {
  "": "",
  expired: "Your session has ended. Sign in, and you are back where you were.",
  "signed-out": "You signed out in another tab.",
  unreachable: "The server could not be reached."
};

function nextQuery() {
  const next = address.value.query.get("next");
  return next === null ? "" : `?next=${encodeURIComponent(next)}`;
}

/** @param {Record<string, string>} values */
async function logIn({ email, password }) {
  const answer = await post("/auth/login", { email: email.trim(), password });
  signedIn(answer.user);
  go(safeNext(address.peek().query.get("next")), { replace: true });
}

/** @param {Record<string, string>} values */
async function signUp({ name, email, password }) {
  const answer = await post("/auth/signup", { name: name.trim(), email: email.trim(), password });
  signedIn(answer.user);
  go(safeNext(address.peek().query.get("next")), { replace: true });
}

/** @param {Problem} problem @returns {Record<string, string>} */
function placeLogin(problem) {
  return problem.code === "invalid_credentials" ? { password: "The e-mail address or the password is wrong." } : {};
}

/** @param {Problem} problem @returns {Record<string, string>} */
function placeSignup(problem) {
  return problem.code === "user_exists" ? { email: "There is already an account with this e-mail address." } : {};
}

/** @param {{title: string, lead: string, children: any}} properties */
function Entrance({ title, lead, children }) {
  return html`<main id="main" class="entrance" tabindex="-1">
    <img class="logo" src=${new URL("./bore.svg", import.meta.url).pathname} alt="" width="44" height="44" />
    <h1>${title}</h1>
    <p class="lead">${lead}</p>
    ${children}
  </main>`;
}

export function LoginPage() {
  const why = NOTICES[notice.value];
  return html`<${Entrance} title="Sign in to Bore" lead="Your tunnels, and how they are.">
    ${why && html`<p class="note" role="status">${why}</p>`}
    <${Form} act=${logIn} action="Sign in" place=${placeLogin}>
      ${(/** @type {Record<string, string>} */ problems) => html`
        <${Field} name="email" label="E-mail address" type="email" autocomplete="username" inputmode="email" spellcheck=${false} problems=${problems} />
        <${Field} name="password" label="Password" type="password" autocomplete="current-password" problems=${problems} />`}
    <//>
    <p class="aside">New here? <a href=${`/signup${nextQuery()}`}>Create an account</a></p>
  <//>`;
}

export function SignupPage() {
  return html`<${Entrance} title="Create an account" lead="You begin with a trial: one tunnel for 24 hours.">
    <${Form} act=${signUp} action="Create account" place=${placeSignup}>
      ${(/** @type {Record<string, string>} */ problems) => html`
        <${Field} name="name" label="Your name" autocomplete="name" problems=${problems} />
        <${Field} name="email" label="E-mail address" type="email" autocomplete="username" inputmode="email" spellcheck=${false} problems=${problems} />
        <${Field} name="password" label="Password" type="password" autocomplete="new-password" problems=${problems} />`}
    <//>
    <p class="aside">Already have an account? <a href=${`/login${nextQuery()}`}>Sign in</a></p>
  <//>`;
}
