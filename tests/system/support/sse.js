// sse.js: a client of GET /api/events/status that keeps every message, reconnects with Last-Event-ID like a browser,
// and lets a test wait for what it expects.
import http from 'node:http'
import { createParser } from 'eventsource-parser'

export class EventStream {
  /** @param {string} base @param {{token?: string, query?: string, headers?: object, lastEventId?: string, reconnect?: boolean}} options */
  constructor(base, options = {}) {
    this.base = new URL(base)
    this.options = options
    this.lastEventId = options.lastEventId
    this.retryMs = 2000
    this.messages = [] // { id, event, data, json, at }
    this.comments = []
    this.opens = 0
    this.waiters = new Set()
    this.closed = false
    this.opened = this.#connect()
  }

  #connect() {
    const headers = { accept: 'text/event-stream', ...this.options.headers }
    if (this.options.token) headers.authorization = `Bearer ${this.options.token}`
    if (this.lastEventId) headers['last-event-id'] = this.lastEventId
    const path = `/api/events/status${this.options.query ?? ''}`
    return new Promise((resolve, reject) => {
      this.request = http.get({ host: this.base.hostname, port: this.base.port, path, headers, agent: false }, (response) => {
        this.statusCode = response.statusCode
        this.headers = response.headers
        if (response.statusCode !== 200) {
          let text = ''
          response.setEncoding('utf8')
          response.on('data', (chunk) => (text += chunk))
          response.on('end', () => {
            this.refusal = text
            this.#ended()
            reject(new Error(`stream refused: ${response.statusCode} ${text}`))
          })
          return
        }
        this.opens++
        this.response = response
        const parser = createParser({
          onEvent: (event) => this.#take(event),
          onRetry: (ms) => (this.retryMs = ms),
          onComment: (comment) => {
            this.comments.push(comment)
            this.#wake()
          }
        })
        response.setEncoding('utf8')
        response.on('data', (chunk) => parser.feed(this.#noteIds(chunk)))
        response.on('end', () => this.#ended())
        response.on('error', () => this.#ended())
        resolve(this)
      })
      this.request.on('error', (error) => {
        this.#ended()
        reject(error)
      })
    }).catch((error) => {
      if (!this.options.reconnect) throw error
    })
  }

  // An id-only block dispatches nothing, but moves Last-Event-ID.
  #noteIds(chunk) {
    this.tail = ((this.tail ?? '') + chunk).slice(-8192)
    const complete = this.tail.slice(0, this.tail.lastIndexOf('\n\n') + 2)
    const ids = complete.match(/^id: (.+)$/gm)
    if (ids) this.lastEventId = ids[ids.length - 1].slice(4)
    return chunk
  }

  #take(event) {
    let json
    try {
      json = JSON.parse(event.data)
    } catch {
      json = undefined
    }
    this.messages.push({ ...event, json, at: performance.now() })
    this.#wake()
  }

  #wake() {
    for (const waiter of [...this.waiters]) waiter()
  }

  #ended() {
    this.ended = true
    this.#wake()
    if (this.closed || !this.options.reconnect) return
    setTimeout(() => {
      if (this.closed) return
      this.ended = false
      this.tail = ''
      this.#connect()
    }, this.options.retryMs ?? Math.min(this.retryMs, 200))
  }

  /** Status changes only. */
  get changes() {
    return this.messages.filter((message) => !message.event && message.json?.instanceId)
  }

  /** Resolves to what `find(this)` returns as soon as that is truthy; rejects after 30 s with all that came. */
  until(find, what = 'a condition', timeout = 30000) {
    return new Promise((resolve, reject) => {
      const check = () => {
        const found = find(this)
        if (!found) return
        this.waiters.delete(check)
        clearTimeout(timer)
        resolve(found)
      }
      const timer = setTimeout(() => {
        this.waiters.delete(check)
        const seen = this.messages.slice(-20).map((message) => `${message.id} ${message.event ?? ''} ${message.data}`)
        reject(new Error(`waited ${timeout} ms for ${what}; the last messages:\n${seen.join('\n')}`))
      }, timeout)
      this.waiters.add(check)
      check()
    })
  }

  /** The next status change of an instance to this status, at or after `from` in messages. */
  status(instanceId, status, from = 0) {
    return this.until(
      () => this.messages.slice(from).find((message) => message.json?.instanceId === instanceId && message.json?.status === status && !message.event),
      `${instanceId} to become ${status}`
    )
  }

  close() {
    this.closed = true
    this.request?.destroy()
  }
}
