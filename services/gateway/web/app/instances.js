// instances.js: the caller's instances and their last 24 hours, as far as they are known. Filled by live.js alone.
//
// Each instance is a signal of its own, so that a change draws one row and not a thousand.
import { batch, signal } from "@preact/signals";

/** @typedef {import("./types.js").Instance} Instance */
/** @typedef {import("./types.js").Stretch} Stretch */
/** @template T @typedef {import("@preact/signals").Signal<T>} Signal */

export const STRIP_HOURS = 24;
const FORGET_MAX = 1000;

/** @type {Map<string, Signal<Instance>>} */
const rows = new Map();
/** @type {Map<string, Signal<Stretch[]>>} */
const strips = new Map();
/** Ids of deleted instances: an answer that was under way must not bring them back. @type {Set<string>} */
const deleted = new Set();

/** Ids, newest first; null until the list is here. @type {Signal<string[]|null>} */
export const ids = signal(null);

/** @param {string} id */
export function instance(id) {
  return rows.get(id);
}

/** @param {string} id */
export function strip(id) {
  let found = strips.get(id);
  if (!found) {
    found = signal(/** @type {Stretch[]} */ ([]));
    strips.set(id, found);
  }
  return found;
}

/**
 * The same instance with its heartbeat's age turned into a moment.
 * @param {Instance} row
 * @param {number} fetchedAt
 */
function dated(row, fetchedAt) {
  return { ...row, heard_at: row.heartbeat_age_ms === null ? null : fetchedAt - row.heartbeat_age_ms };
}

/**
 * What an answer says, unless something later is known: an answer may have been under way when its instance changed.
 * @param {Instance} known
 * @param {Instance} told
 */
function merged(known, told) {
  const isOlder = (/** @type {"status_since"|"updated_at"} */ field) =>
    Date.parse(told[field] ?? "") < Date.parse(known[field] ?? "");
  const { status, status_reason, status_since, name, updated_at } = known;
  return {
    ...told,
    ...(isOlder("status_since") && { status, status_reason, status_since }),
    ...(isOlder("updated_at") && { name, updated_at }),
  };
}

/** @param {Instance} row */
function isNewer(row) {
  return (/** @type {string} */ id) => {
    const other = /** @type {Signal<Instance>} */ (rows.get(id)).peek().created_at;
    return row.created_at >= other;
  };
}

/**
 * Takes single instances over.
 * @param {Instance[]} told
 * @param {number} fetchedAt ms, this machine's clock
 */
export function putRows(told, fetchedAt) {
  batch(() => {
    for (const row of told) {
      const known = rows.get(row.id);
      if (known) {
        known.value = merged(known.peek(), dated(row, fetchedAt));
      } else if (!deleted.has(row.id) && ids.peek() !== null) {
        const order = ids.peek() ?? [];
        const at = order.findIndex(isNewer(row));
        rows.set(row.id, signal(dated(row, fetchedAt)));
        ids.value = at < 0 ? [...order, row.id] : [...order.slice(0, at), row.id, ...order.slice(at)];
      }
    }
  });
}

/**
 * Takes a whole list over.
 * @param {Instance[]} list
 * @param {number} fetchedAt
 * @returns {boolean} whether a status differs from what was known
 */
export function putList(list, fetchedAt) {
  let isChanged = false;
  batch(() => {
    const present = new Set(list.map((row) => row.id));
    for (const id of rows.keys()) if (!present.has(id)) forget(id);
    for (const row of list) {
      const known = rows.get(row.id);
      if (known) {
        isChanged ||= known.peek().status_since !== row.status_since;
        known.value = merged(known.peek(), dated(row, fetchedAt));
      } else {
        isChanged = true;
        rows.set(row.id, signal(dated(row, fetchedAt)));
      }
    }
    const order = list.map((row) => row.id);
    const before = ids.peek();
    if (before === null || before.length !== order.length || before.some((id, index) => id !== order[index]))
      ids.value = order;
  });
  return isChanged;
}

/** @param {string} id */
function forget(id) {
  rows.delete(id);
  strips.delete(id);
}

/** @param {string} id */
export function removeRow(id) {
  deleted.add(id);
  if (deleted.size > FORGET_MAX) deleted.delete(/** @type {string} */ (deleted.values().next().value));
  const order = ids.peek();
  if (order?.includes(id)) ids.value = order.filter((other) => other !== id);
  forget(id);
}

/**
 * @param {string} id
 * @param {string} name
 * @param {number} at ms, the server's clock
 */
export function renameRow(id, name, at) {
  const known = rows.get(id);
  if (known) known.value = { ...known.peek(), name, updated_at: new Date(at).toISOString() };
}

/**
 * A status changed.
 * @param {string} id
 * @param {import("./types.js").Status} status
 * @param {string} reason
 * @param {number} at ms, the server's clock
 */
export function putStatus(id, status, reason, at) {
  const since = new Date(at).toISOString();
  const known = rows.get(id);
  if (known && !(Date.parse(known.peek().status_since ?? "") > at)) {
    known.value = { ...known.peek(), status, status_reason: reason, status_since: since };
  }
  const stretches = strip(id);
  const last = stretches.peek().at(-1);
  if (!last || Date.parse(last.from) <= at) {
    const closed = last ? [...stretches.peek().slice(0, -1), { ...last, to: since }] : [];
    stretches.value = [...closed, { status, from: since, to: null }];
  }
}

/** @param {{instance_id: string, stretches: Stretch[]}[]} told */
export function putStrips(told) {
  batch(() => {
    for (const one of told) strip(one.instance_id).value = one.stretches;
  });
}

/** Forgets everything. */
export function clear() {
  rows.clear();
  strips.clear();
  ids.value = null;
}
