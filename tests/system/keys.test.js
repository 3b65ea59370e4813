// keys.test.js: keys are replaced without a gap: tokens and bore-servers that have the former key go on working while
// it is named, new tokens are made with the new one, and a key that is neither opens nothing.
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import { after, afterEach, before, describe, test } from 'node:test'
import { Api } from './support/api.js'
import { systemFor } from './support/system.js'

const key = () => crypto.randomBytes(32).toString('hex')
const keys = { JWT_SECRET: key(), JWT_SECRET_PREVIOUS: key(), INTERNAL_API_KEY: key(), INTERNAL_API_KEY_PREVIOUS: key() }

/** The same claims under another signature. */
function signed(token, secret) {
  const content = token.split('.').slice(0, 2).join('.')
  return `${content}.${crypto.createHmac('sha256', secret).update(content).digest('base64url')}`
}

describe('keys', () => {
  const sut = systemFor({ before, after, afterEach }, { env: keys })

  test('tokens of the new and the former key are good, at gateway and stream; of another key not', async () => {
    const { system } = sut
    const user = await system.user()
    assert.equal(signed(user.token, keys.JWT_SECRET), user.token, 'made with the new key')
    const former = signed(user.token, keys.JWT_SECRET_PREVIOUS)
    for (const token of [user.token, former]) {
      assert.equal((await system.api.as(token).get('/api/auth/me')).json.email, user.email)
      const stream = await system.stream({ token })
      await stream.until((s) => s.messages[0], 'the first message')
      stream.close()
    }
    const foreign = signed(user.token, key())
    assert.equal((await system.api.as(foreign).get('/api/auth/me')).status, 401)
    await assert.rejects(system.stream({ token: foreign }), /401/)
    const refreshed = await system.api.post('/api/auth/refresh', { refresh_token: user.refresh_token })
    assert.equal(signed(refreshed.json.token, keys.JWT_SECRET), refreshed.json.token, 'the former key signs nothing')
  })

  test('a logout ends a token of the former key too', async () => {
    const { system } = sut
    const user = await system.user()
    const former = system.api.as(signed(user.token, keys.JWT_SECRET_PREVIOUS))
    assert.equal((await former.post('/api/auth/logout')).status, 200)
    const until = Date.now() + 30000
    while ((await former.get('/api/auth/me')).status !== 401) assert.ok(Date.now() < until, 'still good')
  })

  test('bore-servers with either key are heard, with another not', async () => {
    const { system } = sut
    const status = async (internalKey) => (await new Api(system.url, { internalKey }).internalPost('/validate-key', { api_key: `tk_${key()}` })).status
    assert.equal(await status(keys.INTERNAL_API_KEY), 200)
    assert.equal(await status(keys.INTERNAL_API_KEY_PREVIOUS), 200)
    assert.equal(await status(key()), 401)
  })
})
