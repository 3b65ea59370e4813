// alerts.test.js: problems reach Slack and SendGrid, played by this test over HTTPS and HTTP, once each, in order, and
// whatever happens to receivers and alerters; nobody is alarmed by what he did himself; secrets stay secret.
//
// Two alerters share the work. Waiting times are shortened: settle 0.5 s, cooldown 6 s, 2.5 s for an attempt.
// ALERTS_DOWN_SECONDS: how long a receiver that is down stays so, beyond two attempts.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { answered, hasKeys, isTime, refused } from './support/expect.js'
import { Receiver, certificate, makeCertificates, say, sayDrip, sayEndless, saySilence } from './support/receiver.js'
import { System, unique, waitFor } from './support/system.js'

const SETTLE = 0.5
const COOLDOWN = 6
const DOWN_SECONDS = Number(process.env.ALERTS_DOWN_SECONDS ?? 0)
const HOOK = randomBytes(16).toString('hex')
const KEY = `SG.${randomBytes(20).toString('hex')}`

describe('alerts', () => {
  let system, slack, mail, certificates
  let failed = false

  before(async () => {
    certificates = makeCertificates()
    slack = await Receiver.start({ tls: certificate(certificates, 'localhost') })
    mail = await Receiver.start({ answer: say(202) })
    system = await System.start({
      scale: 'alerter=2',
      env: {
        BCRYPT_COST: '4',
        LOG_LEVEL: 'debug',
        ALERT_SETTLE_SECONDS: String(SETTLE),
        ALERT_COOLDOWN_SECONDS: String(COOLDOWN),
        ALERT_TIMEOUT_SECONDS: '2.5',
        SERVER_LEASE_SECONDS: '1',
        ALERT_CA_FILE: path.join(certificates, 'ca.pem'),
        SLACK_WEBHOOK_URL: `${slack.url}/services/T000/B000/${HOOK}`,
        SENDGRID_API_URL: mail.url,
        SENDGRID_API_KEY: KEY,
        ALERT_EMAIL_FROM: 'bore@test.example',
        ALERT_EMAIL_TO: 'one@test.example, two@test.example'
      }
    })
  })
  afterEach((context) => {
    if (context.error || context.passed === false) failed = true
  })
  after(async () => {
    if (failed) system?.printLogs(80)
    await system?.stop()
    await slack?.down()
    await mail?.down()
    if (certificates) fs.rmSync(certificates, { recursive: true })
  })

  const offline = (instance) => system.api.internalPost(`/instances/${instance.id}/tunnel-disconnected`)
  const both = [['slack', () => slack], ['mail', () => mail]]

  /** Waits until both have accepted an alert with these words, `times` in all; answers the last one of each. */
  async function told(times, ...words) {
    for (const [name, receiver] of both) await waitFor(() => receiver().accepted(...words).length >= times, `${name} to get ${words}`)
    return { slack: slack.accepted(...words).at(-1), mail: mail.accepted(...words).at(-1) }
  }

  async function connected(user, fields) {
    const instance = await system.instance(user, fields)
    await system.connectTunnel(user, instance)
    return instance
  }

  /** All alerts of an instance, oldest first. */
  const alertsOf = async (user, instance) => (await user.api.get(`/api/instances/${instance.id}/alerts?limit=500`)).json.alerts.reverse()
  const typesOf = async (user, instance) => (await alertsOf(user, instance)).map((alert) => alert.alert_type)
  const delivered = (alert) => alert.deliveries.length === 2 && alert.deliveries.every((delivery) => delivery.state === 'delivered')

  test('a problem and its recovery, as Slack and SendGrid document their payloads', async () => {
    const user = await system.user()
    const stream = await system.stream(user)
    const instance = await connected(user, { name: 'a <b> & "c"' })
    const before = Date.now()
    await offline(instance)
    const first = await told(1, instance.id, 'Instance Offline')

    assert.equal(first.slack.method, 'POST')
    assert.equal(first.slack.path, `/services/T000/B000/${HOOK}`)
    assert.equal(first.slack.headers['content-type'], 'application/json')
    hasKeys(first.slack.json, ['attachments'])
    const [attachment] = first.slack.json.attachments
    hasKeys(attachment, ['color', 'fallback', 'title', 'text', 'fields', 'footer', 'ts'])
    assert.match(attachment.color, /^#[0-9a-f]{6}$/)
    assert.equal(attachment.title, 'Instance Offline')
    assert.match(attachment.text, /^"a &lt;b&gt; &amp; "c"" is offline since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: tunnel disconnected\.$/)
    assert.ok(Number.isInteger(attachment.ts) && Math.abs(attachment.ts * 1000 - before) < 60000, `${attachment.ts}`)
    assert.deepEqual(
      attachment.fields.map(({ title, value, short }) => [title, value, short]),
      [['Instance', 'a &lt;b&gt; &amp; "c"', true], ['Instance id', instance.id, true], ['Owner', user.email, true]]
    )

    assert.equal(first.mail.method, 'POST')
    assert.equal(first.mail.path, '/v3/mail/send')
    assert.equal(first.mail.headers.authorization, `Bearer ${KEY}`)
    assert.equal(first.mail.headers['content-type'], 'application/json')
    const { content, ...envelope } = first.mail.json
    assert.deepEqual(envelope, {
      personalizations: [{ to: [{ email: 'one@test.example' }, { email: 'two@test.example' }] }],
      from: { email: 'bore@test.example', name: 'Bore Backend' },
      subject: '[Bore] Instance Offline: a <b> & "c"'
    })
    assert.deepEqual(content.map(({ type }) => type), ['text/plain', 'text/html'])
    assert.ok(content[0].value.includes('"a <b> & "c"" is offline'), content[0].value)
    assert.ok(content[1].value.includes('a &lt;b&gt; &amp;') && !content[1].value.includes('<b>'), content[1].value)

    await system.connectTunnel(user, instance)
    const second = await told(1, instance.id, 'Instance Recovered')
    assert.notEqual(second.slack.json.attachments[0].color, attachment.color)
    assert.match(second.slack.json.attachments[0].text, /is active again, after \d+ s: it was offline\.$/)

    const alerts = await waitFor(async () => {
      const list = await alertsOf(user, instance)
      return list.length === 2 && list.every(delivered) && list
    }, 'the history to say delivered')
    assert.deepEqual(alerts.map((alert) => alert.alert_type), ['Instance Offline', 'Instance Recovered'])
    for (const alert of alerts) {
      hasKeys(alert, ['id', 'instance_id', 'alert_type', 'message', 'sent_at', 'deliveries'])
      isTime(alert.sent_at, { near: Date.now() })
      assert.deepEqual(alert.deliveries, [{ channel: 'email', state: 'delivered', attempts: 1, last_error: null }, { channel: 'slack', state: 'delivered', attempts: 1, last_error: null }])
    }
    const event = await stream.until(() => stream.messages.find((message) => message.event === 'alert' && message.json.alertType === 'Instance Recovered'), 'the alert on the stream')
    assert.equal(event.json.instanceId, instance.id)
    assert.equal(event.json.alertId, alerts[1].id)
    assert.equal(event.json.message, alerts[1].message)
    stream.close()
  })

  test('GET /admin/alerts: newest first, in pages, by type, instance, state and words; for admins alone', async () => {
    const admin = await system.admin()
    const user = await system.user()
    const instance = await connected(user)
    await offline(instance)
    await told(1, instance.id)
    const all = answered(await admin.api.get('/api/admin/alerts'), 200, ['alerts']).alerts
    hasKeys(all[0], ['id', 'instance_id', 'alert_type', 'message', 'sent_at', 'deliveries'])
    assert.deepEqual(all.map((alert) => alert.sent_at), all.map((alert) => alert.sent_at).toSorted().reverse())
    const pages = []
    for (let cursor = ''; cursor !== undefined; ) {
      const page = answered(await admin.api.get(`/api/admin/alerts?limit=1${cursor && `&cursor=${cursor}`}`), 200)
      pages.push(...page.alerts)
      cursor = page.next_cursor
    }
    assert.deepEqual(pages.map((alert) => alert.id), all.map((alert) => alert.id))
    const find = async (query) => answered(await admin.api.get(`/api/admin/alerts?${query}`), 200).alerts
    assert.deepEqual((await find(`instance_id=${instance.id}`)).map((alert) => alert.instance_id), [instance.id])
    assert.ok((await find('alert_type=Instance+Recovered')).every((alert) => alert.alert_type === 'Instance Recovered'))
    assert.deepEqual((await find(`q=${instance.name.toUpperCase()}`)).map((alert) => alert.instance_id), [instance.id])
    assert.equal((await find('state=failed')).length, 0)
    assert.ok((await find('state=delivered')).length > 0)
    refused(await admin.api.get('/api/admin/alerts?alert_type=Other'), 400, 'validation_error', 'alert_type')
    refused(await admin.api.get('/api/admin/alerts?state=lost'), 400, 'validation_error', 'state')
    refused(await admin.api.get('/api/admin/alerts?cursor=x'), 400, 'validation_error', 'cursor')
    refused(await user.api.get('/api/admin/alerts'), 403, 'forbidden')
    refused(await system.api.get('/api/admin/alerts'), 401, 'unauthorized')
  })

  test('what heartbeats tell: degraded, idle, and both of them too often', async () => {
    const user = await system.user()
    const [first, second] = [await connected(user), await connected(user)]
    const beat = async (instance, fields) => answered(await user.api.post(`/api/instances/${instance.id}/heartbeat`, fields), 200)
    const ill = { has_code_server: true, vscode_responsive: false }
    const well = { has_code_server: true, vscode_responsive: true }
    await beat(first, ill)
    await beat(second, { last_activity: Math.floor(Date.now() / 1000) - 7200 })
    assert.match((await told(1, first.id, 'Instance Degraded')).slack.json.attachments[0].text, /is degraded since .*VSCode does not respond\.$/)
    assert.match((await told(1, second.id, 'Instance Idle')).slack.json.attachments[0].text, /is idle since .*Consider hibernating it/)
    await beat(second, { last_activity: Math.floor(Date.now() / 1000) })
    await told(1, second.id, 'Instance Recovered')
    for (let i = 0; i < 4; i++) {
      await beat(first, well)
      await beat(first, ill)
    }
    await beat(first, well)
    assert.match((await told(1, first.id, 'High Error Rate')).slack.json.attachments[0].text, /changed for the worse 5 times within 10 min/)
    assert.deepEqual((await typesOf(user, first)).toSorted(), ['High Error Rate', 'Instance Degraded', 'Instance Recovered'])
    assert.deepEqual(await typesOf(user, second), ['Instance Idle', 'Instance Recovered'])
    for (const { id } of [first, second]) await user.api.post(`/api/instances/${id}/disconnect`)
  })

  test("a user's own disconnect alarms nobody, also when the bore-server's report races it", async () => {
    const user = await system.user()
    const mine = await Promise.all(Array.from({ length: 16 }, () => connected(user)))
    await Promise.all(
      mine.map((instance, i) => {
        const disconnect = () => user.api.post(`/api/instances/${instance.id}/disconnect`)
        if (i % 4 === 0) return disconnect().then(() => offline(instance))
        if (i % 4 === 1) return offline(instance).then(disconnect)
        return Promise.all(i % 4 === 2 ? [disconnect(), offline(instance)] : [offline(instance), disconnect()])
      })
    )
    const raced = system.sql(`SELECT count(DISTINCT instance_id) FROM bore.status_history WHERE status = 'offline' AND instance_id IN (${mine.map(({ id }) => `'${id}'`)})`)[0][0]
    console.log(`# the report came first for ${raced} of ${mine.length}`)
    assert.ok(Number(raced) >= 4)
    // what is told after them proves that they would have been
    const control = await connected(user)
    await new Promise((resolve) => setTimeout(resolve, SETTLE * 1000))
    await offline(control)
    await told(1, control.id)
    for (const instance of mine) {
      assert.deepEqual(await alertsOf(user, instance), [])
      for (const [, receiver] of both) assert.equal(receiver().requests.filter((request) => request.text.includes(instance.id)).length, 0)
    }
  })

  test('a problem that outlives its cooldown is told when that ends', async () => {
    const user = await system.user()
    const instance = await connected(user)
    await offline(instance)
    await told(1, instance.id, 'Instance Offline')
    await system.connectTunnel(user, instance)
    await told(1, instance.id, 'Instance Recovered')
    await offline(instance)
    await told(2, instance.id, 'Instance Offline')
    const times = (await alertsOf(user, instance)).filter((alert) => alert.alert_type === 'Instance Offline').map((alert) => Date.parse(alert.sent_at))
    console.log(`# told again after ${times[1] - times[0]} ms`)
    assert.ok(times[1] - times[0] >= COOLDOWN * 1000)
    assert.deepEqual(await typesOf(user, instance), ['Instance Offline', 'Instance Recovered', 'Instance Offline'])
  })

  test('a receiver that fails is tried again; one that refuses for good is not; the history says why', async () => {
    const user = await system.user()
    /** One problem that Slack answers so; resolves to the delivery when it is settled, with the requests it took. */
    async function deliver(...answers) {
      const instance = await connected(user)
      slack.plan(instance.id, ...answers)
      await offline(instance)
      const delivery = await waitFor(async () => {
        const [alert] = await alertsOf(user, instance)
        const found = alert?.deliveries.find((one) => one.channel === 'slack')
        return found && found.state !== 'pending' && found
      }, 'the delivery to be settled', { every: 100 })
      return { ...delivery, requests: slack.requests.filter((request) => request.text.includes(instance.id)) }
    }

    const again = { broken: [say(500), say(503)], silent: [saySilence()], dripping: [sayDrip()], endless: [sayEndless()], moved: [say(302, { location: `${mail.url}/elsewhere` })] }
    await Promise.all(Object.entries(again).map(async ([name, answers]) => {
      const got = await deliver(...answers)
      assert.deepEqual([got.state, got.attempts, got.last_error, got.requests.length], ['delivered', answers.length + 1, null, answers.length + 1], name)
    }))
    assert.equal(mail.requests.filter((request) => request.path === '/elsewhere').length, 0, 'redirects are not followed')

    const [gone, wrong] = await Promise.all([deliver(say(404, {}, 'no_service')), deliver(say(400, {}, `what is ${HOOK}?`))])
    assert.deepEqual([gone.state, gone.attempts, gone.last_error, gone.requests.length], ['failed', 1, 'HTTP 404 no_service', 1])
    assert.deepEqual([wrong.state, wrong.attempts, wrong.last_error, wrong.requests.length], ['failed', 1, 'HTTP 400', 1])
    assert.equal(answered(await (await system.admin()).api.get('/api/admin/alerts?state=failed'), 200).alerts.length, 2)

    // a rest is the whole channel's: it can only be longer than what this one asked for
    const waited = ({ requests: [first, second] }) => second.at - first.at
    const [busy, dated] = await Promise.all([
      deliver(say(429, { 'retry-after': '3' })),
      deliver((response) => response.writeHead(429, { 'retry-after': new Date(Date.now() + 4000).toUTCString() }).end())
    ])
    for (const got of [busy, dated]) assert.deepEqual([got.state, got.attempts], ['delivered', 2])
    console.log(`# Retry-After of 3 s, and a date 3 to 4 s ahead: next attempts after ${waited(busy).toFixed(0)} and ${waited(dated).toFixed(0)} ms`)
    assert.ok(waited(busy) >= 2950, 'Retry-After is honoured')
    assert.ok(waited(dated) >= 1950, 'as a date, too')
  })

  test('a receiver that is down, or that nobody trusts: delivered when it is back', async () => {
    const user = await system.user()
    const [first, second] = [await connected(user), await connected(user)]
    const errors = (instance) => waitFor(async () => {
      const [alert] = await alertsOf(user, instance)
      const found = alert?.deliveries.find((one) => one.channel === 'slack')
      return found?.attempts >= 2 && found.last_error
    }, 'a second attempt', { every: 100 })

    await slack.down()
    await offline(first)
    assert.match(await errors(first), /connect/i)
    await new Promise((resolve) => setTimeout(resolve, DOWN_SECONDS * 1000))
    await slack.up()
    const back = performance.now()
    await waitFor(() => slack.accepted(first.id).length > 0, 'the delivery', { timeout: 30000 + DOWN_SECONDS * 1000 })
    const { attempts } = (await alertsOf(user, first))[0].deliveries.find((one) => one.channel === 'slack')
    console.log(`# delivered ${(performance.now() - back).toFixed(0)} ms after the receiver was back, by attempt ${attempts}`)

    slack.use(certificate(certificates, 'stranger'))
    await offline(second)
    assert.match(await errors(second), /certificate/i)
    assert.equal(slack.requests.filter((request) => request.text.includes(second.id)).length, 0, 'nothing is said to a stranger')
    slack.use(certificate(certificates, 'localhost'))
    await told(1, second.id)
  })

  test('the end of a bore-server is one alert that lists its instances; so is their return', async () => {
    const users = [await system.user(), await system.user()]
    const server = unique('server')
    /** Renews the bore-server's lease until the answer is called; resolves when it is known. */
    async function live() {
      let alive = true
      const renew = async () => {
        const answer = await system.api.internalPost('/servers', { id: server, host: '127.0.0.1', port: 7835, region: server, max_tunnels: 100 })
        assert.equal(answer.status, 200, answer.text)
      }
      await renew()
      const renewing = (async () => {
        for (; alive; await new Promise((resolve) => setTimeout(resolve, 200))) await renew()
      })()
      return () => ((alive = false), renewing)
    }
    let end = await live()
    const mine = (await Promise.all(users.map((user) => Promise.all(Array.from({ length: 6 }, () => connected(user, { region: server })))))).flat()
    await end()
    const outage = await told(1, server)
    assert.match(outage.slack.json.attachments[0].text, /took 12 instances offline \(tunnel disconnected: its bore-server no longer answers\): ("[^"]+", ){9}"[^"]+" and 2 more\.$/)
    assert.equal(outage.mail.json.subject, '[Bore] Instance Offline')
    for (const user of users) {
      for (const instance of mine.filter((one) => one.user_id === user.user_id)) {
        const alerts = await alertsOf(user, instance)
        assert.deepEqual(alerts.map((alert) => [alert.instance_id, alert.alert_type, alert.deliveries.length]), [[instance.id, 'Instance Offline', 2]])
        assert.ok(alerts[0].message.startsWith(`"${instance.name}" is offline`), alerts[0].message)
      }
    }
    const listed = answered(await (await system.admin()).api.get(`/api/admin/alerts?q=${server}`), 200).alerts
    assert.deepEqual(listed.map((alert) => alert.instance_id), [null])
    end = await live()
    for (const instance of mine) await system.connectTunnel(users.find((user) => user.user_id === instance.user_id), instance)
    await told(1, server, 'Instance Recovered')
    await end()
    for (const [, receiver] of both) {
      assert.equal(receiver().accepted(server).length, 2)
      for (const instance of mine) assert.equal(receiver().requests.filter((request) => request.text.includes(instance.id)).length, 0)
    }
  })

  /** 200 instances of ten users, all connected. */
  async function crowd() {
    const users = await Promise.all(Array.from({ length: 10 }, () => system.user()))
    const groups = await Promise.all(users.map((user) => Promise.all(Array.from({ length: 20 }, async () => ({ user, instance: await connected(user) })))))
    return groups.flat()
  }

  /** How many deliveries of these are not settled. */
  const pendingOf = (all) => Number(system.sql(`SELECT count(*) FROM bore.alert_deliveries JOIN bore.alert_history ON id = alert_id
    WHERE state = 'pending' AND instance_id = ANY ('{${all.map(({ instance }) => instance.id)}}')`)[0][0])

  /** Each alert that both have accepted, by id and receiver, oldest first. */
  const acceptedOf = (receiver, instance) => receiver.accepted(instance.id).map((request) => request.json.attachments?.[0].title ?? request.json.subject.match(/Instance \w+|High Error Rate/)[0])

  test('two alerters share the work, and nothing is told twice, a restart of one included', async () => {
    const all = await crowd()
    await Promise.all(all.map(({ instance }) => offline(instance)))
    const first = all.map(({ instance }) => instance.id)
    await waitFor(() => slack.requests.filter((request) => first.some((id) => request.text.includes(id))).length > 20, 'the work to have begun')
    await system.ctl('restart', 'alerter-1')
    await waitFor(() => both.every(([, receiver]) => all.every(({ instance }) => receiver().accepted(instance.id).length > 0)), 'all to be told', { every: 200 })
    await waitFor(() => pendingOf(all) === 0, 'nothing to be under way')
    for (const { instance } of all) for (const [, receiver] of both) assert.deepEqual(acceptedOf(receiver(), instance), ['Instance Offline'])
    const shares = [1, 2].map((number) => system.log(`alerter-${number}`).match(/: delivered$/gm)?.length ?? 0)
    console.log(`# delivered by each alerter: ${shares}`)
    assert.ok(shares.every((share) => share > 10), `${shares}`)
    await Promise.all(all.map(({ user, instance }) => user.api.delete(`/api/instances/${instance.id}`)))
  })

  test('kill -9 of both alerters, again and again, while 200 instances go offline and come back', async () => {
    const all = await crowd()
    let over = false
    const kills = (async () => {
      for (let i = 0; !over; i++) {
        const [pid] = system.pids(`alerter-${(i % 2) + 1}`)
        try {
          if (pid) system.kill(pid)
        } catch {
          // it is between two lives
        }
        await new Promise((resolve) => setTimeout(resolve, 200 + Math.random() * 500))
      }
      return true
    })()
    await Promise.all(all.map(({ instance }) => offline(instance)))
    await waitFor(() => system.sql("SELECT count(*) FROM bore.alert_problems WHERE is_told")[0][0] >= 200, 'all to be recorded', { every: 200 })
    await Promise.all(all.map(({ user, instance }) => system.connectTunnel(user, instance)))
    await waitFor(() => system.sql("SELECT count(*) FROM bore.alert_history WHERE alert_type = 'Instance Recovered' AND instance_id = ANY ('{" + all.map(({ instance }) => instance.id) + "}')")[0][0] === '200', 'all recoveries to be recorded', { every: 200 })
    over = true
    await kills
    await waitFor(() => pendingOf(all) === 0, 'all to be delivered', { every: 200 })
    let doubles = 0
    for (const { user, instance } of all) {
      assert.deepEqual(await typesOf(user, instance), ['Instance Offline', 'Instance Recovered'], 'recorded once, whatever crashed')
      for (const [, receiver] of both) {
        const got = acceptedOf(receiver(), instance)
        doubles += got.length - 2
        assert.deepEqual([...new Set(got)], ['Instance Offline', 'Instance Recovered'], `each at least once, the problem first: ${got}`)
        assert.ok(got.lastIndexOf('Instance Offline') < got.indexOf('Instance Recovered'), `no problem behind its recovery: ${got}`)
      }
    }
    console.log(`# of 800 deliveries ${doubles} arrived twice`)
  })

  test('/metrics counts alerts by type, and attempts by channel and result', async () => {
    const names = ['bore_alerts_total{type="Instance Offline"}', 'bore_alert_deliveries_total{channel="email",result="delivered"}', 'bore_alert_deliveries_total{channel="slack",result="retried"}', 'bore_alert_deliveries_total{channel="slack",result="failed"}', 'bore_alert_delivery_seconds_count{channel="slack"}']
    await waitFor(async () => {
      const { text } = await system.api.get('/metrics')
      for (const name of names) assert.ok(Number(text.split('\n').find((line) => line.startsWith(`${name} `))?.slice(name.length)) > 0, name)
      return true
    }, 'the counters', { every: 200 })
  })

  test('no secret in any log, answer or command line', async () => {
    const admin = await system.admin()
    const seen = [...fs.readdirSync(path.join(system.home, 'log')).map((name) => system.log(name)), JSON.stringify((await admin.api.get('/api/admin/alerts?limit=500')).json)]
    for (const service of ['alerter', 'gateway', 'registry', 'bus']) {
      for (const pid of system.pids(service)) {
        seen.push(fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8'))
        if (service !== 'alerter') seen.push(fs.readFileSync(`/proc/${pid}/environ`, 'utf8'))
      }
    }
    seen.push(JSON.stringify(system.sql('SELECT last_error FROM bore.alert_deliveries')))
    assert.ok(seen.some((text) => text.includes('alerts recorded')), 'there was something to look at')
    for (const text of seen) assert.ok(!text.includes(HOOK) && !text.includes(KEY.slice(3)), 'a secret was told')
  })
})
