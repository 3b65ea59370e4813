// socketio.js: the official Socket.IO client with everything it heard kept, for tests to wait on.
import { io } from 'socket.io-client'
import { waitFor } from './system.js'

export class SocketClient {
  /** options: token, auth (merged), transports, and whatever else the official client takes. */
  constructor(url, { token, auth, ...options } = {}) {
    this.events = [] // { name, args, cursor, at }
    this.connects = [] // { id, recovered, transport }
    this.disconnects = []
    this.errors = []
    this.socket = io(url, { auth: { token, ...auth }, forceNew: true, reconnectionDelay: 100, reconnectionDelayMax: 500, ...options })
    this.socket.onAny((name, ...args) => this.events.push({ name, args: args.slice(0, -1), cursor: args.at(-1), at: performance.now() }))
    this.socket.on('connect', () => this.connects.push({ id: this.socket.id, recovered: this.socket.recovered, transport: this.transport }))
    this.socket.on('disconnect', (reason) => this.disconnects.push(reason))
    this.socket.on('connect_error', (error) => this.errors.push(error))
  }

  static async open(url, options) {
    const client = new SocketClient(url, options)
    await client.until(() => client.connects.length > 0 && client.named('connected').length > 0, 'the connection').catch((error) => {
      client.close()
      throw error
    })
    return client
  }

  get transport() {
    return this.socket.io.engine?.transport?.name
  }

  named(name) {
    return this.events.filter((event) => event.name === name)
  }

  /** [instance id, status] of each change, in order of arrival. */
  get changes() {
    return this.named('status-change').map(({ args: [change] }) => [change.instanceId, change.status])
  }

  until(find, what, options) {
    return waitFor(() => find(this), what, options).catch((error) => {
      const heard = this.events.slice(-10).map((event) => `${event.name} ${JSON.stringify(event.args)} ${event.cursor}`)
      throw new Error(`${error.message}; disconnects ${this.disconnects}, errors ${this.errors.map((e) => e.message)}; heard last:\n${heard.join('\n')}`)
    })
  }

  status(instanceId, status) {
    return this.until(() => this.changes.some(([id, is]) => id === instanceId && is === status), `${instanceId} to become ${status}`)
  }

  emit(name, argument) {
    return this.socket.timeout(10000).emitWithAck(name, argument)
  }

  close() {
    this.socket.close()
  }
}
