// reports.test.js: whatever bore-servers report over HTTP, late, repeated, reordered and lost, ends in the true status.
//
// 60 instances live side by side, each by a plan (tunnel_plan.js) that follows from a seed. When all reports have arrived
// and the registry has settled its doubts, each instance must be what it truly is, its history must end with that, and
// the stream must have brought that history. One that is not prints its seed and all that happened to it;
// REPORTS_SEED, REPORTS_COUNT, REPORTS_KIND and REPORTS_STORY choose others.
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { systemFor, waitFor } from './support/system.js'
import { KINDS, STORIES, planTunnels } from './support/tunnel_plan.js'
import { TunnelWorld } from './support/tunnel_world.js'

const FIRST_SEED = Number(process.env.REPORTS_SEED ?? 1)
const COUNT = Number(process.env.REPORTS_COUNT ?? (process.env.REPORTS_SEED ? 1 : 60))
const PER_USER = 12 // of the 20 tunnels of the plan

describe('reports of bore-servers', () => {
  // two registries, so that reports of one instance are read at the same time
  const sut = systemFor({ before, after, afterEach }, { scale: 'registry=2', env: { BCRYPT_COST: '4' } })

  async function worlds() {
    const { system } = sut
    const made = []
    let user, stream
    for (let i = 0; i < COUNT; i++) {
      if (i % PER_USER === 0) {
        user = await system.user()
        stream = await system.stream(user)
      }
      const kind = process.env.REPORTS_KIND ?? KINDS[i % KINDS.length]
      const story = process.env.REPORTS_STORY ?? STORIES[Math.floor(i / KINDS.length) % STORIES.length]
      const world = new TunnelWorld({ system, user, instance: await system.instance(user), plan: planTunnels(FIRST_SEED + i, kind, story) })
      made.push(Object.assign(world, { stream }))
    }
    return made
  }

  /** Throws when anything that can be seen of the instance is not the truth. */
  async function check({ user, instance, stream, truth }) {
    const now = (await user.api.get(`/api/instances/${instance.id}`)).json
    const history = (await user.api.get(`/api/instances/${instance.id}/status-history?limit=500`)).json
    const { sessions } = (await user.api.get(`/api/instances/${instance.id}/sessions?limit=500`)).json
    const told = () => stream.changes.filter((message) => message.json.instanceId === instance.id).map((message) => message.json.status)
    const statuses = history.status_history.map((entry) => entry.status).reverse()
    await waitFor(() => told().length >= statuses.length - 1, 'the stream to bring all').catch(() => {})

    assert.deepEqual(
      { status: now.status, connected: now.tunnel_connected, port: truth.connected ? now.remote_port : null, open: sessions.filter(({ state }) => state === 'open').length },
      truth,
      'GET /instances/:id'
    )
    if (truth.connected) assert.equal(now.public_url, `${now.server_host}:${truth.port}`)
    assert.equal(history.current_status, truth.status)
    assert.equal(statuses.at(-1), truth.status, 'the end of the history')
    assert.equal(told().at(-1), truth.status, "the stream's last word")
    assert.deepEqual(['inactive', ...told()], statuses, 'the stream brought the history')
    assert.ok(statuses.every((status, i) => status !== statuses[i - 1]), 'each entry is a change')
  }

  /** What the registry made of it, for a failure. */
  function seen({ instance }) {
    const rows = (what) => sut.system.sql(what).map((row) => `       ${row.join(' ')}`).join('\n')
    return (
      rows(`SELECT at::time(3), status, reason FROM bore.status_history WHERE instance_id = '${instance.id}' ORDER BY id`) + '\n' +
      rows(`SELECT id, state, token_hash IS NOT NULL, remote_port, external_id, sequence, created_at::time(3), connected_at::time(3), closed_at::time(3), closed_by, disconnects, doubtful_port FROM bore.tunnel_sessions WHERE instance_id = '${instance.id}' ORDER BY created_at`)
    )
  }

  test(`${COUNT} interleavings of reports end in the true status each`, { timeout: 150000 }, async () => {
    const { system } = sut
    const all = await worlds()
    const begun = performance.now()
    await Promise.all(all.map((world) => world.run()))
    const arrived = performance.now()
    await waitFor(() => system.sql('SELECT count(*) FROM bore.tunnel_sessions WHERE doubtful_until IS NOT NULL')[0][0] === '0', 'doubts to settle', { every: 200 })
    const settled = performance.now()

    const ends = {}
    const failures = []
    for (const world of all) {
      const truth = world.truth()
      ends[truth.status] = (ends[truth.status] ?? 0) + 1
      await check({ ...world, truth }).catch((error) => failures.push(`${error.message}\n${world.describe()}\n${seen(world)}`))
    }
    const tunnels = all.flatMap((world) => world.sessions).length
    console.log(
      `# ${all.length} instances, ${tunnels} tunnels, ${all.flatMap((world) => world.lines).length} happenings in ${Math.round(arrived - begun)} ms, ` +
        `settled ${Math.round(settled - arrived)} ms later; true ends: ${JSON.stringify(ends)}; ${failures.length} not told truly`
    )
    assert.equal(failures.length, 0, `${failures.length} of ${all.length} are not what they truly are:\n\n${failures.slice(0, 5).join('\n\n')}`)
    all.forEach(({ stream }) => stream.close())
  })
})
