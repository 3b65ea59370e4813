// live.js: keeps instances.js true, by one stream that all tabs of the browser share.
//
// Every tab loads the list itself and knows its cursor. One tab (leader.js) follows the stream from its own cursor and
// passes each block on, with the cursor before it; a tab that finds something missing in between loads the list anew. Who
// loads a list or an instance gives it to the others too. While the stream is down, the leader loads the list every
// few seconds instead. Timers of hidden tabs are slowed down by browsers, messages are not: visible tabs nudge the leader.
import { signal } from "@preact/signals";
import { Problem, get, signedOut } from "./api.js";
import { everySecond, learnServerTime } from "./clock.js";
import { compareCursors, place } from "./cursor.js";
import {
  STRIP_HOURS,
  clear,
  ids,
  instance,
  putList,
  putRows,
  putStatus,
  putStrips,
  removeRow,
  renameRow
} from "./instances.js";
import { elect } from "./leader.js";
import { follow } from "./sse.js";

/** @typedef {import("./types.js").Block} Block */
/** @typedef {import("./types.js").Instance} Instance */
/**
 * isOpen: the stream is; since: when it opened or broke (ms); listedAt: when the list was last loaded; isReachable: whether
 * that worked the last time.
 * @typedef {{isOpen: boolean, since: number, listedAt: number, isReachable: boolean}} Connection
 */

const RETRY_MS = [100, 500, 1000, 2000, 4000];
const RETRY_AFTER_MAX_MS = 10000;
const STEADY_MS = 5000; // a stream that was open for so long worked
const SILENCE_MS = 40000; // comments come every 15 s
const FALLBACK_MS = 5000;
const LIST_RETRY_MS = 2000;
const NUDGE_MS = 3000;
const GATHER_MS = 100;
const GATHER_MAX = 20;
const STRIPS_MS = 2000;

/** @type {import("@preact/signals").Signal<Connection>} */
export const connection = signal({ isOpen: false, since: Date.now(), listedAt: 0, isReachable: true });

/** The last thing that happened to an instance; pages that show more of it load that anew. */
export const happened = signal({ id: "", what: "", number: 0 });

/** Why the list could not be loaded at all; "" when it could. */
export const listProblem = signal("");

/** @type {BroadcastChannel|null} */
let channel = null;
/** @type {string|null} the cursor up to which this tab has seen everything; null while it loads the list */
let position = null;
/** @type {{after: string, cursor: string, block: Block}[]} what came meanwhile */
let waiting = [];
/** @type {AbortController|null} of the stream, while it is open or opening */
let stream = null;
let leads = false;
let attempts = 0;
let retryAt = 0;
let signAt = 0;
let nudgedAt = 0;
let triedAt = 0;
let stripsAsked = false;
/** @type {Promise<void>|null} */
let listing = null;
/** @type {Set<string>} ids of instances to load */
const gathered = new Set();
/** @type {(() => void)[]} */
let endings = [];

/** @param {object} message */
function tell(message) {
  channel?.postMessage(message);
}

/** @param {Partial<Connection>} change */
function setConnection(change) {
  connection.value = { ...connection.peek(), ...change };
  if (leads) tell({ kind: "connection", connection: connection.peek() });
}

/** @param {string} id @param {string} what */
function note(id, what) {
  happened.value = { id, what, number: happened.peek().number + 1 };
}

// --- the list ----------------------------------------------------------------------------------------------------

/**
 * @param {Instance[]} list
 * @param {string} cursor
 * @param {number} at
 */
function takeList(list, cursor, at) {
  if (position !== null && compareCursors(cursor, position) < 0) return;
  const isFirst = ids.peek() === null;
  const isChanged = putList(list, at);
  position = cursor;
  listProblem.value = "";
  setConnection({ listedAt: at, isReachable: true });
  const late = waiting;
  waiting = [];
  for (const one of late) takeBlock(one.after, one.cursor, one.block);
  maintain();
  if (isChanged) {
    note("", "list");
    askStrips(isFirst ? 0 : Math.random() * STRIPS_MS);
  }
}

async function loadListNow() {
  triedAt = Date.now();
  try {
    const answer = await get("/instances");
    const at = Date.now();
    takeList(answer.instances, answer.cursor, at);
    tell({ kind: "list", instances: answer.instances, cursor: answer.cursor, at });
  } catch (error) {
    if (ids.peek() === null) listProblem.value = error instanceof Problem ? error.message : String(error);
    setConnection({ isReachable: false });
  }
  listing = null;
}

/** Loads the list, once at a time. */
export function loadList() {
  listing ??= loadListNow();
  return listing;
}

/** Something was missed: nothing that is known counts until the list is here again. */
function reload() {
  position = null;
  void loadList();
}

async function loadStrips() {
  stripsAsked = false;
  try {
    putStrips((await get(`/instances/status-strips?hours=${STRIP_HOURS}`)).strips);
  } catch {
    // they stay as they are; the next change of a status asks again
  }
}

/** @param {number} delay ms; tabs do not all ask at once */
function askStrips(delay) {
  if (stripsAsked) return;
  stripsAsked = true;
  setTimeout(loadStrips, delay);
}

// --- single instances --------------------------------------------------------------------------------------------

/** @param {Instance[]} rows */
function shareRows(rows) {
  const at = Date.now();
  putRows(rows, at);
  tell({ kind: "rows", rows, at });
}

/** What a change answered. @param {Instance} row */
export function changed(row) {
  shareRows([row]);
}

/** @param {string} id */
export function gone(id) {
  removeRow(id);
  tell({ kind: "gone", id });
}

async function loadGathered() {
  const wanted = [...gathered];
  gathered.clear();
  if (wanted.length > GATHER_MAX) return loadList();
  const answers = await Promise.allSettled(wanted.map((id) => get(`/instances/${encodeURIComponent(id)}`)));
  shareRows(answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : [])));
  return undefined;
}

/** An event says what the status is; the rest of the instance is asked for. @param {string} id */
function gather(id) {
  if (!leads) return;
  if (gathered.size === 0) setTimeout(loadGathered, GATHER_MS);
  gathered.add(id);
}

// --- blocks of the stream ----------------------------------------------------------------------------------------

/** @param {Block} block */
function apply(block) {
  const data = JSON.parse(block.data ?? "null");
  const id = data?.instanceId;
  if (!id) return;
  if (block.name === "" && data.status) {
    putStatus(id, data.status, data.reason, data.timestamp);
    gather(id);
    note(id, "status");
  } else if (block.name === "instance") {
    if (data.type === "deleted") removeRow(id);
    if (data.type === "renamed") renameRow(id, data.name, data.timestamp);
    if (data.type === "created" && !instance(id)) gather(id);
    note(id, data.type);
  } else if (block.name === "alert") {
    note(id, "alert");
  }
}

/**
 * @param {string} after
 * @param {string} cursor
 * @param {Block} block
 */
function takeBlock(after, cursor, block) {
  if (position === null) {
    waiting.push({ after, cursor, block });
    return;
  }
  const where = place(position, after, cursor);
  if (where === "old") return;
  if (where === "hole") {
    reload();
    return;
  }
  position = cursor;
  apply(block);
}

/** What the leader reads. @param {Block} block */
function onBlock(block) {
  const data = block.data === null ? null : JSON.parse(block.data);
  if (data?.type === "connected") {
    learnServerTime(data.timestamp);
  } else if (block.name === "reset") {
    tell({ kind: "reset" });
    reload();
  } else if (block.id !== null) {
    const after = position ?? block.id;
    tell({ kind: "block", after, cursor: block.id, block });
    takeBlock(after, block.id, block);
  }
}

// --- the stream --------------------------------------------------------------------------------------------------

/** @param {{status: number, retryAfter: number}} end */
function onStreamEnd(end) {
  stream = null;
  if (end.status === 401) {
    signedOut();
    return;
  }
  const { isOpen, since } = connection.peek();
  if (isOpen && Date.now() - since > STEADY_MS) attempts = 0;
  const pause = RETRY_MS[Math.min(attempts, RETRY_MS.length - 1)] * (0.8 + 0.4 * Math.random());
  retryAt = Date.now() + Math.max(pause, Math.min(end.retryAfter * 1000, RETRY_AFTER_MAX_MS));
  attempts++;
  if (isOpen) setConnection({ isOpen: false, since: Date.now() });
  setTimeout(maintain, retryAt - Date.now());
}

async function openStream() {
  const own = new AbortController();
  stream = own;
  signAt = Date.now();
  const end = await follow(`/api/events/status?last_event_id=${encodeURIComponent(position ?? "")}`, own.signal, {
    onOpen: () => {
      setConnection({ isOpen: true, since: Date.now(), isReachable: true });
    },
    onSign: () => {
      signAt = Date.now();
    },
    onBlock
  });
  if (stream === own) onStreamEnd(end);
}

/** The leader's duties: whatever is due is done. */
function maintain() {
  if (!leads) return;
  const time = Date.now();
  const { isOpen, listedAt } = connection.peek();
  if (stream !== null && time - signAt > SILENCE_MS) {
    stream.abort();
    onStreamEnd({ status: 0, retryAfter: 0 });
  }
  if (position !== null && stream === null && time >= retryAt) void openStream();
  if (!isOpen && attempts > 2 && time - listedAt > FALLBACK_MS) void loadList();
}

/** Tries again now. */
export function retryNow() {
  if (!leads) {
    tell({ kind: "retry" });
    return;
  }
  retryAt = 0;
  attempts = Math.min(attempts, 2);
  void loadList();
  maintain();
}

function onLead() {
  leads = true;
  retryAt = 0;
  setConnection({ isOpen: false, since: Date.now() });
  maintain();
}

function onYield() {
  leads = false;
  stream?.abort();
  stream = null;
}

// --- all tabs ----------------------------------------------------------------------------------------------------

/** How old heartbeats on the screen may get: instances are many or few. */
function refreshEvery() {
  return Math.max(15000, (ids.peek()?.length ?? 0) * 60);
}

function hasHeartbeats() {
  return ids.peek()?.some((id) => instance(id)?.peek().tunnel_connected && instance(id)?.peek().heard_at !== null);
}

function onSecond() {
  maintain();
  const time = Date.now();
  if (position === null && time - triedAt > LIST_RETRY_MS) void loadList();
  if (document.hidden) return;
  const { isOpen, listedAt } = connection.peek();
  if (isOpen && time - listedAt > refreshEvery() && hasHeartbeats()) void loadList();
  if (!leads && time - nudgedAt > NUDGE_MS) {
    nudgedAt = time;
    tell({ kind: "nudge" });
  }
}

/** @param {MessageEvent} event */
function onMessage({ data }) {
  if (data.kind === "block") takeBlock(data.after, data.cursor, data.block);
  else if (data.kind === "rows") putRows(data.rows, data.at);
  else if (data.kind === "list") takeList(data.instances, data.cursor, data.at);
  else if (data.kind === "gone") removeRow(data.id);
  else if (data.kind === "reset") position = null;
  else if (data.kind === "connection" && !leads) connection.value = data.connection;
  else if (data.kind === "hello" && leads) tell({ kind: "connection", connection: connection.peek() });
  else if (data.kind === "nudge") maintain();
  else if (data.kind === "retry" && leads) retryNow();
}

/** Begins for this user. @param {string} userId */
export function startLive(userId) {
  stopLive();
  const name = `bore-live-${userId}`;
  connection.value = { isOpen: false, since: Date.now(), listedAt: 0, isReachable: true };
  channel = new BroadcastChannel(name);
  channel.onmessage = onMessage;
  tell({ kind: "hello" });
  void loadList().then(() => {
    if (channel !== null && endings.length === 1) endings.push(elect(name, onLead, onYield));
  });
  endings = [everySecond(onSecond)];
}

/** Ends, and forgets what was known. */
export function stopLive() {
  for (const end of endings) end();
  endings = [];
  onYield();
  channel?.close();
  channel = null;
  position = null;
  waiting = [];
  attempts = 0;
  clear();
}
