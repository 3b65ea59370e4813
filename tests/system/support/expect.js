// expect.js: what API.md promises of every answer, said once: errors in the common form, times, exact sets of keys.
import assert from 'node:assert/strict'

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

/** An answer with this status and exactly these JSON keys, in any order; resolves to the JSON. */
export function answered(answer, status, keys) {
  assert.equal(answer.status, status, answer.text)
  assert.match(answer.headers['content-type'], /^application\/json/)
  if (keys) hasKeys(answer.json, keys)
  return answer.json
}

/** An object with exactly these keys. */
export function hasKeys(object, keys) {
  assert.deepEqual(Object.keys(object).sort(), [...keys].sort())
}

/** A refusal in the common form. With `field`, a validation error that names it. */
export function refused(answer, status, error, field) {
  assert.equal(answer.status, status, answer.text)
  assert.equal(answer.json?.error, error, answer.text)
  assert.ok(typeof answer.json.message === 'string' && answer.json.message.length > 0, answer.text)
  assert.equal(answer.json.request_id, answer.headers['x-request-id'])
  hasKeys(answer.json, ['error', 'message', 'request_id', ...(error === 'validation_error' ? ['details'] : [])])
  if (error === 'validation_error') {
    assert.ok(answer.json.details.length > 0, answer.text)
    for (const detail of answer.json.details) hasKeys(detail, ['field', 'message'])
  }
  if (field) assert.ok(answer.json.details.some((detail) => detail.field === field), `${field} is named: ${answer.text}`)
  if (status === 429 || status === 503) assert.match(answer.headers['retry-after'] ?? '', /^\d+$/)
}

/** RFC 3339, UTC, milliseconds; with `near` (ms since 1970), at most `within` ms from it. */
export function isTime(text, { near, within = 30000 } = {}) {
  assert.match(text, TIME)
  if (near !== undefined) assert.ok(Math.abs(Date.parse(text) - near) <= within, `${text} is near ${new Date(near).toISOString()}`)
}

/** The answer's JSON without what differs between any two requests. */
export function comparable(answer) {
  const { request_id: _, ...rest } = answer.json
  return { status: answer.status, ...rest }
}

/** The claims of a JWT, unverified. */
export function claims(token) {
  const [header, payload] = token.split('.').map((part) => Buffer.from(part, 'base64url').toString('utf8'))
  return { header: JSON.parse(header), payload: JSON.parse(payload) }
}

export const HOURS = 3600 * 1000
export const DAYS = 24 * HOURS
