// basics.js: what holds for every container at rest: up from a fresh clone, the tour, rights, what answers whom.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { docker } from './compose.js'
import { waitFor } from '../system/support/system.js'

const IMAGE = 'bore-backend:test'

/** Compose's own opinion: no warning, with every profile. */
async function config(system) {
  for (const profiles of [[], ['--profile', '*']]) {
    const out = execFileSync('sh', ['-c', `docker compose ${profiles.map((word) => `'${word}'`).join(' ')} config -q 2>&1`], { cwd: system.directory, env: system.env, encoding: 'utf8' })
    assert.equal(out, '')
  }
}

async function up(system) {
  const started = performance.now()
  await system.compose('build', '--quiet')
  const built = performance.now() - started
  const ms = await system.up()
  const size = Number(await docker('image', 'inspect', '--format', '{{.Size}}', IMAGE))
  const base = Number(await docker('image', 'inspect', '--format', '{{.Size}}', 'debian:bookworm-slim'))
  console.log(`# built in ${(built / 1000).toFixed(1)} s (with what the cache had); from \`up\` to all healthy ${(ms / 1000).toFixed(1)} s`)
  console.log(`# image ${(size / 1e6).toFixed(1)} MB, ${((size - base) / 1e6).toFixed(1)} MB of it beyond debian:bookworm-slim`)
  await system.healthy()
}

/** README's tour: one user, one instance, its tunnel's life, each step on the stream in order, once. */
async function tour(system) {
  const signup = execFileSync('curl', ['-s', '-X', 'POST', `${system.url}/api/auth/signup`, '-H', 'Content-Type: application/json', '-d', '{"name":"Test","email":"test@bore.com","password":"test123"}'], { encoding: 'utf8' })
  const token = JSON.parse(signup).token
  assert.ok(token, signup)
  const api = system.api.as(token)
  const stream = await system.stream({ token })
  await stream.until((s) => s.messages[0]?.json?.type === 'connected', 'the first message')
  const instance = (await api.post('/api/instances', { name: 'workstation', local_port: 8443 })).json
  const connect = (await api.post(`/api/instances/${instance.id}/connect`)).json
  assert.match(connect.tunnel_token, /^tk_[0-9a-f]{64}$/)
  const valid = await system.api.internalPost('/validate-key', { api_key: connect.tunnel_token })
  assert.equal(valid.json.valid, true, valid.text)
  await system.api.internalPost(`/instances/${instance.id}/tunnel-connected`, { remotePort: 31234 })
  assert.equal((await api.get(`/api/instances/${instance.id}`)).json.status, 'active')
  await system.api.internalPost(`/instances/${instance.id}/tunnel-disconnected`)
  const history = (await api.get(`/api/instances/${instance.id}/status-history`)).json
  assert.deepEqual(history.status_history.map((entry) => entry.status), ['offline', 'active', 'starting', 'inactive'])
  assert.equal((await api.patch(`/api/instances/${instance.id}`, { name: 'laptop' })).status, 200)
  assert.equal((await api.delete(`/api/instances/${instance.id}`)).status, 200)
  await stream.until((s) => s.messages.find((message) => message.event === 'instance' && message.json.type === 'deleted'), 'the deletion')
  const seen = stream.messages.slice(1).map((message) => (message.event ? `${message.event} ${message.json.type}` : message.json.status))
  assert.deepEqual(seen, ['instance created', 'starting', 'active', 'offline', 'instance renamed', 'instance deleted'])
  stream.close()
  for (const path of ['/docs', '/api/openapi.json', '/livez']) assert.equal((await system.api.get(path)).status, 200, path)
}

/** Silence is noticed: the monitor's canary finds its way through the edge, so its time counts. */
async function silence(system) {
  const user = await system.user()
  const instance = await system.instance(user)
  await system.connectTunnel(user, instance)
  const heard = await user.api.post(`/api/instances/${instance.id}/heartbeat`, {})
  assert.equal(heard.json.status, 'online', heard.text)
  const begun = performance.now()
  await waitFor(async () => (await user.api.get(`/api/instances/${instance.id}`)).json.status === 'offline', 'a silent instance to be offline')
  console.log(`# offline ${((performance.now() - begun) / 1000).toFixed(1)} s after its last heartbeat (HEARTBEAT_TIMEOUT_SECONDS=3)`)
}

/** Nobody is root, nothing can be written or gained, everything is bounded. */
async function rights(system) {
  for (const { name, service, inspected } of system.containers()) {
    const { HostConfig: host, Config: image } = inspected
    assert.ok(image.User && !/^(0|root)(:|$)/.test(image.User), `${name} runs as ${image.User || 'root'}`)
    assert.equal(host.ReadonlyRootfs, true, `${name}: read-only root`)
    assert.deepEqual(host.CapDrop, ['ALL'], `${name}: capabilities`)
    assert.ok(!host.CapAdd && !host.Privileged, name)
    assert.ok(host.SecurityOpt.some((option) => option.startsWith('no-new-privileges')), `${name}: no-new-privileges`)
    assert.ok(host.Memory > 0 && host.PidsLimit > 0, `${name}: limits`)
    assert.equal(host.RestartPolicy.Name, service === 'setup' ? 'no' : 'unless-stopped', name)
    assert.equal(host.LogConfig.Config['max-size'], '10m', `${name}: bounded logs`)
    if (service !== 'setup') assert.equal(inspected.State.Health.Status, 'healthy', name)
    if (inspected.State.Status !== 'running') continue
    const uid = execFileSync('docker', ['exec', inspected.Id, 'id', '-u'], { encoding: 'utf8' }).trim()
    assert.notEqual(uid, '0', name)
    assert.throws(() => execFileSync('docker', ['exec', inspected.Id, 'sh', '-c', 'echo x >/usr/written'], { stdio: 'pipe' }), /Read-only|Permission denied/, `${name}: its root can be written`)
  }
  const suid = await docker('run', '--rm', '--user', '0', '--entrypoint', 'find', IMAGE, '/', '-xdev', '-type', 'f', '-perm', '/6000')
  assert.equal(suid, '', 'set-uid programs in the image')
  const tools = await docker('run', '--rm', '--entrypoint', 'sh', IMAGE, '-c', 'command -v gcc cc make ld curl wget nc python3 psql || :')
  assert.equal(tools, '', 'tools that nobody needs')
  const labels = JSON.parse(await docker('image', 'inspect', '--format', '{{json .Config.Labels}}', IMAGE))
  assert.ok(labels['org.opencontainers.image.title'] && labels['org.opencontainers.image.version'])
}

/** Which of ADDRESS:PORT answer to a container in a network (`bridge`: a stranger's). */
async function answering(network, targets) {
  const script = 'for target; do host=${target%:*} port=${target##*:}; timeout 2 bash -c "exec 3<>/dev/tcp/$host/$port" 2>/dev/null && echo "$target"; done; :'
  const out = await docker('run', '--rm', '--network', network, 'debian:bookworm-slim', 'bash', '-c', script, '-', ...targets)
  return out.split('\n').filter(Boolean)
}

const PORTS = { edge: [3000, 8404], gateway: [8080], stream: [8081], bus: [5550, 5551, 5552, 5553], postgres: [5432] }

/** From outside the edge's port and nothing else; between the networks only what is meant. */
async function doors(system) {
  const published = system.containers().flatMap(({ service, inspected }) =>
    Object.entries(inspected.NetworkSettings.Ports ?? {}).flatMap(([port, to]) => (to ?? []).map((address) => `${service} ${port} ${address.HostPort}`))
  )
  assert.deepEqual([...new Set(published)], [`edge 3000/tcp ${system.port}`], 'published ports')

  const addresses = {}
  for (const { service, inspected } of system.containers())
    for (const [network, { IPAddress }] of Object.entries(inspected.NetworkSettings.Networks)) if (IPAddress) (addresses[service] ??= {})[network] = IPAddress
  const every = Object.entries(PORTS).flatMap(([service, ports]) => Object.values(addresses[service]).flatMap((address) => ports.map((port) => `${address}:${port}`)))
  assert.ok(every.length >= 10)
  assert.deepEqual(await answering('bridge', every), [], "a stranger's container")
  // a neighbour in a network reaches what that network is for: shows that the attempts above could have succeeded
  const names = Object.entries(PORTS).flatMap(([service, ports]) => ports.map((port) => `${service}:${port}`))
  const reach = async (network) => (await answering(`${system.project}_${network}`, names)).sort()
  assert.deepEqual(await reach('public'), ['edge:3000', 'edge:8404'])
  assert.deepEqual(await reach('front'), ['edge:3000', 'edge:8404', 'gateway:8080', 'stream:8081'])
  assert.deepEqual(await reach('database'), ['postgres:5432', 'stream:8081'])
  assert.deepEqual(await reach('bus'), ['bus:5550', 'bus:5551', 'bus:5552', 'bus:5553', 'gateway:8080', 'stream:8081'])
}

/** In the bus's network, without the keys: silence. With them: the counters of the others. */
async function keys(system) {
  const listen = (...options) => docker('run', '--rm', '--network', `${system.project}_bus`, '-e', 'BUS_URL=tcp://bus:5550', '-e', 'BORE_INSTANCE=1', ...options)
  const instance = system.containers('bus')[0].id.slice(0, 12)
  const number = execFileSync('sh', ['-c', `echo $(($(echo ${instance} | cksum | cut -d ' ' -f 1) % 9000 + 1000))`], { encoding: 'utf8' }).trim()
  const withKeys = ['-e', 'BUS_CURVE_DIR=/secrets/client', '-v', `${system.project}_client-keys:/secrets/client:ro`, '-e', `BORE_INSTANCE=${number}`, IMAGE, 'healthcheck', 'bus']
  await listen(...withKeys)
  const refused = async (what, ...options) => {
    const answer = await listen(...options).then(() => 'heard the bus', (error) => String(error.stdout).trim())
    assert.equal(answer, 'nobody is heard on the bus', what)
  }
  await refused('without keys', '-e', `BORE_INSTANCE=${number}`, IMAGE, 'healthcheck', 'bus')
  await refused('with keys of its own', '-e', `BORE_INSTANCE=${number}`, '-e', 'BUS_CURVE_DIR=/run/bore/client', '--entrypoint', 'sh', IMAGE, '-c', 'bore setup /run/bore >/dev/null && exec bore healthcheck bus')
}

/** Weak secrets end the start, with a sentence. */
async function weak(system) {
  for (const [name, value] of [['JWT_SECRET', 'changeme-changeme-changeme-changeme'], ['JWT_SECRET', '8d1f05'], ['INTERNAL_API_KEY', 'aaaaaaaaaaaaaaaaaaaaaaaa'], ['EDGE_SECRET', '77f']]) {
    const answer = await docker('run', '--rm', '-e', `${name}=${value}`, IMAGE, 'setup', '/run/bore').then(() => 'taken', (error) => error.stderr)
    assert.match(answer, new RegExp(`bore-setup: ${name} .*make one with`), name)
    assert.ok(!answer.includes(value), 'the value is not repeated')
  }
}

async function idle(system) {
  await waitFor(async () => (await system.api.get('/health')).json?.status === 'healthy', 'complete health')
  const memory = await system.memory()
  const total = Object.values(memory).reduce((sum, value) => sum + value, 0)
  console.log(`# memory idle, MiB: ${Object.entries(memory).map(([name, value]) => `${name} ${value.toFixed(0)}`).join(', ')}; together ${total.toFixed(0)}`)
}

/** What a thousand open streams cost, and the sums of /metrics, which every process contributes to. */
async function thousand(system) {
  const user = await system.user()
  const before = await system.memory()
  const streams = []
  for (let i = 0; i < 1000; i += 50) streams.push(...(await Promise.all(Array.from({ length: 50 }, () => system.stream(user)))))
  const after = await system.memory()
  const each = (name) => `${name} ${(((after[name] - before[name]) * 1024) / streams.length).toFixed(1)} kB`
  console.log(`# memory for each of 1000 streams: ${each('stream-1')}, ${each('edge-1')}`)
  if (system.services().includes('metrics')) {
    await waitFor(async () => {
      const text = (await system.api.get('/metrics')).text
      return Number(text.match(/^bore_active_sse_connections(?:\{[^}]*\})? (\d+)/m)?.[1]) >= 1000
    }, 'the sum of open streams at /metrics')
  }
  for (const stream of streams) stream.close()
}

export const steps = {
  'config is clean': config,
  'up from a fresh clone': up,
  'tour of README': tour,
  'silence is noticed': silence,
  'rights of the containers': rights,
  'doors: what answers whom': doors,
  'keys: no key, no bus': keys,
  'weak secrets are refused': weak,
  'idle memory': idle,
  'thousand streams': thousand
}
