// session.js: who is signed in, the same in all tabs of the browser.
import { signal } from "@preact/signals";
import { get, post, whenSignedOut } from "./api.js";
import { address, go } from "./router.js";

/** @typedef {import("./types.js").User} User */

/** undefined: not known yet; null: nobody. @type {import("@preact/signals").Signal<User|null|undefined>} */
export const user = signal(undefined);

/** Why the sign-in page is shown. @type {import("@preact/signals").Signal<""|"expired"|"signed-out"|"unreachable">} */
export const notice = signal("");

const channel = new BroadcastChannel("bore-session");

const OPEN_PAGES = ["/login", "/signup"];

/** Leads to the sign-in page, and from there back here. */
function toLogin() {
  const { path, query } = address.peek();
  if (OPEN_PAGES.includes(path)) return;
  const here = query.size > 0 ? `${path}?${query}` : path;
  go(path === "/" ? "/login" : `/login?next=${encodeURIComponent(here)}`, { replace: true });
}

/** @param {""|"expired"|"signed-out"} why */
function forget(why) {
  notice.value = why;
  user.value = null;
  toLogin();
}

/** Asks the server who is signed in. */
export async function loadUser() {
  try {
    user.value = await get("/auth/me");
    notice.value = "";
  } catch (error) {
    const isUnknown = /** @type {import("./api.js").Problem} */ (error).code !== "unauthorized";
    if (isUnknown && user.peek() === undefined) notice.value = "unreachable";
  }
}

whenSignedOut(() => {
  const wasSignedIn = Boolean(user.peek());
  if (user.peek() !== null) forget(wasSignedIn ? "expired" : "");
  if (wasSignedIn) channel.postMessage({ kind: "expired" });
});

/** @param {User} signedIn */
export function signedIn(signedIn) {
  user.value = signedIn;
  notice.value = "";
  channel.postMessage({ kind: "in", id: signedIn.id });
}

/** @param {{everywhere?: boolean}} [options] */
export async function signOut({ everywhere = false } = {}) {
  await post(everywhere ? "/auth/logout-all" : "/auth/logout");
  notice.value = "";
  user.value = null;
  channel.postMessage({ kind: "out" });
  go("/login", { replace: true });
}

channel.onmessage = (/** @type {MessageEvent} */ { data }) => {
  const current = user.peek();
  if (data.kind === "in" && current?.id !== data.id) {
    // Somebody else is signed in now: nothing of the former user may stay on this page.
    if (current) location.reload();
    else void loadUser();
  } else if (data.kind !== "in" && current) {
    forget(data.kind === "out" ? "signed-out" : "expired");
  }
};
