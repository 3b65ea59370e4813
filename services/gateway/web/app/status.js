// status.js: the eight statuses in words, and in the order in which they are counted. Colours are in app.css, by name.

/** @typedef {import("./types.js").Status} Status */

/** @type {Record<Status, {word: string, meaning: string, icon: string}>} */
export const STATUSES = {
  online: { word: "Online", meaning: "Tunnel connected, heartbeats say all is well.", icon: "check" },
  active: { word: "Active", meaning: "Tunnel connected, no health report yet.", icon: "link" },
  idle: { word: "Idle", meaning: "Connected and healthy, no activity for a while.", icon: "moon" },
  starting: { word: "Starting", meaning: "A tunnel token was issued, no tunnel yet.", icon: "dots" },
  degraded: { word: "Degraded", meaning: "Tunnel connected, what is behind it does not respond.", icon: "warning" },
  offline: { word: "Offline", meaning: "Tunnel disconnected, or heartbeats stopped.", icon: "cross" },
  error: { word: "Error", meaning: "The tunnel could not be established.", icon: "stop" },
  inactive: { word: "Inactive", meaning: "Created, or disconnected by its user.", icon: "ring" }
};

export const STATUS_NAMES = /** @type {Status[]} */ (Object.keys(STATUSES));

/** A status that a newer server knows and this page does not is shown by its own name. @param {string} status */
export function describe(status) {
  return STATUSES[/** @type {Status} */ (status)] ?? { word: status, meaning: "", icon: "ring" };
}
