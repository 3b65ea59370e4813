// api.js: requests to the HTTP interface. The browser's cookie says who asks.
import { learnServerTime } from "./clock.js";

const DEADLINE_MS = 10000;
const REPEAT_MS = 300;

/** Why a request failed. status 0: the server was not reached. fields: what is wrong with which field. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} code
   * @param {string} message
   * @param {Record<string, string>} fields
   * @param {number} retryAfter seconds, 0 when nothing was said
   */
  constructor(status, code, message, fields = {}, retryAfter = 0) {
    super(message);
    this.status = status;
    this.code = code;
    this.fields = fields;
    this.retryAfter = retryAfter;
  }
}

/** @type {() => void} */
let onSignedOut = () => {};

/** @param {() => void} listener called when the server no longer knows who asks */
export function whenSignedOut(listener) {
  onSignedOut = listener;
}

/** The same as an answer that says so; for the stream. */
export function signedOut() {
  onSignedOut();
}

/** "must not be empty" as a sentence. @param {string} text */
function whole(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

/**
 * @param {Response} answer
 * @returns {Promise<Problem>}
 */
async function problemOf(answer) {
  const body = await answer.json().catch(() => ({}));
  const fields = Object.fromEntries(
    (body.details ?? []).map((/** @type {{field: string, message: string}} */ one) => [one.field, whole(one.message)])
  );
  const retryAfter = Number(answer.headers.get("retry-after")) || 0;
  return new Problem(
    answer.status,
    body.error ?? "internal_error",
    body.message ?? `The server answered ${answer.status}.`,
    fields,
    retryAfter
  );
}

/**
 * What only reads is tried once more when the network broke it off: a machine that changes networks is no news.
 * @param {unknown} error
 * @param {string} path
 * @param {RequestInit} request
 */
async function repeated(error, path, request) {
  if (request.method !== "GET" || request.signal?.aborted) throw error;
  await new Promise((resolve) => setTimeout(resolve, REPEAT_MS));
  return fetch(`/api${path}`, request);
}

/**
 * @param {string} method
 * @param {string} path below /api
 * @param {object} [body]
 * @param {string} [key] the same for each attempt at one thing that must not happen twice
 * @returns {Promise<any>} the answer; rejects with a Problem
 */
export async function call(method, path, body, key) {
  /** @type {Record<string, string>} */
  const headers = { accept: "application/json" };
  /** @type {RequestInit} */
  const request = { method, cache: "no-store", signal: AbortSignal.timeout(DEADLINE_MS), headers };
  if (body !== undefined) {
    request.body = JSON.stringify(body);
    headers["content-type"] = "application/json";
  }
  if (key !== undefined) headers["idempotency-key"] = key;
  let answer;
  try {
    answer = await fetch(`/api${path}`, request).catch((error) => repeated(error, path, request));
  } catch {
    throw new Problem(0, "unreachable", "The server cannot be reached. Is the network there?");
  }
  learnServerTime(Date.parse(answer.headers.get("date") ?? "") + 500);
  if (!answer.ok) {
    const problem = await problemOf(answer);
    if (problem.code === "unauthorized") onSignedOut();
    throw problem;
  }
  try {
    return await answer.json();
  } catch {
    throw new Problem(0, "unreachable", "The connection broke before the answer was complete.");
  }
}

/** @param {string} path */
export const get = (path) => call("GET", path);
/** @param {string} path @param {object} [body] @param {string} [key] */
export const post = (path, body, key) => call("POST", path, body, key);
/** @param {string} path @param {object} body */
export const patch = (path, body) => call("PATCH", path, body);
/** @param {string} path */
export const remove = (path) => call("DELETE", path);

/**
 * What went wrong, for a person.
 * @param {unknown} error
 */
export function sentence(error) {
  return error instanceof Error ? error.message : String(error);
}
