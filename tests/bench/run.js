// run.js: `make bench`. Requests/s and latencies through the public port, beside this machine's own yardsticks in the
// same run. SECONDS (default 8) is the length of each measurement. Load goes to loopback only.
import { execFile, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { Api } from '../system/support/api.js'
import { freePort, percentile, root, waitFor } from '../system/support/system.js'
import { bench, build, judge, line, scratch } from './report.js'

const run = promisify(execFile)
const seconds = Number(process.env.SECONDS ?? 8)

/** Writes requests as load.lua and storm read them; the file's name. */
function requestFile(requests) {
  const file = path.join(scratch, `requests-${Math.random().toString(36).slice(2)}`)
  fs.writeFileSync(
    file,
    requests
      .map(({ method = 'GET', path: target, body = '', headers = {} }) =>
        [method, target, body, Object.entries(headers).map(([name, value]) => `${name}=${value}`).join('\t')].join('\t'))
      .join('\n') + '\n'
  )
  return file
}

/** wrk over the given requests; resolves to its figures. */
async function wrk(url, requests, { connections = 64, duration = seconds } = {}) {
  const file = requestFile(requests)
  const { stdout } = await run('wrk', ['-t1', `-c${connections}`, `-d${duration}s`, '-s', path.join(root, 'tests/bench/load.lua'), url, '--', file])
  const figures = JSON.parse(stdout.trim().split('\n').pop())
  fs.unlinkSync(file)
  return { ...figures, rate: figures.requests / figures.seconds }
}

/** Prints rate and latencies of the requests; with a goal ({ rate, p99 }) they are judged. */
async function measure(what, url, requests, { goal, warmup = 1, ...options } = {}) {
  await wrk(url, requests, { ...options, duration: warmup })
  const figures = await wrk(url, requests, options)
  const text = `${Math.round(figures.rate).toString().padStart(7)}/s   p50 ${figures.p50.toFixed(2)} ms   p99 ${figures.p99.toFixed(2)} ms`
  if (figures.errors || figures.refused) judge(what, false, `${text}   errors ${figures.errors}, refused ${figures.refused}`)
  else if (goal) judge(what, figures.rate >= goal.rate && figures.p99 < goal.p99, `${text}   (goal ${goal.rate}/s, p99 < ${goal.p99} ms)`)
  else line(what, text)
  return figures
}

/** All of the requests at once over `connections` connections, one outstanding on each; resolves to storm's figures. */
async function storm(system, requests, connections = 500) {
  const file = requestFile(requests)
  const { stdout } = await run(path.join(build, 'bench/storm'), [String(system.port), String(connections), file])
  fs.unlinkSync(file)
  return JSON.parse(stdout)
}

async function yardstick() {
  const port = await freePort()
  const hello = spawn(path.join(build, 'bench/hello'), [String(port)], { stdio: 'inherit' })
  try {
    const api = new Api(`http://127.0.0.1:${port}`)
    await waitFor(async () => (await api.get('/')).status === 200, 'hello')
    api.close()
    await measure('yardstick: a bare civetweb', `http://127.0.0.1:${port}`, [{ path: '/' }])
  } finally {
    hello.kill('SIGTERM')
  }
}

async function echo(system, user) {
  await system.ctl('stop', 'registry')
  const environment = {}
  for (const entry of fs.readFileSync(`/proc/${system.pids('gateway')[0]}/environ`, 'utf8').split('\0')) {
    const equals = entry.indexOf('=')
    if (equals > 0) environment[entry.slice(0, equals)] = entry.slice(equals + 1)
  }
  const owner = fs.statSync(`/proc/${system.pids('gateway')[0]}`)
  const binary = path.join(scratch, 'echo_worker')
  fs.copyFileSync(path.join(build, 'bench/echo_worker'), binary)
  fs.chmodSync(scratch, 0o755)
  fs.chmodSync(binary, 0o755)
  const worker = spawn(binary, [], { env: environment, uid: owner.uid, gid: owner.gid, stdio: ['ignore', 'inherit', 'ignore'] })
  try {
    await waitFor(async () => (await user.api.get('/api/instances/inst_echo')).status === 200, 'the echo worker')
    await measure('yardstick: echo behind edge, gateway and bus', system.url, [{ path: '/api/instances/inst_echo', headers: { authorization: `Bearer ${user.token}` } }])
  } finally {
    worker.kill('SIGTERM')
    await system.ctl('start', 'registry')
    await waitFor(async () => (await user.api.get('/api/instances')).status === 200, 'the registry')
  }
}

/** Users on the enterprise plan (20 tunnels each) with `perUser` instances that have a validated token. */
async function tunnels(system, count, perUser = 20) {
  const users = []
  for (let i = 0; i < Math.ceil(count / perUser); i += 8)
    users.push(...(await Promise.all(Array.from({ length: Math.min(8, Math.ceil(count / perUser) - i) }, () => system.user()))))
  const made = []
  for (let i = 0; i < users.length; i += 16) {
    const part = await Promise.all(
      users.slice(i, i + 16).map(async (user) => {
        const own = []
        for (let n = 0; n < perUser; n++) {
          const instance = await system.instance(user)
          const connect = await user.api.post(`/api/instances/${instance.id}/connect`)
          if (connect.status !== 200) throw new Error(`connect: ${connect.status} ${connect.text}`)
          own.push({ id: instance.id, token: connect.json.tunnel_token, user })
        }
        return own
      })
    )
    made.push(...part.flat())
  }
  return made.slice(0, count)
}

/** 100,000 instances whose clients send heartbeats: what a sweep of the rules of time takes, in the database. */
function sweeps(system) {
  system.sql(`
    INSERT INTO bore.users (id, email, name, password_hash) SELECT 'user_sweep' || n, 'sweep' || n || '@test.example', 'n', '-' FROM generate_series(1, 1000) AS n;
    WITH made AS (
      INSERT INTO bore.instances (id, user_id, name, local_port, phase, phase_reason, status, status_reason, heartbeat_session)
      SELECT 'inst_' || md5(n::text), 'user_sweep' || 1 + n % 1000, 'instance', 80, 'connected', 'tunnel connected', 'online', 'tunnel connected, heartbeats arrive', true
      FROM generate_series(1, 100000) AS n RETURNING id)
    INSERT INTO bore.heartbeats (instance_id, covered, at, watched, inactive, samples, last_activity)
    SELECT id, 1000000000, now(), true, false, 1, 99999999999 FROM made;
    UPDATE bore.heartbeats SET samples = 2;
    ANALYZE bore.instances, bore.heartbeats`)
  const measured = (change) =>
    system.sql(`
      CREATE FUNCTION pg_temp.sweeps() RETURNS SETOF double precision LANGUAGE plpgsql AS $$
      DECLARE began timestamptz;
      BEGIN
        PERFORM pg_advisory_xact_lock(x'626f7265'::int, 40); -- the monitor's own sweep is over: now none is left out
        FOR n IN 1..20 LOOP
          ${change}
          began := clock_timestamp();
          PERFORM bore.time_rules(30000, 60000, 1800000, 200);
          RETURN NEXT extract(epoch FROM clock_timestamp() - began) * 1000;
        END LOOP;
      END $$;
      SELECT * FROM pg_temp.sweeps()`).map(([ms]) => Number(ms))
  for (const [what, change] of [
    ['100,000 instances: a sweep', ''],
    ['100,000 instances: a sweep that finds 100 silent', "UPDATE bore.heartbeats SET covered = 0 WHERE instance_id IN (SELECT instance_id FROM bore.heartbeats WHERE watched LIMIT 100);"]
  ]) {
    const times = measured(change)
    judge(what, percentile(times, 0.5) <= 50, `p50 ${percentile(times, 0.5).toFixed(1)} ms   worst of 20 ${Math.max(...times).toFixed(1)} ms (goal 50)`)
  }
}

await bench({ BCRYPT_COST: '4', EDGE_CONNECTIONS_PER_ADDRESS: '5000' }, async (system) => {
  await yardstick()
  const user = await system.user()
  const bearer = { authorization: `Bearer ${user.token}` }
  const key = { 'x-internal-api-key': system.internalKey, 'content-type': 'application/json' }
  await measure('GET /livez (edge and gateway)', system.url, [{ path: '/livez' }])
  await echo(system, user)
  await measure('GET /api/auth/me', system.url, [{ path: '/api/auth/me', headers: bearer }])
  for (let i = 0; i < 20; i++) await system.instance(user)
  await measure('GET /api/instances, 20 of them', system.url, [{ path: '/api/instances', headers: bearer }])

  const hundred = await tunnels(system, 100, 5)
  await measure('POST validate-key, 100 instances', system.url,
    hundred.map(({ token }) => ({ method: 'POST', path: '/api/internal/validate-key', body: JSON.stringify({ api_key: token }), headers: key })))
  // two ports in turn: every report is a change
  await measure('POST tunnel-connected, 100 instances', system.url,
    [1, 2].flatMap((turn) => hundred.map(({ id }) => ({
      method: 'POST', path: `/api/internal/instances/${id}/tunnel-connected`, body: JSON.stringify({ remotePort: 20000 + turn }), headers: key }))))

  const moment = Math.floor(Date.now() / 1000)
  const heartbeats = hundred.map(({ id, user }, i) => ({
    method: 'POST', path: `/api/instances/${id}/heartbeat`, headers: { authorization: `Bearer ${user.token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ vscode_responsive: true, has_code_server: true, cpu_usage: i + 0.5, memory_usage: 1024 + i, last_activity: moment }) }))
  // after the warm-up each instance has its 1000 samples, as after four hours of heartbeats: its ring turns
  await measure('POST heartbeat, 100 instances of 20 users', system.url, heartbeats, { goal: { rate: 12000, p99: 15 }, warmup: 10 })

  const count = Number(process.env.TUNNELS ?? 10000)
  const many = await tunnels(system, count)
  const report = (target, body) => ({ method: 'POST', path: `/api/internal${target}`, body: JSON.stringify(body), headers: key })
  for (const [what, requests] of [
    ['validate-key', many.map(({ token }) => report('/validate-key', { api_key: token }))],
    ['tunnel-connected', many.map(({ id }, i) => report(`/instances/${id}/tunnel-connected`, { remotePort: 1024 + (i % 60000) }))]
  ]) {
    const { p50, last, bad, first_bad: first } = await storm(system, requests)
    judge(`${count} tunnels at once: ${what}`, bad === 0 && last <= 3000,
      `p50 ${p50.toFixed(0)} ms, last ${last.toFixed(0)} ms (goal 3000)${bad ? `, ${bad} failed: ${first}` : ''}`)
  }
  sweeps(system)
})
