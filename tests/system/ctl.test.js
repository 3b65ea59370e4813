// ctl.test.js: ./bore itself: what it prints, one process stopped and started again, a killed one restarted, and each
// thing that cannot work ending in one clear line.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import http2 from 'node:http2'
import https from 'node:https'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { makeCertificates } from './support/receiver.js'
import { System, freePort, root, systemFor, waitFor } from './support/system.js'

/** ./bore start in a state directory of its own that must fail; resolves to what it said. */
function refused(env) {
  const home = fs.mkdtempSync(path.join(os.tmpdir(), 'bore-refused.'))
  fs.chmodSync(home, 0o755)
  const out = spawnSync(path.join(root, 'bore'), ['start'], {
    cwd: root,
    encoding: 'utf8',
    timeout: 120000,
    env: { ...process.env, BORE_HOME: home, ...env }
  })
  spawnSync(path.join(root, 'bore'), ['stop'], { cwd: root, env: { ...process.env, BORE_HOME: home, ...env }, timeout: 60000 })
  fs.rmSync(home, { recursive: true, force: true })
  return { status: out.status, lines: out.stderr.trimEnd().split('\n'), text: out.stderr }
}

describe('./bore', () => {
  const sut = systemFor({ before, after, afterEach })

  test('status tells each process; the state directory keeps its secrets to itself', async () => {
    const { system } = sut
    const out = await system.bore('status')
    for (const name of ['postgres-1', 'bus-1', 'auth-1', 'registry-1', 'gateway-1', 'stream-1', 'edge-1']) assert.match(out, new RegExp(`^${name}\\s+run\\s+\\d+`, 'm'))
    for (const file of ['secrets.env', 'internal_api_key']) assert.equal(fs.statSync(path.join(system.home, file)).mode & 0o777, 0o600, file)
    for (const name of ['gateway', 'auth', 'registry', 'stream', 'bus']) {
      const [pid] = system.pids(name)
      const argv = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      assert.ok(!argv.includes(system.internalKey), `${name}: no secret in argv`)
      if (process.getuid() === 0) assert.notEqual(fs.statSync(`/proc/${pid}`).uid, 0, `${name} does not run as root`)
    }
  })

  test('ctl stop keeps a process down, health says so, ctl start brings it back', async () => {
    const { system } = sut
    const user = await system.user()
    await system.ctl('stop', 'registry')
    const health = await waitFor(async () => {
      const answer = await system.api.get('/health')
      return answer.status === 503 && answer
    }, 'health to be 503')
    assert.notEqual(health.json.checks.registry.status, 'healthy')
    const answer = await user.api.get('/api/instances')
    assert.equal(answer.status, 503)
    assert.equal(answer.json.error, 'unavailable')
    assert.ok(answer.headers['retry-after'])
    assert.equal((await user.api.get('/api/auth/me')).status, 200, 'what does not need it works')
    assert.match(await system.bore('status').catch((error) => error.stdout), /^registry-1\s+down/m)
    await system.ctl('start', 'registry')
    await waitFor(async () => (await user.api.get('/api/instances')).status === 200, 'the registry', { quiet: false })
    const [pid] = system.pids('registry')
    await system.ctl('restart', 'registry-1')
    await waitFor(async () => (await user.api.get('/api/instances')).status === 200, 'the registry')
    assert.notEqual(system.pids('registry')[0], pid)
  })

  test('a restart of the only gateway delays requests, and fails none', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    const answers = []
    let over = false
    const clients = Array.from({ length: 16 }, async () => {
      while (!over) answers.push(await user.api.post(`/api/instances/${instance.id}/heartbeat`, {}))
    })
    await waitFor(() => answers.length > 100, 'requests to be under way')
    await system.ctl('restart', 'gateway')
    const before = answers.length
    await waitFor(() => answers.length > before + 100, 'requests to go on')
    over = true
    await Promise.all(clients)
    assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200])
    console.log(`# ${answers.length} requests, the slowest took ${Math.max(...answers.map(({ ms }) => ms)).toFixed(0)} ms`)
  })

  test('without its database it answers 503 and recovers by itself', async () => {
    const { system } = sut
    const user = await system.user()
    await system.ctl('stop', 'postgres')
    const answer = await waitFor(async () => {
      const got = await user.api.get('/api/instances')
      return got.status !== 200 && got
    }, 'an error')
    assert.equal(answer.status, 503, answer.text)
    assert.ok(answer.headers['retry-after'])
    assert.equal((await system.api.get('/livez')).status, 200)
    assert.equal((await waitFor(async () => {
      const got = await system.api.get('/health')
      return got.status === 503 && got
    }, 'health to be 503')).json.checks.database.status === 'healthy', false)
    await system.ctl('start', 'postgres')
    await waitFor(async () => (await user.api.get('/api/instances')).status === 200, 'the database to be back', { quiet: false })
    await waitFor(() => system.user().catch(() => null), 'sign-up to be back', { quiet: false })
  })

  test('a frozen registry is answered for by the deadline, and thaws', async () => {
    const { system } = sut
    const user = await system.user()
    system.kill('registry', 'SIGSTOP')
    const answer = await user.api.get('/api/instances')
    assert.ok([503, 504].includes(answer.status), answer.text)
    console.log(`# a frozen registry: ${answer.status} after ${answer.ms.toFixed(0)} ms`)
    assert.ok(answer.ms < 10000)
    system.kill('registry', 'SIGCONT')
    await waitFor(async () => (await user.api.get('/api/instances')).status === 200, 'the registry to thaw', { quiet: false })
  })

  test('starting what already runs is refused in one line', async () => {
    const error = await sut.system.bore('start').then(() => null, (reason) => reason)
    assert.ok(error, 'exit status')
    assert.match(error.stderr, /already run/)
    assert.equal(error.stderr.trim().split('\n').length, 1)
  })
})

describe('./bore start that cannot work', () => {
  test('a port in use', async () => {
    const server = net.createServer()
    await new Promise((resolve) => server.listen(0, '0.0.0.0', resolve))
    const { status, lines, text } = refused({ PORT: String(server.address().port) })
    server.close()
    assert.notEqual(status, 0)
    assert.equal(lines.length, 1, text)
    assert.match(lines[0], new RegExp(`${server.address()?.port ?? ''}.*in use|in use`))
  })

  test('a database that is not there', async () => {
    const { status, text } = refused({ PORT: String(await freePort()), DB_HOST: '127.0.0.1', DB_PORT: '1', DB_USER: 'nobody' })
    assert.notEqual(status, 0)
    assert.match(text, /database|127\.0\.0\.1/i)
    assert.ok(text.trim().split('\n').length <= 2, text)
  })

  test('a weak secret', async () => {
    const { status, text } = refused({ PORT: String(await freePort()), JWT_SECRET: 'secret' })
    assert.notEqual(status, 0)
    assert.match(text, /JWT_SECRET/)
    assert.ok(!/password\s+\S{20}/.test(text))
  })
})

describe('./bore start with a certificate', () => {
  test('the edge speaks TLS, HTTP/2 too; cookies are Secure; the canary comes through', { timeout: 180000 }, async () => {
    const certificates = makeCertificates()
    const file = (name) => path.join(certificates, name)
    const system = await System.start({ wait: false, env: { TLS_CERT_FILE: file('localhost.pem'), TLS_KEY_FILE: file('localhost.key') } })
    try {
      const ca = fs.readFileSync(file('ca.pem'))
      const body = JSON.stringify({ name: 'N', email: 'tls@test.example', password: 'correct-horse' })
      const answer = await new Promise((resolve, reject) => {
        const headers = { 'content-type': 'application/json', 'content-length': body.length, 'x-forwarded-proto': 'http' }
        https.request({ host: 'localhost', port: system.port, method: 'POST', path: '/api/auth/signup', headers, ca, agent: false }, resolve).on('error', reject).end(body)
      })
      answer.resume()
      assert.equal(answer.statusCode, 201)
      assert.match(answer.headers['set-cookie'][0], /; Secure/)
      assert.match(answer.headers['strict-transport-security'], /max-age=\d+/)
      const session = http2.connect(`https://localhost:${system.port}`, { ca })
      const status = await new Promise((resolve, reject) => session.on('error', reject).request({ ':path': '/livez' }).on('error', reject).on('response', (headers) => resolve(headers[':status'])))
      session.destroy()
      assert.equal(status, 200)
      const covered = () => Number(system.sql('SELECT covered FROM bore.coverage')[0][0])
      const before = covered()
      await waitFor(() => covered() > before + 1000, 'covered time to pass')
    } finally {
      await system.stop()
      fs.rmSync(certificates, { recursive: true })
    }
  })

  test('a certificate without its key is refused', async () => {
    const { status, lines, text } = refused({ PORT: String(await freePort()), TLS_CERT_FILE: '/nowhere.pem' })
    assert.notEqual(status, 0)
    assert.equal(lines.length, 1, text)
    assert.match(text, /TLS_KEY_FILE/)
  })
})

describe('./bore run', () => {
  test('prints where everything is, follows the logs, and Ctrl-C ends all of it', { timeout: 180000 }, async () => {
    const home = fs.mkdtempSync(path.join(os.tmpdir(), 'bore-run.'))
    fs.chmodSync(home, 0o755)
    const port = await freePort()
    const env = { ...process.env, BORE_HOME: home, PORT: String(port) }
    const child = spawn(path.join(root, 'bore'), ['run'], { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] })
    let text = ''
    child.stdout.on('data', (chunk) => (text += chunk))
    child.stderr.on('data', (chunk) => (text += chunk))
    try {
      await waitFor(() => text.includes('BORE_BACKEND_API_KEY'), `what run prints`, { timeout: 60000 })
      assert.match(text, new RegExp(`http://localhost:${port}`))
      assert.match(text, /admin@/)
      assert.match(text, /stop +/)
      assert.match(text, /BORE_BACKEND_URL/)
      const processes = fs.readdirSync(path.join(home, 'service')).filter((name) => !name.startsWith('.'))
      for (const name of ['postgres', 'bus', 'auth', 'registry', 'monitor', 'alerter', 'gateway', 'stream', 'edge'])
        assert.deepEqual(processes.filter((process) => process.startsWith(`${name}-`)), [`${name}-1`])
      const pids = System.prototype.pids.call({ home }, 'gateway')
      child.kill('SIGINT')
      await new Promise((resolve) => (child.exitCode === null ? child.on('exit', resolve) : resolve()))
      await waitFor(() => !fs.existsSync(`/proc/${pids[0]}`), 'the gateway to be gone')
    } finally {
      child.kill('SIGKILL')
      spawnSync(path.join(root, 'bore'), ['stop'], { cwd: root, env, timeout: 60000 })
      fs.rmSync(home, { recursive: true, force: true })
    }
  })
})
