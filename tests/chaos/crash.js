// crash.js: kill -9 of each process in turn while clients make transitions as fast as they are acknowledged and an SSE
// client follows with Last-Event-ID and two Socket.IO clients by recovery. Afterwards every acknowledged transition must be in the history and must have been
// delivered, in order, once. Answers figures; throws on what was lost, doubled or out of order.
import assert from 'node:assert/strict'
import { SocketClient } from '../system/support/socketio.js'
import { System, waitFor } from '../system/support/system.js'

export const victims = ['edge', 'gateway', 'stream', 'bus', 'auth', 'registry', 'monitor', 'postgres']

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** One instance that goes starting → active → inactive → … for ever; each step is repeated until it is acknowledged. */
class Walker {
  constructor(system, user, instance) {
    Object.assign(this, { system, user, instance, acknowledged: ['inactive'], attempts: 0, failures: {}, longest: 0 })
  }

  steps() {
    const { system, user, instance } = this
    return [
      ['starting', () => user.api.post(`/api/instances/${instance.id}/connect`, undefined, { timeout: 15000 })],
      ['active', () => system.api.internalPost(`/instances/${instance.id}/tunnel-connected`, { remotePort: 30000 + (this.acknowledged.length % 30000) }, { timeout: 15000 })],
      ['inactive', () => user.api.post(`/api/instances/${instance.id}/disconnect`, undefined, { timeout: 15000 })]
    ]
  }

  /** Sends until 2xx. Anything but success, a clear "not now" or a broken connection is a defect. */
  async acknowledge(status, act) {
    for (;;) {
      this.attempts++
      const started = performance.now()
      let answer
      try {
        answer = await act()
      } catch (error) {
        answer = { status: error.code ?? 'broken' }
      }
      this.longest = Math.max(this.longest, performance.now() - started)
      if (answer.status === 200) {
        this.acknowledged.push(status)
        this.lastAcknowledged = performance.now()
        return
      }
      this.failures[answer.status] = (this.failures[answer.status] ?? 0) + 1
      assert.ok(typeof answer.status === 'string' || [500, 502, 503, 504].includes(answer.status), `${status}: ${answer.status} ${answer.text}`)
      assert.ok(answer.status !== 500, `500: ${answer.text}`)
      await pause(20)
    }
  }

  async run(isOver) {
    while (!isOver()) for (const [status, act] of this.steps()) await this.acknowledge(status, act)
  }
}

export async function crashTest({ rounds = 1, walkers = 4, settleMs = 1000, only = victims, start = () => System.start() } = {}) {
  const system = await start()
  const figures = { recovery: {}, attempts: 0, acknowledged: 0, failures: {}, longestRequestMs: 0 }
  try {
    const user = await system.user()
    const stream = await system.stream(user, { reconnect: true, retryMs: 100 })
    const sockets = await Promise.all([['websocket'], ['polling']].map((transports) => SocketClient.open(system.url, { token: user.token, transports })))
    const all = []
    for (let i = 0; i < walkers; i++) all.push(new Walker(system, user, await system.instance(user)))
    let over = false
    const running = Promise.all(all.map((walker) => walker.run(() => over)))
    running.catch(() => {})

    for (let round = 0; round < rounds; round++) {
      for (const victim of only) {
        const killed = performance.now()
        assert.ok((await system.kill(victim)).length > 0, `${victim} runs`)
        // back: every walker was acknowledged anew, and the stream brought something that happened after the kill
        await Promise.race([running, waitFor(() => all.every((walker) => walker.lastAcknowledged > killed + 50), `acknowledgements after killing ${victim}`)])
        const seen = stream.messages.length
        await Promise.race([running, waitFor(() => stream.messages.length > seen, `events after killing ${victim}`)])
        const ms = Math.max(...all.map((walker) => walker.lastAcknowledged)) - killed
        const back = Math.min(ms, performance.now() - killed)
        figures.recovery[victim] = [...(figures.recovery[victim] ?? []), Math.round(back)]
        await Promise.race([running, pause(settleMs)])
      }
    }
    over = true
    await running

    for (const walker of all) {
      const delivered = () => stream.changes.filter((message) => message.json.instanceId === walker.instance.id).map((message) => message.json.status)
      await waitFor(() => delivered().length >= walker.acknowledged.length - 1, 'the last events')
      const history = []
      for (let cursor = ''; cursor !== undefined; ) {
        const page = await user.api.get(`/api/instances/${walker.instance.id}/status-history?limit=500${cursor && `&cursor=${encodeURIComponent(cursor)}`}`)
        assert.equal(page.status, 200, page.text)
        history.unshift(...page.json.status_history.reverse().map((entry) => entry.status))
        cursor = page.json.next_cursor
      }
      assert.deepEqual(history, walker.acknowledged, 'the history is what was acknowledged')
      assert.deepEqual(delivered(), walker.acknowledged.slice(1), 'the stream brought what was acknowledged, in order, once')
      for (const socket of sockets) {
        const heard = () => socket.changes.filter(([id]) => id === walker.instance.id).map(([, status]) => status)
        await waitFor(() => heard().length >= walker.acknowledged.length - 1, `the last events over ${socket.transport}`)
        assert.deepEqual(heard(), walker.acknowledged.slice(1), `Socket.IO over ${socket.transport} brought what was acknowledged, in order, once`)
      }
      figures.acknowledged += walker.acknowledged.length - 1
      figures.attempts += walker.attempts
      figures.longestRequestMs = Math.max(figures.longestRequestMs, Math.round(walker.longest))
      for (const [status, count] of Object.entries(walker.failures)) figures.failures[status] = (figures.failures[status] ?? 0) + count
    }
    const ids = stream.messages.filter((message) => message.json?.eventId).map((message) => Number(message.id.split('-')[1]))
    for (let i = 1; i < ids.length; i++) assert.ok(ids[i] > ids[i - 1], 'events come in order, once')
    figures.streamReconnects = stream.opens - 1
    figures.socketReconnects = sockets.map((socket) => socket.connects.length - 1)
    stream.close()
    for (const socket of sockets) socket.close()
    return figures
  } catch (error) {
    system.printLogs()
    throw error
  } finally {
    await system.stop()
  }
}

export function printFigures(figures) {
  for (const [victim, times] of Object.entries(figures.recovery)) console.log(`# kill -9 ${victim.padEnd(9)} back after ${times.join(', ')} ms`)
  console.log(
    `# ${figures.acknowledged} transitions acknowledged of ${figures.attempts} attempts, all in the history, all delivered once and in order; ` +
      `refused or broken meanwhile: ${JSON.stringify(figures.failures)}; longest request ${figures.longestRequestMs} ms; the stream reconnected ${figures.streamReconnects} times, Socket.IO ${figures.socketReconnects.join(' (websocket) and ')} (polling)`
  )
}
