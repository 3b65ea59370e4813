// main.js: which page is shown to whom.
import { signal } from "@preact/signals";
import { render } from "preact";
import { useEffect } from "preact/hooks";
import { Dialogs } from "./dialogs.js";
import { startLive, stopLive } from "./live.js";
import { DashboardPage } from "./page_dashboard.js";
import { LoginPage, SignupPage } from "./page_login.js";
import { Messages } from "./parts.js";
import { address, go, hasMoved, safeNext } from "./router.js";
import { loadUser, notice, user } from "./session.js";
import { Announcer, Banner, ThemeButton, TopBar } from "./shell.js";
import { html } from "./view.js";

/** @typedef {import("preact").ComponentType<any>} Page */

/**
 * Pages that are loaded when they are first asked for.
 * @param {() => Promise<Page>} load
 * @returns {Page}
 */
function later(load) {
  const page = signal(/** @type {Page|null} */ (null));
  // A file that is missing is the business of boot.js: it loads the whole page anew, a few times.
  const start = () =>
    load().then(
      (loaded) => (page.value = loaded),
      () => dispatchEvent(new Event("bore-file-missing"))
    );
  return function Later(/** @type {object} */ properties) {
    useEffect(() => {
      if (page.peek() === null) void start();
    }, []);
    return page.value
      ? html`<${page.value} ...${properties} />`
      : html`<main id="main" class="wide" aria-busy="true" />`;
  };
}

/** @type {{pattern: RegExp, title: string, page: Page, admin?: boolean}[]} */
const PAGES = [
  { pattern: /^\/dashboard$/, title: "Instances", page: DashboardPage },
  {
    pattern: /^\/instances\/([A-Za-z0-9_-]+)$/,
    title: "",
    page: later(async () => (await import("./page_instance.js")).InstancePage)
  },
  {
    pattern: /^\/account$/,
    title: "Account",
    page: later(async () => (await import("./page_account.js")).AccountPage)
  },
  {
    pattern: /^\/claim-trial$/,
    title: "Plans",
    page: later(async () => (await import("./page_account.js")).PlansPage)
  },
  {
    pattern: /^\/admin(?:\/(instances|users|servers|alerts|audit))?$/,
    title: "Admin",
    admin: true,
    page: later(async () => (await import("./page_admin.js")).AdminPage)
  }
];

function NotFound() {
  return html`<main id="main" class="wide" tabindex="-1"><h1>There is no such page</h1><p><a href="/dashboard">To your instances</a></p></main>`;
}

/** For those who are signed in. */
function Inside() {
  const { path } = address.value;
  const entry = PAGES.find(({ pattern, admin }) => pattern.test(path) && (!admin || user.value?.is_admin));
  const id = user.value?.id ?? "";
  const title = entry?.title ?? "Not found";
  useEffect(() => {
    startLive(id);
    return stopLive;
  }, [id]);
  useEffect(() => {
    if (title) document.title = `${title} · Bore`;
    // Reading goes on at the new page; the first one is read from its beginning.
    if (hasMoved) document.querySelector("main")?.focus({ preventScroll: true });
  }, [path]);
  return html`<${TopBar} /><${Banner} /><${entry?.page ?? NotFound} key=${path} match=${entry?.pattern.exec(path)} /><${Dialogs} /><${Announcer} />`;
}

function Unreachable() {
  return html`<main id="main" class="entrance"><h1>The server cannot be reached</h1><p class="lead">This page tries again by itself.</p>
    <button type="button" class="primary" onClick=${loadUser}>Try now</button></main>`;
}

/** For everybody. */
function Outside() {
  const isSignup = address.value.path === "/signup";
  useEffect(() => {
    document.title = `${isSignup ? "Create an account" : "Sign in"} · Bore`;
  }, [isSignup]);
  return html`<div class="corner"><${ThemeButton} /></div>${isSignup ? html`<${SignupPage} />` : html`<${LoginPage} />`}`;
}

function App() {
  const { path, query } = address.value;
  const isOutside = path === "/login" || path === "/signup";
  const isSignedIn = Boolean(user.value);
  useEffect(() => {
    if (isSignedIn && (isOutside || path === "/")) go(safeNext(query.get("next")), { replace: true });
  }, [isSignedIn, path]);
  useEffect(() => {
    if (user.value !== undefined || notice.value !== "unreachable") return undefined;
    const timer = setInterval(loadUser, 3000);
    return () => clearInterval(timer);
  }, [notice.value, user.value]);
  let page = null;
  if (user.value === undefined && notice.value === "unreachable") page = html`<${Unreachable} />`;
  else if (isSignedIn && !isOutside && path !== "/") page = html`<${Inside} />`;
  else if (user.value === null || (user.value === undefined && isOutside)) page = html`<${Outside} />`;
  return html`${page}<${Messages} />`;
}

setTimeout(() => sessionStorage.removeItem("bore-tries"), 10000);
void loadUser();
render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
