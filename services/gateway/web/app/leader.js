// leader.js: exactly one tab of a browser leads, for as long as it lives; then another one does.
//
// Web Locks give that for free, but exist only in secure contexts (https, or localhost). Elsewhere a lease in localStorage
// stands in: who holds it renews it each second, who finds it three seconds old takes it. Two may then lead for a
// moment, which costs a second stream and nothing else.

const RENEW_MS = 1000;
const LEASE_MS = 3000;

/**
 * Calls onLead when this tab leads, and onYield if it has to stop. The returned function ends it.
 * @param {string} name
 * @param {() => void} onLead
 * @param {() => void} onYield
 * @returns {() => void}
 */
export function elect(name, onLead, onYield) {
  return navigator.locks ? electByLock(name, onLead) : electByLease(name, onLead, onYield);
}

/** @type {(name: string, onLead: () => void) => () => void} */
function electByLock(name, onLead) {
  const ending = new AbortController();
  const lead = () => {
    if (ending.signal.aborted) return undefined;
    onLead();
    return new Promise((resolve) => ending.signal.addEventListener("abort", resolve));
  };
  navigator.locks.request(name, { signal: ending.signal }, lead).catch(() => {});
  return () => ending.abort();
}

/** @type {(name: string, onLead: () => void, onYield: () => void) => () => void} */
function electByLease(name, onLead, onYield) {
  const own = Math.random().toString(36).slice(2);
  let leads = false;
  const read = () => {
    try {
      return JSON.parse(localStorage.getItem(name) ?? "null");
    } catch {
      return null;
    }
  };
  const renew = () => {
    const lease = read();
    const isFree = lease === null || lease.own === own || Math.abs(Date.now() - lease.at) > LEASE_MS;
    if (isFree) localStorage.setItem(name, JSON.stringify({ own, at: Date.now() }));
    if (isFree !== leads) (isFree ? onLead : onYield)();
    leads = isFree;
  };
  const end = () => {
    clearInterval(timer);
    removeEventListener("pagehide", end);
    if (read()?.own === own) localStorage.removeItem(name);
    leads = false;
  };
  const timer = setInterval(renew, RENEW_MS);
  addEventListener("pagehide", end);
  renew();
  return end;
}
