// metrics.test.js: GET /metrics of a running system under some load: its form, who may read it, that no kill -9 takes
// anything back; and a real Prometheus that scrapes it, with all rules and all queries of all dashboards.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import crypto from 'node:crypto'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { Prometheus, promtool, readText, readTypes } from './support/prometheus.js'
import { root, systemFor, waitFor } from './support/system.js'

const METRICS_TOKEN = crypto.randomBytes(24).toString('hex')
const SERVICES = ['bus', 'auth', 'registry', 'monitor', 'alerter', 'gateway', 'stream', 'metrics']
const STATUSES = ['inactive', 'starting', 'active', 'online', 'degraded', 'idle', 'offline', 'error']
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

describe('metrics', () => {
  const options = { env: { METRICS_TOKEN } }
  const slack = http.createServer((request, response) => request.resume().on('end', () => response.end('ok')))
  before(async () => {
    await new Promise((resolve) => slack.listen(0, '127.0.0.1', resolve))
    options.env.SLACK_WEBHOOK_URL = `http://127.0.0.1:${slack.address().port}/services/T/B/${crypto.randomBytes(12).toString('hex')}`
  })
  const sut = systemFor({ before, after, afterEach }, options)
  const load = { heartbeats: 0, running: false }
  let prometheus

  const scrape = (token = METRICS_TOKEN) => sut.system.api.get('/metrics', { token })
  const series = async () => readText(textOf(await scrape()))
  const textOf = (answer) => {
    assert.equal(answer.status, 200, answer.text)
    return answer.text
  }

  /** Everything that a system does, gently; what was answered 200 is counted. */
  async function work() {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user)
    const stream = await system.stream(user)
    await system.connectTunnel(user, instance)
    load.running = true
    const quietly = (promise) => promise.catch(() => undefined)
    const loop = (async () => {
      for (let turn = 1; load.running; turn++) {
        const beat = await quietly(user.api.post(`/api/instances/${instance.id}/heartbeat`, { vscode_responsive: true, has_code_server: turn % 2 === 0 }))
        if (beat?.status === 200) load.heartbeats++
        await quietly(user.api.get('/api/instances'))
        await quietly(user.api.get('/api/nothing-here'))
        if (turn % 10 === 0) {
          const end = await quietly(system.api.internalPost(`/instances/${instance.id}/tunnel-disconnected`))
          if (end?.status === 200) await quietly(system.connectTunnel(user, instance))
        }
        await sleep(30)
      }
    })()
    return { user, instance, stream, stop: () => ((load.running = false), loop.finally(() => stream.close())) }
  }

  let worker
  before(async () => {
    await waitFor(async () => (await scrape()).status === 200, 'the first metrics', { quiet: false })
    worker = await work()
    prometheus = await Prometheus.start(sut.system.port, METRICS_TOKEN)
  })
  after(async () => {
    await worker?.stop()
    await prometheus?.stop()
    slack.close()
  })

  test('METRICS_TOKEN is asked for', async () => {
    for (const token of [null, 'x', `${METRICS_TOKEN}x`, METRICS_TOKEN.slice(1), (await sut.system.admin()).token]) {
      const answer = await scrape(token)
      assert.equal(answer.status, 401)
      assert.equal(answer.json.error, 'unauthorized')
      assert.equal(answer.headers['www-authenticate'], 'Bearer')
    }
    assert.equal((await scrape()).status, 200)
    assert.equal((await sut.system.api.post('/metrics', {})).status, 405)
  })

  test('the text is what Prometheus wants, and has what is promised', async () => {
    // Each process tells its counts in its own second: only together, and only after a while, are they all there.
    const isTold = {
      bore_heartbeats_total: (value) => value > 5,
      bore_active_tunnels: (value) => value === 1,
      bore_active_instances: (value) => value === 1,
      bore_active_sse_connections: (value) => value === 1,
      bore_heartbeat_response_time_seconds_count: (value) => value > 0,
      bore_status_lag_seconds_count: (value) => value > 0,
      'bore_api_requests_total{method="POST",route="/api/instances/{instance_id}/heartbeat",status="200"}': (value) => value > 5,
      'bore_api_requests_total{method="GET",route="unmatched",status="404"}': (value) => value > 5,
      'bore_api_response_time_seconds_count{route="/api/instances"}': (value) => value > 5
    }
    for (const status of STATUSES) isTold[`bore_instances_by_status{status="${status}"}`] = (value) => value >= 0
    for (const service of SERVICES) {
      isTold[`bore_process_up{process="${service}",replica="1"}`] = (value) => value === 1
      isTold[`bore_process_resident_memory_bytes{process="${service}",replica="1"}`] = (value) => value > 1e6
      isTold[`bore_process_open_fds{process="${service}",replica="1"}`] = (value) => value > 3
    }
    let answer, found, untold
    await waitFor(
      async () => {
        answer = await scrape()
        found = readText(textOf(answer))
        untold = Object.entries(isTold).filter(([key, isIt]) => !isIt(found.get(key)))
        return untold.length === 0
      },
      'everything that is promised',
      { quiet: false }
    ).catch((error) => assert.fail(`${error.message}: ${untold?.map(([key]) => `${key} is ${found.get(key)}`).join(', ')}`))
    assert.equal(answer.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8')
    assert.equal(promtool(['check', 'metrics'], answer.text), '')
    const documented = fs.readFileSync(path.join(root, 'docs/metrics.md'), 'utf8')
    for (const name of readTypes(answer.text).keys()) assert.ok(documented.includes(`| \`${name}\` |`), `${name} is documented`)
    for (const key of found.keys()) assert.ok(!/inst_|usr_|@/.test(key), `${key} names nobody`)
  })

  test('the same order each time', async () => {
    const keys = async () => [...readText((await scrape()).text).keys()]
    const one = await keys()
    await waitFor(async () => (await keys()).join() !== '', 'a second scrape')
    const other = (await keys()).filter((key) => one.includes(key))
    assert.deepEqual(one.filter((key) => other.includes(key)), other)
  })

  test('all queries of all dashboards and rules give data in a real Prometheus', async () => {
    await waitFor(async () => (await prometheus.query('count_over_time(up{job="bore"}[1m]) > 10'))[0], 'ten scrapes', { quiet: false })
    assert.deepEqual((await prometheus.query('up{job="bore"}')).map(({ value }) => value), [1])
    const expressions = []
    for (const name of ['overview', 'performance', 'system']) {
      const board = JSON.parse(fs.readFileSync(path.join(root, `deploy/grafana/dashboards/${name}.json`), 'utf8'))
      const cells = new Set()
      assert.equal(new Set(board.panels.map(({ id }) => id)).size, board.panels.length, `${name}: ids`)
      for (const panel of board.panels) {
        const { x, y, w, h } = panel.gridPos
        for (let i = 0; i < w * h; i++) {
          const cell = `${x + (i % w)},${y + Math.floor(i / w)}`
          assert.ok(x + w <= 24 && !cells.has(cell), `${name}: ${panel.title} lies over another panel`)
          cells.add(cell)
        }
        if (panel.type === 'row') continue
        assert.ok(panel.fieldConfig.defaults.unit && panel.targets.length > 0, `${name}: ${panel.title} has a unit and a query`)
        for (const target of panel.targets) {
          assert.ok(panel.type === 'table' || target.legendFormat, `${name}: ${panel.title} has a legend`)
          assert.equal(target.datasource.uid, 'bore-prometheus')
          expressions.push([`${name}: ${panel.title}`, target.expr])
        }
      }
    }
    const { groups } = await prometheus.get('/api/v1/rules')
    const rules = groups.flatMap(({ rules }) => rules)
    assert.ok(rules.length > 25)
    for (const rule of rules) {
      assert.equal(rule.health, 'ok', `${rule.name}: ${rule.lastError}`)
      if (rule.type === 'recording') {
        expressions.push([rule.name, rule.query])
        continue
      }
      // An alert keeps quiet while all is well: what it compares must be there.
      for (const part of rule.query.split(/ and (?:on ?\(\) ?)?/))
        expressions.push([rule.name, part.replace(/^absent\((.*)\)$/, '$1').replace(/ [<>=]=? [\d.e+]+\)?$/, '').replace(/^\((?=up)/, '')])
    }
    for (const [what, expression] of expressions) {
      const result = await prometheus.query(expression.replaceAll('$__rate_interval', '10s'))
      assert.ok(result.length > 0, `${what} gives nothing: ${expression}`)
    }
    console.log(`# ${expressions.length} expressions gave data`)
    const firing = (await prometheus.query('ALERTS{alertstate="firing"}')).map(({ metric }) => metric.alertname)
    assert.deepEqual(firing, [], 'nothing alarms')
  })

  test('no counter moves backwards while every process is killed in turn, metrics more than once', async () => {
    const { system } = sut
    const shown = new Map()
    let scrapes = 0
    let refused = 0
    const look = async () => {
      const answer = await scrape().catch(() => undefined)
      if (answer?.status !== 200) return void refused++
      scrapes++
      const types = readTypes(answer.text)
      for (const [key, value] of readText(answer.text)) {
        const name = key.replace(/\{.*/, '')
        const family = types.has(name) ? name : name.replace(/_(bucket|sum|count)$/, '')
        // of one process alone, and told with its start: Prometheus sees the restart
        if (types.get(family) === 'gauge' || family === 'bore_process_cpu_seconds_total') continue
        const before = shown.get(key) ?? 0
        assert.ok(value >= before - 1e-9 * before, `${key} fell from ${before} to ${value}`)
        shown.set(key, value)
      }
      for (const key of shown.keys()) assert.ok(answer.text.includes(`\n${key} `), `${key} has gone`)
    }
    let watching = true
    const watch = (async () => {
      while (watching) {
        await look()
        await sleep(100)
      }
    })()
    try {
      for (const service of ['metrics', 'registry', 'metrics', 'gateway', 'monitor', 'bus', 'stream', 'auth', 'alerter', 'metrics']) {
        await sleep(400)
        const [pid] = system.kill(service)
        await waitFor(() => system.pids(service).some((other) => other !== pid), `${service} is back`)
        await waitFor(async () => (await scrape()).status === 200 && (await system.api.get('/health')).json?.status === 'healthy', 'all is well again')
      }
    } finally {
      watching = false
      await watch
    }
    console.log(`# ${scrapes} scrapes of ${shown.size} series, ${refused} refused`)
    assert.ok(scrapes > 20)
    await waitFor(async () => (await series()).get('bore_process_restarts_total{process="metrics"}') === 3, 'three restarts of metrics')
    const found = await series()
    for (const service of SERVICES.filter((name) => name !== 'metrics')) assert.equal(found.get(`bore_process_restarts_total{process="${service}"}`), 1, service)
  })

  test('every tunnel is counted, and counted once', async () => {
    await worker.stop()
    const committed = (kind) => Number(sut.system.sql(`SELECT count(*) FROM bore.events WHERE kind = '${kind}'`)[0][0])
    assert.ok(committed('tunnel.connected') > 3)
    await waitFor(async () => (await series()).get('bore_tunnel_connections_total') === committed('tunnel.connected'), 'the connections')
    await waitFor(async () => (await series()).get('bore_tunnel_disconnections_total') === committed('tunnel.disconnected'), 'the disconnections')
    for (const [status, count] of sut.system.sql("SELECT payload ->> 'status', count(*) FROM bore.events WHERE kind = 'status' GROUP BY 1"))
      await waitFor(async () => (await series()).get(`bore_status_changes_total{status="${status}"}`) === Number(count), status)
    // A killed process takes with it what it counted in its last second: never more than that, and never twice.
    await sleep(3500)
    const counted = (await series()).get('bore_heartbeats_total')
    console.log(`# ${load.heartbeats} heartbeats answered, ${counted} counted`)
    assert.ok(counted >= load.heartbeats - 60 && counted <= load.heartbeats + 200)
  })

  test('a second metrics process says so and waits, and takes over', async () => {
    const { system } = sut
    const [first] = system.pids('metrics')
    const env = Object.fromEntries(fs.readFileSync(`/proc/${first}/environ`, 'utf8').split('\0').filter(Boolean).map((entry) => entry.split(/=(.*)/s).slice(0, 2)))
    const { uid, gid } = fs.statSync(`/proc/${first}`)
    const second = spawn(path.join(root, process.env.BORE_BUILD ?? 'build', 'bin/bore-metrics'), [], { env: { ...env, BORE_INSTANCE: '2' }, uid, gid, stdio: ['ignore', 'pipe', 'pipe'] })
    let said = ''
    second.stdout.on('data', (chunk) => (said += chunk))
    second.stderr.on('data', (chunk) => (said += chunk))
    try {
      await waitFor(() => said.includes('another metrics process is active: this one waits'), 'it says so')
      const before = (await series()).get('bore_heartbeats_total')
      for (let i = 0; i < 30; i++) assert.equal((await scrape()).status, 200, 'only the first one is asked')
      await system.ctl('stop', 'metrics')
      await waitFor(async () => (await scrape()).status === 200, 'the second one answers', { quiet: false })
      assert.ok((await series()).get('bore_heartbeats_total') >= before)
      await system.ctl('start', 'metrics')
      await waitFor(() => system.log('metrics').trimEnd().split('\n').slice(-3).join().includes('this one waits'), 'now the first one waits')
      const ended = new Promise((resolve) => second.once('exit', resolve))
      second.kill('SIGTERM')
      assert.equal(await ended, 0)
      await waitFor(async () => (await scrape()).status === 200, 'the first one answers', { quiet: false })
      assert.ok((await series()).get('bore_heartbeats_total') >= before)
    } finally {
      if (second.exitCode === null && second.signalCode === null) second.kill('SIGKILL')
    }
  })

  test('without the database the metrics stay, and nothing is lost', async () => {
    const { system } = sut
    const before = (await series()).get('bore_heartbeats_total')
    await system.ctl('stop', 'postgres')
    assert.equal((await scrape()).status, 200)
    // what is not stored is shown after ten seconds: the refused requests, say
    const key = 'bore_api_requests_total{method="GET",route="/api/auth/me",status="503"}'
    await waitFor(
      async () => {
        await worker.user.api.get('/api/auth/me')
        return (await series()).get(key) > 0
      },
      'what is not stored',
      { quiet: false, every: 500 }
    )
    const unstored = (await series()).get(key)
    await system.ctl('start', 'postgres')
    await waitFor(async () => (await system.api.get('/health')).json?.status === 'healthy', 'all is well again')
    await waitFor(async () => Date.now() / 1000 - (await series()).get('bore_metrics_stored_timestamp_seconds') < 5, 'the counters are stored again')
    assert.ok((await series()).get(key) >= unstored)
    assert.ok((await series()).get('bore_heartbeats_total') >= before)
  })
})
