// instances.test.js: API.md "Instances", row by row, but for heartbeats and health; plan limits when many ask at once.
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { answered, DAYS, hasKeys, HOURS, isTime, refused } from './support/expect.js'
import { systemFor, unique } from './support/system.js'

const INSTANCE = [
  'id', 'user_id', 'name', 'local_port', 'remote_port', 'region', 'server_region', 'server_host', 'assigned_server',
  'status', 'status_reason', 'status_since', 'tunnel_connected', 'public_url', 'last_heartbeat', 'heartbeat_age_ms',
  'created_at', 'updated_at', 'localPort', 'remotePort', 'publicUrl', 'serverAddress', 'statusReason', 'tunnelConnected'
]
const CONNECT = [
  'instance_id', 'tunnel_token', 'server_host', 'server_port', 'local_port', 'remote_port', 'ttl', 'expires_at',
  'server_info', 'instanceId', 'tunnelToken', 'boreServerHost', 'boreServerPort', 'localPort', 'remotePort', 'expiresAt',
  'bore_server_host', 'bore_server_port'
]
const NOBODY = 'inst_000000000000000000000000'

/** All keys, and every camelCase repeat says the same. */
function isInstance(object) {
  hasKeys(object, INSTANCE)
  assert.equal(object.localPort, object.local_port)
  assert.equal(object.remotePort, object.remote_port)
  assert.equal(object.publicUrl, object.public_url)
  assert.equal(object.serverAddress, object.server_host)
  assert.equal(object.statusReason, object.status_reason)
  assert.equal(object.tunnelConnected, object.tunnel_connected)
  assert.equal(object.server_region, object.region)
  for (const key of ['created_at', 'updated_at', 'status_since']) isTime(object[key])
}

describe('instances', () => {
  const sut = systemFor({ before, after, afterEach })
  const status = async (user, { id }) => (await user.api.get(`/api/instances/${id}`)).json.status
  const seen = (user, { id }, body) => user.api.patch(`/api/instances/${id}/connection`, body)
  const validate = (token) => sut.system.api.internalPost('/validate-key', { api_key: token })
  const connected = ({ id }, body) => sut.system.api.internalPost(`/instances/${id}/tunnel-connected`, body)
  const disconnected = ({ id }, body) => sut.system.api.internalPost(`/instances/${id}/tunnel-disconnected`, body)

  /** All pages of a list, joined. */
  async function walk(user, path, key, limit) {
    const rows = []
    let cursor
    do {
      const separator = path.includes('?') ? '&' : '?'
      const page = await user.api.get(`${path}${separator}limit=${limit}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`)
      assert.equal(page.status, 200, page.text)
      assert.ok(page.json[key].length <= limit)
      rows.push(...page.json[key])
      cursor = page.json.next_cursor
    } while (cursor)
    return rows
  }

  test('create: 201, the whole instance; unknown values are null', async () => {
    const user = await sut.system.user()
    const answer = await user.api.post('/api/instances', { name: 'Büro 🚇', local_port: 8443, unknown: true })
    const instance = answered(answer, 201)
    isInstance(instance)
    assert.match(instance.id, /^inst_[0-9a-f]{24}$/)
    assert.deepEqual(
      Object.fromEntries(Object.entries(instance).filter(([key]) => !/(_at|_since|^id|[a-z][A-Z].*)$/.test(key))),
      {
        user_id: user.user_id, name: 'Büro 🚇', local_port: 8443, remote_port: null, region: 'local', server_region: 'local',
        server_host: null, assigned_server: null, status: 'inactive', status_reason: 'created', tunnel_connected: false,
        public_url: null, last_heartbeat: null, heartbeat_age_ms: null
      }
    )
    isTime(instance.created_at, { near: Date.now() })
    const other = answered(await user.api.post('/api/v1/instances', { name: 'x'.repeat(255), localPort: 65535, region: 'eu-1', serverHost: 'bore.example' }), 201)
    assert.deepEqual([other.local_port, other.region, other.server_host], [65535, 'eu-1', 'bore.example'])
    assert.deepEqual(answered(await user.api.get(`/api/instances/${other.id}`), 200), other)
  })

  test('create: every wrong field is named', async () => {
    const user = await sut.system.user()
    for (const [change, field] of [
      [{ name: undefined }, 'name'],
      [{ name: '' }, 'name'],
      [{ name: 'x'.repeat(256) }, 'name'],
      [{ name: 1 }, 'name'],
      [{ local_port: undefined }, 'local_port'],
      [{ local_port: 0 }, 'local_port'],
      [{ local_port: 65536 }, 'local_port'],
      [{ local_port: '80' }, 'local_port'],
      [{ local_port: 80.5 }, 'local_port'],
      [{ region: 5 }, 'region'],
      [{ region: 'x'.repeat(101) }, 'region'],
      [{ server_host: 'a b' }, 'server_host'],
      [{ server_host: 'http://evil.example/' }, 'server_host']
    ])
      refused(await user.api.post('/api/instances', { name: 'n', local_port: 80, ...change }), 400, 'validation_error', field)
    refused(await user.api.post('/api/instances'), 400, 'validation_error')
    refused(await sut.system.api.post('/api/instances', { name: 'n', local_port: 1 }, { token: null }), 401, 'unauthorized')
    assert.equal((await user.api.get('/api/instances')).json.total, 0)
  })

  test('create: the same Idempotency-Key gives the same instance, also when all come at once; it is the user’s own', async () => {
    const [user, other] = [await sut.system.user(), await sut.system.user()]
    const headers = { 'idempotency-key': unique('key') }
    const body = { name: 'once', local_port: 80 }
    const answers = await Promise.all(Array.from({ length: 8 }, () => user.api.post('/api/instances', body, { headers })))
    for (const answer of answers) answered(answer, 201, INSTANCE)
    assert.equal(new Set(answers.map((answer) => answer.json.id)).size, 1)
    assert.equal((await user.api.get('/api/instances')).json.total, 1)
    assert.equal((await user.api.post('/api/instances', { ...body, local_port: 81 }, { headers })).status, 409)
    const theirs = answered(await other.api.post('/api/instances', body, { headers }), 201)
    assert.notEqual(theirs.id, answers[0].json.id)
    sut.system.sql(`UPDATE bore.idempotency SET created_at = created_at - interval '25 hours' WHERE key = '${headers['idempotency-key']}'`)
    assert.notEqual(answered(await user.api.post('/api/instances', body, { headers }), 201).id, answers[0].json.id)
  })

  test('list: all of them without a limit, newest first, with total and cursor; the same under every name', async () => {
    const { system } = sut
    const user = await system.user()
    assert.deepEqual(answered(await user.api.get('/api/instances'), 200, ['instances', 'total', 'cursor']).instances, [])
    const made = []
    for (let i = 0; i < 12; i++) made.unshift(...(await Promise.all(Array.from({ length: 10 }, () => system.instance(user)))))
    const list = answered(await user.api.get('/api/instances'), 200, ['instances', 'total', 'cursor'])
    assert.equal(list.total, 120)
    assert.equal(list.instances.length, 120)
    assert.match(list.cursor, /^[0-9a-z]+-\d+$/)
    for (const instance of list.instances) isInstance(instance)
    assert.deepEqual(list.instances.map(({ id }) => id).sort(), made.map(({ id }) => id).sort())
    const times = list.instances.map(({ created_at: at }) => at)
    assert.deepEqual(times, [...times].sort().reverse())
    const aliases = await Promise.all(['/api/v1/instances', '/api/user/instances', '/api/v1/user/instances'].map((path) => user.api.get(path)))
    for (const alias of aliases) assert.deepEqual(answered(alias, 200).instances, list.instances)
    const walked = await walk(user, '/api/instances', 'instances', 50)
    assert.deepEqual(walked, list.instances)
    for (const query of ['limit=0', 'limit=501', 'limit=x', 'limit=5&cursor=nonsense'])
      refused(await user.api.get(`/api/instances?${query}`), 400, 'validation_error', query.split(/[=&]/).at(-2))
  })

  test('the cursor of a list is the stream’s: nothing before it, everything after it', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    const before = (await user.api.get('/api/instances')).json.cursor
    await user.api.post(`/api/instances/${instance.id}/connect`)
    const later = (await user.api.get('/api/instances')).json.cursor
    assert.ok(Number(later.split('-')[1]) > Number(before.split('-')[1]))
    const stream = await system.stream(user, { lastEventId: before })
    const change = await stream.status(instance.id, 'starting')
    assert.ok(Number(change.id.split('-')[1]) <= Number(later.split('-')[1]))
    stream.close()
  })

  test("somebody else's instance, and one that never was, are 404 at every path", async () => {
    const { system } = sut
    const [owner, user] = [await system.user(), await system.user()]
    const { id } = await system.instance(owner)
    for (const target of [id, NOBODY, 'x', "x' OR '1'='1", 'x'.repeat(200)].map(encodeURIComponent)) {
      for (const [method, path, body] of [
        ['GET', ''],
        ['PATCH', '', { name: 'mine' }],
        ['DELETE', ''],
        ['POST', '/connect'],
        ['POST', '/disconnect'],
        ['PATCH', '/connection', { status: 'active' }],
        ['GET', '/status-history'],
        ['GET', '/sessions'],
        ['GET', '/alerts']
      ])
        for (const prefix of ['/api/instances', '/api/user/instances'])
          refused(await user.api.request(method, `${prefix}/${target}${path}`, { body }), 404, 'instance_not_found')
    }
    assert.equal(await status(owner, { id }), 'inactive')
  })

  test('rename: success and the instance; 1 to 255 characters', async () => {
    const user = await sut.system.user()
    const instance = await sut.system.instance(user)
    const answer = answered(await user.api.patch(`/api/instances/${instance.id}`, { name: 'ß'.repeat(255) }), 200, ['success', 'instance'])
    assert.equal(answer.success, true)
    isInstance(answer.instance)
    assert.deepEqual({ ...answer.instance, updated_at: 0 }, { ...instance, name: 'ß'.repeat(255), updated_at: 0 })
    for (const name of ['', 'x'.repeat(256), undefined, null, 5]) refused(await user.api.patch(`/api/instances/${instance.id}`, { name }), 400, 'validation_error', 'name')
  })

  test('delete: success once, then 404; its token dies', async () => {
    const user = await sut.system.user()
    const instance = await sut.system.instance(user)
    const { tunnel_token: token } = (await user.api.post(`/api/instances/${instance.id}/connect`)).json
    assert.deepEqual(answered(await user.api.delete(`/api/instances/${instance.id}`), 200), { success: true })
    refused(await user.api.delete(`/api/instances/${instance.id}`), 404, 'instance_not_found')
    refused(await user.api.get(`/api/instances/${instance.id}`), 404, 'instance_not_found')
    assert.equal((await validate(token)).json.valid, false)
    assert.equal((await user.api.get('/api/instances')).json.total, 0)
  })

  test('connect: exactly what clients read; `starting`; the secret is in no other answer', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user, { local_port: 3389 })
    const answer = answered(await user.api.post(`/api/instances/${instance.id}/connect`, undefined, { headers: {} }), 200, CONNECT)
    assert.match(answer.tunnel_token, /^tk_[0-9a-f]{64}$/)
    hasKeys(answer.server_info, ['server_id', 'utilization'])
    assert.deepEqual(
      [answer.instance_id, answer.local_port, answer.remote_port, answer.ttl, answer.server_host, answer.server_port],
      [instance.id, 3389, 0, 3600, '127.0.0.1', 7835]
    )
    isTime(answer.expires_at, { near: Date.now() + HOURS })
    for (const [repeat, key] of [
      ['instanceId', 'instance_id'], ['tunnelToken', 'tunnel_token'], ['boreServerHost', 'server_host'], ['boreServerPort', 'server_port'],
      ['bore_server_host', 'server_host'], ['bore_server_port', 'server_port'], ['localPort', 'local_port'], ['remotePort', 'remote_port'], ['expiresAt', 'expires_at']
    ])
      assert.equal(answer[repeat], answer[key], repeat)
    const now = await user.api.get(`/api/instances/${instance.id}`)
    assert.equal(now.json.status, 'starting')
    assert.equal(now.json.tunnel_connected, false)
    const list = await user.api.get('/api/instances')
    const sessions = await user.api.get(`/api/instances/${instance.id}/sessions`)
    for (const { text } of [now, list, sessions]) assert.ok(!text.includes(answer.tunnel_token))
    assert.equal(system.sql(`SELECT count(*) FROM bore.tunnel_tokens WHERE token_hash = '${answer.tunnel_token.slice(3)}'`)[0][0], '0', 'kept as a hash')
  })

  test('connect: a new token replaces the old one, also among many at once', async () => {
    const user = await sut.system.user()
    const instance = await sut.system.instance(user)
    const connect = async () => answered(await user.api.post(`/api/instances/${instance.id}/connect`), 200).tunnel_token
    const first = await connect()
    const second = await connect()
    assert.equal((await validate(first)).json.valid, false)
    assert.equal((await validate(second)).json.valid, true)
    const many = await Promise.all(Array.from({ length: 10 }, connect))
    assert.equal(new Set(many).size, 10)
    const valid = (await Promise.all(many.map(validate))).filter((answer) => answer.json.valid)
    assert.equal(valid.length, 1, 'one of them is the last')
  })

  test('plan limits hold when 20 connect at once; only other instances count', async () => {
    const { system } = sut
    for (const [plan, limit] of [['trial', 1], ['pro', 5]]) {
      const user = await system.user({ plan })
      const instances = await Promise.all(Array.from({ length: 20 }, () => system.instance(user)))
      const connect = (instance) => user.api.post(`/api/instances/${instance.id}/connect`)
      const answers = await Promise.all(instances.map(connect))
      const granted = answers.filter((answer) => answer.status === 200)
      for (const answer of answers.filter((one) => one.status !== 200)) refused(answer, 403, 'tunnel_limit_reached')
      assert.equal(granted.length, limit, plan)
      const valid = await Promise.all(granted.map((answer) => validate(answer.json.tunnel_token)))
      assert.ok(valid.every((answer) => answer.json.valid && answer.json.usage_allowed), 'each of them may be used')
      // Its own place counts for nobody else, and is free again when it is left.
      const mine = granted[0].json.instance_id
      answered(await connect({ id: mine }), 200)
      refused(await connect(instances.find(({ id }) => !granted.some((answer) => answer.json.instance_id === id))), 403, 'tunnel_limit_reached')
      answered(await user.api.post(`/api/instances/${mine}/disconnect`), 200)
      const waiting = instances.filter(({ id }) => !granted.some((answer) => answer.json.instance_id === id))
      const second = (await Promise.all(waiting.map(connect))).filter((answer) => answer.status === 200)
      assert.equal(second.length, 1, 'one place was free')
    }
  })

  test('plan_expired; another plan helps at once', async () => {
    const { system } = sut
    const user = await system.user({ plan: 'trial' })
    const instance = await system.instance(user)
    const connect = () => user.api.post(`/api/instances/${instance.id}/connect`)
    const { tunnel_token: token } = answered(await connect(), 200)
    system.sql(`UPDATE bore.users SET plan_expires = clock_timestamp() - interval '1 second' WHERE id = '${user.user_id}'`)
    refused(await connect(), 403, 'plan_expired')
    const valid = (await validate(token)).json
    assert.ok(!(valid.valid && valid.usage_allowed) && valid.message, JSON.stringify(valid))
    answered(await user.api.post('/api/auth/claim-plan', { plan: 'pro' }), 200)
    answered(await connect(), 200)
  })

  test('disconnect: `inactive`, the token is revoked, a repeat is no error, the bore-server’s late report changes nothing', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    const { tunnel_token: token } = await system.connectTunnel(user, instance)
    for (let i = 0; i < 2; i++) assert.deepEqual(answered(await user.api.post(`/api/instances/${instance.id}/disconnect`), 200), { success: true })
    assert.equal(await status(user, instance), 'inactive')
    assert.equal((await validate(token)).json.valid, false)
    answered(await disconnected(instance), 200)
    assert.equal(await status(user, instance), 'inactive')
    const { status_history: history } = (await user.api.get(`/api/instances/${instance.id}/status-history`)).json
    assert.deepEqual(history.map((entry) => entry.status), ['inactive', 'active', 'starting', 'inactive'])
    const waiting = (await user.api.post(`/api/instances/${instance.id}/connect`)).json
    answered(await user.api.post(`/api/instances/${instance.id}/disconnect`), 200)
    assert.equal((await validate(waiting.tunnel_token)).json.valid, false, 'one that was never used, too')
  })

  test('connection: a client’s word moves `starting`, `error` and `inactive`', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    await user.api.post(`/api/instances/${instance.id}/connect`)
    const active = answered(await seen(user, instance, { status: 'active', public_url: 'bore.example:31000', remote_port: 31000 }), 200, ['success', 'instance'])
    isInstance(active.instance)
    assert.deepEqual(
      [active.instance.status, active.instance.tunnel_connected, active.instance.public_url, active.instance.remote_port],
      ['active', true, 'bore.example:31000', 31000]
    )
    assert.equal((await seen(user, instance, { status: 'inactive' })).json.instance.status, 'inactive')
    assert.equal((await seen(user, instance, { status: 'starting' })).json.instance.status, 'starting')
    assert.equal((await seen(user, instance, { status: 'error' })).json.instance.status, 'error')
    assert.equal((await seen(user, instance, { status: 'starting' })).json.instance.status, 'starting')
    assert.equal((await seen(user, instance, { status: 'error' })).json.instance.status, 'error')
    const again = (await seen(user, instance, { status: 'active', publicUrl: 'https://x.example/path', remotePort: 31001 })).json.instance
    assert.deepEqual([again.status, again.public_url, again.remote_port], ['active', 'https://x.example/path', 31001])
    const { status_history: history } = (await user.api.get(`/api/instances/${instance.id}/status-history`)).json
    assert.deepEqual(history.map((entry) => entry.status), ['active', 'error', 'starting', 'error', 'starting', 'inactive', 'active', 'starting', 'inactive'])
  })

  test('connection: against a bore-server’s report a client’s word counts for nothing, and it reopens nothing', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    await system.connectTunnel(user, instance)
    for (const word of ['error', 'starting', 'inactive', 'active']) {
      answered(await seen(user, instance, { status: word }), 200, ['success', 'instance'])
      assert.equal(await status(user, instance), 'active', `connected, and the client says ${word}`)
    }
    answered(await disconnected(instance), 200)
    for (const word of ['active', 'starting']) {
      answered(await seen(user, instance, { status: word, remote_port: 5 }), 200)
      assert.equal(await status(user, instance), 'offline', `disconnected, and the client says ${word}`)
    }
    await user.api.post(`/api/instances/${instance.id}/connect`)
    assert.equal((await seen(user, instance, { status: 'active' })).json.instance.status, 'active', 'in a new session it is heard again')
    await user.api.post(`/api/instances/${instance.id}/disconnect`)
    await seen(user, instance, { status: 'active' })
    assert.equal(await status(user, instance), 'inactive', 'after its user’s own disconnect it is not')
  })

  test('connection: the bore-server’s own report takes over from the client’s word', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    const { tunnel_token: token } = (await user.api.post(`/api/instances/${instance.id}/connect`)).json
    await validate(token)
    await seen(user, instance, { status: 'active', remote_port: 31500 })
    answered(await connected(instance, { remotePort: 31500 }), 200)
    const { status_history: history } = (await user.api.get(`/api/instances/${instance.id}/status-history`)).json
    assert.deepEqual(history.map((entry) => entry.status), ['active', 'starting', 'inactive'])
    answered(await disconnected(instance), 200)
    assert.equal(await status(user, instance), 'offline')
  })

  test('connection: what is not allowed', async () => {
    const user = await sut.system.user()
    const instance = await sut.system.instance(user)
    for (const word of ['online', 'offline', 'idle', 'degraded', 'ACTIVE', '', 5]) refused(await seen(user, instance, { status: word }), 400, 'validation_error', 'status')
    for (const url of ['nonsense', 'javascript:alert(1)', 'ftp://a.example/', 'host:0', 'host:65536', 'a b:80', 'http://', 'x'.repeat(600), '<b>:80', 5])
      refused(await seen(user, instance, { status: 'active', public_url: url }), 400, 'validation_error', 'public_url')
    for (const port of [-1, 65536, '80', 1.5]) refused(await seen(user, instance, { remote_port: port }), 400, 'validation_error', 'remote_port')
    answered(await seen(user, instance, {}), 200, ['success', 'instance'])
    answered(await seen(user, instance, { status: null, public_url: null }), 200, ['success', 'instance'])
    assert.equal(await status(user, instance), 'inactive')
  })

  test('status-history: what it says, and its pages', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    for (let round = 0; round < 4; round++) {
      await system.connectTunnel(user, instance, { remotePort: 32000 + round })
      answered(await disconnected(instance, { reason: 'client went away' }), 200)
    }
    const path = `/api/instances/${instance.id}/status-history`
    const body = answered(await user.api.get(path), 200, ['instance_id', 'current_status', 'status_reason', 'health_metrics', 'last_heartbeat', 'heartbeat_age_ms', 'status_history', 'uptime_data'])
    assert.deepEqual([body.instance_id, body.current_status, body.last_heartbeat, body.heartbeat_age_ms], [instance.id, 'offline', null, null])
    assert.match(body.status_reason, /client went away/)
    hasKeys(body.uptime_data, ['uptime_percentage', 'total_downtime_ms', 'incident_count', 'history_span_ms'])
    assert.equal(body.uptime_data.incident_count, 4)
    assert.equal(body.status_history.length, 13)
    for (const entry of body.status_history) {
      hasKeys(entry, ['id', 'status', 'reason', 'timestamp'])
      isTime(entry.timestamp, { near: Date.now() })
      assert.ok(entry.reason)
    }
    assert.deepEqual(body.status_history.slice(0, 4).map((entry) => entry.status), ['offline', 'active', 'starting', 'offline'])
    const ids = body.status_history.map((entry) => entry.id)
    assert.deepEqual(ids, [...ids].sort((left, right) => right - left), 'newest first')
    assert.deepEqual(await walk(user, path, 'status_history', 5), body.status_history)
    for (const query of ['window=1h', 'window=', 'limit=0', 'cursor=nonsense']) {
      const answer = await user.api.get(`${path}?${query}`)
      if (query !== 'window=' || answer.status !== 200) refused(answer, 400, 'validation_error', query.split('=')[0])
    }
  })

  test('status-history: uptime over the whole history and over a window, the present stretch included', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    await system.connectTunnel(user, instance)
    await disconnected(instance)
    await system.connectTunnel(user, instance)
    // inactive 20 d ago, starting and active 10 d ago, offline 6 h ago, starting and active 3 h ago
    const ages = ['20 days', '10 days 1 second', '10 days', '6 hours', '3 hours 1 second', '3 hours']
    system.sql(
      `UPDATE bore.status_history AS history SET at = clock_timestamp() - (ARRAY ['${ages.join("','")}'])[place]::interval
       FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM bore.status_history WHERE instance_id = '${instance.id}') AS numbered
       WHERE history.id = numbered.id`
    )
    const path = `/api/instances/${instance.id}/status-history`
    const near = (value, wanted, within, what) => assert.ok(Math.abs(value - wanted) <= within, `${what}: ${value}, not ${wanted}`)
    const up = 10 * DAYS - 3 * HOURS
    for (const [window, span, percentage, entries] of [
      ['', 20 * DAYS, (100 * up) / (10 * DAYS), 6],
      ['?window=30d', 20 * DAYS, (100 * up) / (10 * DAYS), 6],
      ['?window=7d', 7 * DAYS, (100 * (7 * DAYS - 3 * HOURS)) / (7 * DAYS), 4],
      ['?window=24h', DAYS, (100 * (DAYS - 3 * HOURS)) / DAYS, 4]
    ]) {
      const { uptime_data: uptime, status_history: history } = answered(await user.api.get(path + window), 200)
      assert.equal(uptime.incident_count, 1, window)
      near(uptime.total_downtime_ms, 3 * HOURS, 10000, `${window} downtime`)
      near(uptime.history_span_ms, span, window === '?window=30d' ? 11 * DAYS : 10000, `${window} span`)
      near(uptime.uptime_percentage, percentage, 0.01, `${window} percentage`)
      assert.equal(history.length, entries, `${window} entries`)
    }
    await disconnected(instance)
    const now = answered(await user.api.get(path), 200).uptime_data
    assert.equal(now.incident_count, 2, 'the present stretch counts')
  })

  test('status-strips: the stretches of all own instances, in one answer', async () => {
    const { system } = sut
    const [user, other] = [await system.user(), await system.user()]
    const [quiet, busy] = [await system.instance(user), await system.instance(user)]
    await system.instance(other)
    await system.connectTunnel(user, busy)
    await disconnected(busy)
    system.sql(`UPDATE bore.status_history SET at = at - interval '3 hours' WHERE instance_id IN ('${quiet.id}', '${busy.id}')`)
    for (const path of ['/api/instances/status-strips?hours=2', '/api/user/instances/status-strips?hours=24']) {
      const hours = Number(path.split('=')[1])
      const body = answered(await user.api.get(path), 200, ['hours', 'strips'])
      assert.equal(body.hours, hours)
      assert.deepEqual(body.strips.map((strip) => strip.instance_id).sort(), [quiet.id, busy.id].sort())
      for (const strip of body.strips) {
        hasKeys(strip, ['instance_id', 'stretches'])
        for (const [index, stretch] of strip.stretches.entries()) {
          hasKeys(stretch, ['status', 'from', 'to'])
          isTime(stretch.from)
          const next = strip.stretches[index + 1]
          assert.equal(stretch.to, next ? next.from : null, 'without holes, the present one without an end')
        }
      }
      const strip = body.strips.find(({ instance_id: id }) => id === busy.id)
      assert.deepEqual(strip.stretches.map((stretch) => stretch.status), hours === 2 ? ['offline'] : ['inactive', 'starting', 'active', 'offline'])
      if (hours === 2) isTime(strip.stretches[0].from, { near: Date.now() - 2 * HOURS })
    }
    answered(await user.api.get('/api/instances/status-strips'), 200, ['hours', 'strips'])
    for (const hours of ['0', '169', 'x', '1.5']) refused(await user.api.get(`/api/instances/status-strips?hours=${hours}`), 400, 'validation_error', 'hours')
  })

  test('sessions: one for each tunnel, newest first; bytes are null until the bore-server tells some', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    const path = `/api/instances/${instance.id}/sessions`
    assert.deepEqual(answered(await user.api.get(path), 200), { sessions: [] })
    for (let round = 0; round < 3; round++) {
      await system.connectTunnel(user, instance, { remotePort: 33000 + round })
      if (round < 2) answered(await disconnected(instance, { reason: 'idle' }), 200)
    }
    const { sessions } = answered(await user.api.get(path), 200, ['sessions'])
    assert.equal(sessions.length, 3)
    for (const session of sessions)
      hasKeys(session, ['id', 'state', 'server_id', 'remote_port', 'public_url', 'created_at', 'connected_at', 'closed_at', 'close_reason', 'bytes_in', 'bytes_out', 'bytes_transferred'])
    assert.deepEqual(sessions.map((session) => session.remote_port), [33002, 33001, 33000])
    assert.deepEqual(sessions.map((session) => session.state), ['open', 'closed', 'closed'])
    assert.deepEqual([sessions[0].closed_at, sessions[1].close_reason], [null, 'idle'])
    isTime(sessions[1].connected_at, { near: Date.now() })
    isTime(sessions[1].closed_at, { near: Date.now() })
    assert.equal(sessions[0].public_url, '127.0.0.1:33002')
    for (const { bytes_in: bytesIn, bytes_out: bytesOut, bytes_transferred: all } of sessions) assert.deepEqual([bytesIn, bytesOut, all], [null, null, null])
    assert.deepEqual(await walk(user, path, 'sessions', 2), sessions)
  })

  test('alerts: an instance’s own, newest first, with their deliveries', async () => {
    const { system } = sut
    const user = await system.user()
    const [instance, other] = [await system.instance(user), await system.instance(user)]
    const path = `/api/instances/${instance.id}/alerts`
    assert.deepEqual(answered(await user.api.get(path), 200), { alerts: [] })
    for (const [i, target] of [instance, instance, other].entries())
      system.sql(
        `INSERT INTO bore.alert_history (id, instance_id, user_id, alert_type, message, sent_at)
         VALUES ('alert_${instance.id}_${i}', '${target.id}', '${user.user_id}', 'Instance Offline', 'message ${i}', clock_timestamp() - interval '${9 - i} minutes')`
      )
    system.sql(`INSERT INTO bore.alert_deliveries (alert_id, channel, state, attempts, last_error) VALUES ('alert_${instance.id}_1', 'slack', 'failed', 3, 'no route')`)
    const { alerts } = answered(await user.api.get(path), 200, ['alerts'])
    assert.deepEqual(alerts.map((alert) => alert.message), ['message 1', 'message 0'])
    hasKeys(alerts[0], ['id', 'instance_id', 'alert_type', 'message', 'sent_at', 'deliveries'])
    assert.deepEqual(alerts[0].deliveries, [{ channel: 'slack', state: 'failed', attempts: 3, last_error: 'no route' }])
    assert.deepEqual(alerts[1].deliveries, [])
    isTime(alerts[0].sent_at, { near: Date.now() - 8 * 60000 })
    assert.deepEqual(await walk(user, path, 'alerts', 1), alerts)
  })
})
