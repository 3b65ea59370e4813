// operations.js: what docs/operations.md tells an operator to do, done: keys replaced, another proxy in front, a backup
// brought back after everything was destroyed.
import assert from 'node:assert/strict'
import { execFile, execFileSync, spawn } from 'node:child_process'
import crypto from 'node:crypto'
import fs from 'node:fs'
import https from 'node:https'
import path from 'node:path'
import { promisify } from 'node:util'
import { docker } from './compose.js'
import { freePort, root, unique, waitFor } from '../system/support/system.js'

const run = promisify(execFile)
const key = () => crypto.randomBytes(32).toString('hex')

/** The dashboard in a real browser against the published port. */
async function dashboard(system) {
  const env = { ...process.env, BORE_TEST_SYSTEM: JSON.stringify({ url: system.url, env: { INTERNAL_API_KEY: system.internalKey, ADMIN_EMAIL: system.secret('ADMIN_EMAIL'), ADMIN_PASSWORD: system.secret('ADMIN_PASSWORD') } }) }
  delete env.NODE_TEST_CONTEXT
  const { stdout } = await run(process.execPath, ['--test', '--test-reporter=tap', '--test-name-pattern=sign up, create, connect', path.join(root, 'tests/system/dashboard.test.js')], { env, timeout: 180000, maxBuffer: 16e6 }).catch((error) => {
    throw new Error(`${error.stdout}\n${error.stderr}`)
  })
  assert.match(stdout, /^ *ok \d+ - sign up, create, connect/m, stdout)
}

/** JWT_SECRET and INTERNAL_API_KEY replaced by way of .env, with an overlap; then the former ones forgotten. */
async function rotation(system) {
  const user = await system.user()
  const stream = await system.stream(user, { reconnect: true, retryMs: 100 })
  const former = { JWT_SECRET: system.secret('JWT_SECRET'), INTERNAL_API_KEY: system.internalKey }
  const file = path.join(system.directory, '.env')
  const fresh = { JWT_SECRET: key(), INTERNAL_API_KEY: key() }
  fs.writeFileSync(file, `${Object.entries(fresh).map(([name, value]) => `${name}=${value}\n${name}_PREVIOUS=${former[name]}\n`).join('')}`, { mode: 0o600 })
  await system.up()
  await system.healthy()
  assert.equal((await user.api.get('/api/auth/me')).status, 200, 'a token of the former key')
  const later = await system.user()
  const signature = (token, secret) => crypto.createHmac('sha256', secret).update(token.split('.').slice(0, 2).join('.')).digest('base64url')
  assert.equal(later.token.split('.')[2], signature(later.token, fresh.JWT_SECRET), 'new tokens are made with the new key')
  const validate = async (internalKey) => (await system.api.internalPost('/validate-key', { api_key: `tk_${key()}` }, { headers: { 'x-internal-api-key': internalKey }, internal: false })).status
  assert.deepEqual([await validate(former.INTERNAL_API_KEY), await validate(fresh.INTERNAL_API_KEY), await validate(key())], [200, 200, 401])
  const instance = await system.instance(user)
  await stream.until((s) => s.messages.some((message) => message.json?.instanceId === instance.id || message.json?.instance_id === instance.id || message.data.includes(instance.id)), 'an event at the stream of the former key')
  stream.close()

  fs.writeFileSync(file, Object.entries(fresh).map(([name, value]) => `${name}=${value}\n`).join(''), { mode: 0o600 })
  await system.up()
  await system.healthy()
  assert.equal((await user.api.get('/api/auth/me')).status, 401, 'a token of a forgotten key')
  assert.deepEqual([await validate(former.INTERNAL_API_KEY), await validate(fresh.INTERNAL_API_KEY)], [401, 200])
  system.internalKey = fresh.INTERNAL_API_KEY
  system.api.internalKey = fresh.INTERNAL_API_KEY
  delete system.adminUser
}

const OUTER = (port, pem, target) => `
global
    maxconn 200
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
frontend outer
    bind 127.0.0.1:${port} ssl crt ${pem}
    option forwardfor
    http-request set-header X-Forwarded-Proto https
    default_backend edge
backend edge
    server edge 127.0.0.1:${target}
`

/** A TLS proxy on the host in front of the edge: limits count the real client, and cookies are Secure. */
async function outerProxy(system) {
  const directory = path.join(system.directory, 'outer')
  fs.mkdirSync(directory)
  const pem = path.join(directory, 'tls.pem')
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1', '-subj', '/CN=localhost', '-keyout', `${pem}.key`, '-out', `${pem}.crt`], { stdio: 'ignore' })
  fs.writeFileSync(pem, fs.readFileSync(`${pem}.crt`, 'utf8') + fs.readFileSync(`${pem}.key`, 'utf8'), { mode: 0o600 })
  const port = await freePort()
  fs.writeFileSync(path.join(directory, 'haproxy.cfg'), OUTER(port, pem, system.port))
  const proxy = spawn('haproxy', ['-db', '-f', path.join(directory, 'haproxy.cfg')], { stdio: 'ignore', env: { PATH: `${process.env.PATH}:/usr/sbin` } })
  const post = (from, body, headers = {}) =>
    new Promise((resolve, reject) => {
      const request = https.request({ host: '127.0.0.1', port, localAddress: from, method: 'POST', path: '/api/auth/login', rejectUnauthorized: false, agent: false, headers: { 'content-type': 'application/json', ...headers } }, (response) => {
        response.resume()
        response.on('end', () => resolve({ status: response.statusCode, headers: response.headers }))
      })
      request.on('error', reject)
      request.end(JSON.stringify(body))
    })
  const user = await system.user()
  const good = { email: user.email, password: user.password }
  /** Signs in from one address until it is refused with 429, then once from another: the two last statuses. */
  const exhaust = async () => {
    const first = []
    for (let i = 0; i < 12; i++) first.push((await post('127.0.0.1', { email: unique('nobody'), password: 'wrong-password' }, { 'x-forwarded-for': `203.0.113.${i}` })).status)
    return [first.at(-1), (await post('127.0.0.2', good)).status]
  }
  try {
    const gateway = (await docker('network', 'inspect', `${system.project}_public`, '--format', '{{range .IPAM.Config}}{{.Gateway}}{{end}}')).trim()
    Object.assign(system.env, { EDGE_AUTH_RATE: '8', TRUSTED_PROXIES: '' })
    await system.up()
    await waitFor(async () => (await post('127.0.0.3', good)).status === 200, 'the outer proxy')
    assert.deepEqual(await exhaust(), [429, 429], 'without TRUSTED_PROXIES all clients are the proxy')
    system.env.TRUSTED_PROXIES = gateway
    await system.up()
    await waitFor(async () => (await post('127.0.0.3', good)).status === 200, 'the edge')
    assert.deepEqual(await exhaust(), [429, 200], 'with it each client counts for itself, whatever it says about itself')
    const cookie = (await post('127.0.0.4', good)).headers['set-cookie']?.join()
    assert.match(cookie, /Secure/, 'the outer proxy spoke TLS')
    // the address that the limits and the audit see
    const sessions = (await (await system.user()).api.get('/api/auth/sessions')).json.sessions
    assert.ok(sessions.length > 0)
    const seen = system.sql(`SELECT DISTINCT address FROM bore.sessions WHERE user_id = '${user.user_id}' AND address LIKE '127.%' ORDER BY 1`).flat()
    console.log(`# addresses seen through the outer proxy (${gateway} trusted): ${seen.join(', ')}`)
    assert.ok(seen.includes('127.0.0.2') && seen.includes('127.0.0.4'), `addresses: ${seen}`)
  } finally {
    proxy.kill()
    Object.assign(system.env, { EDGE_AUTH_RATE: '100000', TRUSTED_PROXIES: '' })
  }
  await system.up()
  await system.healthy()
}

/** Backup while it runs, the volume destroyed, restored: all facts are back, and no cursor of before goes on. */
async function backup(system) {
  const script = (name, ...args) => run(path.join(system.directory, 'deploy/compose', name), args, { cwd: system.directory, env: system.env, timeout: 300000 })
  const user = await system.user()
  const instances = []
  for (let i = 0; i < 20; i++) {
    const instance = await system.instance(user)
    await system.connectTunnel(user, instance)
    instances.push(instance)
  }
  const facts = async () => ({
    me: (await user.api.get('/api/auth/me')).json,
    instances: (await user.api.get('/api/instances')).json.instances.map(({ id, name, status, created_at, public_url }) => ({ id, name, status, created_at, public_url })),
    history: (await user.api.get(`/api/instances/${instances[0].id}/status-history`)).json.status_history,
    rows: system.sql("SELECT (SELECT count(*) FROM bore.users), (SELECT count(*) FROM bore.instances), (SELECT count(*) FROM bore.status_history), (SELECT count(*) FROM bore.tunnel_tokens)")
  })
  const before = await facts()
  const cursor = (await user.api.get('/api/instances')).json.cursor
  const file = path.join(system.directory, 'backup.dump')
  const { stdout } = await script('backup.sh', file)
  console.log(`# ${path.basename(stdout.trim())}; ${before.rows[0].join(', ')} users, instances, rows of history, tokens`)
  assert.equal(fs.statSync(file).mode & 0o777, 0o600)
  const lost = await system.instance(user)

  await system.compose('rm', '-f', '-s', '-v', 'postgres')
  await docker('volume', 'rm', `${system.project}_postgres`)
  assert.equal((await system.api.get('/health')).status, 503)
  const started = performance.now()
  await system.up('postgres')
  assert.deepEqual(system.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'bore'"), [['0']], 'the destroyed database knows nothing')
  await script('restore.sh', file)
  await system.healthy()
  console.log(`# empty volume, restore, healthy again: ${((performance.now() - started) / 1000).toFixed(1)} s`)

  assert.deepEqual(await facts(), before)
  assert.equal((await user.api.get(`/api/instances/${lost.id}`)).status, 404, 'what came after the backup')
  const login = await system.api.post('/api/auth/login', { email: user.email, password: user.password })
  assert.equal(login.status, 200)
  const stream = await system.stream(user, { lastEventId: cursor })
  await stream.until((s) => s.messages.some((message) => message.event === 'reset'), 'a cursor of before is told to reload')
  stream.close()
  const fresh = await system.stream(user)
  const made = await system.instance(user)
  await fresh.until((s) => s.messages.some((message) => message.data.includes(made.id)), 'an event after the restore')
  fresh.close()

  // half a file changes nothing
  fs.writeFileSync(`${file}.half`, fs.readFileSync(file).subarray(0, 20000))
  await assert.rejects(script('restore.sh', `${file}.half`))
  await system.up()
  await system.healthy()
  assert.equal((await user.api.get(`/api/instances/${made.id}`)).status, 200)
}

/** The other commands of docs/operations.md: migrations, health by hand, the database's password, CURVE keys, TLS. */
async function commands(system) {
  await system.compose('run', '--rm', '--no-deps', 'auth', 'migrate')
  for (const service of system.services().filter((name) => name !== 'postgres')) await system.compose('exec', service, 'bore', 'healthcheck')

  const user = await system.user()
  const password = key()
  system.sql(`ALTER ROLE bore PASSWORD '${password}'`)
  fs.appendFileSync(path.join(system.directory, '.env'), `DB_PASSWORD=${password}\n`, { mode: 0o600 })
  const users = ['auth', 'registry', 'monitor', 'alerter', 'metrics', 'stream'].filter((name) => system.services().includes(name))
  await system.up('--force-recreate', ...users)
  await system.healthy('health with another password of the database')
  assert.equal((await user.api.get('/api/auth/me')).status, 200)

  await system.compose('down')
  await docker('volume', 'rm', `${system.project}_bus-keys`, `${system.project}_client-keys`)
  await system.up()
  await system.healthy('health with other CURVE keys')

  const pem = path.join(system.directory, 'edge')
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1', '-subj', '/CN=localhost', '-keyout', `${pem}.key`, '-out', `${pem}.crt`], { stdio: 'ignore' })
  fs.chmodSync(`${pem}.key`, 0o644) // the container's user has another number
  fs.chmodSync(system.directory, 0o755)
  Object.assign(system.env, { TLS_CERT_FILE: `${pem}.crt`, TLS_KEY_FILE: `${pem}.key` })
  await system.compose('-f', 'docker-compose.yml', '-f', 'deploy/compose/tls.yml', 'up', '-d', '--wait', 'edge')
  const status = await waitFor(() => new Promise((resolve, reject) => https.get({ host: '127.0.0.1', port: system.port, path: '/health', rejectUnauthorized: false, agent: false }, (response) => resolve(response.resume().statusCode)).on('error', reject)), 'an answer over TLS')
  assert.equal(status, 200)
  delete system.env.TLS_CERT_FILE
  delete system.env.TLS_KEY_FILE
  await system.up()
  await system.healthy()
}

export const steps = {
  'dashboard in a browser': dashboard,
  'rotation of the keys': rotation,
  'outer TLS proxy': outerProxy,
  'backup, destroy, restore': backup,
  'commands of docs/operations.md': commands
}
