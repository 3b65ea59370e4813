// replicas.test.js: several gateways, auths and registries share the work; killing one fails no request that may be retried.
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { System, systemFor, waitFor } from './support/system.js'

describe('replicas', () => {
  const sut = systemFor({ before, after, afterEach }, { scale: 'gateway=2 auth=2 registry=3' })

  /** What each replica did: its processor time. */
  const work = (system, service) => system.pids(service).map((pid) => System.cpuTicks(pid))

  test('all of them take work', async () => {
    const { system } = sut
    for (const [service, count] of [['gateway', 2], ['auth', 2], ['registry', 3]]) assert.equal(system.pids(service).length, count, service)
    const users = await Promise.all(Array.from({ length: 8 }, () => system.user()))
    const before = Object.fromEntries(['gateway', 'auth', 'registry'].map((service) => [service, work(system, service)]))
    const until = performance.now() + 4000
    let done = 0
    await Promise.all(
      users.flatMap((user) =>
        Array.from({ length: 4 }, async () => {
          while (performance.now() < until) {
            const [list, me] = await Promise.all([user.api.get('/api/instances'), user.api.get('/api/auth/me')])
            assert.equal(list.status, 200, list.text)
            assert.equal(me.status, 200, me.text)
            done += 2
          }
        })
      )
    )
    console.log(`# ${done} requests`)
    for (const [service, ticks] of Object.entries(before)) {
      const used = work(system, service).map((value, i) => value - ticks[i])
      console.log(`# ${service}: processor time of each replica (1/100 s): ${used.join(', ')}`)
      const sum = used.reduce((left, right) => left + right, 0)
      for (const share of used) assert.ok(share > (sum / used.length) * 0.2, `${service}: each replica takes a fair part: ${used}`)
    }
  })

  test('killing one replica of each fails no request that a client may retry', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    for (const service of ['registry', 'auth', 'gateway']) {
      let over = false
      const failures = []
      let answered = 0
      const client = async () => {
        while (!over) {
          for (const path of [`/api/instances/${instance.id}`, '/api/auth/me']) {
            let last
            for (let attempt = 0; attempt < 2; attempt++) {
              // a client may retry a GET once
              last = await user.api.get(path).catch((error) => ({ status: 0, text: error.message }))
              if (last.status === 200) break
            }
            answered++
            if (last.status !== 200) failures.push(`${path}: ${last.status} ${last.text}`)
          }
        }
      }
      const clients = Array.from({ length: 8 }, client)
      const before = system.pids(service)
      await waitFor(() => answered > 200, 'the first answers')
      system.kill(before[0])
      const killedAt = answered
      await waitFor(() => answered > killedAt + 500, 'answers after the kill')
      await waitFor(() => system.pids(service).length === before.length && !system.pids(service).includes(before[0]), 'the replica to be back')
      over = true
      await Promise.all(clients)
      console.log(`# killed ${service}: ${answered} GETs answered, ${failures.length} failed after one retry`)
      assert.deepEqual(failures, [])
    }
  })
})
