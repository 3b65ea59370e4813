// openapi.test.js: /api/openapi.json is a valid description of OpenAPI 3.1, has every route, and tells the truth: each
// described route answers, and real answers and refusals fit their schemas.
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import Ajv2020 from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { Validator } from '@seriousme/openapi-schema-validator'
import { answered } from './support/expect.js'
import { systemFor, waitFor } from './support/system.js'

/** API.md, route by route: "METHOD path" with :name for a parameter. */
const ROUTES = `
  POST /api/auth/signup
  POST /api/auth/login
  GET /api/auth/me
  POST /api/auth/claim-plan
  POST /api/auth/refresh
  POST /api/auth/logout
  POST /api/auth/logout-all
  GET /api/auth/sessions
  DELETE /api/auth/sessions/:id
  POST /api/auth/change-password
  GET /api/instances
  POST /api/instances
  GET /api/instances/:id
  PATCH /api/instances/:id
  DELETE /api/instances/:id
  POST /api/instances/:id/connect
  POST /api/instances/:id/heartbeat
  GET /api/instances/:id/health
  POST /api/instances/:id/disconnect
  PATCH /api/instances/:id/connection
  GET /api/instances/:id/status-history
  GET /api/instances/:id/sessions
  GET /api/instances/:id/alerts
  GET /api/instances/status-strips
  GET /api/admin/instances
  GET /api/admin/stats
  GET /api/admin/alerts
  GET /api/admin/users
  POST /api/admin/users/:id/make-admin
  POST /api/admin/users/:id/remove-admin
  POST /api/admin/users/:id/disable
  POST /api/admin/users/:id/enable
  POST /api/admin/users/:id/reset-password
  DELETE /api/admin/users/:id
  POST /api/admin/users/:id/plan
  POST /api/admin/users/:id/revoke-sessions
  GET /api/admin/audit
  POST /api/internal/validate-key
  POST /api/internal/instances/:id/tunnel-connected
  POST /api/internal/instances/:id/tunnel-disconnected
  POST /api/internal/tunnel/start
  POST /api/internal/tunnel/end
  POST /api/internal/tunnel/usage
  POST /api/internal/servers
  GET /api/events/status
  GET /metrics
  GET /health
  GET /livez
`.trim().split(/\s*\n\s*/)

describe('openapi', () => {
  const sut = systemFor({ before, after, afterEach })
  let document

  /** [{ route: "METHOD /path/:id", method, path, operation }] of the document. */
  const operations = () =>
    Object.entries(document.paths).flatMap(([path, item]) =>
      Object.entries(item)
        .filter(([method]) => /^(get|post|patch|put|delete)$/.test(method))
        .map(([method, operation]) => ({ method: method.toUpperCase(), path, operation, route: `${method.toUpperCase()} ${path.replace(/\{\w+\}/g, ':id')}` }))
    )

  /** Checks a value against the schema of an operation's answer. */
  function fits(route, status, value) {
    const found = operations().find((one) => one.route === route)
    assert.ok(found, `${route} is described`)
    let answer = found.operation.responses[status]
    assert.ok(answer, `${route}: ${status} is described`)
    if (answer.$ref) answer = document.components.responses[answer.$ref.split('/').pop()]
    const type = Object.keys(answer.content)[0]
    if (type !== 'application/json') return assert.equal(typeof value, 'string', `${route} is ${type}`)
    const ajv = new Ajv2020({ strict: false, allErrors: true })
    addFormats.default(ajv)
    ajv.addFormat('password', true)
    ajv.addSchema({ $id: 'https://document.test/', components: document.components })
    const schema = JSON.parse(JSON.stringify(answer.content['application/json'].schema).replaceAll('"#/components', '"https://document.test/#/components'))
    const validate = ajv.compile(schema)
    assert.ok(validate(value), `${route} ${status}: ${JSON.stringify(validate.errors)} in ${JSON.stringify(value)}`)
  }

  before(async () => {
    document = answered(await sut.system.api.get('/api/openapi.json'), 200)
  })

  test('is valid OpenAPI 3.1', async () => {
    assert.equal(document.openapi, '3.1.0')
    const result = await new Validator().validate(document)
    assert.ok(result.valid, JSON.stringify(result.errors, null, 1))
    const again = answered(await sut.system.api.get('/api/v1/openapi.json'), 200)
    assert.deepEqual(again, document)
  })

  test('has every route of the interface; each operation has its own id and its errors', () => {
    const described = operations().map((one) => one.route)
    for (const route of ROUTES) assert.ok(described.includes(route), `${route} is described`)
    const ids = operations().map((one) => one.operation.operationId)
    assert.equal(new Set(ids).size, ids.length)
    for (const { route, operation, path } of operations()) {
      assert.ok(operation.summary, route)
      const statuses = Object.keys(operation.responses)
      assert.ok(statuses.some((status) => /^2/.test(status)), route)
      if (!path.startsWith('/api/auth/') && path.startsWith('/api/') && !path.endsWith('.json')) assert.ok(statuses.includes('401'), `${route} names 401`)
      for (const name of path.match(/\{(\w+)\}/g) ?? [])
        assert.ok(operation.parameters?.some((parameter) => parameter.in === 'path' && `{${parameter.name}}` === name && parameter.required), `${route}: ${name}`)
    }
  })

  test('every described route answers, and asks for what it says it asks for', async () => {
    const { system } = sut
    const { api } = system
    const admin = await system.admin()
    for (const { method, path, operation, route } of operations()) {
      if (path === '/api/events/status') continue // an open stream: stream.test.js
      const target = path.replace(/\{\w+\}/g, 'nothing')
      const security = (operation.security ?? []).flatMap((entry) => Object.keys(entry))
      if (path === '/metrics') await waitFor(async () => (await api.get(path)).status === 200, 'metrics') // needs two seconds
      const bare = await api.request(method, target, { token: null })
      const isGuarded = (operation.security ?? []).length > 0 && operation.security.every((entry) => Object.keys(entry).length > 0)
      assert.equal(bare.status === 401 && bare.json.error === 'unauthorized', isGuarded, `${route} without anything: ${bare.status}`)
      // The end of a session would be the end of this test.
      if (/logout/.test(path)) continue
      const options = security.includes('internalKey') ? { internal: true, token: null } : { token: isGuarded ? admin.token : null }
      const answer = await api.request(method, target, options)
      assert.notEqual(answer.status, 401, route)
      const isMissing = answer.status === 404 && answer.json?.error === 'not_found'
      assert.ok(!isMissing || path.includes('/sessions/{'), `${route} answers: ${answer.text}`)
      assert.ok(answer.status < 500, `${route}: ${answer.text}`)
      assert.ok(operation.responses[answer.status], `${route}: ${answer.status} is described: ${answer.text}`)
      fits(route, String(answer.status), answer.json ?? answer.text)
      const other = await api.request(method === 'PUT' ? 'PATCH' : 'PUT', target, options)
      assert.equal(other.status, 405, `${route} by another method: ${other.text}`)
      assert.ok(other.headers.allow.split(/,\s*/).includes(method))
    }
  })

  test('real answers fit their schemas', async () => {
    const { system } = sut
    const admin = await system.admin()
    const user = await system.user()
    const { api } = user
    const signup = await system.api.post('/api/auth/signup', { name: 'S', email: `schema-${process.pid}@test.example`, password: 'test123' })
    fits('POST /api/auth/signup', '201', signup.json)
    fits('POST /api/auth/refresh', '200', (await system.api.post('/api/auth/refresh', { refresh_token: user.refresh_token })).json)
    fits('GET /api/auth/me', '200', (await api.get('/api/auth/me')).json)
    fits('GET /api/auth/sessions', '200', (await api.get('/api/auth/sessions')).json)
    const created = await api.post('/api/instances', { name: 'schema', local_port: 80 })
    fits('POST /api/instances', '201', created.json)
    const { id } = created.json
    const at = `/api/instances/${id}`
    const connect = await api.post(`${at}/connect`)
    fits('POST /api/instances/:id/connect', '200', connect.json)
    fits('POST /api/internal/validate-key', '200', (await system.api.internalPost('/validate-key', { api_key: connect.json.tunnel_token })).json)
    fits('POST /api/internal/validate-key', '200', (await system.api.internalPost('/validate-key', { api_key: 'unknown' })).json)
    fits('POST /api/internal/instances/:id/tunnel-connected', '200', (await system.api.internalPost(`/instances/${id}/tunnel-connected`, { remotePort: 5000 })).json)
    const start = await system.api.internalPost('/tunnel/start', { user_id: user.user_id, public_port: 5000, local_port: 80, server_id: 's' })
    fits('POST /api/internal/tunnel/start', '200', start.json)
    fits('POST /api/internal/servers', '200', (await system.api.internalPost('/servers', { id: 's', host: 'a.example', port: 1, region: 'r', max_tunnels: 1 })).json)
    fits('GET /api/instances', '200', (await api.get('/api/instances?limit=1')).json)
    fits('GET /api/instances/:id', '200', (await api.get(at)).json)
    fits('PATCH /api/instances/:id', '200', (await api.patch(at, { name: 'other' })).json)
    fits('PATCH /api/instances/:id/connection', '200', (await api.patch(`${at}/connection`, {})).json)
    fits('POST /api/instances/:id/heartbeat', '200', (await api.post(`${at}/heartbeat`, { cpu_usage: 5, memory_usage: 'x' })).json)
    fits('GET /api/instances/:id/health', '200', (await api.get(`${at}/health?samples=1`)).json)
    fits('GET /api/instances/:id/status-history', '200', (await api.get(`${at}/status-history?limit=1`)).json)
    fits('GET /api/instances/:id/sessions', '200', (await api.get(`${at}/sessions`)).json)
    fits('GET /api/instances/:id/alerts', '200', (await api.get(`${at}/alerts`)).json)
    fits('GET /api/instances/status-strips', '200', (await api.get('/api/instances/status-strips')).json)
    for (const page of ['instances', 'stats', 'users', 'audit', 'alerts']) fits(`GET /api/admin/${page}`, '200', (await admin.api.get(`/api/admin/${page}`)).json)
    fits('POST /api/admin/users/:id/reset-password', '200', (await admin.api.post(`/api/admin/users/${user.user_id}/reset-password`)).json)
    fits('GET /health', '200', (await system.api.get('/health')).json)
    fits('GET /livez', '200', (await system.api.get('/livez')).json)
  })

  test('/docs is a page of its own, without scripts from elsewhere', async () => {
    const page = await sut.system.api.get('/docs')
    assert.equal(page.status, 200)
    assert.match(page.headers['content-type'], /^text\/html/)
    assert.match(page.headers['content-security-policy'], /default-src 'none'/)
    assert.ok(!/(src|href)="(https?:)?\/\//.test(page.text), 'nothing from other hosts')
  })
})
