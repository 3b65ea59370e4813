// prometheus.js: a Prometheus of its own for a test (Debian's package), with the project's configuration and rules; and
// Prometheus text, read.
import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { freePort, root, waitFor } from './system.js'

/** Prometheus text as a map from series ("name{labels}") to number. */
export function readText(text) {
  const series = new Map()
  for (const line of text.split('\n')) {
    if (!line || line.startsWith('#')) continue
    const space = line.lastIndexOf(' ')
    series.set(line.slice(0, space), Number(line.slice(space + 1)))
  }
  return series
}

/** The types of the families: name -> counter, gauge or histogram. */
export function readTypes(text) {
  return new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]))
}

/** What promtool says of something, its complaints included; throws when it refuses. */
export const promtool = (args, input) => execFileSync('promtool', args, { encoding: 'utf8', input, stdio: ['pipe', 'pipe', 'pipe'] })

export class Prometheus {
  /** Scrapes 127.0.0.1:port every second, with deploy/prometheus as it is, METRICS_TOKEN from a file. */
  static async start(port, token) {
    const self = new Prometheus()
    self.home = fs.mkdtempSync(path.join(os.tmpdir(), 'bore-prometheus.'))
    fs.cpSync(path.join(root, 'deploy/prometheus'), self.home, { recursive: true })
    fs.writeFileSync(path.join(self.home, 'metrics_token'), `${token}\n`, { mode: 0o600 })
    const config = path.join(self.home, 'prometheus.yml')
    const given = fs.readFileSync(config, 'utf8')
    const changed = given
      .replace('# authorization:', 'authorization:')
      .replace('#   credentials_file:', '  credentials_file:')
      .replace('localhost:3000', `127.0.0.1:${port}`)
      .replace(/(scrape|evaluation)_interval: 15s/g, '$1_interval: 1s')
      .replace('scrape_timeout: 5s', 'scrape_timeout: 1s')
    fs.writeFileSync(config, changed)
    promtool(['check', 'config', config])
    self.port = await freePort()
    self.process = spawn(
      'prometheus',
      [`--config.file=${config}`, `--storage.tsdb.path=${self.home}/data`, `--web.listen-address=127.0.0.1:${self.port}`, '--log.level=warn'],
      { stdio: ['ignore', 'ignore', 'pipe'] }
    )
    self.log = ''
    self.process.stderr.on('data', (chunk) => (self.log += chunk))
    await waitFor(async () => (await fetch(`http://127.0.0.1:${self.port}/-/ready`)).ok, 'Prometheus')
    return self
  }

  async get(target) {
    const answer = await fetch(`http://127.0.0.1:${this.port}${target}`, { signal: AbortSignal.timeout(10000) })
    const body = await answer.json()
    if (body.status !== 'success') throw new Error(`${decodeURIComponent(target)}: ${body.errorType} ${body.error}`)
    return body.data
  }

  /** What an expression gives now: [{ metric, value }]. */
  async query(expression) {
    const data = await this.get(`/api/v1/query?query=${encodeURIComponent(expression)}`)
    if (data.resultType === 'scalar') return [{ metric: {}, value: Number(data.result[1]) }]
    return data.result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }))
  }

  async stop() {
    const ended = new Promise((resolve) => this.process.once('exit', resolve))
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill('SIGTERM')
      await ended
    }
    fs.rmSync(this.home, { recursive: true, force: true })
  }
}
