// receiver.js: an HTTP or HTTPS endpoint that a test runs as Slack or SendGrid: remembers what it was sent, and answers as
// it is told; and the certificates for it, made by openssl.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import os from 'node:os'
import path from 'node:path'

/** A directory with ca.pem, localhost.{key,pem} of that CA, and stranger.{key,pem} of nobody's. Remove it when done. */
export function makeCertificates() {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'bore-ca.'))
  fs.chmodSync(directory, 0o755) // the system under test may run as another user
  const openssl = (...args) => execFileSync('openssl', args, { cwd: directory, stdio: 'ignore' })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=Test CA', '-addext', 'basicConstraints=critical,CA:TRUE')
  openssl('req', '-x509', ...key, '-keyout', 'localhost.key', '-out', 'localhost.pem', ...names, '-CA', 'ca.pem', '-CAkey', 'ca.key')
  openssl('req', '-x509', ...key, '-keyout', 'stranger.key', '-out', 'stranger.pem', ...names)
  return directory
}

export const certificate = (directory, name) => ({
  key: fs.readFileSync(path.join(directory, `${name}.key`)),
  cert: fs.readFileSync(path.join(directory, `${name}.pem`))
})

export class Receiver {
  /** tls: { key, cert } for HTTPS. answer: what it says when nothing else is planned. */
  static async start({ tls, answer = (response) => response.end('ok') } = {}) {
    const receiver = new Receiver()
    Object.assign(receiver, { tls, answer, requests: [], planned: [], port: 0 })
    await receiver.up()
    return receiver
  }

  get url() {
    return `${this.tls ? 'https://localhost' : 'http://127.0.0.1'}:${this.port}`
  }

  /** Listens, on the port it had before. */
  async up() {
    const handler = (request, response) => this.#take(request, response)
    this.server = this.tls ? https.createServer(this.tls, handler) : http.createServer(handler)
    this.server.on('clientError', (_, socket) => socket.destroy())
    this.server.on('tlsClientError', () => this.refusals++)
    await new Promise((resolve, reject) => this.server.once('error', reject).listen(this.port, '127.0.0.1', resolve))
    this.port = this.server.address().port
    this.refusals = 0
  }

  /** Refuses connections from now on, and ends those that are open. */
  async down() {
    const closed = new Promise((resolve) => this.server.close(resolve))
    this.server.closeAllConnections()
    await closed
  }

  /** Shows another certificate to new connections, and ends the old ones. */
  use(tls) {
    this.server.setSecureContext(tls)
    this.server.closeAllConnections()
  }

  /** The next requests that contain the word are answered by these functions (response, request), one each. */
  plan(word, ...answers) {
    this.planned.push(...answers.map((answer) => ({ word, answer })))
  }

  #take(request, response) {
    const chunks = []
    request.on('data', (chunk) => chunks.push(chunk))
    request.on('end', () => {
      const text = Buffer.concat(chunks).toString('utf8')
      const seen = { method: request.method, path: request.url, headers: request.headers, text, json: undefined, at: performance.now(), ok: false }
      try {
        seen.json = JSON.parse(text)
      } catch {
        // the test looks at the text
      }
      this.requests.push(seen)
      const place = this.planned.findIndex(({ word }) => text.includes(word))
      seen.ok = place < 0
      const answer = seen.ok ? this.answer : this.planned.splice(place, 1)[0].answer
      answer(response, seen)
    })
  }

  /** Requests that were answered well and whose text contains all of these. */
  accepted(...words) {
    return this.requests.filter((request) => request.ok && words.every((word) => request.text.includes(word)))
  }
}

/** Answers for plan(). */
export const say = (status, headers = {}, body = '') => (response) => response.writeHead(status, headers).end(body)
export const saySilence = () => () => {}
export const sayEndless = () => (response) => {
  response.writeHead(500)
  const more = () => {
    while (!response.destroyed && response.write('x'.repeat(65536)));
    if (!response.destroyed) response.once('drain', more)
  }
  more()
}
/** One byte now and then, for ever. */
export const sayDrip = () => (response) => {
  response.writeHead(200, { 'content-length': '100000' })
  const timer = setInterval(() => response.write('x'), 50)
  response.on('close', () => clearInterval(timer))
}
