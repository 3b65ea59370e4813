// admin.test.js: API.md "Admin" but for alerts: every route, the rights as they are now, the last admin, the audit log.
import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import { answered, DAYS, hasKeys, HOURS, isTime, refused } from './support/expect.js'
import { systemFor, unique, waitFor } from './support/system.js'

const USER = ['id', 'email', 'name', 'plan', 'plan_expires', 'is_admin', 'disabled', 'created_at', 'last_login_at', 'instances', 'active_tunnels']
const STATUSES = ['inactive', 'starting', 'active', 'online', 'degraded', 'idle', 'offline', 'error']
const NOBODY = 'user_000000000000000000000000'
const CHANGES = ['make-admin', 'remove-admin', 'disable', 'enable', 'reset-password', 'plan', 'revoke-sessions']

describe('admin', () => {
  const sut = systemFor({ before, after, afterEach })
  let admin
  beforeEach(async () => {
    admin = await sut.system.admin()
  })
  const act = (user, what, body, api = admin.api) => api.post(`/api/admin/users/${user.user_id ?? user.id}/${what}`, body)
  const find = async (user) => (await admin.api.get(`/api/admin/users?q=${user.user_id}`)).json.users[0]
  const audit = async (limit = 500) => (await admin.api.get(`/api/admin/audit?limit=${limit}`)).json.entries
  const login = (user, password = user.password) => sut.system.api.post('/api/auth/login', { email: user.email, password })
  const ends = (api) => waitFor(async () => (await api.get('/api/auth/me')).status === 401, 'the end of the session', { timeout: 5000 })

  /** An admin beside the first one. */
  async function second() {
    const user = await sut.system.user()
    answered(await act(user, 'make-admin'), 200)
    return user
  }

  test('nobody else may call any of it, and learns nothing by trying', async () => {
    const { system } = sut
    const user = await system.user()
    for (const target of [user.user_id, admin.user_id, NOBODY]) {
      const calls = [
        ...CHANGES.map((what) => ['POST', `/api/admin/users/${target}/${what}`, what === 'plan' ? { plan: 'pro' } : undefined]),
        ['DELETE', `/api/admin/users/${target}`],
        ...['users', 'instances', 'stats', 'audit'].flatMap((page) => [['GET', `/api/admin/${page}`], ['GET', `/api/v1/admin/${page}`]])
      ]
      for (const [method, path, body] of calls) {
        refused(await user.api.request(method, path, { body }), 403, 'forbidden')
        refused(await system.api.request(method, path, { body, token: null }), 401, 'unauthorized')
        refused(await system.api.request(method, path, { body, token: null, internal: true }), 401, 'unauthorized')
      }
    }
    const now = await find(user)
    assert.deepEqual([now.is_admin, now.disabled, now.plan], [false, false, 'enterprise'])
  })

  test('stats: every status, tunnels, streams, servers', async () => {
    const { system } = sut
    const before = answered(await admin.api.get('/api/admin/stats'), 200, ['total_users', 'total_instances', 'by_status', 'active_tunnels', 'active_streams', 'heartbeats_per_second', 'servers', 'uptime'])
    hasKeys(before.by_status, STATUSES)
    hasKeys(before.active_streams, ['sse', 'socketio'])
    const user = await system.user()
    const instances = await Promise.all(Array.from({ length: 5 }, () => system.instance(user)))
    await user.api.post(`/api/instances/${instances[1].id}/connect`)
    await system.connectTunnel(user, instances[2])
    await system.connectTunnel(user, instances[3])
    await system.api.internalPost(`/instances/${instances[3].id}/tunnel-disconnected`)
    await user.api.patch(`/api/instances/${instances[4].id}/connection`, { status: 'error' })
    const server = unique('srv')
    answered(await system.api.internalPost('/servers', { id: server, host: 'a.example', port: 7835, region: unique('r'), max_tunnels: 4 }), 200)
    const now = answered(await admin.api.get('/api/admin/stats'), 200)
    assert.equal(now.total_users, before.total_users + 1)
    assert.equal(now.total_instances, before.total_instances + 5)
    assert.equal(now.active_tunnels, before.active_tunnels + 1)
    for (const status of STATUSES) {
      const more = { inactive: 1, starting: 1, active: 1, offline: 1, error: 1 }[status] ?? 0
      assert.equal(now.by_status[status], before.by_status[status] + more, status)
    }
    const shown = now.servers.find(({ id }) => id === server)
    hasKeys(shown, ['id', 'host', 'port', 'region', 'max_tunnels', 'tunnels', 'active', 'alive', 'lease_expires_at', 'utilization'])
    assert.deepEqual([shown.host, shown.max_tunnels, shown.tunnels, shown.active, shown.alive, shown.utilization], ['a.example', 4, 0, true, true, 0])
    assert.ok(now.uptime > 0 && now.uptime < 3600, String(now.uptime))
    const streams = (count) => waitFor(async () => (await admin.api.get('/api/admin/stats')).json.active_streams.sse === count, `${count} streams`, { timeout: 10000 })
    assert.equal(now.active_streams.sse, 0)
    for (let i = 0; i < 2; i++) await system.stream(user)
    await streams(2)
    answered(await act(user, 'revoke-sessions'), 200)
    await streams(0)
  })

  test('make-admin and remove-admin hold at once, whatever the token says', async () => {
    const user = await sut.system.user()
    const made = answered(await act(user, 'make-admin'), 200, ['success', 'user'])
    hasKeys(made.user, USER)
    assert.deepEqual([made.success, made.user.id, made.user.is_admin], [true, user.user_id, true])
    answered(await user.api.get('/api/admin/users'), 200)
    assert.equal((await user.api.get('/api/auth/me')).json.is_admin, true)
    answered(await act(user, 'make-admin'), 200)
    const token = (await login(user)).json.token
    assert.equal(answered(await act(user, 'remove-admin'), 200).user.is_admin, false)
    for (const api of [user.api, user.api.as(token)]) {
      for (const page of ['users', 'instances', 'stats', 'audit']) refused(await api.get(`/api/admin/${page}`), 403, 'forbidden')
      refused(await act(user, 'make-admin', undefined, api), 403, 'forbidden')
    }
  })

  test('never the last admin: not removed, disabled or deleted, nor two of each other at once', async () => {
    for (const call of [() => act(admin, 'remove-admin'), () => act(admin, 'disable'), () => admin.api.delete(`/api/admin/users/${admin.user_id}`)])
      refused(await call(), 409, 'last_admin')
    for (let round = 0; round < 5; round++) {
      const other = await second()
      const answers = await Promise.all([act(other, 'remove-admin'), act(admin, 'remove-admin', undefined, other.api)])
      const statuses = answers.map((answer) => answer.status).sort()
      assert.equal(statuses[0], 200)
      assert.ok(statuses[1] === 403 || statuses[1] === 409, `${statuses}`)
      if (answers[1].status === 200) answered(await act(admin, 'make-admin', undefined, other.api), 200)
      answered(await act(other, 'remove-admin'), 200)
    }
    const helper = await second()
    answered(await act(helper, 'disable'), 200)
    refused(await act(admin, 'remove-admin'), 409, 'last_admin')
    answered(await admin.api.delete(`/api/admin/users/${helper.user_id}`), 200)
  })

  test('disable and enable: sessions end, sign-in and tunnels are refused; nothing is lost', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    assert.equal(answered(await act(user, 'disable'), 200, ['success', 'user']).user.disabled, true)
    refused(await login(user), 401, 'invalid_credentials')
    refused(await system.api.post('/api/auth/refresh', { refresh_token: user.refresh_token }), 401, 'unauthorized')
    await ends(user.api)
    assert.equal(answered(await act(user, 'enable'), 200).user.disabled, false)
    const back = answered(await login(user), 200)
    answered(await system.api.get(`/api/instances/${instance.id}`, { token: back.token }), 200)
  })

  test('reset-password: a one-time password, shown once; sessions end', async () => {
    const { system } = sut
    const user = await system.user()
    const { success, password } = answered(await act(user, 'reset-password'), 200, ['success', 'password'])
    assert.equal(success, true)
    assert.ok(password.length >= 12)
    refused(await login(user), 401, 'invalid_credentials')
    await ends(user.api)
    const back = answered(await login(user, password), 200)
    answered(await system.api.post('/api/auth/change-password', { current_password: password, new_password: 'my-own-again' }, { token: back.token }), 200)
    refused(await login(user, password), 401, 'invalid_credentials')
    answered(await login(user, 'my-own-again'), 200)
    assert.ok(!JSON.stringify(await audit()).includes(password))
    refused(await act({ id: NOBODY }, 'reset-password'), 404, 'user_not_found')
  })

  test('revoke-sessions: every session of the user, and of nobody else', async () => {
    const { system } = sut
    const [user, other] = [await system.user(), await system.user()]
    const again = answered(await login(user), 200)
    answered(await act(user, 'revoke-sessions'), 200, ['success', 'user'])
    await ends(user.api)
    await ends(system.api.as(again.token))
    refused(await system.api.post('/api/auth/refresh', { refresh_token: again.refresh_token }), 401, 'unauthorized')
    answered(await other.api.get('/api/auth/me'), 200)
    answered(await login(user), 200)
  })

  test('plan: any of the three, for its usual time or so many days', async () => {
    const { system } = sut
    const user = await system.user({ plan: 'trial' })
    for (const [body, expires] of [
      [{ plan: 'pro' }, 30 * DAYS],
      [{ plan: 'trial' }, DAYS],
      [{ plan: 'enterprise', days: 10 }, 10 * DAYS],
      [{ plan: 'enterprise' }, null]
    ]) {
      const now = answered(await act(user, 'plan', body), 200, ['success', 'user']).user
      assert.equal(now.plan, body.plan)
      if (expires === null) assert.equal(now.plan_expires, null)
      else isTime(now.plan_expires, { near: Date.now() + expires, within: 2 * HOURS })
      assert.deepEqual((await user.api.get('/api/auth/me')).json.plan, body.plan)
    }
    refused(await act(user, 'plan', { plan: 'gold' }), 400, 'invalid_plan')
    refused(await act(user, 'plan', {}), 400, 'validation_error', 'plan')
    refused(await act(user, 'plan', { plan: 'pro', days: 0 }), 400, 'validation_error', 'days')
    refused(await act(user, 'plan', { plan: 'pro', days: '5' }), 400, 'validation_error', 'days')
  })

  test('delete: the user and all instances are gone, tokens are void, streams hear it, the e-mail is free', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    const { tunnel_token: token } = await system.connectTunnel(user, instance)
    const stream = await system.stream(admin, { query: '?scope=all' })
    assert.equal(answered(await admin.api.delete(`/api/admin/users/${user.user_id}`), 200).success, true)
    await stream.until((s) => s.messages.some((message) => message.event === 'instance' && message.json.instanceId === instance.id && message.json.type === 'deleted'), 'the deletion')
    stream.close()
    refused(await login(user), 401, 'invalid_credentials')
    await ends(user.api)
    assert.equal((await system.api.internalPost('/validate-key', { api_key: token })).json.valid, false)
    refused(await system.api.internalPost(`/instances/${instance.id}/tunnel-disconnected`), 404, 'instance_not_found')
    assert.equal((await admin.api.get(`/api/admin/instances?q=${instance.id}`)).json.total, 0)
    const again = await system.api.post('/api/auth/signup', { name: 'Again', email: user.email, password: user.password })
    assert.notEqual(answered(again, 201).user_id, user.user_id)
    refused(await admin.api.delete(`/api/admin/users/${user.user_id}`), 404, 'user_not_found')
  })

  test('unknown users are 404, unknown actions too', async () => {
    for (const what of CHANGES) refused(await act({ id: NOBODY }, what, what === 'plan' ? { plan: 'pro' } : undefined), 404, 'user_not_found')
    refused(await admin.api.delete(`/api/admin/users/${NOBODY}`), 404, 'user_not_found')
    refused(await act(admin, 'promote'), 404, 'not_found')
    refused(await admin.api.get('/api/admin/nothing'), 404, 'not_found')
    refused(await admin.api.post('/api/admin/users', {}), 405, 'method_not_allowed')
  })

  test('users: newest first, in pages, found by id, e-mail and name', async () => {
    const { system } = sut
    const mark = unique('Find').toUpperCase()
    const made = []
    for (let i = 0; i < 5; i++) made.unshift(await system.user({ plan: 'trial', name: `${mark} ${i}` }))
    const instance = await system.instance(made[0])
    await system.connectTunnel(made[0], instance)
    const body = answered(await admin.api.get(`/api/admin/users?q=${mark.toLowerCase()}`), 200, ['users', 'total'])
    assert.equal(body.total, 5)
    assert.deepEqual(body.users.map((user) => user.id), made.map((user) => user.user_id))
    for (const user of body.users) {
      hasKeys(user, USER)
      isTime(user.created_at, { near: Date.now() })
      isTime(user.last_login_at, { near: Date.now() })
    }
    assert.deepEqual([body.users[0].instances, body.users[0].active_tunnels, body.users[1].instances], [1, 1, 0])
    const walked = []
    let cursor = ''
    do {
      const page = answered(await admin.api.get(`/api/admin/users?q=${mark}&limit=2${cursor && `&cursor=${encodeURIComponent(cursor)}`}`), 200)
      assert.equal(page.total, 5)
      walked.push(...page.users)
      cursor = page.next_cursor
    } while (cursor)
    assert.deepEqual(walked, body.users)
    assert.deepEqual((await admin.api.get(`/api/admin/users?q=${encodeURIComponent(made[1].email.toUpperCase())}`)).json.users.map((user) => user.id), [made[1].user_id])
    assert.equal((await admin.api.get(`/api/admin/users?q=${encodeURIComponent('%')}`)).json.total, 0, 'no pattern')
    for (const query of ['limit=0', 'limit=501', 'cursor=nonsense']) refused(await admin.api.get(`/api/admin/users?${query}`), 400, 'validation_error', query.split('=')[0])
    assert.ok(!/password|\$2b\$/.test((await admin.api.get('/api/admin/users')).text), 'no hash')
  })

  test('instances: all, with owner and health; by status, by q, in pages', async () => {
    const { system } = sut
    const user = await system.user()
    const mark = unique('seek')
    const made = []
    for (let i = 0; i < 4; i++) made.unshift(await system.instance(user, { name: `${mark}-${i}` }))
    await system.connectTunnel(user, made[1])
    const list = (query) => admin.api.get(`/api/admin/instances?${query}`)
    const body = answered(await list(`q=${mark.toUpperCase()}`), 200, ['instances', 'total', 'cursor'])
    assert.equal(body.total, 4)
    assert.deepEqual(body.instances.map(({ id }) => id), made.map(({ id }) => id))
    const [first] = body.instances
    for (const key of ['user_email', 'user_name', 'vscode_responsive', 'has_code_server', 'cpu_usage', 'memory_usage', 'last_activity', 'heartbeat_age_ms', 'statusReason', 'serverAddress', 'server_region'])
      assert.ok(key in first, key)
    assert.deepEqual([first.user_id, first.user_email, first.user_name], [user.user_id, user.email, 'Test'])
    const active = answered(await list(`q=${mark}&status=active`), 200)
    assert.deepEqual(active.instances.map(({ id, status, tunnel_connected: open }) => [id, status, open]), [[made[1].id, 'active', true]])
    assert.equal((await list(`q=${encodeURIComponent(user.email)}&status=inactive`)).json.total, 3)
    assert.equal((await list(`q=${made[2].id}`)).json.total, 1)
    const page = answered(await list(`q=${mark}&limit=3`), 200)
    assert.equal(page.instances.length, 3)
    const rest = answered(await list(`q=${mark}&limit=3&cursor=${encodeURIComponent(page.next_cursor)}`), 200, ['instances', 'total', 'cursor'])
    assert.deepEqual(rest.instances.map(({ id }) => id), [made[3].id])
    for (const query of ['status=nothing', 'limit=x', 'cursor=%00']) {
      const answer = await list(query)
      refused(answer, 400, 'validation_error', query.split('=')[0])
    }
  })

  test('audit: who did what, when, from where; in pages; without secrets', async () => {
    const { system } = sut
    const user = await system.user({ plan: 'trial' })
    for (const what of ['disable', 'enable', 'make-admin', 'remove-admin', 'revoke-sessions', 'reset-password']) answered(await act(user, what), 200)
    answered(await act(user, 'plan', { plan: 'pro' }), 200)
    answered(await admin.api.delete(`/api/admin/users/${user.user_id}`), 200)
    const entries = await audit()
    const mine = entries.filter((entry) => entry.target === user.user_id && entry.action.startsWith('admin.'))
    assert.deepEqual(
      mine.map((entry) => entry.action).reverse(),
      ['disable', 'enable', 'make-admin', 'remove-admin', 'revoke-sessions', 'reset-password', 'plan', 'delete'].map((what) => `admin.${what}`)
    )
    for (const entry of mine) {
      hasKeys(entry, ['id', 'at', 'actor_id', 'actor_email', 'action', 'target', 'address', 'details'])
      assert.deepEqual([entry.actor_id, entry.actor_email, entry.address], [admin.user_id, admin.email, '127.0.0.1'])
      isTime(entry.at, { near: Date.now() })
    }
    assert.match(mine.find((entry) => entry.action === 'admin.plan').details, /pro/)
    assert.ok(entries.some((entry) => entry.action === 'signup' && entry.target === user.user_id), 'what users do themselves, too')
    const ids = entries.map((entry) => entry.id)
    assert.deepEqual(ids, [...ids].sort((left, right) => right - left), 'newest first')
    const page = answered(await admin.api.get('/api/admin/audit?limit=3'), 200, ['entries', 'next_cursor'])
    assert.deepEqual(page.entries.map((entry) => entry.id), ids.slice(0, 3))
    const rest = answered(await admin.api.get(`/api/admin/audit?limit=3&cursor=${page.next_cursor}`), 200)
    assert.deepEqual(rest.entries.map((entry) => entry.id), ids.slice(3, 6))
    for (const query of ['limit=0', 'cursor=nonsense']) refused(await admin.api.get(`/api/admin/audit?${query}`), 400, 'validation_error', query.split('=')[0])
    const refusedBefore = (await audit()).length
    refused(await act({ id: NOBODY }, 'disable'), 404, 'user_not_found')
    assert.equal((await audit()).length, refusedBefore, 'what was not done is not told')
  })
})

describe('the first admin', () => {
  const env = { ADMIN_EMAIL: 'Boss@Test.Example', ADMIN_PASSWORD: 'the-boss-1', ADMIN_NAME: 'Boss' }
  const sut = systemFor({ before, after, afterEach }, { env, scale: 'auth=2' })

  test('ADMIN_EMAIL and ADMIN_PASSWORD make one at start, once; a restart makes no second', async () => {
    const { system } = sut
    const boss = answered(await system.api.post('/api/auth/login', { email: 'boss@test.example', password: 'the-boss-1' }), 200)
    assert.deepEqual([boss.user.name, boss.user.is_admin, boss.user.plan_expires], ['Boss', true, null])
    const api = system.api.as(boss.token)
    assert.equal(answered(await api.get('/api/admin/users'), 200).total, 1)
    await system.ctl('restart', 'auth')
    await waitFor(async () => (await api.get('/api/admin/users')).status === 200, 'auth to be back')
    assert.equal((await api.get('/api/admin/users')).json.total, 1)
  })
})
