// hostile.test.js: what strangers send. Each request gets a clear answer in the common form, none is 5xx, nothing
// crashes, nothing leaks; the table of answers is printed.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import crypto from 'node:crypto'
import net from 'node:net'
import { after, afterEach, before, describe, test } from 'node:test'
import { systemFor, waitFor } from './support/system.js'

const b64 = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')

/** A JWT of any header and claims, signed with `secret` (HS256), or unsigned. */
function jwt(header, claims, secret) {
  const signed = `${b64(header)}.${b64(claims)}`
  const signature = secret ? crypto.createHmac('sha256', secret).update(signed).digest('base64url') : ''
  return `${signed}.${signature}`
}

/** Sends bytes, collects what comes back until the end or until `enough` matches; never throws. */
function raw(port, pieces, { every = 0, timeout = 20000 } = {}) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1')
    let text = ''
    const done = () => {
      clearTimeout(timer)
      socket.destroy()
      const status = Number(text.match(/^HTTP\/1\.[01] (\d{3})/)?.[1] ?? 0)
      const body = text.slice(text.indexOf('\r\n\r\n') + 4)
      let json
      try {
        json = JSON.parse(body.slice(body.indexOf('{'), body.lastIndexOf('}') + 1))
      } catch {
        json = undefined
      }
      resolve({ status, text, json, closed: socket.destroyed })
    }
    const timer = setTimeout(done, timeout)
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      const head = text.indexOf('\r\n\r\n')
      const length = Number(text.match(/content-length: (\d+)/i)?.[1] ?? NaN)
      if (head >= 0 && text.length >= head + 4 + length) done()
    })
    socket.on('error', done)
    socket.on('close', done)
    socket.on('connect', async () => {
      for (const piece of pieces) {
        if (socket.destroyed) return
        socket.write(piece)
        if (every) await new Promise((next) => setTimeout(next, every))
      }
    })
  })
}

/** POSTs so many bytes by curl, which reads the answer while it is still sending. */
function curlBody(url, size) {
  const out = spawnSync('curl', ['-s', '-w', '\n%{http_code}', '-X', 'POST', '-H', 'Content-Type: application/json', '-H', 'Expect:', '--data-binary', '@-', url], {
    input: Buffer.alloc(size, 0x20),
    encoding: 'utf8'
  })
  const lines = out.stdout.trimEnd().split('\n')
  const status = Number(lines.pop())
  const text = lines.join('\n')
  return { status, text, json: JSON.parse(text) }
}

const head = (line, headers = {}) =>
  `${line} HTTP/1.1\r\nHost: localhost\r\n${Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`

describe('hostile requests', () => {
  const secret = crypto.randomBytes(32).toString('hex')
  const sut = systemFor({ before, after, afterEach }, { env: { JWT_SECRET: secret } })

  test('at least 60 of them: a table of answers', { timeout: 300000 }, async () => {
    const { system } = sut
    const { api, port } = system
    const [user, other] = [await system.user(), await system.user()]
    const mine = await system.instance(user)
    const theirs = await system.instance(other)
    const pids = Object.fromEntries(['edge', 'gateway', 'stream', 'bus', 'auth', 'registry'].map((name) => [name, system.pids(name)]))
    const json = { 'content-type': 'application/json' }
    const token = { authorization: `Bearer ${user.token}` }
    const now = Math.floor(Date.now() / 1000)
    const claims = { user_id: user.user_id, email: user.email, is_admin: false, iat: now, exp: now + 1000, jti: 'sess_0.00' }
    const hs256 = { alg: 'HS256', typ: 'JWT' }
    const create = (body, headers = {}) => () => api.request('POST', '/api/instances', { raw: body, headers: { ...json, ...token, ...headers } })
    const signup = (body) => () => api.request('POST', '/api/auth/signup', { raw: body, headers: json })
    const me = (bearer) => () => api.get('/api/auth/me', { headers: { authorization: bearer } })
    const internal = (path, body, key) => () =>
      api.request('POST', `/api/internal${path}`, { body, headers: key === undefined ? {} : { 'x-internal-api-key': key }, token: null })

    const cases = [
      // JSON that is none
      ['empty body for a body', create(''), 400],
      ['a lone brace', create('{'), 400],
      ['trailing comma', create('{"name":"a","local_port":1,}'), 400],
      ['two documents', create('{"name":"a","local_port":1}{}'), 400],
      ['an array at the top', create('[]'), 400],
      ['a string at the top', create('"x"'), 400],
      ['null at the top', create('null'), 400],
      ['single quotes', create("{'name':'a'}"), 400],
      ['NaN', create('{"name":"a","local_port":NaN}'), 400],
      ['deep nesting, 20,000 arrays', create(`{"name":${'['.repeat(20000)}${']'.repeat(20000)},"local_port":1}`), 400],
      ['deep nesting, unclosed', create('{"a":'.repeat(8000)), 400],
      ['invalid UTF-8', create(Buffer.concat([Buffer.from('{"name":"'), Buffer.from([0xff, 0xfe, 0xc0]), Buffer.from('","local_port":1}')])), 400],
      ['overlong UTF-8', create(Buffer.concat([Buffer.from('{"name":"'), Buffer.from([0xc0, 0xaf]), Buffer.from('","local_port":1}')])), 400],
      ['a NUL byte in the text', create(Buffer.from('{"name":"a\0b","local_port":1}')), 400],
      ['an escaped NUL', create('{"name":"a\\u0000b","local_port":1}'), 400],
      ['a lone surrogate', create('{"name":"\\ud800","local_port":1}'), 400],
      ['UTF-16 text', create(Buffer.from('{"name":"a","local_port":1}', 'utf16le')), 400],
      // wrong types and bounds
      ['a number for a string', create('{"name":5,"local_port":1}'), 400],
      ['a string for a number', create('{"name":"a","local_port":"80"}'), 400],
      ['a boolean for a number', create('{"name":"a","local_port":true}'), 400],
      ['an object for a string', create('{"name":{},"local_port":1}'), 400],
      ['a null for a required field', create('{"name":null,"local_port":1}'), 400],
      ['a fraction', create('{"name":"a","local_port":80.5}'), 400],
      ['a negative port', create('{"name":"a","local_port":-1}'), 400],
      ['port 0', create('{"name":"a","local_port":0}'), 400],
      ['port 65536', create('{"name":"a","local_port":65536}'), 400],
      ['a huge integer', create('{"name":"a","local_port":99999999999999999999999999}'), 400],
      ['1e999', create('{"name":"a","local_port":1e999}'), 400],
      ['an empty name', create('{"name":"","local_port":1}'), 400],
      ['a name of 256 characters', create(JSON.stringify({ name: 'x'.repeat(256), local_port: 1 })), 400],
      ['a field missing', create('{"name":"a"}'), 400],
      ['limit=0', () => user.api.get('/api/instances?limit=0'), 400],
      ['limit=501', () => user.api.get('/api/instances?limit=501'), 400],
      ['limit=abc', () => user.api.get('/api/instances?limit=abc'), 400],
      ['a cursor that is none', () => user.api.get(`/api/instances?limit=1&cursor=${encodeURIComponent("' OR 1=1 --")}`), 400],
      ['a window that is none', () => user.api.get(`/api/instances/${mine.id}/status-history?window=99y`), 400],
      // accounts
      ['an e-mail that is none', signup('{"name":"a","email":"nobody","password":"test123"}'), 400],
      ['a short password', signup('{"name":"a","email":"a@b.example","password":"12345"}'), 400],
      ['a password of 73 bytes', signup(JSON.stringify({ name: 'a', email: 'a@b.example', password: 'x'.repeat(73) })), 400],
      ['SQL in the e-mail', () => api.post('/api/auth/login', { email: "' OR '1'='1' --", password: "' OR '1'='1" }, { token: null }), 401],
      ['operators for the password', () => api.post('/api/auth/login', { email: user.email, password: { $gt: '' } }, { token: null }), 400],
      // text that only looks dangerous is text
      ['SQL as a name', create('{"name":"x\'); DROP TABLE bore.users; --","local_port":1}'), 201],
      ['script as a name', create('{"name":"<script>alert(1)</script>","local_port":1}'), 201],
      ['unknown fields', create('{"name":"a","local_port":1,"user_id":"user_other","is_admin":true,"status":"online"}'), 201],
      ['nested unknown fields', create(`{"name":"a","local_port":1,"x":${'['.repeat(10)}${']'.repeat(10)}}`), 201],
      ['unknown fields nested 500 deep', create(`{"name":"a","local_port":1,"x":${'['.repeat(500)}${']'.repeat(500)}}`), 201],
      // bodies and types
      ['a body of 70 kB', create(JSON.stringify({ name: 'x'.repeat(70000), local_port: 1 })), 413],
      ['a body of 20 MB', () => curlBody(`${system.url}/api/auth/login`, 20 * 1024 * 1024), 413],
      ['text/plain', () => api.request('POST', '/api/instances', { raw: '{"name":"a","local_port":1}', headers: { ...token, 'content-type': 'text/plain' } }), 415],
      ['a form', () => api.request('POST', '/api/auth/login', { raw: 'email=a&password=b', headers: { 'content-type': 'application/x-www-form-urlencoded' }, token: null }), 415],
      ['XML', () => api.request('POST', '/api/auth/login', { raw: '<a/>', headers: { 'content-type': 'application/xml' }, token: null }), 415],
      // tokens
      ['no token', () => api.get('/api/auth/me', { token: null }), 401],
      ['Basic', me('Basic dXNlcjpwYXNz'), 401],
      ['Bearer alone', me('Bearer'), 401],
      ['a token of 10 kB', me(`Bearer ${'a'.repeat(10000)}`), 401],
      ['three dots', me('Bearer ...'), 401],
      ['alg none', me(`Bearer ${jwt({ alg: 'none', typ: 'JWT' }, claims)}`), 401],
      ['alg None with the key', me(`Bearer ${jwt({ alg: 'None', typ: 'JWT' }, claims, secret)}`), 401],
      ['alg HS512 signed as HS256', me(`Bearer ${jwt({ alg: 'HS512', typ: 'JWT' }, claims, secret)}`), 401],
      ['alg RS256', me(`Bearer ${jwt({ alg: 'RS256', typ: 'JWT' }, claims, secret)}`), 401],
      ['no alg', me(`Bearer ${jwt({ typ: 'JWT' }, claims, secret)}`), 401],
      ['signed with another key', me(`Bearer ${jwt(hs256, claims, 'another-secret')}`), 401],
      ['expired', me(`Bearer ${jwt(hs256, { ...claims, iat: now - 10, exp: now - 5 }, secret)}`), 401],
      ['exp as text', me(`Bearer ${jwt(hs256, { ...claims, exp: String(now + 1000) }, secret)}`), 401],
      ['is_admin as text', me(`Bearer ${jwt(hs256, { ...claims, is_admin: 'true' }, secret)}`), 401],
      ['no jti', me(`Bearer ${jwt(hs256, { ...claims, jti: undefined }, secret)}`), 401],
      ['no exp', me(`Bearer ${jwt(hs256, { ...claims, exp: undefined }, secret)}`), 401],
      ['the payload changed', me(`Bearer ${user.token.split('.')[0]}.${b64({ ...claims, is_admin: true })}.${user.token.split('.')[2]}`), 401],
      ['a forged admin with the right key is no admin', () => api.get('/api/admin/stats', { token: jwt(hs256, { ...claims, is_admin: true }, secret) }), 403],
      // other people's things
      ["another's instance", () => user.api.get(`/api/instances/${theirs.id}`), 404],
      ["rename another's", () => user.api.patch(`/api/instances/${theirs.id}`, { name: 'mine' }), 404],
      ["delete another's", () => user.api.delete(`/api/instances/${theirs.id}`), 404],
      ["connect another's", () => user.api.post(`/api/instances/${theirs.id}/connect`), 404],
      ["another's history", () => user.api.get(`/api/instances/${theirs.id}/status-history`), 404],
      ['admin pages', () => user.api.get('/api/admin/users'), 403],
      ['make me admin', () => user.api.post(`/api/admin/users/${user.user_id}/make-admin`), 403],
      ['SQL as an id', () => user.api.get(`/api/instances/${encodeURIComponent("x' OR '1'='1")}`), 404],
      ['an id of 5,000 characters', () => user.api.get(`/api/instances/${'x'.repeat(5000)}`), 404],
      // internal
      ['internal without a key', internal('/validate-key', { api_key: 'x' }), 401],
      ['internal with a wrong key', internal('/validate-key', { api_key: 'x' }, 'wrong'), 401],
      ['internal with an empty key', internal('/validate-key', { api_key: 'x' }, ''), 401],
      ["internal with a user's token", () => user.api.post('/api/internal/validate-key', { api_key: 'x' }), 401],
      ['an unknown tunnel token', internal('/validate-key', { api_key: `tk_${'0'.repeat(64)}` }, system.internalKey), 200],
      ['a tunnel token of a number', internal('/validate-key', { api_key: 5 }, system.internalKey), 400],
      ['a report for an unknown instance', internal('/instances/inst_nothing/tunnel-connected', {}, system.internalKey), 404],
      ['a negative byte count', internal('/tunnel/usage', { session_id: 'x', user_id: 'y', bytes_in: -1, bytes_out: 0 }, system.internalKey), 400],
      // paths and methods
      ['an unknown path', () => api.get('/api/nothing'), 404],
      ['dot segments', () => raw(port, [head('GET /api/../../../etc/passwd')]), [400, 404]],
      ['encoded dot segments', () => raw(port, [head('GET /%2e%2e/%2e%2e/etc/passwd')]), [400, 404]],
      ['backslashes', () => raw(port, [head('GET /..\\..\\etc\\passwd')]), [400, 404]],
      ['an encoded NUL in the path', () => raw(port, [head('GET /api/instances/%00')]), [400, 401, 404]],
      ['a double slash', () => raw(port, [head('GET //api//instances', token)]), [400, 404]],
      ['a path of 20 kB', () => raw(port, [head(`GET /${'a'.repeat(20000)}`)]), [400, 414, 431]],
      ['TRACE', () => raw(port, [head('TRACE /api/instances')]), 405],
      ['CONNECT', () => raw(port, [head('CONNECT /api/instances')]), [400, 405]],
      ['PUT where PATCH is', () => user.api.request('PUT', `/api/instances/${mine.id}`, { body: { name: 'x' } }), 405],
      ['an invented method', () => raw(port, [head('FROBNICATE /api/instances')]), [400, 405]],
      // HTTP itself
      ['headers of 50 kB', () => raw(port, [head('GET /api/auth/me', { 'x-large': 'a'.repeat(50000) })]), 431],
      ['headers of 100 kB', () => raw(port, [head('GET /api/auth/me', { 'x-large': 'a'.repeat(100000) })]), [400, 431]],
      ['1,000 headers', () => raw(port, [head('GET /api/auth/me', Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`x-h${i}`, 'v'])))]), [400, 431]],
      ['a negative Content-Length', () => raw(port, [head('POST /api/auth/login', { ...json, 'content-length': -5 })]), 400],
      ['two Content-Lengths', () => raw(port, [`POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}`]), 400],
      ['Content-Length and chunked', () => raw(port, [`POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`]), [400, 401]],
      ['chunked nonsense', () => raw(port, [`POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nnonsense\r\n\r\n`]), 400],
      ['chunked, 70 kB', () => raw(port, [`POST /api/instances HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${user.token}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`, ...Array.from({ length: 70 }, () => `400\r\n${' '.repeat(1024)}\r\n`), '0\r\n\r\n']), 413],
      ['a header without a colon', () => raw(port, ['GET /api/auth/me HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n']), 400],
      ['a header with a NUL', () => raw(port, ['GET /api/auth/me HTTP/1.1\r\nHost: a\r\nX-A: a\0b\r\n\r\n']), 400],
      ['no HTTP at all', () => raw(port, ['\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n']), 400],
      ['a body shorter than it says, then silence', () => raw(port, [head('POST /api/auth/login', { ...json, 'content-length': 500 }), '{"email":"a"'], { timeout: 30000 }), [400, 408]],
      ['a request that trickles', () => raw(port, Array.from({ length: 60 }, (_, i) => (i === 0 ? 'GET /api/auth/me HTTP/1.1\r\n' : `X-${i}: y\r\n`)), { every: 500, timeout: 30000 }), [400, 408]],
      ['a forged edge header', () => api.get('/api/auth/me', { token: null, headers: { 'x-bore-edge': 'guess', 'x-forwarded-for': '10.0.0.1' } }), 401],
      ['a forged request id', () => api.get('/api/nothing', { headers: { 'x-request-id': 'a b;c"d<e>' } }), 404]
    ]
    assert.ok(cases.length >= 60)
    const parserCases = new Set(['CONNECT', 'headers of 100 kB', '1,000 headers', 'a negative Content-Length', 'two Content-Lengths', 'chunked nonsense',
      'a header without a colon', 'no HTTP at all', 'a request that trickles'])

    const slow = cases.filter(([what]) => /trickles|silence/.test(what))
    const quick = cases.filter((entry) => !slow.includes(entry))
    const rows = []
    const judge = async ([what, act, expected]) => {
      const answer = await act()
      const allowed = [expected].flat()
      rows.push([what, answer.status, answer.json?.error ?? ''])
      assert.ok(allowed.includes(answer.status), `${what}: ${answer.status}, not ${allowed}: ${answer.text.slice(0, 600)}`)
      assert.ok(answer.status < 500, what)
      // what HAProxy cannot parse as HTTP at all it answers with its own fixed page, which no configuration can change
      const isParserPage = [400, 408].includes(answer.status) && /<html><body><h1>4\d\d [A-Za-z -]+<\/h1>\n[A-Za-z ,.']+\n<\/body><\/html>\n$/.test(answer.text)
      if (isParserPage) assert.ok(parserCases.has(what), `${what}: the edge's own page`)
      else if (answer.status >= 400) {
        assert.ok(answer.json?.error, `${what}: an error in the common form: ${answer.text.slice(0, 600)}`)
        assert.ok(answer.json.message && answer.json.request_id, `${what}: message and request_id`)
        assert.ok(/^[A-Za-z0-9._-]{1,64}$/.test(answer.json.request_id), `${what}: a sane request id`)
      }
      assert.ok(!/postgres|libpq|SELECT |pg_|stack|0x[0-9a-f]{6}/i.test(answer.text.replace(/x-[a-z-]+:.*/gi, '')), `${what}: nothing of the inside`)
    }
    const failures = []
    const guarded = (entry) => judge(entry).catch((error) => failures.push(error.message))
    const slowOnes = slow.map(guarded)
    for (const entry of quick) await guarded(entry)
    await Promise.all(slowOnes)
    for (const [what, status, error] of rows) console.log(`# ${String(status).padEnd(4)} ${error.padEnd(22)} ${what}`)
    console.log(`# ${rows.length} hostile requests`)
    assert.deepEqual(failures, [])

    for (const [name, before] of Object.entries(pids)) assert.deepEqual(system.pids(name), before, `${name} did not restart`)
    assert.equal((await api.get('/health')).status, 200)
    assert.equal((await user.api.get(`/api/instances/${theirs.id}`)).status, 404)
    assert.equal((await other.api.get(`/api/instances/${theirs.id}`)).json.name, theirs.name)
    for (const service of ['gateway', 'auth', 'registry', 'stream', 'edge', 'bus']) {
      const log = system.log(service)
      for (const hidden of [user.token, other.refresh_token, system.internalKey, secret, 'test123-password'])
        assert.ok(!log.includes(hidden), `no secret in the log of ${service}`)
    }
  })

  test('500 connections that never finish their request do not keep others waiting', async () => {
    const { system } = sut
    const sockets = Array.from({ length: 500 }, () => {
      const socket = net.connect(system.port, '127.0.0.1')
      socket.on('error', () => {})
      socket.write('POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{')
      return socket
    })
    await waitFor(() => sockets.every((socket) => !socket.connecting), 'the connections')
    const user = await system.user()
    const times = []
    for (let i = 0; i < 50; i++) {
      const answer = await user.api.get('/api/auth/me')
      assert.equal(answer.status, 200)
      times.push(answer.ms)
    }
    console.log(`# beside 500 half-open requests: GET /auth/me worst ${Math.max(...times).toFixed(1)} ms`)
    for (const socket of sockets) socket.destroy()
  })
})
