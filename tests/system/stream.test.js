// stream.test.js: GET /api/events/status as API.md "Real time" promises it: who may, first message, resume, reset,
// isolation, expiry, revocation, admin scope, slow readers.
import assert from 'node:assert/strict'
import http from 'node:http'
import { after, afterEach, before, describe, test } from 'node:test'
import { systemFor, waitFor } from './support/system.js'

describe('stream', () => {
  const sut = systemFor({ before, after, afterEach })

  test('refuses without a token, with a wrong one, and other methods and paths, in the common form', async () => {
    const { api } = sut.system
    for (const [path, options, status, error] of [
      ['/api/events/status', {}, 401, 'unauthorized'],
      ['/api/events/status', { token: 'nonsense' }, 401, 'unauthorized'],
      ['/api/v1/events/status', { token: 'a.b.c' }, 401, 'unauthorized'],
      ['/api/events/other', {}, 404, 'not_found']
    ]) {
      const answer = await api.get(path, options)
      assert.equal(answer.status, status, `${path}: ${answer.text}`)
      assert.equal(answer.json.error, error)
      assert.ok(answer.json.message && answer.json.request_id)
    }
    const wrong = await api.post('/api/events/status', {})
    assert.equal(wrong.status, 405)
    assert.match(wrong.headers.allow, /GET/)
  })

  test('begins with retry, an id and `connected`; answers as an event stream', async () => {
    const user = await sut.system.user()
    const stream = await sut.system.stream(user)
    const first = await stream.until((s) => s.messages[0], 'the first message')
    assert.match(stream.headers['content-type'], /^text\/event-stream/)
    assert.equal(stream.headers['cache-control'], 'no-store')
    assert.equal(stream.retryMs, 2000)
    assert.equal(first.json.type, 'connected')
    assert.ok(Math.abs(first.json.timestamp - Date.now()) < 60000)
    stream.close()
  })

  test('the cookie is as good as the bearer', async () => {
    const user = await sut.system.user()
    const stream = await sut.system.stream(null, { headers: { cookie: `other=1; bore_session=${user.token}` } })
    await stream.until((s) => s.messages[0], 'the first message')
    stream.close()
  })

  test('a status change carries all that API.md names', async () => {
    const { system } = sut
    const user = await system.user()
    const stream = await system.stream(user)
    const instance = await system.instance(user)
    await system.connectTunnel(user, instance)
    const message = await stream.status(instance.id, 'active')
    assert.deepEqual(Object.keys(message.json).sort(), ['eventId', 'instanceId', 'previousStatus', 'reason', 'status', 'timestamp'])
    assert.equal(message.json.previousStatus, 'starting')
    assert.equal(message.json.eventId, message.id)
    stream.close()
  })

  test("nobody sees another's instances", async () => {
    const { system } = sut
    const [left, right] = [await system.user(), await system.user()]
    const [leftStream, rightStream] = [await system.stream(left), await system.stream(right)]
    const [mine, theirs] = [await system.instance(left), await system.instance(right)]
    await Promise.all([system.connectTunnel(left, mine), system.connectTunnel(right, theirs)])
    await leftStream.status(mine.id, 'active')
    await rightStream.status(theirs.id, 'active')
    assert.ok(leftStream.messages.every((message) => !message.json.instanceId || message.json.instanceId === mine.id))
    assert.ok(rightStream.messages.every((message) => !message.json.instanceId || message.json.instanceId === theirs.id))
    leftStream.close()
    rightStream.close()
  })

  test('list, then stream from its cursor: no hole and no double', async () => {
    const { system } = sut
    const user = await system.user()
    const before = await system.instance(user)
    const { cursor } = (await user.api.get('/api/instances')).json
    const between = await system.instance(user)
    const stream = await system.stream(user, { lastEventId: cursor })
    const after = await system.instance(user)
    await stream.until((s) => s.messages.some((message) => message.json.instanceId === after.id), 'the later event')
    const created = stream.messages.filter((message) => message.json?.type === 'created').map((message) => message.json.instanceId)
    assert.deepEqual(created, [between.id, after.id])
    assert.ok(!created.includes(before.id))
    stream.close()
  })

  test('resumes by header and by query, also after the process was killed and its memory is empty', async () => {
    const { system } = sut
    const user = await system.user()
    const stream = await system.stream(user, { reconnect: true, retryMs: 100 })
    const instance = await system.instance(user)
    await stream.until((s) => s.messages.length >= 2, 'the creation')
    const cursor = stream.lastEventId
    const old = system.pids('stream')
    system.kill('stream')
    await system.connectTunnel(user, instance)
    await stream.status(instance.id, 'active')
    assert.notDeepEqual(system.pids('stream'), old)
    assert.deepEqual(stream.changes.map((message) => message.json.status), ['starting', 'active'])
    stream.close()
    const query = await system.stream(user, { query: `?last_event_id=${cursor}` })
    await query.status(instance.id, 'active')
    assert.deepEqual(query.changes.map((message) => message.json.status), ['starting', 'active'])
    query.close()
  })

  test('a cursor that cannot be served is answered by `reset`, never by a part', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    const { cursor } = (await user.api.get('/api/instances')).json
    const [epoch, id] = cursor.split('-')
    for (const bad of [`${epoch}-${Number(id) + 1000000}`, `ffffffff-${id}`, 'nonsense', `${epoch}-99999999999999999999999`]) {
      const stream = await system.stream(user, { lastEventId: bad })
      const reset = await stream.until((s) => s.messages.find((message) => message.event === 'reset'), `reset for ${bad}`)
      assert.equal(reset.json.type, 'reset')
      await user.api.patch(`/api/instances/${instance.id}`, { name: `after ${bad}` })
      await stream.until((s) => s.messages.find((message) => message.json.type === 'renamed'), 'live events after reset')
      stream.close()
    }
  })

  test('logout, a deleted session and logout-all end open streams within about a second', async () => {
    const { system } = sut
    const user = await system.user()
    for (const [what, act] of [
      ['logout', (api) => api.post('/api/auth/logout')],
      ['logout-all', (api) => api.post('/api/auth/logout-all')]
    ]) {
      const login = await system.api.post('/api/auth/login', { email: user.email, password: user.password })
      const stream = await system.stream({ token: login.json.token })
      await stream.until((s) => s.messages[0], 'the first message')
      const started = performance.now()
      assert.equal((await act(system.api.as(login.json.token))).status, 200)
      await stream.until((s) => s.ended, 'the end of the stream')
      console.log(`# ${what}: stream ended after ${(performance.now() - started).toFixed(0)} ms`)
      assert.equal((await system.api.get('/api/events/status', { token: login.json.token })).status, 401)
    }
  })

  test("scope=all is for admins: others' changes are seen, users are refused", async () => {
    const { system } = sut
    const admin = await system.admin()
    const user = await system.user()
    const refused = await user.api.get('/api/events/status?scope=all')
    assert.equal(refused.status, 403)
    assert.equal(refused.json.error, 'forbidden')
    const stream = await system.stream(admin, { query: '?scope=all' })
    const instance = await system.instance(user)
    await system.connectTunnel(user, instance)
    await stream.status(instance.id, 'active')
    stream.close()
  })

  test('an admin who is one no more loses scope=all within seconds', async () => {
    const { system } = sut
    const admin = await system.admin()
    const second = await system.user()
    assert.equal((await admin.api.post(`/api/admin/users/${second.user_id}/make-admin`)).status, 200)
    const stream = await system.stream(second, { query: '?scope=all' })
    await stream.until((s) => s.messages[0], 'the first message')
    assert.equal((await admin.api.post(`/api/admin/users/${second.user_id}/remove-admin`)).status, 200)
    await stream.until((s) => s.ended, 'the end of the stream')
  })

  test('a comment keeps idle streams alive, and an id-only block their cursor young', async () => {
    const { system } = sut
    const [user, other] = [await system.user(), await system.user()]
    const stream = await system.stream(user)
    await stream.until((s) => s.messages[0], 'the first message')
    const first = stream.lastEventId
    await system.instance(other)
    await stream.until((s) => s.comments.length >= 1, 'a keep-alive comment')
    await stream.until((s) => s.lastEventId !== first, 'an id-only block')
    assert.equal(stream.messages.length, 1)
    stream.close()
  })

  test('a client that leaves is noticed at once, and costs nothing', async () => {
    const { system } = sut
    const [admin, user] = [await system.admin(), await system.user()]
    const open = async () => (await admin.api.get('/api/admin/stats')).json.active_streams.sse
    await waitFor(async () => (await open()) === 0, 'earlier streams to be gone')
    const streams = await Promise.all(Array.from({ length: 20 }, () => system.stream(user)))
    await waitFor(async () => (await open()) === 20, '20 streams', { timeout: 10000 })
    for (const stream of streams) stream.close()
    const before = system.processorSeconds('stream')
    await waitFor(async () => (await open()) === 0, 'the streams to be gone', { timeout: 8000, quiet: false })
    const used = system.processorSeconds('stream') - before
    assert.ok(used < 0.5, `${used} s of processor time`)
  })

  test('a killed bus delays events by seconds at most and loses none', async () => {
    const { system } = sut
    const user = await system.user()
    const stream = await system.stream(user)
    const instance = await system.instance(user)
    system.kill('bus')
    await waitFor(async () => (await user.api.post(`/api/instances/${instance.id}/connect`)).status === 200, 'the bus to be back', { quiet: false })
    await stream.status(instance.id, 'starting')
    stream.close()
  })
})

describe('stream with short-lived tokens', () => {
  const sut = systemFor({ before, after, afterEach }, { env: { JWT_TTL_SECONDS: '4' } })

  test('ends when its token expires', async () => {
    const user = await sut.system.user({ plan: 'trial' })
    const stream = await sut.system.stream(user)
    await stream.until((s) => s.ended, 'the end of the stream')
    assert.ok(stream.comments.some((comment) => comment.includes('token_expired')))
    assert.equal((await user.api.get('/api/events/status')).status, 401)
  })

})

describe('stream with small queues', () => {
  const sut = systemFor({ before, after, afterEach }, { env: { STREAM_QUEUE_BYTES: '65536' } })

  test('a reader who does not read is disconnected; it hurts nobody and resumes by cursor', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    const reading = await system.stream(user)
    const lazy = http.get(`${system.url}/api/events/status`, { headers: { authorization: `Bearer ${user.token}` }, agent: false })
    const response = await new Promise((resolve, reject) => lazy.on('response', resolve).on('error', reject))
    response.pause()
    const slow = () => system.log('stream').includes('slow_reader')
    const name = '🚇'.repeat(250)
    let renames = 0
    while (renames < 40000 && !slow()) await Promise.all(Array.from({ length: 25 }, () => user.api.patch(`/api/instances/${instance.id}`, { name: `${name}${renames++}` })))
    await waitFor(slow, 'the log to name slow_reader')
    const renamed = (stream) => stream.messages.filter((message) => message.json?.type === 'renamed').length
    await reading.until((s) => renamed(s) === renames, `all ${renames} events at the other reader`)
    lazy.destroy()
    const [epoch, id] = reading.lastEventId.split('-')
    const resumed = await system.stream(user, { lastEventId: `${epoch}-${Number(id) - 20}` })
    await resumed.until((s) => renamed(s) === 20, 'the missed events')
    reading.close()
    resumed.close()
  })
})
