// auth.test.js: API.md "Authentication", row by row, and who is believed about where a request comes from.
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { Api } from './support/api.js'
import { answered, claims, comparable, DAYS, hasKeys, HOURS, isTime, refused } from './support/expect.js'
import { percentile, systemFor, unique, waitFor } from './support/system.js'

const SIGNED_IN = ['token', 'user_id', 'refresh_token', 'refresh_token_expires_at', 'user']
const PROFILE = ['id', 'email', 'name', 'plan', 'plan_expires', 'is_admin']
const address = () => `${unique('auth')}@test.example`
const PASSWORD = 'test123'

/** Where a user signs in from: a new session. */
async function login(api, user, options) {
  const answer = await api.post('/api/auth/login', { email: user.email, password: user.password }, { token: null, ...options })
  assert.equal(answer.status, 200, answer.text)
  return { ...answer.json, headers: answer.headers, api: api.as(answer.json.token) }
}

describe('accounts and sessions', () => {
  // Nothing here is about throttling; two gateways, because what ends must end at both.
  const sut = systemFor({ before, after, afterEach }, { env: { LOGIN_FAILURES_PER_ACCOUNT: '100000' }, scale: 'gateway=2' })
  const signup = (body, options) => sut.system.api.post('/api/auth/signup', body, options)

  test('signup: 201 with exactly what API.md names', async () => {
    const email = `${unique('Ann')}@Test.Example`
    const answer = await signup({ name: 'Ann', email, password: PASSWORD, unknown: { field: [1] } })
    const body = answered(answer, 201, SIGNED_IN)
    hasKeys(body.user, PROFILE)
    assert.equal(body.user_id, body.user.id)
    assert.match(body.user_id, /^user_[0-9a-f]{24}$/)
    assert.equal(body.user.email.toLowerCase(), email.toLowerCase())
    assert.equal(body.user.name, 'Ann')
    assert.equal(body.user.plan, 'trial')
    assert.equal(body.user.is_admin, false)
    isTime(body.user.plan_expires, { near: Date.now() + 24 * HOURS })
    isTime(body.refresh_token_expires_at, { near: Date.now() + 30 * DAYS })
    const { header, payload } = claims(body.token)
    assert.equal(header.alg, 'HS256')
    hasKeys(payload, ['user_id', 'email', 'is_admin', 'iat', 'exp', 'jti'])
    assert.equal(payload.user_id, body.user_id)
    assert.equal(payload.is_admin, false)
    assert.equal(payload.exp - payload.iat, 604800)
    assert.ok(Math.abs(payload.iat - Date.now() / 1000) < 30)
  })

  test('signup: one account an e-mail, whatever its case; of ten at once exactly one is made', async () => {
    const email = address()
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, i) => signup({ name: 'One', email: i % 2 ? email.toUpperCase() : email, password: PASSWORD }))
    )
    assert.deepEqual(answers.map((answer) => answer.status).sort(), [201, ...Array(9).fill(409)])
    for (const answer of answers.filter(({ status }) => status === 409)) refused(answer, 409, 'user_exists')
    refused(await signup({ name: 'Two', email: email.toUpperCase(), password: 'another-one' }), 409, 'user_exists')
    const winner = answers.find(({ status }) => status === 201)
    const again = await login(sut.system.api, { email: email.toUpperCase(), password: PASSWORD })
    assert.equal(again.user_id, winner.json.user_id)
  })

  test('signup: passwords of 6 characters to 72 bytes, whatever the script', async () => {
    for (const [password, status] of [
      ['12345', 400],
      ['123456', 201],
      ['é'.repeat(5), 400],
      ['é'.repeat(6), 201],
      ['x'.repeat(72), 201],
      ['x'.repeat(73), 400],
      ['é'.repeat(36), 201],
      ['é'.repeat(37), 400],
      ['x'.repeat(2000), 400]
    ]) {
      const email = address()
      const answer = await signup({ name: 'P', email, password })
      assert.equal(answer.status, status, `${password.length} characters: ${answer.text}`)
      if (status === 400) refused(answer, 400, 'validation_error', 'password')
      else await login(sut.system.api, { email, password })
    }
  })

  test('signup: every wrong field is named', async () => {
    const good = () => ({ name: 'N', email: address(), password: PASSWORD })
    for (const [change, field] of [
      [{ name: '' }, 'name'],
      [{ name: undefined }, 'name'],
      [{ name: 7 }, 'name'],
      [{ name: 'x'.repeat(256) }, 'name'],
      [{ email: undefined }, 'email'],
      [{ email: 'nobody' }, 'email'],
      [{ email: 'a b@c.example' }, 'email'],
      [{ email: null }, 'email'],
      [{ password: undefined }, 'password'],
      [{ password: 1234567 }, 'password']
    ])
      refused(await signup({ ...good(), ...change }), 400, 'validation_error', field)
    const all = await signup({})
    refused(all, 400, 'validation_error')
    assert.deepEqual(all.json.details.map(({ field }) => field).sort(), ['email', 'name', 'password'])
    refused(await sut.system.api.request('POST', '/api/auth/signup', { raw: '{' }), 400, 'invalid_json')
  })

  test('signup: the same Idempotency-Key gives the account again, to whoever knows its password', async () => {
    const body = { name: 'Idem', email: address(), password: PASSWORD }
    const headers = { 'idempotency-key': unique('key') }
    const answers = await Promise.all([1, 2, 3].map(() => signup(body, { headers })))
    answers.push(await signup(body, { headers }))
    for (const answer of answers) answered(answer, 201, SIGNED_IN)
    assert.equal(new Set(answers.map((answer) => answer.json.user_id)).size, 1)
    assert.equal((await sut.system.api.get('/api/auth/me', { token: answers[3].json.token })).status, 200)
    assert.equal((await signup({ ...body, password: 'not-the-same' }, { headers })).status, 409)
    assert.equal((await signup({ ...body, name: 'Other' }, { headers })).status, 409)
    refused(await signup(body), 409, 'user_exists')
    refused(await signup({ ...body, email: address() }, { headers: { 'idempotency-key': 'x'.repeat(256) } }), 400, 'validation_error')
  })

  test('login: the same body as signup; the e-mail in any case', async () => {
    const user = await sut.system.user({ plan: 'trial' })
    const body = answered(await sut.system.api.post('/api/auth/login', { email: user.email.toUpperCase(), password: user.password }), 200, SIGNED_IN)
    assert.deepEqual(body.user, user.user)
    assert.notEqual(body.token, user.token)
    assert.notEqual(body.refresh_token, user.refresh_token)
  })

  test('login: a wrong password and an unknown e-mail cannot be told apart, neither by answer nor by time', async () => {
    const { api } = sut.system
    const user = await sut.system.user({ plan: 'trial' })
    const wrong = { known: [], unknown: [] }
    const bodies = { known: () => ({ email: user.email, password: 'not-it-at-all' }), unknown: () => ({ email: address(), password: 'not-it-at-all' }) }
    const seen = []
    for (let i = 0; i < 17; i++) {
      for (const kind of ['known', 'unknown']) {
        const answer = await api.post('/api/auth/login', bodies[kind]())
        refused(answer, 401, 'invalid_credentials')
        seen.push({ ...comparable(answer), headers: Object.keys(answer.headers).sort().join() })
        wrong[kind].push(answer.ms)
      }
    }
    for (const one of seen) assert.deepEqual(one, seen[0])
    const [known, unknown] = [percentile(wrong.known, 0.5), percentile(wrong.unknown, 0.5)]
    console.log(`# refused sign-in, median of ${wrong.known.length}: known e-mail ${known.toFixed(1)} ms, unknown ${unknown.toFixed(1)} ms`)
    assert.ok(known / unknown < 1.5 && unknown / known < 1.5, `${known} and ${unknown} ms are alike`)
    refused(await api.post('/api/auth/login', { email: user.email }), 400, 'validation_error', 'password')
    refused(await api.post('/api/auth/login', { password: PASSWORD }), 400, 'validation_error', 'email')
    refused(await api.post('/api/auth/login', { email: user.email, password: '' }), 400, 'validation_error', 'password')
  })

  test('me, under all its names', async () => {
    const user = await sut.system.user({ plan: 'trial', name: 'Mia Ü' })
    const answers = await Promise.all(
      ['/api/auth/me', '/api/v1/auth/me', '/api/user/profile', '/api/v1/user/profile'].map((path) => user.api.get(path))
    )
    for (const answer of answers) {
      answered(answer, 200, [...PROFILE, 'created_at'])
      assert.deepEqual(answer.json, answers[0].json)
    }
    const { created_at: created, ...profile } = answers[0].json
    assert.deepEqual(profile, user.user)
    isTime(created, { near: Date.now() })
    refused(await sut.system.api.get('/api/user/profile', { token: null }), 401, 'unauthorized')
    const wrong = await user.api.post('/api/auth/me')
    refused(wrong, 405, 'method_not_allowed')
    assert.match(wrong.headers.allow, /GET/)
  })

  test('X-Request-Id: taken if sane, else made', async () => {
    const user = await sut.system.user({ plan: 'trial' })
    const taken = await user.api.get('/api/auth/me', { headers: { 'x-request-id': 'trace-1.a_B' } })
    assert.equal(taken.headers['x-request-id'], 'trace-1.a_B')
    for (const bad of ['a b', 'x'.repeat(65), '<x>']) {
      const made = await user.api.get('/api/auth/me', { headers: { 'x-request-id': bad } })
      assert.notEqual(made.headers['x-request-id'], bad)
      assert.match(made.headers['x-request-id'], /^[A-Za-z0-9._-]{1,64}$/)
    }
  })

  test('claim-plan: trial once, pro for 30 days, nothing else', async () => {
    const user = await sut.system.user({ plan: 'trial' })
    const claim = (plan, path = '/api/auth/claim-plan') => user.api.post(path, { plan })
    refused(await claim('enterprise'), 400, 'invalid_plan')
    refused(await claim('gold'), 400, 'invalid_plan')
    refused(await claim(undefined), 400, 'validation_error', 'plan')
    refused(await claim(5), 400, 'validation_error', 'plan')
    const trial = answered(await claim('trial'), 200, ['success', 'plan', 'expires_at'])
    assert.equal(trial.success, true)
    assert.equal(trial.plan, 'trial')
    isTime(trial.expires_at, { near: Date.now() + 24 * HOURS })
    refused(await claim('trial'), 409, 'trial_used')
    const pro = answered(await claim('pro', '/api/user/claim-plan'), 200, ['success', 'plan', 'expires_at'])
    assert.equal(pro.plan, 'pro')
    isTime(pro.expires_at, { near: Date.now() + 30 * DAYS })
    const me = (await user.api.get('/api/auth/me')).json
    assert.equal(me.plan, 'pro')
    assert.equal(me.plan_expires, pro.expires_at)
  })

  test('claim-plan: of ten trials at once one is granted; a pro plan is not lowered to a trial', async () => {
    const user = await sut.system.user({ plan: 'trial' })
    const answers = await Promise.all(Array.from({ length: 10 }, () => user.api.post('/api/auth/claim-plan', { plan: 'trial' })))
    assert.deepEqual(answers.map((answer) => answer.status).sort(), [200, ...Array(9).fill(409)])
    const other = await sut.system.user({ plan: 'trial' })
    answered(await other.api.post('/api/auth/claim-plan', { plan: 'pro' }), 200)
    assert.equal((await other.api.post('/api/auth/claim-plan', { plan: 'trial' })).status, 409)
    assert.equal((await other.api.get('/api/auth/me')).json.plan, 'pro')
  })

  test('refresh: rotates, in both spellings; a repeat within the grace gets another pair', async () => {
    const { api } = sut.system
    const user = await sut.system.user({ plan: 'trial' })
    const refresh = (body) => api.post('/api/auth/refresh', body)
    const first = answered(await refresh({ refresh_token: user.refresh_token }), 200, ['token', 'refresh_token', 'refresh_token_expires_at'])
    isTime(first.refresh_token_expires_at, { near: Date.now() + 30 * DAYS })
    assert.notEqual(first.refresh_token, user.refresh_token)
    assert.notEqual(first.token, user.token)
    assert.equal(claims(first.token).payload.user_id, user.user_id)
    assert.equal((await api.get('/api/auth/me', { token: first.token })).status, 200)
    assert.equal((await api.get('/api/auth/me', { token: user.token })).status, 200, 'the earlier JWT of the family goes on')
    const lost = answered(await refresh({ refreshToken: user.refresh_token }), 200)
    for (const pair of [first, lost]) answered(await refresh({ refreshToken: pair.refresh_token }), 200)
    for (const bad of [`rt_${'0'.repeat(64)}`, 'nonsense', user.token.slice(0, 200)])
      refused(await refresh({ refresh_token: bad }), 401, 'unauthorized')
    refused(await refresh({}), 400, 'validation_error', 'refresh_token')
    refused(await refresh({ refresh_token: 5 }), 400, 'validation_error', 'refresh_token')
  })

  test('refresh: a token used again beyond the grace ends its whole family, and no other', async () => {
    const { system } = sut
    const { api } = system
    const user = await system.user({ plan: 'trial' })
    const elsewhere = await login(api, user)
    const next = answered(await api.post('/api/auth/refresh', { refresh_token: user.refresh_token }), 200)
    // Its first use moves 11 s into the past.
    const moved = system.sql(
      `UPDATE bore.refresh_tokens SET used_at = used_at - interval '11 seconds'
       WHERE session_id = '${claims(user.token).payload.jti.split('.')[0]}' AND used_at IS NOT NULL RETURNING 1`
    )
    assert.equal(moved.length, 1)
    refused(await api.post('/api/auth/refresh', { refresh_token: user.refresh_token }), 401, 'unauthorized')
    refused(await api.post('/api/auth/refresh', { refresh_token: next.refresh_token }), 401, 'unauthorized')
    for (const token of [user.token, next.token])
      await waitFor(async () => (await api.get('/api/auth/me', { token })).status === 401, 'the family to end', { timeout: 5000 })
    assert.equal((await elsewhere.api.get('/api/auth/me')).status, 200)
    answered(await api.post('/api/auth/refresh', { refresh_token: elsewhere.refresh_token }), 200)
  })

  test('logout: this JWT, its refresh family and the cookie end; other sessions go on', async () => {
    const { system } = sut
    for (const body of [undefined, {}, 'refresh_token', 'refreshToken']) {
      const user = await system.user({ plan: 'trial' })
      const other = await login(system.api, user)
      const answer = await user.api.post('/api/auth/logout', typeof body === 'string' ? { [body]: user.refresh_token } : body)
      assert.deepEqual(answered(answer, 200), { success: true })
      assert.match(answer.headers['set-cookie'][0], /^bore_session=; .*Max-Age=0/)
      await waitFor(async () => (await user.api.get('/api/auth/me')).status === 401, 'the end of the token', { timeout: 5000 })
      refused(await system.api.post('/api/auth/refresh', { refresh_token: user.refresh_token }), 401, 'unauthorized')
      assert.equal((await other.api.get('/api/auth/me')).status, 200)
    }
    refused(await system.api.post('/api/auth/logout', {}, { token: null }), 401, 'unauthorized')
  })

  test("logout: another user's refresh token stays as it is", async () => {
    const [user, other] = [await sut.system.user({ plan: 'trial' }), await sut.system.user({ plan: 'trial' })]
    answered(await user.api.post('/api/auth/logout', { refresh_token: other.refresh_token }), 200)
    answered(await sut.system.api.post('/api/auth/refresh', { refresh_token: other.refresh_token }), 200)
  })

  test('logout-all: every JWT ends at every gateway within a second', async () => {
    const { system } = sut
    const gateways = system.gateways().map((base) => new Api(base))
    assert.equal(gateways.length, 2)
    const user = await system.user({ plan: 'trial' })
    const sessions = [user, await login(system.api, user), await login(system.api, user)]
    const alive = async () => {
      const asked = sessions.flatMap(({ token }) => gateways.map((gateway) => gateway.get('/api/auth/me', { token })))
      return (await Promise.all(asked)).filter((answer) => answer.status === 200).length
    }
    assert.equal(await alive(), 6)
    assert.deepEqual(answered(await sessions[1].api.post('/api/auth/logout-all'), 200), { success: true })
    const started = performance.now()
    await waitFor(async () => (await alive()) === 0, 'the end of every token')
    const took = performance.now() - started
    console.log(`# logout-all: 3 tokens ended at 2 gateways after ${took.toFixed(0)} ms`)
    assert.ok(took < 1000, `${took} ms`)
    for (const { refresh_token } of sessions) refused(await system.api.post('/api/auth/refresh', { refresh_token }), 401, 'unauthorized')
    await login(system.api, user)
    for (const gateway of gateways) gateway.close()
  })

  test('sessions: where the user is signed in; one is ended by its id', async () => {
    const { system } = sut
    const user = await system.user({ plan: 'trial' })
    const other = await login(system.api, user, { headers: { 'user-agent': 'desktop/1.0 (ünïcode)' } })
    const stranger = await system.user({ plan: 'trial' })
    const { sessions } = answered(await user.api.get('/api/auth/sessions'), 200, ['sessions'])
    assert.equal(sessions.length, 2)
    for (const session of sessions) {
      hasKeys(session, ['id', 'created_at', 'last_used_at', 'expires_at', 'address', 'user_agent', 'current'])
      for (const key of ['created_at', 'last_used_at']) isTime(session[key], { near: Date.now() })
      isTime(session.expires_at, { near: Date.now() + 30 * DAYS })
    }
    assert.deepEqual(sessions.map(({ current }) => current), [false, true], 'newest first')
    assert.match(sessions[0].user_agent, /^desktop\/1\.0/)
    assert.ok(!JSON.stringify(sessions).includes(user.refresh_token))

    refused(await stranger.api.delete(`/api/auth/sessions/${sessions[0].id}`), 404, 'not_found')
    refused(await user.api.delete('/api/auth/sessions/sess_000000000000000000000000'), 404, 'not_found')
    assert.equal((await other.api.get('/api/auth/me')).status, 200)
    assert.deepEqual(answered(await user.api.delete(`/api/auth/sessions/${sessions[0].id}`), 200), { success: true })
    await waitFor(async () => (await other.api.get('/api/auth/me')).status === 401, 'the end of the session', { timeout: 5000 })
    refused(await system.api.post('/api/auth/refresh', { refresh_token: other.refresh_token }), 401, 'unauthorized')
    assert.deepEqual((await user.api.get('/api/auth/sessions')).json.sessions.map(({ id }) => id), [sessions[1].id])
    refused(await user.api.delete(`/api/auth/sessions/${sessions[0].id}`), 404, 'not_found')
  })

  test('sessions: pages', async () => {
    const user = await sut.system.user({ plan: 'trial' })
    for (let i = 0; i < 4; i++) await login(sut.system.api, user)
    const all = (await user.api.get('/api/auth/sessions')).json.sessions.map(({ id }) => id)
    const walked = []
    let cursor = ''
    do {
      const page = (await user.api.get(`/api/auth/sessions?limit=2${cursor && `&cursor=${encodeURIComponent(cursor)}`}`)).json
      assert.ok(page.sessions.length <= 2)
      walked.push(...page.sessions.map(({ id }) => id))
      cursor = page.next_cursor
    } while (cursor)
    assert.equal(all.length, 5)
    assert.deepEqual(walked, all)
    refused(await user.api.get('/api/auth/sessions?limit=0'), 400, 'validation_error', 'limit')
  })

  test('change-password: the present one is proven, other sessions end, this one goes on', async () => {
    const { system } = sut
    const user = await system.user({ plan: 'trial' })
    const other = await login(system.api, user)
    const change = (body, api = user.api) => api.post('/api/auth/change-password', body)
    refused(await change({ current_password: 'wrong-one', new_password: 'brand-new-1' }), 401, 'invalid_credentials')
    refused(await change({ current_password: user.password, new_password: '12345' }), 400, 'validation_error', 'new_password')
    refused(await change({ current_password: user.password, new_password: 'x'.repeat(73) }), 400, 'validation_error', 'new_password')
    refused(await change({ new_password: 'brand-new-1' }), 400, 'validation_error', 'current_password')
    refused(await change({}, system.api.as(null)), 401, 'unauthorized')
    assert.deepEqual(answered(await change({ currentPassword: user.password, newPassword: 'brand-new-1' }), 200), { success: true })
    await waitFor(async () => (await other.api.get('/api/auth/me')).status === 401, 'the end of the other session', { timeout: 5000 })
    assert.equal((await user.api.get('/api/auth/me')).status, 200)
    answered(await system.api.post('/api/auth/refresh', { refresh_token: user.refresh_token }), 200)
    refused(await system.api.post('/api/auth/refresh', { refresh_token: other.refresh_token }), 401, 'unauthorized')
    refused(await system.api.post('/api/auth/login', { email: user.email, password: user.password }), 401, 'invalid_credentials')
    await login(system.api, { email: user.email, password: 'brand-new-1' })
  })

  test('the cookie: set by signup and login, and good for changes only from a page of this host', async () => {
    const { system } = sut
    const { api } = system
    const body = { name: 'C', email: address(), password: PASSWORD }
    for (const path of ['signup', 'login']) {
      const answer = await api.post(`/api/auth/${path}`, body)
      const cookies = answer.headers['set-cookie']
      assert.equal(cookies.length, 1)
      const [pair, ...attributes] = cookies[0].split('; ')
      assert.equal(pair, `bore_session=${answer.json.token}`)
      for (const attribute of ['HttpOnly', 'SameSite=Strict', 'Path=/']) assert.ok(attributes.includes(attribute), cookies[0])
      assert.ok(!attributes.some((attribute) => /^(secure|domain)/i.test(attribute)), 'not Secure over http, not for other hosts')
    }
    const user = { email: body.email, password: PASSWORD }
    const { token } = await login(api, user)
    const cookie = `a=b; bore_session=${token}; c=d`
    const ask = (method, path, headers, json) => api.request(method, path, { body: json, token: null, headers: { cookie, ...headers } })
    assert.equal((await ask('GET', '/api/auth/me')).status, 200)
    assert.equal((await ask('GET', '/api/auth/me', { origin: 'https://evil.example' })).headers['access-control-allow-origin'], undefined)
    const host = `127.0.0.1:${system.port}`
    for (const origin of [undefined, 'https://evil.example', 'null', `http://${host}.evil.example`, `http://evil.example/${host}`, 'http://127.0.0.1:1']) {
      const headers = origin === undefined ? {} : { origin }
      refused(await ask('POST', '/api/auth/claim-plan', headers, { plan: 'trial' }), 403, 'forbidden')
      refused(await ask('POST', '/api/instances', headers, { name: 'x', local_port: 1 }), 403, 'forbidden')
    }
    assert.equal((await ask('POST', '/api/auth/claim-plan', { origin: `http://${host}` }, { plan: 'trial' })).status, 200)
    const bearer = { authorization: `Bearer ${token}`, cookie: '' }
    assert.equal((await ask('POST', '/api/auth/claim-plan', bearer, { plan: 'pro' })).status, 200, 'with a bearer no Origin is needed')
    assert.equal((await ask('GET', '/api/auth/me', { cookie: 'bore_session=nonsense' })).status, 401)
    const out = await ask('POST', '/api/auth/logout', { origin: `http://${host}` })
    assert.equal(out.status, 200)
    await waitFor(async () => (await ask('GET', '/api/auth/me')).status === 401, 'the end of the cookie', { timeout: 5000 })
  })

  test('a sign-in from a page of another origin leaves no cookie', async () => {
    const user = await sut.system.user({ plan: 'trial' })
    const other = await login(sut.system.api, user, { headers: { origin: 'https://evil.example' } })
    assert.equal(other.headers['set-cookie'], undefined)
  })

  test("a forwarded address is believed only together with the edge's secret", async () => {
    const { system } = sut
    const user = await system.user({ plan: 'trial' })
    const seen = async (api, headers) => {
      const { token } = await login(api, user, { headers })
      const { sessions } = (await system.api.get('/api/auth/sessions', { token })).json
      return sessions.find(({ current }) => current).address
    }
    const forged = { 'x-forwarded-for': '203.0.113.9' }
    assert.equal(await seen(system.api, forged), '127.0.0.1', 'through the edge it is overwritten')
    assert.equal(await seen(system.api, { ...forged, 'x-bore-edge': system.secret('EDGE_SECRET') }), '127.0.0.1', 'and who knows the secret gains nothing')
    const direct = new Api(system.gateways()[0])
    assert.equal(await seen(direct, forged), 'local')
    assert.equal(await seen(direct, { ...forged, 'x-bore-edge': 'guess' }), 'local')
    assert.equal(await seen(direct, { ...forged, 'x-bore-edge': system.secret('EDGE_SECRET') }), '203.0.113.9')
    direct.close()
  })
})

describe('an installation that is careful', () => {
  // A known bcrypt hash of "old-secret-1", because nobody can sign up here.
  const hash = '$2b$04$Y7etwNQv/5Wmi3eXGLBNAOWPTElDbz75Ggv681u9i38L3d3h88nnG'
  const sut = systemFor(
    { before, after, afterEach },
    {
      env: {
        SIGNUP: 'closed',
        PRO_SELF_SERVICE: 'false',
        PASSWORD_MIN_LENGTH: '10',
        LOGIN_FAILURES_PER_ACCOUNT: '3',
        LOGIN_FAILURES_PER_ADDRESS: '6',
        EDGE_AUTH_RATE: '20',
        TRUSTED_PROXIES: '127.0.0.1'
      }
    }
  )
  const account = () => {
    const email = address()
    sut.system.sql(`INSERT INTO bore.users (id, email, name, password_hash) VALUES (bore.new_id('user'), '${email}', 'Old', '${hash}')`)
    return { email, password: 'old-secret-1' }
  }
  const tryLogin = (email, password, from) =>
    sut.system.api.post('/api/auth/login', { email, password }, { headers: { 'x-forwarded-for': from } })

  test('SIGNUP=closed', async () => {
    refused(await sut.system.api.post('/api/auth/signup', { name: 'N', email: address(), password: 'long-enough-1' }), 403, 'signup_closed')
  })

  test('PRO_SELF_SERVICE=false, PASSWORD_MIN_LENGTH', async () => {
    const user = await login(sut.system.api, account(), { headers: { 'x-forwarded-for': '198.51.100.1' } })
    refused(await user.api.post('/api/auth/claim-plan', { plan: 'pro' }), 403, 'forbidden')
    refused(await user.api.post('/api/auth/claim-plan', { plan: 'gold' }), 400, 'invalid_plan')
    answered(await user.api.post('/api/auth/claim-plan', { plan: 'trial' }), 200)
    refused(
      await user.api.post('/api/auth/change-password', { current_password: 'old-secret-1', new_password: '123456789' }),
      400, 'validation_error', 'new_password'
    )
  })

  test('an account: after three failures from one address it must wait there, and others need not', async () => {
    const user = account()
    const from = '198.51.100.10'
    for (let i = 0; i < 3; i++) refused(await tryLogin(user.email, 'wrong-wrong', from), 401, 'invalid_credentials')
    const limited = await tryLogin(user.email.toUpperCase(), 'wrong-wrong', from)
    refused(limited, 429, 'too_many_requests')
    const wait = Number(limited.headers['retry-after'])
    assert.ok(wait > 800 && wait <= 900, `Retry-After: ${wait} of 15 minutes`)
    refused(await tryLogin(user.email, user.password, from), 429, 'too_many_requests')
    assert.equal((await tryLogin(user.email, user.password, '198.51.100.11')).status, 200)
    assert.equal((await tryLogin(account().email, 'old-secret-1', from)).status, 200)
  })

  test('an unknown account is throttled like a known one', async () => {
    const email = address()
    const from = '198.51.100.20'
    for (let i = 0; i < 3; i++) refused(await tryLogin(email, 'wrong-wrong', from), 401, 'invalid_credentials')
    refused(await tryLogin(email, 'wrong-wrong', from), 429, 'too_many_requests')
  })

  test('a good sign-in clears the count', async () => {
    const user = account()
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 2; i++) refused(await tryLogin(user.email, 'wrong-wrong', '198.51.100.30'), 401, 'invalid_credentials')
      assert.equal((await tryLogin(user.email, user.password, '198.51.100.30')).status, 200)
    }
  })

  test('an address: after six failures it must wait, whatever account it tries; ten at once are counted too', async () => {
    const from = '198.51.100.40'
    const answers = await Promise.all(Array.from({ length: 12 }, () => tryLogin(address(), 'wrong-wrong', from)))
    assert.deepEqual(answers.map((answer) => answer.status).sort(), [...Array(6).fill(401), ...Array(6).fill(429)])
    const user = account()
    refused(await tryLogin(user.email, user.password, from), 429, 'too_many_requests')
    assert.equal((await tryLogin(user.email, user.password, '198.51.100.41')).status, 200)
  })

  test("an address: the edge's own limit counts every way to write the path", async () => {
    const ways = ['/api/auth/refresh', '/api/%61uth/refresh', '/api/v1/AUTH/refresh', '//api//auth/refresh/', '/%61pi/a%75th/%72efresh']
    const ask = (path, from) => sut.system.api.post(path, {}, { headers: { 'x-forwarded-for': from } })
    for (let i = 0; i < 20; i++) assert.notEqual((await ask(ways[i % ways.length], '198.51.100.70')).status, 429)
    for (const path of ways) {
      const limited = await ask(path, '198.51.100.70')
      refused(limited, 429, 'too_many_requests')
      assert.equal(limited.headers['retry-after'], '10')
    }
    assert.notEqual((await ask('/api/instances', '198.51.100.70')).status, 429)
    assert.notEqual((await ask(ways[0], '198.51.100.71')).status, 429)
  })

  test('behind a trusted proxy the last forwarded address counts, so an invented first one helps nobody', async () => {
    const from = '198.51.100.50'
    const answers = []
    for (let i = 0; i < 7; i++) answers.push(await tryLogin(address(), 'wrong-wrong', `203.0.113.${i}, ${from}`))
    assert.deepEqual(answers.map((answer) => answer.status), [...Array(6).fill(401), 429])
  })

  test('under https, as a trusted proxy says, the cookie is Secure and HSTS is sent', async () => {
    const user = account()
    const answer = await login(sut.system.api, user, { headers: { 'x-forwarded-for': '198.51.100.60', 'x-forwarded-proto': 'https' } })
    assert.match(answer.headers['set-cookie'][0], /; Secure/)
    assert.match(answer.headers['strict-transport-security'], /max-age=\d+/)
    const plain = await login(sut.system.api, user, { headers: { 'x-forwarded-for': '198.51.100.60' } })
    assert.ok(!/Secure/.test(plain.headers['set-cookie'][0]))
    assert.equal(plain.headers['strict-transport-security'], undefined)
  })
})
