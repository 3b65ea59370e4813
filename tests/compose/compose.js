// compose.js: docker-compose.yml as a system under test, with the same face as tests/system/support/system.js: users,
// instances, streams; and what only containers have: replicas, inspection, figures of the engine.
import { execFile, execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { Api } from '../system/support/api.js'
import { System, freePort, root, waitFor } from '../system/support/system.js'

const run = promisify(execFile)

/** Why nothing here can be tried, or undefined. */
export function whyNoEngine() {
  try {
    execFileSync('docker', ['version', '--format', '{{.Server.Version}}'], { stdio: ['ignore', 'pipe', 'pipe'], timeout: 20000 })
    execFileSync('docker', ['compose', 'version'], { stdio: 'ignore', timeout: 20000 })
    return undefined
  } catch (error) {
    return error.code === 'ENOENT' ? 'docker is not installed' : `no Docker engine answers (${String(error.stderr ?? error.message).trim().split('\n').pop()})`
  }
}

export async function docker(...args) {
  const { stdout } = await run('docker', args, { maxBuffer: 64e6, timeout: 300000 })
  return stdout.trim()
}

export class Compose extends System {
  /** A project of its own in a fresh clone of this directory's last commit and what is not committed yet; not started. */
  static async create({ env = {} } = {}) {
    const self = new Compose()
    self.project = `bore-test-${process.pid}`
    self.directory = fs.mkdtempSync(path.join(os.tmpdir(), 'bore-compose.'))
    const files = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root, encoding: 'utf8' })
    for (const name of files.split('\0').filter((file) => file && !/^tests\/|^\.env$/.test(file) && fs.existsSync(path.join(root, file)))) {
      fs.mkdirSync(path.dirname(path.join(self.directory, name)), { recursive: true })
      fs.copyFileSync(path.join(root, name), path.join(self.directory, name))
    }
    self.port = await freePort()
    self.env = {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      COMPOSE_PROJECT_NAME: self.project,
      BORE_VERSION: 'test',
      PORT: String(self.port),
      LOGIN_FAILURES_PER_ADDRESS: '100000',
      EDGE_AUTH_RATE: '100000',
      HEARTBEAT_TIMEOUT_SECONDS: '3',
      // a registry behind a proxy with certificates of its own
      BUILD_CA_FILE: process.env.BUILD_CA_FILE ?? process.env.NODE_EXTRA_CA_CERTS ?? '',
      ...env
    }
    self.url = `http://127.0.0.1:${self.port}`
    return self
  }

  /** docker compose with arguments; resolves to its stdout. */
  async compose(...args) {
    try {
      const { stdout } = await run('docker', ['compose', ...args], { cwd: this.directory, env: this.env, timeout: 900000, maxBuffer: 64e6 })
      return stdout
    } catch (error) {
      throw new Error(`docker compose ${args.join(' ')}: ${error.stderr || error.message}`)
    }
  }

  /** `docker compose up` until everything is healthy; resolves to milliseconds. */
  async up(...args) {
    const started = performance.now()
    await this.compose('up', '-d', '--wait', '--wait-timeout', '180', '--quiet-pull', ...args)
    const ms = Math.round(performance.now() - started)
    if (!this.api) {
      this.internalKey = await this.secret('INTERNAL_API_KEY')
      this.api = new Api(this.url, { internalKey: this.internalKey })
    }
    return ms
  }

  /** A secret, as the containers have it. */
  secret(name) {
    const place = { INTERNAL_API_KEY: ['gateway', 'tokens/internal_api_key'], JWT_SECRET: ['gateway', 'tokens/jwt_secret'], ADMIN_PASSWORD: ['auth', 'admin/admin_password'] }[name]
    if (name === 'ADMIN_EMAIL') return this.env.ADMIN_EMAIL ?? 'admin@bore.local'
    if (this.env[name]) return this.env[name]
    const container = this.containers(place[0])[0]
    return execFileSync('docker', ['exec', container.id, 'cat', `/secrets/${place[1]}`], { encoding: 'utf8' })
  }

  /** Containers of a service (all without a name): { id, name, service, state, health, pid }. */
  containers(service) {
    const ids = execFileSync('docker', ['ps', '-aq', '--no-trunc', '--filter', `label=com.docker.compose.project=${this.project}`], { encoding: 'utf8' }).split('\n').filter(Boolean)
    if (ids.length === 0) return []
    return JSON.parse(execFileSync('docker', ['inspect', ...ids], { encoding: 'utf8', maxBuffer: 64e6 }))
      .map((inspected) => ({
        id: inspected.Id,
        name: inspected.Name.replace(/^\//, ''),
        service: inspected.Config.Labels['com.docker.compose.service'],
        state: inspected.State.Status,
        health: inspected.State.Health?.Status,
        pid: inspected.State.Pid,
        inspected
      }))
      .filter((container) => !service || container.service === service)
      .sort((left, right) => left.name.localeCompare(right.name))
  }

  /**
   * Kills one container of a service with SIGKILL, as a crash would; the engine starts it again. "restart bus" is
   * `docker compose restart bus`. Resolves to whom it hit.
   */
  async kill(what) {
    const [, restart, service] = what.match(/^(restart )?(.*)$/)
    const victims = this.containers(service).filter((container) => container.state === 'running').slice(0, 1)
    if (restart) await this.compose('restart', service)
    else for (const victim of victims) process.kill(victim.pid, 'SIGKILL')
    return victims
  }

  /** The services that run our processes, and postgres: those of docker-compose.yml without a profile. */
  services() {
    return [...new Set(this.containers().map((container) => container.service))].filter((service) => service !== 'setup')
  }

  sql(text) {
    const id = this.containers('postgres')[0].id
    const out = execFileSync('docker', ['exec', '-i', id, 'psql', '-X', '-q', '-A', '-t', '-F', '\t', '-U', 'postgres', '-d', 'bore_db', '-c', text], { encoding: 'utf8', maxBuffer: 64e6 })
    return out.trimEnd().split('\n').filter(Boolean).map((line) => line.split('\t'))
  }

  /** What each container holds, in MiB, by name. */
  async memory() {
    const lines = await docker('stats', '--no-stream', '--format', '{{.Name}} {{.MemUsage}}', ...this.containers().filter((container) => container.state === 'running').map((container) => container.id))
    const unit = { KiB: 1 / 1024, MiB: 1, GiB: 1024 }
    return Object.fromEntries(
      lines.split('\n').map((line) => {
        const [, name, amount, in_] = line.match(/^(\S+) ([\d.]+)([KMG]iB)/)
        return [name.replace(`${this.project}-`, ''), Number(amount) * unit[in_]]
      })
    )
  }

  /** Processor seconds that each running container of a service has used, by name. */
  processorSeconds(service) {
    return Object.fromEntries(
      this.containers(service)
        .filter((container) => container.state === 'running')
        .map((container) => [container.name.replace(`${this.project}-`, ''), System.cpuTicks(container.pid) / 100])
    )
  }

  async healthy(what = 'a healthy system') {
    return waitFor(async () => (await this.api.get('/health')).status === 200, what)
  }

  printLogs(lines = 40) {
    for (const container of this.containers()) {
      const text = execFileSync('sh', ['-c', `docker logs --tail ${lines} ${container.id} 2>&1`], { encoding: 'utf8', maxBuffer: 16e6 })
      console.log(`# ---- log of ${container.name} (${container.state} ${container.health ?? ''})\n${text.trimEnd().split('\n').map((line) => `#   ${line}`).join('\n')}`)
    }
  }

  /** For crashTest, which stops what it started: here the system goes on. */
  async stop() {}

  /** Containers, networks, volumes and the image's name: everything this project made. */
  async remove() {
    this.api?.close()
    await this.compose('down', '-v', '--remove-orphans', '-t', '5').catch((error) => console.log(`# ${error.message}`))
    await docker('image', 'rm', '-f', 'bore-backend:test').catch(() => {})
    fs.rmSync(this.directory, { recursive: true, force: true })
  }
}
