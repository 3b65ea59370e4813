// replicas.js: several containers of each service: all take work, connections stay bounded, and one of them killed, or
// replaced on purpose, costs no acknowledged change, no event and, where it is on purpose, no request.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { crashTest, printFigures } from '../chaos/crash.js'
import { percentile, waitFor } from '../system/support/system.js'

const SCALE = { gateway: 2, stream: 2, auth: 2, registry: 3, monitor: 2, alerter: 2 }
const LOAD_MS = 8000
const CONNECTIONS_MAX = 80

/** The scale line, for those services that there are. */
const scaleOptions = (system) => Object.entries(SCALE).filter(([service]) => system.services().includes(service)).flatMap(([service, count]) => ['--scale', `${service}=${count}`])

/** Requests of every kind until `isOver()`; resolves to { requests, failures: { status: count }, times }. */
export async function load(system, isOver, { clients = 16 } = {}) {
  const user = await system.user()
  const instances = await Promise.all(Array.from({ length: clients }, () => system.instance(user)))
  const figures = { requests: 0, failures: {}, times: [] }
  const client = async (instance) => {
    const acts = [
      () => user.api.get('/api/auth/me'),
      () => user.api.get('/api/instances?limit=5'),
      () => user.api.post(`/api/instances/${instance.id}/connect`),
      () => user.api.post(`/api/instances/${instance.id}/heartbeat`, { cpu_usage: 5 }),
      () => user.api.get(`/api/instances/${instance.id}/health`),
      () => user.api.post(`/api/instances/${instance.id}/disconnect`)
    ]
    while (!isOver()) {
      for (const act of acts) {
        const answer = await act().catch((error) => ({ status: error.code ?? error.message }))
        figures.requests++
        if (answer.status === 200) figures.times.push(answer.ms)
        else figures.failures[answer.status] = (figures.failures[answer.status] ?? 0) + 1
      }
    }
  }
  await Promise.all(instances.map(client))
  return figures
}

/** Established connections to a port, as the container itself sees them. */
const established = (container, port) => fs.readFileSync(`/proc/${container.pid}/net/tcp`, 'utf8').split('\n').filter((line) => new RegExp(`^ *\\d+: \\w+:${port.toString(16).toUpperCase().padStart(4, '0')} \\w+:\\w+ 01 `).test(line)).length

async function scale(system) {
  const ms = await system.up('--no-recreate', ...scaleOptions(system))
  console.log(`# scaled to ${system.services().map((service) => `${service} ${system.containers(service).length}`).join(', ')} in ${(ms / 1000).toFixed(1)} s`)
  for (const [service, count] of Object.entries(SCALE)) if (system.services().includes(service)) assert.equal(system.containers(service).length, count, service)

  // the edge asks DNS anew within a second: then new streams spread over all replicas of stream
  const user = await system.user()
  const streams = []
  const ofStreams = () => Object.fromEntries(system.containers('stream').map((container) => [container.name.replace(`${system.project}-`, ''), established(container, 8081)]))
  await waitFor(async () => {
    streams.push(await system.stream(user))
    return streams.length >= 20 && Object.values(ofStreams()).every((count) => count >= 5)
  }, 'streams at every replica')
  console.log(`# of ${streams.length} open streams: ${JSON.stringify(ofStreams())}`)

  const services = system.services().filter((service) => SCALE[service])
  const before = Object.assign({}, ...services.map((service) => system.processorSeconds(service)))
  const end = performance.now() + LOAD_MS
  const memory = waitFor(() => performance.now() > end - LOAD_MS / 2, 'the middle of the load').then(() => system.memory())
  const figures = await load(system, () => performance.now() > end)
  const after = Object.assign({}, ...services.map((service) => system.processorSeconds(service)))
  assert.deepEqual(figures.failures, {}, 'failed requests')
  const used = Object.fromEntries(Object.entries(after).map(([name, seconds]) => [name, Number((seconds - before[name]).toFixed(2))]))
  console.log(`# ${figures.requests} requests in ${LOAD_MS / 1000} s, none failed, p50 ${percentile(figures.times, 0.5).toFixed(1)} ms, p99 ${percentile(figures.times, 0.99).toFixed(1)} ms`)
  console.log(`# processor seconds of each replica: ${JSON.stringify(used)}`)
  for (const service of services.filter((name) => name !== 'alerter')) {
    const shares = Object.entries(used).filter(([name]) => name.startsWith(`${service}-`)).map(([, seconds]) => seconds)
    assert.ok(Math.min(...shares) > 0.02, `every ${service} works: ${shares}`)
  }
  console.log(`# memory under load, MiB: ${Object.entries(await memory).map(([name, value]) => `${name} ${value.toFixed(0)}`).join(', ')}`)

  const connections = system.sql("SELECT regexp_replace(application_name, '-[0-9]+$', ''), count(DISTINCT application_name), count(*) FROM pg_stat_activity WHERE application_name LIKE 'bore-%' GROUP BY 1 ORDER BY 1")
  const sum = connections.reduce((total, [, , count]) => total + Number(count), 0)
  console.log(`# database connections: ${connections.map(([name, processes, count]) => `${name} ${processes} x ${(count / processes).toFixed(1)}`).join(', ')}; together ${sum}`)
  assert.ok(sum < CONNECTIONS_MAX, `${sum} database connections`)
  for (const stream of streams) stream.close()
}

/** One container of each service killed in turn while changes are made and followed. */
async function crashes(system) {
  const only = system.services().filter((service) => service !== 'metrics')
  printFigures(await crashTest({ start: async () => system, only: [...only, ...system.services().filter((service) => service === 'metrics')], walkers: 6, settleMs: 2000 }))
  await system.healthy()
}

async function restarts(system) {
  printFigures(await crashTest({ start: async () => system, only: ['restart bus', 'restart postgres', 'restart bus'], walkers: 6, settleMs: 2000 }))
  await system.healthy()
}

/** Every replica replaced on purpose, under load: nothing fails, nothing is missed. */
async function rollout(system) {
  let over = false
  const user = await system.user()
  const instance = await system.instance(user)
  const stream = await system.stream(user, { reconnect: true, retryMs: 100 })
  const loading = load(system, () => over)
  const changed = []
  const changing = (async () => {
    while (!over) {
      for (const [status, verb] of [['starting', 'connect'], ['inactive', 'disconnect']]) {
        const answer = await user.api.post(`/api/instances/${instance.id}/${verb}`)
        assert.equal(answer.status, 200, answer.text)
        changed.push(status)
      }
    }
  })()
  const services = system.services().filter((service) => SCALE[service])
  const before = system.containers().map((container) => container.id)
  try {
    const { stdout } = await promisify(execFile)(path.join(system.directory, 'deploy/compose/rollout.sh'), services, { cwd: system.directory, env: system.env, timeout: 300000 })
    console.log(`# ${stdout.trim().split('\n').join('; ')}`)
  } finally {
    over = true
  }
  const figures = await loading
  await changing
  for (const service of services) {
    assert.equal(system.containers(service).length, SCALE[service], service)
    assert.ok(system.containers(service).every((container) => !before.includes(container.id)), `${service}: all are new`)
  }
  const seen = () => stream.changes.filter((message) => message.json.instanceId === instance.id).map((message) => message.json.status)
  await waitFor(() => seen().length >= changed.length, 'the last event')
  assert.deepEqual(seen(), changed, 'the stream brought every change, in order, once')
  console.log(`# ${figures.requests + changed.length} requests meanwhile, failed: ${JSON.stringify(figures.failures)}, slowest ${Math.max(...figures.times).toFixed(0)} ms; ${changed.length} changes all seen, the stream reconnected ${stream.opens - 1} times`)
  assert.deepEqual(figures.failures, {})
  stream.close()
}

export const steps = {
  'scale: every replica works': scale,
  'crash of one container of each service': crashes,
  'restart of bus and postgres': restarts,
  'rollout: all replicas replaced': rollout
}
