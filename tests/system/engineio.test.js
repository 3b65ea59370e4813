// engineio.test.js: Engine.IO 4 and Socket.IO 5 to the letter, over raw HTTP and WebSockets, from the published
// descriptions (github.com/socketio/engine.io-protocol and socket.io-protocol): handshake, heartbeat, payloads, upgrade,
// end, and everything that is not allowed, for both transports.
import assert from 'node:assert/strict'
import net from 'node:net'
import { after, afterEach, before, describe, test } from 'node:test'
import WebSocket from 'ws'
import { systemFor, waitFor } from './support/system.js'

const PING_INTERVAL = 700
const PING_TIMEOUT = 600
const RS = '\x1e'

describe('engine.io', () => {
  const sut = systemFor({ before, after, afterEach }, {
    env: {
      SOCKETIO_PING_INTERVAL_MS: String(PING_INTERVAL),
      SOCKETIO_PING_TIMEOUT_MS: String(PING_TIMEOUT),
      ALLOWED_ORIGINS: 'https://app.example',
      STREAM_MAX_PER_ADDRESS: '60'
    }
  })
  let user
  before(async () => {
    user = await sut.system.user()
  })

  const path = (query) => `/socket.io/?${query}`
  const request = (method, query, options) => sut.system.api.request(method, path(query), options)
  const get = (sid) => request('GET', `EIO=4&transport=polling&sid=${sid}`, { timeout: 20000 })
  const post = (sid, body, headers = { 'content-type': 'text/plain;charset=UTF-8' }) =>
    request('POST', `EIO=4&transport=polling&sid=${sid}`, { raw: body, headers })
  const open = async () => JSON.parse((await request('GET', 'EIO=4&transport=polling')).text.slice(1)).sid
  /** Polls, answering pings, until the payload holds something else. */
  const poll = async (sid) => {
    for (;;) {
      const answer = await get(sid)
      assert.equal(answer.status, 200, answer.text)
      const packets = answer.text.split(RS).filter((packet) => packet !== '2')
      if (packets.length > 0) return packets
      assert.equal((await post(sid, '3')).status, 200)
    }
  }

  /** A WebSocket that keeps its packets; pings are answered and left out unless raw. */
  const sockets = new Set()
  after(() => {
    for (const socket of sockets) socket.terminate()
  })
  function connect(query = 'EIO=4&transport=websocket', { raw = false, headers, skipUTF8Validation = false } = {}) {
    const socket = new WebSocket(`${sut.system.url.replace('http', 'ws')}${path(query)}`, { headers, skipUTF8Validation })
    const link = { socket, packets: [], closed: null, status: null }
    sockets.add(socket)
    socket.on('message', (data, isBinary) => {
      const text = isBinary ? data : data.toString()
      if (text === '2' && !raw) socket.send('3')
      else link.packets.push(text)
    })
    socket.on('close', (code, reason) => (link.closed = { code, reason: reason.toString() }))
    socket.on('unexpected-response', (_, response) => {
      link.status = response.statusCode
      link.body = ''
      response.on('data', (chunk) => (link.body += chunk))
      response.on('end', () => (link.closed = { code: 0 }))
    })
    socket.on('error', () => (link.closed ??= { code: 0 }))
    link.next = async (what = 'a packet') => {
      await waitFor(() => link.packets.length > 0 || link.closed, what)
      assert.ok(link.packets.length > 0, `closed instead of ${what}: ${JSON.stringify(link.closed)}`)
      return link.packets.shift()
    }
    link.end = () => waitFor(() => link.closed, 'the close')
    link.isOpen = () => waitFor(() => socket.readyState === WebSocket.OPEN, 'the WebSocket')
    return link
  }
  /** Signed in over a WebSocket, behind `connected`. */
  async function join() {
    const link = connect()
    await link.next('the open packet')
    link.socket.send(`40${JSON.stringify({ token: user.token })}`)
    assert.match(await link.next('CONNECT'), /^40\{"sid":"[^"]+","pid":"[^"]+"\}$/)
    assert.match(await link.next('connected'), /^42\["connected",/)
    return link
  }

  // ---- handshake ----

  test('polling: the open packet', async () => {
    const answer = await request('GET', 'EIO=4&transport=polling')
    assert.equal(answer.status, 200)
    assert.match(answer.headers['content-type'], /^text\/plain; ?charset=UTF-8$/i)
    assert.equal(answer.text[0], '0')
    const { sid, ...rest } = JSON.parse(answer.text.slice(1))
    assert.match(sid, /^stream-1\.[0-9a-f]{30}$/)
    assert.deepEqual(rest, { upgrades: ['websocket'], pingInterval: PING_INTERVAL, pingTimeout: PING_TIMEOUT, maxPayload: 1000000 })
  })

  test('websocket: the open packet', async () => {
    const link = connect()
    const packet = await link.next()
    assert.equal(packet[0], '0')
    const { sid, ...rest } = JSON.parse(packet.slice(1))
    assert.equal(typeof sid, 'string')
    assert.deepEqual(rest, { upgrades: [], pingInterval: PING_INTERVAL, pingTimeout: PING_TIMEOUT, maxPayload: 1000000 })
    link.socket.close()
  })

  test('what is wrong with a request is 400 with a code', async () => {
    for (const [method, query, code, message] of [
      ['GET', 'transport=polling', 5, 'Unsupported protocol version'],
      ['GET', 'EIO=3&transport=polling', 5, 'Unsupported protocol version'],
      ['GET', 'EIO=abc&transport=polling', 5, 'Unsupported protocol version'],
      ['GET', 'EIO=4', 0, 'Transport unknown'],
      ['GET', 'EIO=4&transport=abc', 0, 'Transport unknown'],
      ['GET', '', 0, 'Transport unknown'],
      ['POST', 'EIO=4&transport=polling', 2, 'Bad handshake method'],
      ['PUT', 'EIO=4&transport=polling', 2, 'Bad handshake method'],
      ['GET', 'EIO=4&transport=websocket', 3, 'Bad request'],
      ['GET', 'EIO=4&transport=polling&sid=nobody', 1, 'Session ID unknown'],
      ['POST', 'EIO=4&transport=polling&sid=stream-1.0', 1, 'Session ID unknown'],
      ['PUT', 'EIO=4&transport=polling&sid=x', 3, 'Bad request']
    ]) {
      const answer = await request(method, query)
      assert.equal(answer.status, 400, `${method} ${query}: ${answer.status}`)
      assert.deepEqual(answer.json, { code, message }, `${method} ${query}`)
    }
    for (const query of ['transport=websocket', 'EIO=abc&transport=websocket', 'EIO=4', 'EIO=4&transport=abc', 'EIO=4&transport=polling', 'EIO=4&transport=websocket&sid=nobody']) {
      const link = connect(query)
      await link.end()
      assert.equal(link.status, 400, query)
    }
  })

  test('CORS for the named origin only; a WebSocket of any other one is forbidden', async () => {
    for (const [origin, allowed] of [['https://app.example', 'https://app.example'], ['https://evil.example', undefined], [undefined, undefined]]) {
      const answer = await request('GET', 'EIO=4&transport=polling', { headers: origin ? { origin } : {} })
      assert.equal(answer.status, 200)
      assert.equal(answer.headers['access-control-allow-origin'], allowed)
      assert.equal(answer.headers['access-control-allow-credentials'], allowed && 'true')
      assert.match(answer.headers.vary, /Origin/)
    }
    const preflight = await request('OPTIONS', 'EIO=4&transport=polling', {
      headers: { origin: 'https://app.example', 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' }
    })
    assert.equal(preflight.status, 204)
    assert.match(preflight.headers['access-control-allow-methods'], /POST/)
    assert.match(preflight.headers['access-control-allow-headers'], /content-type/i)
    for (const [origin, status] of [['https://app.example', null], [sut.system.url, null], ['https://evil.example', 403], ['null', 403]]) {
      const link = connect(undefined, { headers: { origin } })
      if (status) {
        await link.end()
        assert.equal(link.status, status)
        assert.deepEqual(JSON.parse(link.body), { code: 4, message: 'Forbidden' })
      } else {
        await link.next()
        link.socket.close()
      }
    }
  })

  // ---- heartbeat ----

  test('polling: pings come at the interval, silence ends the session', async () => {
    const sid = await open()
    await post(sid, `40${JSON.stringify({ token: user.token })}`)
    await poll(sid)
    for (let i = 0; i < 3; i++) {
      const started = performance.now()
      const answer = await get(sid)
      assert.equal(answer.text, '2')
      assert.ok(performance.now() - started < PING_INTERVAL + 2000)
      assert.equal((await post(sid, '3')).text, 'ok')
    }
    assert.equal((await get(sid)).text, '2')
    const answer = await get(sid) // no pong: this one is ended
    assert.equal(answer.text, '1')
    assert.deepEqual((await get(sid)).json, { code: 1, message: 'Session ID unknown' })
  })

  test('websocket: pings come at the interval, silence ends the session', async () => {
    const link = connect(undefined, { raw: true })
    await link.next()
    link.socket.send(`40${JSON.stringify({ token: user.token })}`)
    await link.next()
    await link.next()
    for (let i = 0; i < 3; i++) {
      assert.equal(await link.next('a ping'), '2')
      link.socket.send('3')
    }
    assert.equal(await link.next('a ping'), '2')
    await link.end()
    assert.equal(link.closed.reason, 'ping_timeout')
  })

  test('a ping from the client has no place in this revision; who joins no namespace is sent away', async () => {
    const sid = await open()
    await post(sid, '2')
    assert.equal((await get(sid)).status, 400)
    const link = connect()
    await link.end()
    assert.equal(link.closed.reason, 'no_namespace_joined')
  })

  // ---- payloads ----

  test('polling: several packets in one payload, both ways', async () => {
    const sid = await open()
    const answer = await post(sid, [`40${JSON.stringify({ token: user.token })}`, '421["ping"]', '422["nonsense"]'].join(RS).replace(`${RS}421`, `${RS}421`))
    assert.equal(answer.status, 200)
    assert.equal(answer.text, 'ok')
    const packets = await poll(sid)
    assert.match(packets[0], /^40\{/)
    assert.match(packets[1], /^42\["connected",/)
    assert.match(packets[2], /^42\["pong",\{"timestamp":\d+\},"[0-9a-f]+-\d+"\]$/)
    assert.match(packets[3], /^431\[\{"timestamp":\d+\}\]$/)
    assert.equal(packets[4], '432[{"success":false,"error":"unknown_event"}]')
  })

  test('polling: an invalid packet, an empty body and bytes end the session', async () => {
    for (const [body, headers] of [['abc'], [''], [`4${RS}`], [`42["ping"]${RS}9`], ['bnot base64'], ['4\u00ff', { 'content-type': 'application/octet-stream' }]]) {
      const sid = await open()
      assert.equal((await post(sid, body, headers)).status, 400, body)
      assert.equal((await get(sid)).status, 400, body)
    }
  })

  test('websocket: an invalid packet ends the session', async () => {
    for (const text of ['abc', '9', '4abc', '2', '4']) {
      const link = connect()
      await link.next()
      link.socket.send(text)
      await link.end()
    }
  })

  test('maxPayload: a body of a million bytes is read, one more is 413 or the end', async () => {
    const sid = await open()
    assert.equal((await post(sid, '4'.padEnd(1000001, 'x'))).status, 413)
    const link = await join()
    link.socket.send(`42["a","${'x'.repeat(999990)}"]`)
    assert.match(await link.next('the refusal'), /^42\["error",\{"error":"payload_too_large"/)
    link.socket.send(`42["a","${'x'.repeat(1000000)}"]`)
    await link.end()
    assert.equal(link.closed.code, 1009)
    const parts = await join() // in fragments of one message
    parts.socket.send('421["pi', { fin: false })
    parts.socket.send('ng', { fin: false })
    parts.socket.send('"]', { fin: true })
    assert.match(await parts.next('pong'), /^42\["pong"/)
    parts.socket.close()
  })

  // ---- overlapping requests, requests that break off ----

  test('two polls at once: the first is closed, the second 400, the session is gone', async () => {
    const sid = await open()
    const first = get(sid)
    await new Promise((resolve) => setTimeout(resolve, 100))
    const second = await request('GET', `EIO=4&transport=polling&sid=${sid}&t=2`)
    assert.equal((await first).text, '1')
    assert.equal(second.status, 400)
    assert.equal((await get(sid)).status, 400)
  })

  test('two posts at once: the second is 400, the session is gone', async () => {
    const sid = await open()
    const slow = net.connect(sut.system.port, '127.0.0.1')
    slow.on('error', () => {})
    slow.write(`POST /socket.io/?EIO=4&transport=polling&sid=${sid} HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n42`)
    await waitFor(async () => (await post(sid, '3')).status === 400, 'the second post to be refused')
    assert.equal((await get(sid)).status, 400)
    slow.destroy()
  })

  test('a body without a length, and one that is shorter than announced', async () => {
    const sid = await open()
    const answer = await post(sid, '3', { 'transfer-encoding': 'chunked' })
    assert.equal(answer.status, 400)
    const other = await open()
    const short = net.connect(sut.system.port, '127.0.0.1')
    short.on('error', () => {})
    short.end(`POST /socket.io/?EIO=4&transport=polling&sid=${other} HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n42`)
    await waitFor(async () => (await get(other)).status === 400, 'the end of the session')
  })

  // ---- the end ----

  test('polling: the close packet ends the session and its poll', async () => {
    const sid = await open()
    const waiting = get(sid)
    await new Promise((resolve) => setTimeout(resolve, 100))
    assert.equal((await post(sid, '1')).status, 200)
    assert.equal((await waiting).text, '6')
    assert.equal((await get(sid)).status, 400)
  })

  test('websocket: the close packet ends the session', async () => {
    const link = connect()
    await link.next()
    link.socket.send('1')
    await link.end()
  })

  // ---- upgrade ----

  test('polling is upgraded by probe: what was queued follows, polls are refused then', async () => {
    const sid = await open()
    await post(sid, `40${JSON.stringify({ token: user.token })}`)
    await poll(sid)
    const waiting = get(sid)
    await new Promise((resolve) => setTimeout(resolve, 50))
    const link = connect(`EIO=4&transport=websocket&sid=${sid}`)
    await link.isOpen()
    link.socket.send('2probe')
    assert.equal(await link.next(), '3probe')
    assert.ok(['6', '2', `2${RS}6`].includes((await waiting).text))
    assert.equal((await get(sid)).text, '6', 'polls end at once while an upgrade is under way')
    await post(sid, '421["ping"]')
    link.socket.send('5')
    assert.match(await link.next('what was queued'), /^42\["pong"/)
    assert.match(await link.next(), /^431\[/)
    assert.deepEqual((await get(sid)).json, { code: 3, message: 'Bad request' })
    assert.equal((await post(sid, '3')).status, 400)
    const second = connect(`EIO=4&transport=websocket&sid=${sid}`)
    await second.end()
    assert.equal(second.status, 400)
    link.socket.send('422["ping"]')
    assert.match(await link.next('life after all that'), /^42\["pong"/)
    link.socket.close()
  })

  test('a probe that is none, or an upgrade without a probe, closes the WebSocket; polling goes on', async () => {
    for (const wrong of ['5', '2', '2prob', '4x', 'abc', '3probe']) {
      const sid = await open()
      await post(sid, `40${JSON.stringify({ token: user.token })}`)
      await poll(sid)
      const link = connect(`EIO=4&transport=websocket&sid=${sid}`)
      await link.isOpen()
      link.socket.send(wrong)
      await link.end()
      await post(sid, '421["ping"]')
      assert.match((await poll(sid))[0], /^42\["pong"/, wrong)
      await post(sid, '1')
    }
  })

  test('an upgrade that breaks off leaves polling alive; the session ends with its WebSocket', async () => {
    const sid = await open()
    await post(sid, `40${JSON.stringify({ token: user.token })}`)
    await poll(sid)
    const link = connect(`EIO=4&transport=websocket&sid=${sid}`)
    await link.isOpen()
    link.socket.send('2probe')
    await link.next()
    link.socket.terminate()
    await post(sid, '421["ping"]')
    await waitFor(async () => (await poll(sid)).some((packet) => packet.startsWith('42["pong"')), 'polling to go on')
    const again = connect(`EIO=4&transport=websocket&sid=${sid}`)
    await again.isOpen()
    again.socket.send('2probe')
    await again.next()
    again.socket.send('5')
    again.socket.send('1')
    await again.end()
    await waitFor(async () => (await get(sid)).json?.code === 1, 'the session to be gone')
  })

  // ---- Socket.IO ----

  test('joining: a namespace there is, one there is not; refusals', async () => {
    const link = connect()
    await link.next()
    link.socket.send('40/random,')
    assert.equal(await link.next(), '44/random,{"message":"Invalid namespace"}')
    link.socket.send('40{"token":"nonsense"}')
    assert.match(await link.next(), /^44\{"message":"Authentication error[^"]*","data":\{"error":"unauthorized"\}\}$/)
    link.socket.send('40')
    assert.match(await link.next(), /^44\{"message":"Authentication error/)
    link.socket.send(`40${JSON.stringify({ token: `Bearer ${user.token}` })}`)
    assert.match(await link.next(), /^40\{/)
    link.socket.close()
  })

  test('a first packet that is no CONNECT, a second CONNECT and another namespace end the session', async () => {
    for (const packet of ['42["ping"]', '41', '431[]', '44{"message":"x"}', '42/other,["a"]']) {
      const link = connect()
      await link.next()
      link.socket.send(packet)
      await link.end()
    }
    for (const packet of ['40', '42/other,["a"]', '41/other,', '44{"message":"x"}']) {
      const link = await join()
      link.socket.send(packet)
      await link.end()
    }
  })

  test('leaving the namespace keeps the connection, and it can be joined again', async () => {
    const link = await join()
    link.socket.send('41')
    link.socket.send(`40${JSON.stringify({ token: user.token })}`)
    assert.match(await link.next(), /^40\{/)
    link.socket.close()
  })

  test('events: acknowledgements, and what is no event ends the session', async () => {
    const link = await join()
    link.socket.send('42456["ping"]')
    assert.match(await link.next(), /^42\["pong"/)
    assert.match(await link.next(), /^43456\[/)
    link.socket.send('431[]') // an acknowledgement that nobody asked for
    link.socket.send('42["unheard of",{"a":[1]}]')
    link.socket.send('4257["ping"]')
    assert.match(await link.next(), /^42\["pong"/)
    link.socket.close()
    for (const packet of ['42{}', '42', '42[]', '42[{}]', '42abc["ping"]', '4abc', '42["connect"]', '42["ping"', '42["\\ud800"]', `42${'['.repeat(100)}`]) {
      const bad = await join()
      bad.socket.send(packet)
      await bad.end()
    }
  })

  test('binary data: a binary event is refused politely, bytes out of place end the session', async () => {
    const link = await join()
    link.socket.send('452-7["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
    link.socket.send(Buffer.from([1, 2, 3]))
    link.socket.send(Buffer.from([4]))
    assert.match(await link.next(), /^42\["error",\{"error":"binary_not_supported"/)
    assert.match(await link.next(), /^437\[\{"success":false,"error":"binary_not_supported"/)
    link.socket.send('421["ping"]')
    assert.match(await link.next(), /^42\["pong"/)
    await link.next()
    link.socket.send(Buffer.from([1]))
    await link.end()
    assert.equal(link.closed.reason, 'unexpected_data')

    const sid = await open()
    await post(sid, `40${JSON.stringify({ token: user.token })}`)
    await poll(sid)
    assert.equal((await post(sid, `451-["message",{"_placeholder":true,"num":0}]${RS}bAQID`)).status, 200)
    assert.match((await poll(sid))[0], /binary_not_supported/)
    await post(sid, 'bAQID')
    assert.equal((await get(sid)).status, 400)
  })

  test('more events than anybody needs end the session; so does text that is no UTF-8', async () => {
    const link = await join()
    for (let i = 0; i < 400 && link.socket.readyState === WebSocket.OPEN; i++) link.socket.send('42["ping"]')
    await link.end()
    // what the flood left unread can cost the closing frame: the log says why
    await waitFor(() => sut.system.log('stream').includes('reason=too_many_requests'), 'the reason in the log')
    const other = await join()
    other.socket.send(Buffer.from([0x34, 0x32, 0x5b, 0x22, 0xff, 0x22, 0x5d]), { binary: false })
    await other.end()
  })

  test('an address has no more sessions than it may', async () => {
    const opened = []
    let refused
    for (let i = 0; i < 70 && !refused; i++) {
      const answer = await request('GET', 'EIO=4&transport=polling')
      if (answer.status === 200) opened.push(answer)
      else refused = answer
    }
    assert.equal(refused?.status, 429)
    assert.equal(refused.json.error, 'too_many_requests')
    const link = connect()
    await link.end()
    assert.equal(link.status, 429)
    await waitFor(async () => (await request('GET', 'EIO=4&transport=polling')).status === 200, 'room for another session')
  })
})
