// shell.js: what is around every page of somebody who is signed in: navigation, how live it is, theme.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { now } from "./clock.js";
import { duration, timeOfDay } from "./format.js";
import { Icon } from "./icons.js";
import { instance } from "./instances.js";
import { connection, happened, retryNow } from "./live.js";
import { spoken } from "./parts.js";
import { address } from "./router.js";
import { user } from "./session.js";
import { describe } from "./status.js";
import { html } from "./view.js";

const SPEAK_MS = 400;
const GRACE_MS = 2000; // an interruption shorter than this is no news

// --- theme -------------------------------------------------------------------------------------------------------

/** @typedef {"system"|"light"|"dark"} Theme */

/** @type {Record<Theme, {next: Theme, icon: string, word: string}>} */
const THEMES = {
  system: { next: "light", icon: "half", word: "as the system" },
  light: { next: "dark", icon: "sun", word: "light" },
  dark: { next: "system", icon: "moon", word: "dark" }
};

const theme = signal(/** @type {Theme} */ (document.documentElement.dataset.theme ?? "system"));

function nextTheme() {
  const { next } = THEMES[theme.peek()];
  theme.value = next;
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    if (next === "system") localStorage.removeItem("bore-theme");
    else localStorage.setItem("bore-theme", next);
  } catch {
    // not kept, then
  }
}

export function ThemeButton() {
  const { icon, word, next } = THEMES[theme.value];
  const label = `Colours: ${word}. Change to ${THEMES[next].word}`;
  return html`<button type="button" class="icon-only" aria-label=${label} title=${label} onClick=${nextTheme}><${Icon} name=${icon} /></button>`;
}

// --- how live ----------------------------------------------------------------------------------------------------

/** Whether the interruption has lasted long enough to speak of it. */
function useInterruption() {
  const { isOpen, since } = connection.value;
  const [isLong, setLong] = useState(false);
  useEffect(() => {
    setLong(false);
    if (isOpen) return undefined;
    const timer = setTimeout(() => setLong(true), Math.max(0, since + GRACE_MS - Date.now()));
    return () => clearTimeout(timer);
  }, [isOpen, since]);
  return !isOpen && isLong;
}

function Stale() {
  const { since, listedAt, isReachable } = connection.value;
  const ticking = now.value && Date.now();
  const asOf = listedAt === 0 ? "" : timeOfDay(listedAt);
  if (!isReachable) {
    const known = html`Everything below is as of <b>${asOf}</b>, ${duration(ticking - listedAt)} ago, and may have
      changed since.`;
    return html`<p><strong>The server cannot be reached.</strong> ${listedAt === 0 ? "Nothing is known yet." : known}</p>`;
  }
  return html`<p><strong>Live updates are interrupted</strong> since ${timeOfDay(since)}. Statuses and addresses are
    asked for every few seconds instead, last at <b>${asOf}</b>; short changes in between, 24-hour strips and alerts may be
    missing.</p>`;
}

export function Banner() {
  const isInterrupted = useInterruption();
  return html`<div class="banner-place" role="status">${
    isInterrupted &&
    html`<div class="banner"><${Icon} name="warning" /><${Stale} />
    <button type="button" class="small" onClick=${retryNow}>Try now</button></div>`
  }</div>`;
}

function LiveSign() {
  const isInterrupted = useInterruption();
  const { isOpen } = connection.value;
  const word = isInterrupted ? "Not live" : isOpen ? "Live" : "Connecting";
  return html`<span class="live" data-live=${isInterrupted ? "no" : "yes"}><i />${word}</span>`;
}

/** Says changes of status for those who do not see them, at most one in a while. */
export function Announcer() {
  const { id, what, number } = happened.value;
  useEffect(() => {
    if (what !== "status") return undefined;
    const timer = setTimeout(() => {
      const row = instance(id)?.peek();
      if (row) spoken.value = `${row.name} is ${describe(row.status).word.toLowerCase()}`;
    }, SPEAK_MS);
    return () => clearTimeout(timer);
  }, [number]);
  return null;
}

// --- navigation --------------------------------------------------------------------------------------------------

/** @param {{href: string, isHere: boolean, children: any}} properties */
function Place({ href, isHere, children }) {
  return html`<a href=${href} aria-current=${isHere ? "page" : undefined}>${children}</a>`;
}

export function TopBar() {
  const { path } = address.value;
  return html`<a class="skip" href="#main">Skip to the content</a>
    <header class="top">
      <a class="brand" href="/dashboard" aria-label="Bore: instances">
        <img src=${new URL("./bore.svg", import.meta.url).pathname} alt="" width="26" height="26" /><span>Bore</span>
      </a>
      <nav aria-label="Main">
        <${Place} href="/dashboard" isHere=${path === "/dashboard" || path.startsWith("/instances/")}>Instances<//>
        ${user.value?.is_admin && html`<${Place} href="/admin" isHere=${path.startsWith("/admin")}>Admin<//>`}
        <a href="/docs">Docs</a>
      </nav>
      <div class="end">
        <${LiveSign} />
        <${ThemeButton} />
        <a class="person" href="/account" aria-current=${path === "/account" ? "page" : undefined} title=${user.value?.email}>
          <${Icon} name="person" /><span>${user.value?.name || "Account"}</span>
        </a>
      </div>
    </header>`;
}
