// blindness.js: outages of ours make nobody falsely offline, and find who really died. Each part of the way that a
// heartbeat takes is stopped, or frozen, or the clock of all of them is set, while clients send heartbeats; one client
// dies as the outage begins. Afterwards nobody who lives may ever have been offline, and the dead one is offline soon.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { Heart } from '../system/support/heart.js'
import { System, waitFor } from '../system/support/system.js'
import { Clock } from './clock.js'

const way = ['edge', 'gateway', 'bus', 'monitor', 'postgres']
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** A process and all its children, as far as they have not ended meanwhile: PostgreSQL is many. */
function family(pid) {
  const children = `/proc/${pid}/task/${pid}/children`
  try {
    return [pid, ...fs.readFileSync(children, 'utf8').trim().split(/\s+/).filter(Boolean).map(Number).flatMap(family)]
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ESRCH') return []
    throw error
  }
}

function signal(system, service, name) {
  for (const pid of system.pids(service)) {
    for (const member of family(pid)) {
      try {
        process.kill(member, name)
      } catch {
        // one that ended meanwhile
      }
    }
  }
}

/** What can be done to us: begin and end. */
export const outages = [
  ...way.map((service) => ({ name: `${service} stopped`, begin: (system) => system.ctl('stop', service), end: (system) => system.ctl('start', service) })),
  ...way.map((service) => ({ name: `${service} frozen`, begin: (system) => signal(system, service, 'SIGSTOP'), end: (system) => signal(system, service, 'SIGCONT') })),
  { name: 'the clock an hour ahead', begin: (system, clock) => clock.set('+1h'), end: () => {}, isOfClock: true },
  { name: 'the clock two hours back', begin: (system, clock) => clock.set('-1h'), end: (system, clock) => clock.set('+0'), isOfClock: true }
]

export async function blindnessTest({ timeoutSeconds = 2, outageMs = 5000, every = 300, living = 4, only = outages.map((outage) => outage.name) } = {}) {
  const system = await System.start({ env: { HEARTBEAT_TIMEOUT_SECONDS: String(timeoutSeconds), STARTING_TIMEOUT_SECONDS: '600', SERVER_LEASE_SECONDS: '5' } })
  const figures = {}
  const hearts = []
  try {
    const clock = outages.some(({ name, isOfClock }) => isOfClock && only.includes(name)) && (await Clock.install(system))
    const user = await system.user()
    const covered = () => Number(system.sql('SELECT covered FROM bore.coverage')[0][0])
    const status = async (instance) => (await user.api.get(`/api/instances/${instance.id}`)).json?.status
    const history = async (instance) => (await user.api.get(`/api/instances/${instance.id}/status-history?limit=500`)).json.status_history
    const client = async () => {
      const instance = await system.instance(user)
      await system.connectTunnel(user, instance)
      return new Heart(user, instance, { every })
    }
    for (let i = 0; i < living; i++) hearts.push((await client()).start())
    const started = covered()
    await waitFor(() => covered() > started + 1000, 'covered time to go on')

    for (const outage of outages.filter(({ name }) => only.includes(name))) {
      const dead = await client()
      await dead.beat()
      await outage.begin(system, clock)
      const diedAt = dead.heardAt
      const sitOut = async () => {
        await pause(outageMs)
        await outage.end(system, clock)
      }
      // while only the clock is wrong everybody is heard: the dead one is found meanwhile
      if (!outage.isOfClock) await sitOut()
      const ended = performance.now()
      await waitFor(async () => (await status(dead.instance)) === 'offline', `the dead client to be offline after: ${outage.name}`, { timeout: timeoutSeconds * 1000 + 30000 })
      const found = performance.now()
      const coveredMs = covered() - Number(system.sql(`SELECT covered FROM bore.heartbeats WHERE instance_id = '${dead.instance.id}'`)[0][0])
      if (outage.isOfClock) await sitOut()
      // each of the living is heard again before the next outage
      await Promise.all(hearts.map((heart) => heart.beats(2)))
      figures[outage.name] = { afterDeathMs: Math.round(found - diedAt), afterEndMs: Math.round(found - ended), coveredMs }
      const last = (await history(dead.instance))[0]
      assert.deepEqual([last.status, last.reason], ['offline', 'heartbeats stopped'], outage.name)
      for (const heart of hearts) {
        const seen = (await history(heart.instance)).filter((entry) => entry.status === 'offline')
        assert.deepEqual(seen, [], `falsely offline after: ${outage.name}`)
      }
      await user.api.delete(`/api/instances/${dead.instance.id}`) // its tunnel would count against the plan
      printBlindness(outage.name, figures[outage.name], timeoutSeconds)
    }
    return figures
  } catch (error) {
    system.printLogs()
    throw error
  } finally {
    for (const service of way) signal(system, service, 'SIGCONT')
    await Promise.all(hearts.map((heart) => heart.stop()))
    await system.stop()
  }
}

function printBlindness(name, { afterDeathMs, afterEndMs, coveredMs }, timeoutSeconds) {
  console.log(
    `# ${name.padEnd(36)} nobody falsely offline; the dead one found after ${coveredMs} ms of covered time (timeout ${timeoutSeconds * 1000}), ` +
      `${afterEndMs} ms after the outage, ${afterDeathMs} ms after its last heartbeat`
  )
}
