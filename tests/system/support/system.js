// system.js: a whole system of its own for a test: ./bore start with its own BORE_HOME and PORT, real processes, a real
// PostgreSQL. Everything it started ends with stop(). When a test failed, its logs are printed.
import { execFile, execFileSync } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { Api } from './api.js'
import { EventStream } from './sse.js'

const run = promisify(execFile)
export const root = path.resolve(new URL('../../..', import.meta.url).pathname)

/** Whether the programs under test were built with AddressSanitizer and UndefinedBehaviorSanitizer. */
export const isSanitized = Boolean(process.env.BORE_SANITIZE) || /\basan\b/.test(process.env.BORE_BUILD ?? '')

/** A port that is free now. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer()
    server.on('error', reject)
    server.listen(0, '0.0.0.0', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

/** Resolves to what `check()` resolves to as soon as it is truthy; 30 s at most, and says how long it took. */
export async function waitFor(check, what, { timeout = 30000, every = 20, quiet = true } = {}) {
  const started = performance.now()
  let last
  for (;;) {
    try {
      const found = await check()
      if (found) {
        if (!quiet) console.log(`# ${what}: ${(performance.now() - started).toFixed(0)} ms`)
        return found
      }
    } catch (error) {
      last = error
    }
    if (performance.now() - started > timeout) throw new Error(`waited ${timeout} ms for ${what}${last ? `: ${last.message}` : ''}`)
    await new Promise((resolve) => setTimeout(resolve, every))
  }
}

let counter = 0
/** A name that no other test uses. */
export const unique = (prefix) => `${prefix}-${process.pid}-${++counter}-${Math.random().toString(36).slice(2, 8)}`

export class System {
  /** Starts a system and waits until it is healthy. env: settings; scale: "registry=3 gateway=2". */
  static async start({ env = {}, scale = '', wait = true } = {}) {
    if (process.env.BORE_TEST_SYSTEM) return System.running(JSON.parse(process.env.BORE_TEST_SYSTEM))
    const system = new System()
    system.startedAt = Date.now()
    system.port = await freePort()
    system.home = fs.mkdtempSync(path.join(os.tmpdir(), 'bore-test.'))
    fs.chmodSync(system.home, 0o755)
    system.env = {
      ...process.env,
      LOGIN_FAILURES_PER_ADDRESS: '100000',
      EDGE_AUTH_RATE: '100000',
      ...env,
      PORT: String(system.port),
      BORE_HOME: system.home,
      SCALE: scale
    }
    system.url = `http://127.0.0.1:${system.port}`
    const started = performance.now()
    try {
      await system.bore('start')
    } catch (error) {
      system.printLogs()
      await system.stop().catch(() => {})
      throw new Error(`./bore start failed: ${error.stdout ?? ''}${error.stderr ?? error.message}`)
    }
    if (wait) await waitFor(async () => (await new Api(system.url).get('/health')).status === 200, 'a healthy system')
    console.log(`# system on ${system.port} healthy after ${(performance.now() - started).toFixed(0)} ms`)
    system.internalKey = system.secret('INTERNAL_API_KEY')
    system.api = new Api(system.url, { internalKey: system.internalKey })
    return system
  }

  /** One that somebody else started and stops: { url, env }, env with INTERNAL_API_KEY, ADMIN_EMAIL, ADMIN_PASSWORD. */
  static running({ url, env }) {
    const system = new System()
    Object.assign(system, { url, env, internalKey: env.INTERNAL_API_KEY, stop: async () => system.api.close(), printLogs: () => {} })
    system.api = new Api(url, { internalKey: system.internalKey })
    return system
  }

  /** A generated secret, as ./bore keeps it. */
  secret(name) {
    if (this.env[name]) return this.env[name]
    const line = fs.readFileSync(path.join(this.home, 'secrets.env'), 'utf8').split('\n').find((entry) => entry.startsWith(`${name}=`))
    return line?.slice(name.length + 1).replace(/^'(.*)'$/, '$1').replace(/^"(.*)"$/, '$1')
  }

  /** ./bore with arguments; resolves to its stdout. */
  async bore(...args) {
    const { stdout } = await run(path.join(root, 'bore'), args, { env: this.env, cwd: root, timeout: 180000, maxBuffer: 16e6 })
    return stdout
  }

  /** "stop", "start", "restart" of a service or one replica ("registry-2"). */
  ctl(verb, service) {
    return this.bore('ctl', verb, service)
  }

  /** Process ids of a service's replicas as the supervisor sees them, e.g. pids("registry"). */
  pids(service) {
    const found = []
    for (const name of fs.readdirSync(path.join(this.home, 'service'))) {
      if (name !== service && name.replace(/-\d+$/, '') !== service) continue
      const file = path.join(this.home, 'service', name, 'supervise', 'pid')
      const pid = fs.existsSync(file) ? Number(fs.readFileSync(file, 'utf8')) : 0
      if (pid) found.push(pid)
    }
    return found
  }

  /** Sends a signal to all replicas of a service, or to the one pid given. */
  kill(service, signal = 'SIGKILL') {
    const pids = typeof service === 'number' ? [service] : this.pids(service)
    for (const pid of pids) process.kill(pid, signal)
    return pids
  }

  /** Resident memory of a process in kB. */
  static residentKb(pid) {
    return Number(fs.readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1])
  }

  /** Processor time that a process has used, in ticks of 1/100 s. */
  static cpuTicks(pid) {
    const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ')
    return Number(fields[11]) + Number(fields[12])
  }

  /** Where each gateway replica listens, behind the edge. */
  gateways() {
    const sockets = fs.readFileSync(path.join(this.home, 'sockets'), 'utf8').trim()
    return this.pids('gateway').map((_, index) => `unix:${sockets}/gateway-${index + 1}`)
  }

  /** Processor time that a service's replicas have used since they started. */
  processorSeconds(service) {
    const ticks = this.pids(service).map((pid) => {
      const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
      return Number(fields[11]) + Number(fields[12])
    })
    return ticks.reduce((sum, value) => sum + value, 0) / 100
  }

  /** Runs SQL in the system's own database; answers rows of columns. For what no interface shows, and to let time pass. */
  sql(text) {
    const socket = this.secretFile('db_socket') ?? this.databaseSocket()
    const out = execFileSync('psql', ['-X', '-q', '-A', '-t', '-F', '\t', '-h', socket, '-U', 'bore', '-d', 'bore_db', '-c', text], { encoding: 'utf8' })
    return out.trimEnd().split('\n').filter(Boolean).map((line) => line.split('\t'))
  }

  secretFile(name) {
    const file = path.join(this.home, name)
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim() : undefined
  }

  databaseSocket() {
    const pid = this.pids('gateway')[0] ?? this.pids('registry')[0]
    const environment = fs.readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
    return environment.find((entry) => entry.startsWith('DB_HOST='))?.slice(8)
  }

  /** A signed-up user: { api, token, user, email, password, … }. */
  async user({ plan = 'enterprise', name = 'Test' } = {}) {
    const email = `${unique('user')}@test.example`
    const password = 'test123-password'
    const answer = await this.api.post('/api/auth/signup', { name, email, password })
    if (answer.status !== 201) throw new Error(`signup: ${answer.status} ${answer.text}`)
    if (plan !== 'trial') {
      const admin = await this.admin()
      const given = await admin.api.post(`/api/admin/users/${answer.json.user_id}/plan`, { plan })
      if (given.status !== 200) throw new Error(`plan: ${given.status} ${given.text}`)
    }
    return { ...answer.json, email, password, api: this.api.as(answer.json.token) }
  }

  /** The first admin, signed in. */
  async admin() {
    if (!this.adminUser) {
      const email = this.secret('ADMIN_EMAIL')
      const answer = await this.api.post('/api/auth/login', { email, password: this.secret('ADMIN_PASSWORD') })
      if (answer.status !== 200) throw new Error(`admin login: ${answer.status} ${answer.text}`)
      this.adminUser = { ...answer.json, email, api: this.api.as(answer.json.token) }
    }
    return this.adminUser
  }

  /** A new instance of a user. */
  async instance(user, fields = {}) {
    const answer = await user.api.post('/api/instances', { name: unique('instance'), local_port: 8080, ...fields })
    if (answer.status !== 201) throw new Error(`create: ${answer.status} ${answer.text}`)
    return answer.json
  }

  /** connect + validate-key + tunnel-connected, as client and bore-server do it; resolves to the connect answer. */
  async connectTunnel(user, instance, { remotePort = 20000 + Math.floor(Math.random() * 40000) } = {}) {
    const connect = await user.api.post(`/api/instances/${instance.id}/connect`)
    if (connect.status !== 200) throw new Error(`connect: ${connect.status} ${connect.text}`)
    const valid = await this.api.internalPost('/validate-key', { api_key: connect.json.tunnel_token })
    if (!valid.json?.valid) throw new Error(`validate-key: ${valid.status} ${valid.text}`)
    const connected = await this.api.internalPost(`/instances/${instance.id}/tunnel-connected`, { remotePort })
    if (connected.status !== 200) throw new Error(`tunnel-connected: ${connected.status} ${connected.text}`)
    return { ...connect.json, remotePort }
  }

  /** An open stream of a user. */
  async stream(user, options = {}) {
    const stream = new EventStream(this.url, { token: user?.token, ...options })
    await stream.opened
    return stream
  }

  /** The end of every process's log, for a failed test. */
  printLogs(lines = 40) {
    const directory = path.join(this.home, 'log')
    if (!fs.existsSync(directory)) return
    for (const name of fs.readdirSync(directory)) {
      const file = path.join(directory, name, 'current')
      if (!fs.existsSync(file)) continue
      const text = fs.readFileSync(file, 'utf8').trimEnd().split('\n').slice(-lines)
      console.log(`# ---- log of ${name}\n${text.map((line) => `#   ${line}`).join('\n')}`)
    }
  }

  /** All log text of a service. */
  log(service) {
    const directory = path.join(this.home, 'log')
    return fs
      .readdirSync(directory)
      .filter((name) => name === service || name.replace(/-\d+$/, '') === service)
      .map((name) => path.join(directory, name, 'current'))
      .filter((file) => fs.existsSync(file))
      .map((file) => fs.readFileSync(file, 'utf8'))
      .join('\n')
  }

  /** What sanitizers found in any process, leaks at its end included; and processes that did not come to their end. */
  sanitizerReports() {
    const found = []
    const directory = path.join(this.home, 'log')
    for (const name of fs.existsSync(directory) ? fs.readdirSync(directory) : []) {
      if (!/^(bus|gateway|stream|auth|registry|monitor|alerter|metrics)-\d+$/.test(name)) continue
      const text = fs.readdirSync(path.join(directory, name)).map((file) => fs.readFileSync(path.join(directory, name, file), 'utf8')).join('')
      const report = text.search(/^.*(ERROR: \w+Sanitizer|Sanitizer has encountered|runtime error: )/m)
      if (report >= 0) found.push(`${name}: ${text.slice(report, report + 8000)}`)
      const last = this.log(name).trimEnd().split('\n').pop()
      if (report < 0 && !/ (stopped|ended|ended with status 0)$/.test(last)) found.push(`${name} did not end by itself; its last words: ${last}`)
    }
    // log_path=/directory/name: a file for each process, name.PID
    for (const [, prefix] of `${this.env.ASAN_OPTIONS}:${this.env.UBSAN_OPTIONS}`.matchAll(/\blog_path=([^:]+)/g)) {
      for (const name of fs.readdirSync(path.dirname(prefix))) {
        const file = path.join(path.dirname(prefix), name)
        if (file.startsWith(`${prefix}.`) && fs.statSync(file).mtimeMs >= this.startedAt) found.push(fs.readFileSync(file, 'utf8'))
      }
    }
    return found
  }

  async stop() {
    this.api?.close()
    await this.bore('stop')
    const reports = isSanitized ? this.sanitizerReports() : []
    fs.rmSync(this.home, { recursive: true, force: true })
    if (reports.length > 0) throw new Error(`the sanitizers found something:\n${reports.join('\n')}`)
  }
}

/** before/after of a test file: `const sut = systemFor({ … })`, then sut.system in the tests. */
export function systemFor({ before, after, afterEach }, options) {
  const holder = { failed: false }
  before(async () => {
    holder.system = await System.start(options)
  })
  afterEach?.((context) => {
    if (context.error || context.passed === false) holder.failed = true
  })
  after(async () => {
    if (holder.failed) holder.system?.printLogs()
    await holder.system?.stop()
  })
  return holder
}

/** The value below which `share` of the sorted numbers lie. */
export function percentile(numbers, share) {
  const sorted = [...numbers].sort((left, right) => left - right)
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)]
}
