// internal.test.js: API.md "Internal": what bore-servers ask and report, and how they are chosen.
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { answered, hasKeys, isTime, refused } from './support/expect.js'
import { systemFor, unique, waitFor } from './support/system.js'

const VALIDITY = ['valid', 'usage_allowed', 'user_id', 'plan_type', 'max_concurrent_tunnels', 'max_bandwidth_gb', 'instance_id', 'message']
const GIB = 1024 ** 3

/** What both describes need of their system. */
const client = (sut) => {
  const post = (path, body) => sut.system.api.internalPost(path, body)
  return {
    post,
    validate: async (token) => answered(await post('/validate-key', { api_key: token }), 200, VALIDITY),
    report: (kind, { id }, body) => post(`/instances/${id}/tunnel-${kind}`, body),
    connect: (user, { id }) => user.api.post(`/api/instances/${id}/connect`),
    get: async (user, { id }) => (await user.api.get(`/api/instances/${id}`)).json,
    sessions: async (user, { id }) => (await user.api.get(`/api/instances/${id}/sessions`)).json.sessions,
    history: async (user, { id }) => (await user.api.get(`/api/instances/${id}/status-history`)).json.status_history.map((entry) => entry.status).reverse()
  }
}

describe('bore-servers report', () => {
  const sut = systemFor({ before, after, afterEach })
  const { post, validate, report, connect, get, sessions, history } = client(sut)
  const token = async (user, instance) => answered(await connect(user, instance), 200).tunnel_token

  /** Not to be used, and says why. */
  const mayNot = (answer) => {
    assert.deepEqual([answer.valid, answer.usage_allowed], [false, false])
    assert.ok(answer.message, JSON.stringify(answer))
  }

  test('the key: missing, empty, wrong, almost right, or a user’s token: 401 for every path', async () => {
    const { system } = sut
    const user = await system.user()
    for (const path of ['/validate-key', '/instances/x/tunnel-connected', '/instances/x/tunnel-disconnected', '/tunnel/start', '/tunnel/end', '/tunnel/usage', '/servers']) {
      for (const prefix of ['/api/internal', '/api/v1/internal']) {
        for (const headers of [{}, { 'x-internal-api-key': '' }, { 'x-internal-api-key': 'wrong' }, { 'x-internal-api-key': `${system.internalKey}x` }, { 'x-internal-api-key': system.internalKey.slice(1) }])
          refused(await system.api.post(prefix + path, {}, { token: null, headers }), 401, 'unauthorized')
        refused(await user.api.post(prefix + path, {}), 401, 'unauthorized')
        assert.notEqual((await system.api.post(prefix + path, {}, { internal: true, token: null })).status, 401)
      }
    }
  })

  test('validate-key: who, which plan, which instance; in both spellings', async () => {
    const user = await sut.system.user({ plan: 'pro' })
    const instance = await sut.system.instance(user)
    const key = await token(user, instance)
    const answer = await validate(key)
    assert.deepEqual(
      { ...answer, message: '' },
      { valid: true, usage_allowed: true, user_id: user.user_id, plan_type: 'pro', max_concurrent_tunnels: 5, max_bandwidth_gb: 100, instance_id: instance.id, message: '' }
    )
    assert.equal((await post('/validate-key', { apiKey: key })).json.valid, true)
    assert.equal(answered(await post('/validate-key', {}), 200, VALIDITY).valid, false)
    refused(await post('/validate-key', { api_key: 5 }), 400, 'validation_error', 'api_key')
  })

  test('validate-key: every reason to refuse, always with 200', async () => {
    const { system } = sut
    for (const key of ['', 'tk_', `tk_${'0'.repeat(64)}`, 'x'.repeat(300), "' OR 1=1 --"]) mayNot(await validate(key))

    const user = await system.user({ plan: 'trial' })
    const instance = await system.instance(user)
    const setUser = (change) => system.sql(`UPDATE bore.users SET ${change} WHERE id = '${user.user_id}'`)
    let key = await token(user, instance)
    mayNot(await validate(key.toUpperCase()))
    mayNot(await validate(`${key} `))
    system.sql(`UPDATE bore.tunnel_tokens SET expires_at = clock_timestamp() - interval '1 second' WHERE instance_id = '${instance.id}'`)
    mayNot(await validate(key))

    key = await token(user, instance)
    setUser(`plan_expires = clock_timestamp() - interval '1 second'`)
    mayNot(await validate(key))
    setUser(`plan_expires = NULL`)
    assert.equal((await validate(key)).valid, true)

    const admin = await system.admin()
    answered(await admin.api.post(`/api/admin/users/${user.user_id}/disable`), 200)
    mayNot(await validate(key))
    answered(await admin.api.post(`/api/admin/users/${user.user_id}/enable`), 200)

    const other = await system.user()
    const gone = await system.instance(other)
    const dead = await token(other, gone)
    answered(await other.api.delete(`/api/instances/${gone.id}`), 200)
    mayNot(await validate(dead))
  })

  test('validate-key: the bandwidth of the plan is used up, by any of the user’s tunnels', async () => {
    const { system } = sut
    const user = await system.user({ plan: 'trial' })
    const instance = await system.instance(user)
    await system.connectTunnel(user, instance, { remotePort: 40001 })
    const { session_id: session } = answered(await post('/tunnel/start', { user_id: user.user_id, public_port: 40001, local_port: 80, server_id: 'srv' }), 200)
    const usage = (bytes) => post('/tunnel/usage', { user_id: user.user_id, session_id: session, bytes_in: bytes, bytes_out: 5 * GIB })
    answered(await usage(5 * GIB - 1), 200)
    const key = await token(user, instance)
    assert.equal((await validate(key)).usage_allowed, true, 'one byte is left')
    answered(await usage(5 * GIB), 200)
    mayNot(await validate(key))
    const admin = await system.admin()
    answered(await admin.api.post(`/api/admin/users/${user.user_id}/plan`, { plan: 'pro' }), 200)
    assert.equal((await validate(key)).usage_allowed, true, 'a larger plan helps at once')
  })

  test('validate-key: the plan’s tunnels are in use by other instances', async () => {
    const { system } = sut
    const user = await system.user({ plan: 'pro' })
    const instances = await Promise.all(Array.from({ length: 5 }, () => system.instance(user)))
    const keys = await Promise.all(instances.map((instance) => token(user, instance)))
    for (const [i, key] of keys.entries()) {
      assert.equal((await validate(key)).valid, true)
      answered(await report('connected', instances[i], { remotePort: 41000 + i }), 200)
    }
    const admin = await system.admin()
    answered(await admin.api.post(`/api/admin/users/${user.user_id}/plan`, { plan: 'trial' }), 200)
    mayNot(await validate(keys[0]))
    for (const instance of instances.slice(1)) answered(await report('disconnected', instance), 200)
    assert.equal((await validate(keys[0])).valid, true, 'its own tunnel does not count')
  })

  test('connected: the address, in both spellings; without publicUrl it is server_host:remotePort', async () => {
    const { system } = sut
    const user = await system.user()
    for (const [body, port, url] of [
      [{ remotePort: 42001 }, 42001, '127.0.0.1:42001'],
      [{ remote_port: 42002 }, 42002, '127.0.0.1:42002'],
      [{ remotePort: 42003, publicUrl: 'tunnel.example:42003' }, 42003, 'tunnel.example:42003'],
      [{ remote_port: 42004, public_url: 'https://tunnel.example/x' }, 42004, 'https://tunnel.example/x'],
      [{}, null, null],
      [undefined, null, null]
    ]) {
      const instance = await system.instance(user)
      await validate(await token(user, instance))
      assert.deepEqual(answered(await report('connected', instance, body), 200), { success: true })
      const now = await get(user, instance)
      assert.deepEqual([now.status, now.tunnel_connected, now.remote_port, now.public_url], ['active', true, port, url], JSON.stringify(body))
    }
    const instance = await system.instance(user)
    for (const [body, field] of [
      [{ remotePort: 65536 }, 'remote_port'],
      [{ remotePort: '1' }, 'remote_port'],
      [{ publicUrl: 'javascript:alert(1)' }, 'public_url'],
      [{ publicUrl: 'no' }, 'public_url']
    ])
      refused(await report('connected', instance, body), 400, 'validation_error', field)
    refused(await report('connected', { id: 'inst_000000000000000000000000' }, { remotePort: 1 }), 404, 'instance_not_found')
    refused(await report('disconnected', { id: 'nothing' }), 404, 'instance_not_found')
  })

  test('repeats of connected and of disconnected change nothing', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    const stream = await system.stream(user)
    await validate(await token(user, instance))
    for (let i = 0; i < 3; i++) answered(await report('connected', instance, { remotePort: 43001 }), 200)
    assert.equal((await sessions(user, instance)).length, 1)
    for (let i = 0; i < 3; i++) answered(await report('disconnected', instance), 200)
    assert.deepEqual(await history(user, instance), ['inactive', 'starting', 'active', 'offline'])
    assert.equal((await sessions(user, instance)).length, 1)
    await stream.status(instance.id, 'offline')
    await system.instance(user, { name: 'last' })
    await stream.until((s) => s.messages.some((message) => message.json?.name === 'last'), 'a later event')
    assert.deepEqual(stream.changes.map((message) => message.json.status), ['starting', 'active', 'offline'])
    stream.close()
  })

  test('disconnected: `offline` with its reason; the token is revoked, and a new one is needed', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    const { tunnel_token: key } = await system.connectTunnel(user, instance)
    assert.deepEqual(answered(await report('disconnected', instance, { reason: 'the cable' }), 200), { success: true })
    const now = await get(user, instance)
    assert.deepEqual([now.status, now.tunnel_connected], ['offline', false])
    assert.match(now.status_reason, /the cable/)
    mayNot(await validate(key))
    await system.connectTunnel(user, instance)
    assert.equal((await get(user, instance)).status, 'active')
  })

  test('another port is a newer session: it is the current one, and the older one’s end changes nothing', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    await system.connectTunnel(user, instance, { remotePort: 44001 })
    await system.connectTunnel(user, instance, { remotePort: 44002 })
    assert.equal((await get(user, instance)).remote_port, 44002)
    answered(await report('disconnected', instance), 200)
    const now = await get(user, instance)
    assert.deepEqual([now.status, now.remote_port], ['active', 44002])
    answered(await report('disconnected', instance), 200)
    assert.equal((await get(user, instance)).status, 'offline')
  })

  test('disconnected by session_id is exact, whatever the order', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    for (const [i, name] of ['first', 'second'].entries()) {
      await validate(await token(user, instance))
      answered(await report('connected', instance, { remotePort: 45001 + i, session_id: `${name}-${instance.id}` }), 200)
    }
    answered(await report('disconnected', instance, { session_id: `second-${instance.id}` }), 200)
    const left = (await sessions(user, instance)).filter((session) => session.state === 'open')
    assert.deepEqual(left.map((session) => session.remote_port), [45001])
    assert.equal((await get(user, instance)).status, 'active')
    for (let i = 0; i < 2; i++) answered(await report('disconnected', instance, { sessionId: `first-${instance.id}` }), 200)
    assert.equal((await get(user, instance)).status, 'offline')
    answered(await report('disconnected', instance, { session_id: 'never-heard-of' }), 200)
    assert.deepEqual(await history(user, instance), ['inactive', 'starting', 'active', 'starting', 'active', 'offline'])
  })

  test('a disconnected that overtakes its connected cancels the pending session', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    await validate(await token(user, instance))
    answered(await report('disconnected', instance), 200)
    answered(await report('connected', instance, { remotePort: 46001 }), 200)
    assert.equal((await get(user, instance)).status, 'offline')
  })

  test('tunnel/start, usage, end: byte counts on the session; end is the final proof, and ends what is unknown too', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    const { remotePort } = await system.connectTunnel(user, instance)
    const start = { user_id: user.user_id, public_port: remotePort, local_port: 0, server_id: 'any text: ü' }
    const { session_id: session } = answered(await post('/tunnel/start', start), 200, ['session_id'])
    const { session_id: repeated } = answered(await post('/tunnel/start', { userId: start.user_id, publicPort: remotePort, localPort: 0, serverId: start.server_id }), 200)
    assert.equal(repeated, session, 'a repeat is the same session')
    const bytes = async () => {
      const [found] = await sessions(user, instance)
      return [found.bytes_in, found.bytes_out, found.bytes_transferred]
    }
    const usage = (bytesIn, bytesOut) => post('/tunnel/usage', { user_id: user.user_id, session_id: session, bytes_in: bytesIn, bytes_out: bytesOut })
    assert.deepEqual(answered(await usage(100, 2000), 200), { success: true })
    assert.deepEqual(await bytes(), [100, 2000, null])
    answered(await usage(50, 1000), 200)
    assert.deepEqual(await bytes(), [100, 2000, null], 'a late report of fewer does not count back')
    answered(await usage(2 ** 40, 2 ** 33), 200)
    assert.deepEqual(await bytes(), [2 ** 40, 2 ** 33, null])
    for (let i = 0; i < 2; i++) assert.deepEqual(answered(await post('/tunnel/end', { session_id: session, bytes_transferred: 2 ** 41 }), 200), { success: true })
    assert.deepEqual(await bytes(), [2 ** 40, 2 ** 33, 2 ** 41])
    assert.equal((await get(user, instance)).status, 'offline')
    assert.deepEqual(answered(await post('/tunnel/end', { session_id: 'unknown', bytes_transferred: 1 }), 200), { success: true })
    assert.deepEqual(answered(await post('/tunnel/end', { sessionId: 'unknown' }), 200), { success: true })
    assert.deepEqual(answered(await post('/tunnel/usage', { user_id: 'nobody', session_id: 'unknown', bytes_in: 1, bytes_out: 1 }), 200), { success: true })
  })

  test('tunnel/start before connected joins all the same', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    await validate(await token(user, instance))
    const { session_id: session } = answered(await post('/tunnel/start', { user_id: user.user_id, public_port: 47001, local_port: 65535, server_id: '' }), 200)
    answered(await report('connected', instance, { remotePort: 47001 }), 200)
    answered(await post('/tunnel/end', { session_id: session, bytes_transferred: 7 }), 200)
    assert.equal((await get(user, instance)).status, 'offline')
    assert.equal((await sessions(user, instance))[0].bytes_transferred, 7)
  })

  test('tunnel/…: what is not allowed', async () => {
    const user = await sut.system.user()
    const start = { user_id: user.user_id, public_port: 1, local_port: 1, server_id: 's' }
    for (const [path, body, field] of [
      ['/tunnel/start', { ...start, user_id: undefined }, 'user_id'],
      ['/tunnel/start', { ...start, public_port: 65536 }, 'public_port'],
      ['/tunnel/start', { ...start, public_port: undefined }, 'public_port'],
      ['/tunnel/start', { ...start, local_port: -1 }, 'local_port'],
      ['/tunnel/start', { ...start, server_id: 5 }, 'server_id'],
      ['/tunnel/end', { bytes_transferred: 1 }, 'session_id'],
      ['/tunnel/end', { session_id: 'x', bytes_transferred: -1 }, 'bytes_transferred'],
      ['/tunnel/end', { session_id: 'x', bytes_transferred: '1' }, 'bytes_transferred'],
      ['/tunnel/usage', { session_id: 'x', bytes_in: 1 }, 'bytes_out'],
      ['/tunnel/usage', { session_id: 'x', bytes_in: 1.5, bytes_out: 1 }, 'bytes_in'],
      ['/servers', { host: 'a.example', port: 7835 }, 'id'],
      ['/servers', { id: 'a', port: 7835 }, 'host'],
      ['/servers', { id: 'a', host: 'a b', port: 7835 }, 'host'],
      ['/servers', { id: 'a', host: 'a.example', port: 0 }, 'port'],
      ['/servers', { id: 'a', host: 'a.example', port: 7835, max_tunnels: -1 }, 'max_tunnels'],
      ['/servers', { id: 'a', host: 'a.example', port: 7835, active: 'yes' }, 'active']
    ])
      refused(await post(path, body), 400, 'validation_error', field)
    const unknown = await post('/tunnel/start', { ...start, user_id: 'user_nobody' })
    assert.ok(unknown.status === 404 || unknown.status === 200, unknown.text)
  })
})

describe('bore-servers take tunnels', () => {
  const LEASE = 2
  const sut = systemFor({ before, after, afterEach }, { env: { SERVER_LEASE_SECONDS: String(LEASE), BORE_SERVER_HOST: 'default.example', BORE_SERVER_PORT: '7000' } })
  const { post, validate, report, connect, get } = client(sut)
  const renew = (id, fields = {}) => post('/servers', { id, host: `${id}.example`, port: 7835, region: 'local', max_tunnels: 10, ...fields })

  /** Keeps these leases for as long as `act` takes. */
  async function leased(servers, act) {
    const all = () => Promise.all(servers.map(async ([id, fields]) => answered(await renew(id, fields), 200)))
    await all()
    const timer = setInterval(() => all().catch(() => {}), 300)
    try {
      return await act()
    } finally {
      clearInterval(timer)
    }
  }

  test('without any, the default one is told', async () => {
    const user = await sut.system.user()
    const answer = answered(await connect(user, await sut.system.instance(user, { region: unique('r') })), 200)
    assert.deepEqual([answer.server_host, answer.server_port], ['default.example', 7000])
    hasKeys(answer.server_info, ['server_id', 'utilization'])
  })

  test('a lease: how long, nothing to close; another port than 7835 is accepted with a warning', async () => {
    const id = unique('srv')
    const usual = answered(await renew(id, { region: id }), 200, ['success', 'lease_seconds', 'close'])
    assert.deepEqual(usual, { success: true, lease_seconds: LEASE, close: [] })
    const other = answered(await renew(id, { region: id, port: 9999 }), 200, ['success', 'lease_seconds', 'close', 'warning'])
    assert.match(other.warning, /7835/)
    const camel = answered(await post('/servers', { id, host: 'h.example', port: 7835, maxTunnels: 3 }), 200)
    assert.equal(camel.success, true)
    assert.equal(sut.system.sql(`SELECT max_tunnels FROM bore.servers WHERE id = '${id}'`)[0][0], '3')
    answered(await post('/servers', { id: unique('plain'), host: '192.0.2.1', port: 7835, region: unique('r') }), 200)
  })

  test('the least loaded of the region takes the next tunnel; utilization tells how full it is', async () => {
    const { system } = sut
    const user = await system.user()
    const [region, small, large, elsewhere] = [unique('r'), unique('small'), unique('large'), unique('far')]
    await leased([[small, { region, max_tunnels: 2 }], [large, { region, max_tunnels: 6 }], [elsewhere, { region: unique('r') }]], async () => {
      const chosen = {}
      for (let i = 0; i < 8; i++) {
        const instance = await system.instance(user, { region })
        const answer = answered(await connect(user, instance), 200)
        const { server_id: id, utilization } = answer.server_info
        chosen[id] = (chosen[id] ?? 0) + 1
        assert.ok(utilization > 0 && utilization <= 1, String(utilization))
        assert.deepEqual([answer.server_host, answer.server_port], [`${id}.example`, 7835])
        const now = await get(user, instance)
        assert.deepEqual([now.assigned_server, now.server_host], [id, `${id}.example`])
      }
      assert.deepEqual(chosen, { [small]: 2, [large]: 6 }, 'each to its share')
      refused(await connect(user, await system.instance(user, { region })), 503, 'no_servers_available')
    })
  })

  test('of many connects at once no bore-server gets more than it takes', async () => {
    const { system } = sut
    const user = await system.user()
    const region = unique('r')
    const servers = [unique('a'), unique('b')].map((id) => [id, { region, max_tunnels: 4 }])
    const instances = await Promise.all(Array.from({ length: 12 }, () => system.instance(user, { region })))
    await leased(servers, async () => {
      const answers = await Promise.all(instances.map((instance) => connect(user, instance)))
      const chosen = answers.filter((answer) => answer.status === 200).map((answer) => answer.json.server_info.server_id)
      for (const answer of answers.filter((one) => one.status !== 200)) refused(answer, 503, 'no_servers_available')
      assert.equal(chosen.length, 8)
      for (const [id] of servers) assert.equal(chosen.filter((one) => one === id).length, 4)
    })
  })

  test('one that is not active, or whose lease has ended, gets none; it gets some again when it comes back', async () => {
    const { system } = sut
    const user = await system.user()
    const [region, lazy, silent] = [unique('r'), unique('lazy'), unique('silent')]
    const instance = await system.instance(user, { region })
    await leased([[lazy, { region, active: false }]], async () => {
      refused(await connect(user, instance), 503, 'no_servers_available')
      answered(await renew(silent, { region }), 200)
      assert.equal(answered(await connect(user, instance), 200).server_info.server_id, silent)
      await waitFor(async () => (await connect(user, instance)).status === 503, 'the end of the lease', { timeout: 10000 })
      refused(await connect(user, instance), 503, 'no_servers_available')
      answered(await renew(silent, { region }), 200)
      assert.equal(answered(await connect(user, instance), 200).server_info.server_id, silent)
    })
  })

  test('which tunnels to close: those of deleted instances and disconnected ones, until their end is reported', async () => {
    const { system } = sut
    const user = await system.user()
    const [region, id] = [unique('r'), unique('srv')]
    const close = async () => answered(await renew(id, { region }), 200).close.sort()
    await leased([[id, { region }]], async () => {
      const [deleted, ended, kept] = await Promise.all([1, 2, 3].map(() => system.instance(user, { region })))
      for (const instance of [deleted, ended, kept]) await system.connectTunnel(user, instance)
      assert.deepEqual(await close(), [])
      answered(await user.api.delete(`/api/instances/${deleted.id}`), 200)
      answered(await user.api.post(`/api/instances/${ended.id}/disconnect`), 200)
      assert.deepEqual(await close(), [deleted.id, ended.id].sort())
      assert.deepEqual(await close(), [deleted.id, ended.id].sort(), 'the answer may have been lost: said again')
      answered(await report('disconnected', ended), 200)
      assert.deepEqual(await close(), [deleted.id])
      answered(await renew(unique('other'), { region: unique('r') }), 200)
      assert.equal((await get(user, kept)).status, 'active')
    })
  })

  test('a tunnel may come through another bore-server than the one chosen', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user, { region: unique('r') })
    const { tunnel_token: key } = answered(await connect(user, instance), 200)
    assert.equal((await validate(key)).valid, true)
    answered(await report('connected', instance, { remotePort: 48001, server_id: 'a stranger' }), 200)
    const now = await get(user, instance)
    assert.deepEqual([now.status, now.remote_port], ['active', 48001])
    isTime(now.status_since, { near: Date.now() })
  })
})
