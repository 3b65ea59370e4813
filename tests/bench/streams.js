// streams.js: what one `stream` process and the edge hold: thousands of SSE and Socket.IO clients, how soon events reach
// the last of them, the storm after kill -9, clients that never read, the lag of one client. A part of `make bench`, or
// alone: node tests/bench/streams.js. STREAMS (10000) and USERS (1000) make it smaller, PARTS (lag many one lazy edge) shorter.
import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import readline from 'node:readline'
import { System, waitFor } from '../system/support/system.js'
import { bench, build, judge, line, scratch } from './report.js'

const STREAMS = Number(process.env.STREAMS ?? 10000)
const USERS = Number(process.env.USERS ?? 1000)

function file(lines) {
  const name = path.join(scratch, Math.random().toString(36).slice(2))
  fs.writeFileSync(name, `${lines.join('\n')}\n`)
  return name
}

/** The driver (streams.c) against an address; commands resolve to what they answer. */
class Clients {
  constructor(system, streamAddress, streamPort) {
    this.child = spawn(path.join(build, 'bench/streams'), [streamAddress, String(streamPort), '127.0.0.1', String(system.port)], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.waiting = []
    readline.createInterface({ input: this.child.stdout }).on('line', (line) => this.waiting.shift()?.resolve(JSON.parse(line)))
    this.ended = new Promise((resolve) => this.child.on('exit', (code) => {
      for (const { reject } of this.waiting) reject(new Error(`the driver ended with ${code}`))
      resolve()
    }))
  }

  command(text, timeout = 60000) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer within ${timeout} ms: ${text}`)), timeout)
      this.waiting.push({ resolve: (answer) => (clearTimeout(timer), resolve(answer)), reject })
      this.child.stdin.write(`${text}\n`)
    })
  }

  open(streams) {
    return this.command(`open ${file(streams.map(({ kind, token, lazy }) => `${kind}\t${token}\t${lazy ? 1 : 0}`))}`, 120000)
  }

  async fire(requests, rate, count) {
    await this.command('clear')
    return this.command(`fire ${file(requests.map((fields) => fields.join('\t')))} ${rate} ${count}`, 120000)
  }

  async close() {
    this.child.stdin.end()
    await this.ended
  }
}

const rename = ({ user, instance }) => ['PATCH', `/api/instances/${instance.id}`, `Authorization: Bearer ${user.token}`, '{"name":"name #"}']
const mixed = (count, users) => Array.from({ length: count }, (_, i) => ({ kind: (i + Math.floor(i / users.length)) % 2 ? 'ws' : 'sse', token: users[i % users.length].user.token }))
const shuffled = (list) => list.map((item) => [Math.random(), item]).sort(([left], [right]) => left - right).map(([, item]) => item)
const delivered = ({ wrong, doubles, resets }) => wrong === 0 && doubles === 0 && resets === 0
const faults = ({ wrong, doubles, resets }) => `${wrong} events not told to all, ${doubles} doubled, ${resets} resets`

/** Users with one instance each. */
async function makeUsers(system, count) {
  const users = []
  while (users.length < count)
    users.push(...(await Promise.all(Array.from({ length: Math.min(20, count - users.length) }, async () => {
      const user = await system.user({ plan: 'trial' })
      return { user, instance: await system.instance(user) }
    }))))
  return users
}

/** Rows and lookups of the log, transactions, and processor time that PostgreSQL spent, all since it started. */
function databaseLoad(system) {
  const [[scans, transactions]] = system.sql("SELECT (SELECT coalesce(idx_scan, 0) + seq_scan FROM pg_stat_user_tables WHERE schemaname = 'bore' AND relname = 'events'), (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())")
  const [postmaster] = system.pids('postgres')
  const children = execFileSync('ps', ['-o', 'pid=', '--ppid', String(postmaster)], { encoding: 'utf8' }).split('\n').map(Number).filter(Boolean)
  const ticks = children.map((pid) => { try { return System.cpuTicks(pid) } catch { return 0 } })
  return { scans: Number(scans), transactions: Number(transactions), seconds: ticks.reduce((sum, value) => sum + value, 0) / 100 }
}

async function manyStreams(system, users, at) {
  const pid = system.pids('stream')[0]
  const before = System.residentKb(pid)
  const clients = new Clients(system, at, 8081)
  const opened = await clients.open(mixed(STREAMS, users))
  await waitFor(async () => (await clients.command('clear')), 'a quiet moment')
  const each = ((System.residentKb(pid) - before) * 1024) / STREAMS
  judge(`${STREAMS} streams of ${USERS} users: memory of each`, each <= 8192, `${Math.round(each)} bytes (goal 8192), opened in ${(opened.ms / 1000).toFixed(1)} s`)

  const fired = await clients.fire(shuffled(users.map(rename)), 500, 5000)
  const stats = await clients.command(`stats ${STREAMS / USERS}`)
  judge('500 events/s of random users, COMMIT to last client', delivered(stats) && fired.errors === 0 && stats.last_p99 <= 20,
    `p50 ${stats.last_p50} ms, p99 ${stats.last_p99} ms (goal 20); PATCH p99 ${fired.p99} ms; ${faults(stats)}`)
  return clients
}

async function storm(system, users, clients) {
  await clients.command('clear')
  const load = databaseLoad(system)
  const lost = clients.command('lost')
  system.kill('stream')
  await lost
  const started = performance.now()
  const fired = clients.command(`fire ${file(shuffled(users.map(rename)).map((fields) => fields.join('\t')))} 200 400`)
  await fired
  await clients.command('back')
  const seconds = (performance.now() - started) / 1000
  const stats = await clients.command(`stats ${STREAMS / USERS}`)
  const after = databaseLoad(system)
  judge(`${STREAMS} come back after kill -9 of stream`, delivered(stats) && seconds <= 15,
    `${seconds.toFixed(1)} s (goal 15), ${stats.recoveries} recovered, ${stats.refusals} tries refused; ${faults(stats)}; ` +
    `PostgreSQL: ${after.scans - load.scans} lookups of the log, ${after.transactions - load.transactions} transactions, ${(after.seconds - load.seconds).toFixed(1)} s`)
  await clients.close()
}

async function oneUser(system, [one], at) {
  const count = STREAMS / 2
  const bare = JSON.parse(execFileSync(path.join(build, 'bench/fanout'), [String(count), '300', '40'], { encoding: 'utf8' }))
  line(`yardstick: nothing but a send() of 300 bytes to each of ${count} clients`, `p50 ${bare.p50} ms, p99 ${bare.p99} ms; ${bare.send_us} µs each`)
  const clients = new Clients(system, at, 8081)
  await clients.open(mixed(count, [one]))
  const [pid] = system.pids('stream')
  const before = System.cpuTicks(pid)
  const fired = await clients.fire([rename(one)], 4, 60)
  const stats = await clients.command(`stats ${count}`)
  const each = ((System.cpuTicks(pid) - before) * 10000) / stats.deliveries
  judge(`one event to ${count} streams of one user, last client`, delivered(stats) && fired.errors === 0 && stats.last_p50 <= 35 && stats.last_p99 <= 60,
    `p50 ${stats.last_p50} ms, p99 ${stats.last_p99} ms (goal 35, 60); stream uses ${each.toFixed(1)} µs a delivery; ${faults(stats)}`)
  await clients.close()
}

async function lazyClients(system, users, at) {
  const four = users.slice(0, 4)
  const count = STREAMS / 10
  const readers = new Clients(system, at, 8081)
  await readers.open(mixed(count, four))
  await readers.fire(four.map(rename), 40, 200)
  const alone = await readers.command(`stats ${count / 4}`)
  const idlers = new Clients(system, at, 8081)
  const pid = system.pids('stream')[0]
  const before = System.residentKb(pid)
  await idlers.open(mixed(count, four).map((stream) => ({ ...stream, lazy: true })))
  await readers.fire(four.map(rename), 200, 1000) // fills what the kernel keeps for them
  await readers.fire(four.map(rename), 40, 200)
  const beside = await readers.command(`stats ${count / 4}`)
  const grown = (System.residentKb(pid) - before) / 1024
  judge(`${count} clients that never read beside ${count} that do`, delivered(alone) && delivered(beside) && beside.p99 <= Math.max(2 * alone.p99, 5),
    `p99 ${alone.p99} ms alone, ${beside.p99} ms beside them (goal below the double); memory +${grown.toFixed(0)} MB; ${faults(beside)}`)
  await idlers.close()
  await readers.close()
}

async function throughEdge(system, users) {
  const clients = new Clients(system, '127.0.0.1', system.port)
  const count = Math.floor((STREAMS * 0.9) / USERS) * USERS
  const opened = await clients.open(mixed(count, users))
  const fired = await clients.fire(shuffled(users.map(rename)), 200, 1000)
  const stats = await clients.command(`stats ${count / USERS}`)
  judge(`${count} streams through the edge`, delivered(stats) && fired.errors === 0,
    `opened in ${(opened.ms / 1000).toFixed(1)} s; 200 events/s, COMMIT to last client p50 ${stats.last_p50} ms, p99 ${stats.last_p99} ms; ${faults(stats)}`)
  await clients.close()
}

async function lag(system, users) {
  const user = await system.user()
  const instance = await system.instance(user)
  await system.connectTunnel(user, instance)
  const clients = new Clients(system, '127.0.0.1', system.port)
  await clients.open([{ kind: 'ws', token: user.token }])
  // In turn, so that each report changes the status; a new port each time, so that none is a late copy.
  const report = (what, body) => ['POST', `/api/internal/instances/${instance.id}/tunnel-${what}`, `X-Internal-API-Key: ${system.internalKey}`, body]
  const fired = await clients.fire([report('disconnected', '{"reason":"end #"}'), report('connected', '{"remotePort":#}')], 50, 250)
  const stats = await clients.command('stats 1')
  judge('lag with one client through the edge: POST tunnel-connected, -disconnected', stats.events >= 250 && fired.errors === 0 && delivered(stats),
    `event p50 ${fired.lag_p50} ms, p99 ${fired.lag_p99} ms; the answer p50 ${fired.p50} ms, p99 ${fired.p99} ms`)
  await clients.close()
}

const limit = Number(fs.readFileSync('/proc/self/limits', 'utf8').match(/Max open files\s+\d+\s+(\d+)/)?.[1] ?? 0)
if (limit && limit < 20000) console.log(`note: only ${limit} open files are allowed a process; 10,000 streams and the edge's two files each need 20,000`)
const settings = {
  BCRYPT_COST: '4',
  STREAM_MAX: '12000',
  STREAM_MAX_PER_ADDRESS: '20000',
  EDGE_CONNECTIONS_PER_ADDRESS: '20000',
  SIGNUPS_PER_ADDRESS: '100000'
}
await bench(settings, async (system) => {
  const at = `127.${system.port >> 8}.${system.port & 255}.1`
  const users = await makeUsers(system, USERS)
  const parts = {
    lag: () => lag(system, users),
    many: async () => storm(system, users, await manyStreams(system, users, at)),
    one: () => oneUser(system, users, at),
    lazy: () => lazyClients(system, users, at),
    edge: () => throughEdge(system, users)
  }
  for (const part of (process.env.PARTS ?? Object.keys(parts).join(' ')).split(' ')) await parts[part]()
})
