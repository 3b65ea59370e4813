// socketio_clients.test.js: Socket.IO in a real Chromium (the official client, on a page of this host and on one of another
// origin) and by a client of another make (python-socketio).
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import http from 'node:http'
import { createRequire } from 'node:module'
import path from 'node:path'
import readline from 'node:readline'
import { after, afterEach, before, describe, test } from 'node:test'
import { openBrowser } from './support/browser.js'
import { freePort, root, systemFor, waitFor } from './support/system.js'

const require = createRequire(import.meta.url)
const CLIENT = path.join(path.dirname(require.resolve('socket.io-client/package.json')), 'dist/socket.io.js')
const foreignPort = await freePort()
const foreign = `http://127.0.0.1:${foreignPort}`

/** Runs in the page: opens a client and keeps what it hears in window.heard. */
function listen({ url, options }) {
  window.heard = { events: [], connects: [], errors: [], disconnects: [] }
  window.socket = window.io(url, { reconnectionDelay: 100, reconnectionDelayMax: 500, ...options })
  window.socket.onAny((name, ...args) => window.heard.events.push([name, ...args]))
  window.socket.on('connect', () => window.heard.connects.push(window.socket.recovered))
  window.socket.on('connect_error', (error) => window.heard.errors.push(error.message))
  window.socket.on('disconnect', (reason) => window.heard.disconnects.push(reason))
}

describe('socket.io in Chromium', () => {
  const sut = systemFor({ before, after, afterEach }, { env: { ALLOWED_ORIGINS: foreign } })
  let browser, server
  before(async () => {
    browser = await openBrowser()
    server = http.createServer((_, response) => response.setHeader('content-type', 'text/html').end('<!doctype html><title>elsewhere</title>')).listen(foreignPort, '127.0.0.1')
  })
  after(async () => {
    await browser?.close()
    server?.close()
  })

  /** A page of that address with the official client in it. */
  async function page(address, cookie) {
    const context = await browser.newContext({ bypassCSP: true })
    if (cookie) await context.addCookies([{ name: 'bore_session', value: cookie, url: sut.system.url, httpOnly: true, sameSite: 'Strict' }])
    const opened = await context.newPage()
    await opened.goto(address)
    await opened.addScriptTag({ path: CLIENT })
    return opened
  }
  const heard = (opened) => opened.evaluate(() => ({ ...window.heard, transport: window.socket.io.engine?.transport?.name }))
  const until = async (opened, find, what) => {
    let last
    return waitFor(async () => find((last = await heard(opened))), what).catch((error) => {
      throw new Error(`${error.message}: ${JSON.stringify(last)}`)
    })
  }
  const changes = ({ events }) => events.filter(([name]) => name === 'status-change').map(([, { status }]) => status)

  for (const [how, where, transports, transport] of [
    ['cookie, polling then upgraded', 'own', undefined, 'websocket'],
    ['cookie, websocket alone', 'own', ['websocket'], 'websocket'],
    ['cookie, polling alone', 'own', ['polling'], 'polling'],
    ['token from another origin, polling then upgraded', 'foreign', undefined, 'websocket'],
    ['token from another origin, polling alone', 'foreign', ['polling'], 'polling']
  ]) {
    test(`${how}: events, acknowledgements, recovery after kill -9`, async () => {
      const { system } = sut
      const user = await system.user()
      const instance = await system.instance(user)
      const opened = where === 'own' ? await page(`${system.url}/livez`, user.token) : await page(foreign)
      await opened.evaluate(listen, { url: system.url, options: { transports: transports ?? ['polling', 'websocket'], auth: where === 'own' ? {} : { token: user.token } } })
      await until(opened, (h) => h.connects.length === 1 && h.transport === transport, `the connection by ${transport}`)
      const answer = await opened.evaluate((id) => window.socket.timeout(10000).emitWithAck('subscribe', { instanceId: id }), instance.id)
      assert.deepEqual(answer, { success: true, instanceId: instance.id })
      await system.connectTunnel(user, instance)
      await until(opened, (h) => changes(h).length === 2, 'the changes')
      system.kill('stream')
      await user.api.post(`/api/instances/${instance.id}/disconnect`)
      const last = await until(opened, (h) => changes(h).length >= 3 && h.connects.length === 2 && h, 'the change that was missed')
      assert.deepEqual(changes(last), ['starting', 'active', 'inactive'])
      assert.deepEqual(last.connects, [false, true])
      assert.ok(last.events.every((event) => /^[0-9a-f]+-\d+$/.test(event.at(-1))))
      await opened.context().close()
    })
  }

  test('refused: no cookie; and of another origin one that was not named, whatever it sends', async () => {
    const { system } = sut
    const user = await system.user()
    const own = await page(`${system.url}/livez`)
    await own.evaluate(listen, { url: system.url, options: {} })
    await until(own, (h) => /^Authentication error/.test(h.errors[0]), 'the refusal')
    await own.context().close()
    const evil = await page(foreign.replace('127.0.0.1', 'localhost'))
    for (const transports of [['polling'], ['websocket']]) {
      await evil.evaluate(listen, { url: system.url, options: { transports, reconnection: false, auth: { token: user.token } } })
      await until(evil, (h) => h.errors.length > 0 && h.connects.length === 0, 'the refusal')
    }
    await evil.context().close()
  })
})

describe('socket.io with python-socketio', () => {
  const sut = systemFor({ before, after, afterEach })

  /** The client as a child process with what it told. */
  function python(token, transports) {
    const child = spawn('/usr/bin/python3', [path.join(root, 'tests/system/support/socketio_client.py'), sut.system.url, token, transports], { stdio: ['pipe', 'pipe', 'inherit'] })
    const client = { child, lines: [] }
    readline.createInterface({ input: child.stdout }).on('line', (line) => client.lines.push(JSON.parse(line)))
    client.ended = new Promise((resolve) => child.on('exit', resolve))
    client.until = (find, what) =>
      waitFor(() => find(client.lines), what).catch((error) => {
        throw new Error(`${error.message}: ${JSON.stringify(client.lines)}`)
      })
    return client
  }

  for (const transports of ['polling,websocket', 'websocket', 'polling']) {
    test(`${transports}: events, acknowledgements, back after kill -9`, async () => {
      const { system } = sut
      const user = await system.user()
      const instance = await system.instance(user)
      const client = python(user.token, transports)
      try {
        await client.until((lines) => lines.some(([what, name]) => what === 'event' && name === 'connected'), 'the connection')
        const id = instance.id
        client.child.stdin.write(`emit subscribe ${JSON.stringify({ instanceId: id })}\n`)
        const [, answer] = await client.until((lines) => lines.find(([what]) => what === 'ack'), 'the acknowledgement')
        assert.deepEqual(answer, { success: true, instanceId: id })
        await system.connectTunnel(user, instance)
        const changes = (lines) => lines.filter(([what, name]) => what === 'event' && name === 'status-change')
        await client.until((lines) => changes(lines).length === 2, 'the changes')
        assert.deepEqual(changes(client.lines).map(([, , change]) => change.status), ['starting', 'active'])
        assert.match(changes(client.lines)[1][3], /^[0-9a-f]+-\d+$/)
        system.kill('stream')
        await client.until((lines) => lines.filter(([what]) => what === 'connect').length === 2, 'the client to be back')
        await client.until((lines) => lines.filter(([what, name]) => what === 'event' && name === 'connected').length === 2, 'connected')
        await user.api.post(`/api/instances/${id}/disconnect`)
        await client.until((lines) => changes(lines).length === 3, 'a change after that')
      } finally {
        client.child.stdin.end('close\n')
        await client.ended
      }
    })
  }

  test('a bad token is refused', async () => {
    const client = python('nonsense', 'websocket')
    await client.ended
    assert.ok(client.lines.some(([what]) => what === 'refused'), JSON.stringify(client.lines))
    assert.ok(client.lines.some(([what, data]) => what === 'connect_error' && /^Authentication error/.test(data.message)), JSON.stringify(client.lines))
  })
})
