// monitors.test.js: several monitors and gateways: one sends the canaries and tells the gauges, another takes over; a
// part of the way that is frozen while the rest works costs a client one heartbeat, which is no silence.
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { Heart } from './support/heart.js'
import { systemFor, waitFor } from './support/system.js'

describe('several monitors', () => {
  const sut = systemFor({ before, after, afterEach }, { scale: 'monitor=2 gateway=3', env: { HEARTBEAT_TIMEOUT_SECONDS: '6' } })
  const hearts = []
  let user

  before(async () => {
    user = await sut.system.user()
    for (let i = 0; i < 12; i++) {
      const instance = await sut.system.instance(user)
      await sut.system.connectTunnel(user, instance)
      // one heartbeat lost: 1 s, 3 s until the client gives up, 1 s
      hearts.push(new Heart(user, instance, { every: 1000 }).start())
    }
  })
  after(() => Promise.all(hearts.map((heart) => heart.stop())))

  const coverage = () => {
    const [[covered, sender]] = sut.system.sql('SELECT covered, sender FROM bore.coverage')
    return { covered: Number(covered), replica: sender?.split('-')[1] }
  }
  const goesOn = (from, what) => waitFor(() => coverage().covered > from + 1500, what)
  async function nobodyWasOffline() {
    await Promise.all(hearts.map((heart) => heart.beats(2)))
    const offline = sut.system.sql("SELECT instance_id, reason FROM bore.status_history WHERE status = 'offline'")
    assert.deepEqual(offline, [])
  }
  async function dies() {
    const instance = await sut.system.instance(user)
    await sut.system.connectTunnel(user, instance)
    await new Heart(user, instance).beat()
    return instance
  }
  const isOffline = (instance) => waitFor(async () => (await user.api.get(`/api/instances/${instance.id}`)).json?.status === 'offline', 'the dead client to be offline')
  const forget = (instance) => user.api.delete(`/api/instances/${instance.id}`)

  for (const [what, signal, undo] of [['frozen', 'SIGSTOP', 'SIGCONT'], ['killed', 'SIGKILL', undefined]])
    test(`the one that sends canaries is ${what}: the other takes over, and finds who dies`, async () => {
      await goesOn(coverage().covered, 'covered time to go on')
      const { replica, covered } = coverage()
      const [pid] = sut.system.pids(`monitor-${replica}`)
      process.kill(pid, signal)
      try {
        await waitFor(() => coverage().replica !== replica, 'another sender', { quiet: false })
        await goesOn(covered, 'covered time to go on without it')
        const dead = await dies()
        await isOffline(dead)
        await forget(dead)
      } finally {
        if (undo) process.kill(pid, undo)
      }
      await nobodyWasOffline()
    })

  test('one of three gateways is frozen', async () => {
    const [pid] = sut.system.pids('gateway-2')
    const from = coverage().covered
    process.kill(pid, 'SIGSTOP')
    try {
      await goesOn(from, 'covered time to go on')
      const dead = await dies()
      await isOffline(dead)
      await forget(dead)
    } finally {
      process.kill(pid, 'SIGCONT')
    }
    await nobodyWasOffline()
  })

  test('the gauges are told once', async () => {
    const total = sut.system.sql('SELECT count(*) FROM bore.instances')[0][0]
    await waitFor(async () => {
      const { text } = await sut.system.api.get('/metrics')
      const told = [...text.matchAll(/^bore_instances_by_status\{status="(\w+)"\} (\d+)$/gm)]
      assert.equal(told.length, 8, text.slice(0, 200))
      assert.equal(String(told.reduce((sum, [, , count]) => sum + Number(count), 0)), total)
      const heartbeats = Number(text.match(/^bore_heartbeats_total (\S+)$/m)?.[1])
      return heartbeats > 0
    }, 'the gauges')
  })
})
