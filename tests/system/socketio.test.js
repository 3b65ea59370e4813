// socketio.test.js: /socket.io/ as API.md "Real time" promises it, with the official client in Node.js: every combination of
// transports, who is let in, events and acknowledgements, whose events, recovery, the end of tokens, several replicas.
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { SocketClient } from './support/socketio.js'
import { systemFor, waitFor } from './support/system.js'

const WAYS = [
  ['polling, then upgraded', undefined, 'websocket'],
  ['websocket alone', ['websocket'], 'websocket'],
  ['polling alone', ['polling'], 'polling']
]

const refusal = (url, options) =>
  new Promise((resolve) => {
    const client = new SocketClient(url, { reconnection: false, ...options })
    client.socket.on('connect_error', (error) => {
      client.close()
      resolve(error)
    })
    client.socket.on('connect', () => {
      client.close()
      resolve(null)
    })
  })

/** No cursor twice among the log's events, and all in order. */
function assertOnceInOrder(client) {
  const ids = client.events.filter(({ name }) => ['status-change', 'instance', 'alert'].includes(name)).map(({ cursor }) => Number(cursor.split('-')[1]))
  assert.deepEqual(ids, [...new Set(ids)].sort((left, right) => left - right))
}

describe('socket.io', () => {
  const sut = systemFor({ before, after, afterEach })

  for (const [how, transports, transport] of WAYS) {
    test(`${how}: connected, events with the cursor last, acknowledgements, subscribe, ping`, async () => {
      const { system } = sut
      const user = await system.user()
      const client = await SocketClient.open(system.url, { token: user.token, transports })
      const [connected] = client.named('connected')
      assert.equal(typeof connected.args[0].message, 'string')
      assert.ok(Math.abs(connected.args[0].timestamp - Date.now()) < 60000)
      assert.equal(client.socket.recovered, false)
      await client.until(() => client.transport === transport, `transport ${transport}`)

      const instance = await system.instance(user)
      await system.connectTunnel(user, instance)
      await client.status(instance.id, 'active')
      const change = client.named('status-change').at(-1)
      assert.deepEqual(Object.keys(change.args[0]).sort(), ['eventId', 'instanceId', 'previousStatus', 'reason', 'status', 'timestamp'])
      assert.equal(change.args[0].previousStatus, 'starting')
      assert.equal(change.cursor, change.args[0].eventId)
      assert.equal(client.named('instance')[0].args[0].type, 'created')

      assert.deepEqual(await client.emit('subscribe', { instanceId: instance.id }), { success: true, instanceId: instance.id })
      assert.deepEqual(client.named('subscribed').at(-1).args, [{ instanceId: instance.id }])
      assert.deepEqual(await client.emit('unsubscribe', { instanceId: instance.id }), { success: true, instanceId: instance.id })
      assert.deepEqual(client.named('unsubscribed').at(-1).args, [{ instanceId: instance.id }])
      assert.ok(Math.abs((await client.emit('ping')).timestamp - Date.now()) < 60000)
      assert.ok(Math.abs(client.named('pong').at(-1).args[0].timestamp - Date.now()) < 60000)
      assert.deepEqual(await client.emit('nonsense', 1), { success: false, error: 'unknown_event' })
      for (const { name, cursor } of client.events) assert.match(cursor, /^[0-9a-f]+-\d+$/, name)
      client.close()
    })

    test(`${how}: recovers after kill -9 of stream, nothing missed, nothing twice`, async () => {
      const { system } = sut
      const user = await system.user()
      const instance = await system.instance(user)
      const client = await SocketClient.open(system.url, { token: user.token, transports })
      for (let round = 1; round <= 2; round++) {
        const heard = client.changes.length
        system.kill('stream')
        await system.connectTunnel(user, instance) // while nobody listens
        await client.until(() => client.connects.length === 1 + round, 'the client to be back')
        assert.equal(client.connects.at(-1).recovered, true)
        await client.until(() => client.changes.length >= heard + 2, 'both changes')
        await user.api.post(`/api/instances/${instance.id}/disconnect`)
        await client.until(() => client.changes.length >= heard + 3, 'the disconnect')
        assert.deepEqual(client.changes.slice(heard).map(([, status]) => status), ['starting', 'active', 'inactive'])
      }
      assertOnceInOrder(client)
      assert.equal(client.named('reset').length, 0)
      client.close()
    })
  }

  test('refused: no token, nonsense, a signed-out session, scope all for a user; other namespaces', async () => {
    const { system } = sut
    const user = await system.user()
    for (const [options, message] of [
      [{}, /^Authentication error/],
      [{ token: 'nonsense' }, /^Authentication error/],
      [{ token: 17 }, /^Authentication error/],
      [{ token: user.token, auth: { scope: 'all' } }, /^Authentication error/]
    ]) {
      const error = await refusal(system.url, options)
      assert.match(error.message, message)
      assert.ok(['unauthorized', 'forbidden'].includes(error.data.error))
    }
    assert.equal((await refusal(`${system.url}/other`, { token: user.token })).message, 'Invalid namespace')
    await user.api.post('/api/auth/logout')
    await waitFor(async () => /^Authentication error/.test((await refusal(system.url, { token: user.token }))?.message), 'the refusal after logout')
  })

  test('the token may come in the cookie, but only for pages of this host or of allowed origins', async () => {
    const { system } = sut
    const user = await system.user()
    const cookie = { Cookie: `other=1; bore_session=${user.token}` }
    for (const transports of [['polling'], ['websocket']]) {
      assert.equal(await refusal(system.url, { transports, extraHeaders: cookie }), null)
      assert.equal(await refusal(system.url, { transports, extraHeaders: { ...cookie, Origin: system.url } }), null)
      assert.ok(await refusal(system.url, { transports, extraHeaders: { ...cookie, Origin: 'https://evil.example' } }))
    }
    // a token that the page itself gives needs no cookie; polling from there is CORS's affair, a WebSocket is refused
    assert.ok(await refusal(system.url, { token: user.token, transports: ['websocket'], extraHeaders: { Origin: 'https://evil.example' } }))
    assert.equal(await refusal(system.url, { token: user.token, transports: ['polling'], extraHeaders: { Origin: 'https://evil.example' } }), null)
  })

  test("nobody hears of another's instances, nor learns which exist", async () => {
    const { system } = sut
    const [left, right] = [await system.user(), await system.user()]
    const [mine, theirs] = [await system.instance(left), await system.instance(right)]
    const client = await SocketClient.open(system.url, { token: left.token })
    for (const id of [theirs.id, 'inst_000000000000000000000000', '', 'x'.repeat(500)]) {
      const answer = await client.emit('subscribe', { instanceId: id })
      assert.deepEqual([answer.success, answer.error], [false, 'instance_not_found'], id)
      assert.equal(client.named('error').at(-1).args[0].error, 'instance_not_found')
    }
    assert.equal((await client.emit('subscribe', 17)).error, 'validation_error')
    await Promise.all([system.connectTunnel(left, mine), system.connectTunnel(right, theirs)])
    await client.status(mine.id, 'active')
    await system.connectTunnel(left, mine)
    await client.until(() => client.changes.length >= 4, 'more changes')
    assert.ok(client.changes.every(([id]) => id === mine.id))
    client.close()
  })

  test('admins: scope all hears everybody, subscribe one instance; both end with the right', async () => {
    const { system } = sut
    const admin = await system.admin()
    const second = await system.user()
    await admin.api.post(`/api/admin/users/${second.user_id}/make-admin`)
    const user = await system.user()
    const [watched, other] = [await system.instance(user), await system.instance(user)]
    const all = await SocketClient.open(system.url, { token: second.token, auth: { scope: 'all' } })
    const one = await SocketClient.open(system.url, { token: second.token })
    assert.equal((await one.emit('subscribe', { instanceId: watched.id })).success, true)
    await system.connectTunnel(user, other)
    await system.connectTunnel(user, watched)
    await one.status(watched.id, 'active')
    await all.status(watched.id, 'active')
    await all.status(other.id, 'active')
    assert.ok(one.changes.every(([id]) => id === watched.id))
    assert.match(one.named('status-change').at(-1).cursor, /!$/)

    // what was watched cannot be promised elsewhere: no recovery, but a reset
    system.kill('stream')
    await one.until(() => one.connects.length === 2 && one.named('reset').length === 1, 'the reset')
    assert.equal(one.connects[1].recovered, false)
    await all.until(() => all.connects.length === 2, 'the other client')
    assert.equal(all.connects[1].recovered, true)

    assert.equal((await one.emit('subscribe', { instanceId: watched.id })).success, true)
    await user.api.delete(`/api/instances/${watched.id}`)
    await one.until(() => one.named('unsubscribed').length === 1, 'the end of the watch')
    assert.equal((await one.emit('subscribe', { instanceId: watched.id })).error, 'instance_not_found')
    assert.equal((await one.emit('subscribe', { instanceId: other.id })).success, true)
    await admin.api.post(`/api/admin/users/${second.user_id}/remove-admin`)
    for (const client of [all, one]) {
      await client.until(() => client.disconnects.includes('io server disconnect'), 'the disconnection')
      assert.equal(client.named('error').at(-1).args[0].error, 'forbidden')
      client.close()
    }
  })

  test('the end of a session ends its clients for good, with a reason', async () => {
    const { system } = sut
    const user = await system.user()
    const client = await SocketClient.open(system.url, { token: user.token })
    await user.api.post('/api/auth/logout-all')
    await client.until(() => client.disconnects.length > 0, 'the disconnection')
    assert.deepEqual(client.disconnects, ['io server disconnect'])
    assert.equal(client.named('error').at(-1).args[0].error, 'token_revoked')
    client.close()
  })

  test('list, then listen from its cursor; a cursor that cannot be served is a reset', async () => {
    const { system } = sut
    const user = await system.user()
    const { cursor } = (await user.api.get('/api/instances')).json
    const between = await system.instance(user)
    const client = await SocketClient.open(system.url, { token: user.token, auth: { cursor } })
    await client.until(() => client.named('instance').length === 1, 'the instance made in between')
    assert.equal(client.named('instance')[0].args[0].instanceId, between.id)
    assert.equal(client.named('reset').length, 0)
    client.close()
    for (const bad of ['nonsense', 'ffffffff-1', `${cursor.split('-')[0]}-99999999`]) {
      const late = await SocketClient.open(system.url, { token: user.token, auth: { cursor: bad } })
      await late.until(() => late.named('reset').length === 1, 'the reset')
      assert.equal(late.named('reset')[0].args[0].type, 'reset')
      late.close()
    }
  })

  test('recovery is refused, never partial: another user, a forged pid, an offset of another log', async () => {
    const { system } = sut
    const [user, other] = [await system.user(), await system.user()]
    const client = await SocketClient.open(system.url, { token: user.token })
    const { _pid: pid, _lastOffset: offset } = client.socket
    client.close()
    for (const [token, auth, recovered] of [
      [user.token, { pid, offset }, true],
      [other.token, { pid, offset }, false],
      [user.token, { pid: pid.replace(/.$/, (c) => (c === '0' ? '1' : '0')), offset }, false],
      [user.token, { pid, offset: `00000000-${offset.split('-')[1]}` }, false],
      [user.token, { pid, offset: `${offset}!` }, false],
      [user.token, { pid }, false]
    ]) {
      const back = new SocketClient(system.url, { token, auth })
      await back.until(() => back.named('connected').length > 0, 'the connection')
      assert.equal(back.socket._pid === pid, recovered)
      assert.equal(back.named('reset').length, recovered ? 0 : 1)
      back.close()
    }
  })

  test('counted in the admin statistics, and gone when they leave', async () => {
    const { system } = sut
    const [admin, user] = [await system.admin(), await system.user()]
    const open = async () => (await admin.api.get('/api/admin/stats')).json.active_streams.socketio
    await waitFor(async () => (await open()) === 0, 'earlier clients to be gone')
    const clients = await Promise.all(WAYS.map(([, transports]) => SocketClient.open(system.url, { token: user.token, transports })))
    await waitFor(async () => (await open()) === 3, 'three clients')
    for (const client of clients) client.close()
    await waitFor(async () => (await open()) === 0, 'the clients to be gone')
  })
})

describe('socket.io on two replicas', () => {
  const sut = systemFor({ before, after, afterEach }, { scale: 'stream=2' })

  test('polling sessions stay on their replica; clients recover on the other one; a shutdown is announced', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    const options = { token: user.token, transports: ['polling'] }
    const clients = await Promise.all(Array.from({ length: 8 }, () => SocketClient.open(system.url, options)))
    const replica = (client) => client.socket.io.engine.id.split('.')[0]
    assert.deepEqual([...new Set(clients.map(replica))].sort(), ['stream-1', 'stream-2'])
    await system.connectTunnel(user, instance)
    for (const client of clients) await client.status(instance.id, 'active')
    assert.ok(clients.every((client) => client.connects.length === 1))

    await system.ctl('stop', 'stream-1')
    await user.api.post(`/api/instances/${instance.id}/disconnect`)
    for (const client of clients) {
      await client.until(() => client.changes.length >= 3, 'the change after the stop')
      assert.ok(client.connects.every(({ recovered }, index) => recovered === index > 0))
      assert.equal(replica(client), 'stream-2')
      assertOnceInOrder(client)
    }
    const moved = clients.filter((client) => client.connects.length > 1)
    assert.ok(moved.length > 0 && moved.every((client) => client.named('server-shutdown').length === 1))
    await system.ctl('start', 'stream-1')
    for (const client of clients) client.close()
  })
})
