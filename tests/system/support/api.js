// api.js: one HTTP client of the system under test: JSON in and out, keep-alive, nothing hidden.
import http from 'node:http'

export class Api {
  /** @param {string} base e.g. http://127.0.0.1:3000, or unix:PATH */
  constructor(base, { token, internalKey, sockets = 64 } = {}) {
    const { protocol, hostname: host, port, pathname } = new URL(base)
    this.server = protocol === 'unix:' ? { socketPath: pathname } : { host, port }
    this.token = token
    this.internalKey = internalKey
    this.agent = new http.Agent({ keepAlive: true, maxSockets: sockets })
  }

  /** The same connection pool, another caller. */
  as(token) {
    return Object.assign(Object.create(Api.prototype), this, { token })
  }

  /** Sends anything; resolves to { status, headers, text, json, ms }; rejects only when no answer came. */
  request(method, path, { body, headers = {}, raw, timeout = 10000, internal = false, token = this.token } = {}) {
    const payload = raw ?? (body === undefined ? undefined : JSON.stringify(body))
    const all = { ...headers }
    if (payload !== undefined && !('content-type' in all)) all['content-type'] = 'application/json'
    if (token && !('authorization' in all)) all.authorization = `Bearer ${token}`
    if (internal) all['x-internal-api-key'] = this.internalKey
    const started = performance.now()
    return new Promise((resolve, reject) => {
      const request = http.request(
        { ...this.server, method, path, headers: all, agent: this.agent, timeout },
        (response) => {
          const chunks = []
          response.on('data', (chunk) => chunks.push(chunk))
          response.on('error', reject)
          response.on('end', () => {
            const text = Buffer.concat(chunks).toString('utf8')
            let json
            try {
              json = JSON.parse(text)
            } catch {
              json = undefined
            }
            resolve({ status: response.statusCode, headers: response.headers, text, json, ms: performance.now() - started })
          })
        }
      )
      request.on('timeout', () => request.destroy(new Error(`no answer within ${timeout} ms: ${method} ${path}`)))
      request.on('error', reject)
      request.end(payload)
    })
  }

  get(path, options) {
    return this.request('GET', path, options)
  }
  post(path, body, options) {
    return this.request('POST', path, { body, ...options })
  }
  patch(path, body, options) {
    return this.request('PATCH', path, { body, ...options })
  }
  delete(path, options) {
    return this.request('DELETE', path, options)
  }
  /** What a bore-server sends. */
  internalPost(path, body, options) {
    return this.request('POST', `/api/internal${path}`, { body, internal: true, token: null, ...options })
  }

  close() {
    this.agent.destroy()
  }
}
