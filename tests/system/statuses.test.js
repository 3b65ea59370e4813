// statuses.test.js: the whole table of statuses, driven from outside through HTTP alone, with shortened timeouts: every
// status is reached for the right reason and is seen on the stream. Times are printed; `make chaos` judges them.
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { answered } from './support/expect.js'
import { Heart } from './support/heart.js'
import { systemFor, unique } from './support/system.js'

const TIMEOUT = 2
const env = {
  HEARTBEAT_TIMEOUT_SECONDS: String(TIMEOUT),
  STARTING_TIMEOUT_SECONDS: '2',
  IDLE_TIMEOUT_SECONDS: '3',
  TUNNEL_TOKEN_TTL_SECONDS: '3',
  SERVER_LEASE_SECONDS: '2'
}
const now = () => Math.floor(Date.now() / 1000)

describe('statuses', { concurrency: 8 }, () => {
  const sut = systemFor({ before, after, afterEach }, { env })
  let user, stream, plain

  before(async () => {
    user = await sut.system.user()
    stream = await sut.system.stream(user)
    // a plain client, which sends no heartbeats at all
    plain = await sut.system.instance(user)
    await sut.system.connectTunnel(user, plain)
    // the first silence shows that time goes on
    const first = await connected()
    await new Heart(user, first).beat()
    await become(first, 'offline', 'heartbeats stopped')
  })
  after(() => stream.close())

  /** Waits until the stream has told this status for this reason, from a place in it on; the API must agree with it. */
  async function become(instance, status, reason, from = 0) {
    const message = await stream.status(instance.id, status, from)
    assert.equal(message.json.reason, reason)
    return message
  }
  const place = () => stream.messages.length
  async function connected(fields) {
    const instance = await sut.system.instance(user, fields)
    await sut.system.connectTunnel(user, instance)
    await become(instance, 'active', 'tunnel connected')
    return instance
  }

  test('inactive, starting, active, offline by report, inactive by its user', async () => {
    const { system } = sut
    const instance = await system.instance(user)
    assert.equal(instance.status, 'inactive')
    assert.equal(instance.status_reason, 'created')
    await system.connectTunnel(user, instance)
    await become(instance, 'starting', 'waiting for the tunnel')
    await become(instance, 'active', 'tunnel connected')
    answered(await system.api.internalPost(`/instances/${instance.id}/tunnel-disconnected`, { reason: 'client left' }), 200)
    await become(instance, 'offline', 'tunnel disconnected: client left')
    const from = place()
    await system.connectTunnel(user, instance)
    await become(instance, 'active', 'tunnel connected', from)
    answered(await user.api.post(`/api/instances/${instance.id}/disconnect`), 200)
    await become(instance, 'inactive', 'disconnected by its user', from)
    // a heartbeat without a tunnel is noted, and proves nothing
    const beat = answered(await user.api.post(`/api/instances/${instance.id}/heartbeat`), 200, ['success', 'status', 'reason'])
    assert.deepEqual([beat.status, beat.reason], ['inactive', 'disconnected by its user'])
    const shown = answered(await user.api.get(`/api/instances/${instance.id}`), 200)
    assert.equal(shown.status, 'inactive')
    assert.ok(shown.heartbeat_age_ms < 30000 && shown.last_heartbeat > Date.now() - 60000)
  })

  test('online, degraded, and an ordinary program that never is', async () => {
    const instance = await connected()
    const heart = new Heart(user, instance).start()
    await become(instance, 'online', 'tunnel connected, heartbeats arrive')
    await heart.beat({ has_code_server: true, vscode_responsive: false })
    await become(instance, 'degraded', 'VSCode does not respond')
    // what is left out keeps what was said: the heartbeats without fields change nothing
    await heart.beats(2)
    assert.equal(answered(await user.api.get(`/api/instances/${instance.id}`), 200).status, 'degraded')
    let from = place()
    await heart.beat({ vscode_responsive: true })
    await become(instance, 'online', 'tunnel connected, heartbeats arrive', from)
    from = place()
    await heart.beat({ hasCodeServer: false, vscodeResponsive: false })
    await heart.beats(2)
    assert.ok(!stream.messages.slice(from).some((message) => message.json?.instanceId === instance.id), 'nothing changes')
    heart.stop()
  })

  test('silence: offline, and back by itself', async () => {
    const instance = await connected()
    const heart = new Heart(user, instance).start()
    await heart.beats(3)
    heart.stop()
    await become(instance, 'offline', 'heartbeats stopped')
    const after = (performance.now() - heart.heardAt) / 1000
    console.log(`# offline ${after.toFixed(2)} s after the last heartbeat; the timeout is ${TIMEOUT} s`)
    assert.ok(after > TIMEOUT, 'not before its time')
    const from = place()
    heart.start()
    await become(instance, 'online', 'tunnel connected, heartbeats arrive', from)
    heart.stop()
  })

  test('idle by time alone; activity returns it', async () => {
    const instance = await connected()
    const heart = new Heart(user, instance).start()
    await heart.beat({ last_activity: now() })
    await become(instance, 'online', 'tunnel connected, heartbeats arrive')
    await become(instance, 'idle', 'no recent activity')
    const from = place()
    await heart.beat({ last_activity: now() })
    await become(instance, 'online', 'tunnel connected, heartbeats arrive', from)
    await heart.beat({ last_activity: now() - 100 })
    await become(instance, 'idle', 'no recent activity', from)
    heart.stop()
    await become(instance, 'offline', 'heartbeats stopped', from)
  })

  test('error: validated, and then nothing; what comes late counts', async () => {
    const { system } = sut
    const instance = await system.instance(user)
    const { tunnel_token } = answered(await user.api.post(`/api/instances/${instance.id}/connect`), 200)
    assert.equal(answered(await system.api.internalPost('/validate-key', { api_key: tunnel_token }), 200).valid, true)
    await become(instance, 'error', 'the tunnel did not open in time')
    answered(await system.api.internalPost(`/instances/${instance.id}/tunnel-connected`, { remotePort: 21000 }), 200)
    await become(instance, 'active', 'tunnel connected')
  })

  test('error: the client could not open it', async () => {
    const instance = await sut.system.instance(user)
    answered(await user.api.post(`/api/instances/${instance.id}/connect`), 200)
    answered(await user.api.patch(`/api/instances/${instance.id}/connection`, { status: 'error' }), 200)
    await become(instance, 'error', 'the client could not open the tunnel')
  })

  test('a token that nobody uses', async () => {
    const instance = await sut.system.instance(user)
    answered(await user.api.post(`/api/instances/${instance.id}/connect`), 200)
    await become(instance, 'starting', 'waiting for the tunnel')
    await become(instance, 'inactive', 'the tunnel token was not used in time')
    const history = answered(await user.api.get(`/api/instances/${instance.id}/status-history`), 200).status_history
    assert.deepEqual(history.map((entry) => entry.status), ['inactive', 'starting', 'inactive'])
  })

  test('a bore-server that lets its lease end, and comes back', async () => {
    const { system } = sut
    const server = { id: unique('server'), host: '127.0.0.1', port: 7835, region: unique('region') }
    answered(await system.api.internalPost('/servers', server), 200)
    const instance = await connected({ region: server.region })
    assert.equal(answered(await user.api.get(`/api/instances/${instance.id}`), 200).assigned_server, server.id)
    const renewing = setInterval(() => system.api.internalPost('/servers', server).catch(() => {}), 400)
    await new Heart(user, instance).start().beatsAndStop(4)
    clearInterval(renewing)
    await become(instance, 'offline', 'tunnel disconnected: its bore-server no longer answers')
    assert.equal(answered(await user.api.post(`/api/instances/${(await system.instance(user, { region: server.region })).id}/connect`), 503).error, 'no_servers_available')
    // its tunnels are over: it is told so
    assert.deepEqual(answered(await system.api.internalPost('/servers', server), 200).close, [instance.id])
  })

  test('silence of a plain client means nothing', async () => {
    await new Promise((resolve) => setTimeout(resolve, 4000)) // longer than every timeout here
    assert.equal(answered(await user.api.get(`/api/instances/${plain.id}`), 200).status, 'active')
    assert.deepEqual(stream.changes.filter((message) => message.json.instanceId === plain.id).map((message) => message.json.status), ['starting', 'active'])
  })
})

describe('heartbeats and health', { concurrency: 4 }, () => {
  const sut = systemFor({ before, after, afterEach })
  let user, instance
  before(async () => {
    user = await sut.system.user()
    instance = await sut.system.instance(user)
  })
  const beat = (body, options) => user.api.post(`/api/instances/${instance.id}/heartbeat`, body, options)

  test('metrics never refuse a heartbeat', async () => {
    const tidy = answered(await beat({ cpu_usage: 12.5, memoryUsage: 2048, last_activity: 1700000000, has_code_server: true, vscode_responsive: true, other: [1] }), 200)
    assert.equal(tidy.ignored, undefined)
    for (const [body, ignored] of [
      [{ cpu_usage: 101 }, ['cpu_usage']],
      [{ cpuUsage: '12', memory_usage: -1 }, ['cpu_usage', 'memory_usage']],
      [{ vscode_responsive: null, has_code_server: 'yes', cpu_usage: null, memory_usage: {}, last_activity: 1.5 }, ['vscode_responsive', 'has_code_server', 'cpu_usage', 'memory_usage', 'last_activity']],
      [{ last_activity: 1e300 }, ['last_activity']]
    ]) {
      const answer = answered(await beat(body), 200, ['success', 'status', 'reason', 'ignored'])
      assert.deepEqual([...answer.ignored].sort(), [...ignored].sort())
    }
    answered(await beat(undefined), 200, ['success', 'status', 'reason'])
    assert.equal((await beat(undefined, { raw: '', headers: { 'content-type': 'text/plain' } })).status, 200)
    assert.equal(answered(await beat(undefined, { raw: '{' }), 400).error, 'invalid_json')
    const health = answered(await user.api.get(`/api/instances/${instance.id}/health`), 200)
    assert.deepEqual([health.cpu_usage, health.memory_usage, health.vscode_responsive, health.has_code_server], [12.5, 2048, true, true])
  })

  test("somebody else's, and what is none", async () => {
    const other = await sut.system.user()
    for (const id of [instance.id, 'inst_none', 'x'.repeat(65)]) {
      assert.equal(answered(await other.api.post(`/api/instances/${id}/heartbeat`), 404).error, 'instance_not_found')
      assert.equal(answered(await other.api.get(`/api/instances/${id}/health`), 404).error, 'instance_not_found')
    }
    assert.equal(answered(await sut.system.api.post(`/api/instances/${instance.id}/heartbeat`), 401).error, 'unauthorized')
    const gone = await sut.system.instance(other)
    answered(await other.api.post(`/api/instances/${gone.id}/heartbeat`), 200)
    answered(await other.api.delete(`/api/instances/${gone.id}`), 200)
    answered(await other.api.post(`/api/instances/${gone.id}/heartbeat`), 404)
    assert.deepEqual(sut.system.sql(`SELECT count(*) FROM bore.health_metrics WHERE instance_id = '${gone.id}'`), [['0']])
  })

  test('samples: the last thousand, newest first', async () => {
    const own = await sut.system.instance(user)
    const send = (n) => user.api.post(`/api/instances/${own.id}/heartbeat`, { cpu_usage: n / 100, memory_usage: n })
    assert.deepEqual(answered(await user.api.get(`/api/instances/${own.id}/health`), 200).samples, [])
    for (let n = 1; n <= 1005; n += 15) {
      // one after another in what they say, many in one batch all the same
      const answers = await Promise.all(Array.from({ length: 15 }, (_, k) => send(n + k)))
      assert.ok(answers.every((answer) => answer.status === 200))
    }
    await send(5000)
    const seen = async (query) => answered(await user.api.get(`/api/instances/${own.id}/health${query}`), 200).samples
    assert.equal((await seen('')).length, 100)
    assert.equal((await seen('?samples=0')).length, 0)
    const all = await seen('?samples=1000')
    assert.equal(all.length, 1000)
    assert.equal(all[0].memory_usage, 5000)
    assert.ok(all.every((sample, at) => at === 0 || sample.timestamp <= all[at - 1].timestamp), 'newest first')
    assert.equal(new Set(all.map((sample) => sample.memory_usage)).size, 1000)
    assert.equal(answered(await user.api.get(`/api/instances/${own.id}/health?samples=1001`), 400).error, 'validation_error')
  })

  test('the canary has a key of its own, and no place in the description', async () => {
    const { api } = sut.system
    const canary = { sender: 'me', sent: 1, after_sender: '', after_sent: 0 }
    assert.equal(answered(await api.post('/api/internal/canary', canary), 401).error, 'unauthorized')
    assert.equal(answered(await api.internalPost('/canary', canary), 401).error, 'unauthorized')
    assert.equal(answered(await user.api.post('/api/internal/canary', canary), 401).error, 'unauthorized')
    assert.ok(!Object.keys((await api.get('/api/openapi.json')).json.paths).some((path) => path.includes('canary')))
  })
})
