// tunnel_world.js: plays a plan (tunnel_plan.js) against a running system in real time, over HTTP as its client, its user
// and its bore-server speak it, and knows the truth: which tunnel is open, and what the instance's status must say at last.
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

export class TunnelWorld {
  constructor({ system, user, instance, plan }) {
    Object.assign(this, { system, user, instance, plan, lines: [], tasks: new Set(), turn: Promise.resolve() })
    this.server = `bore-server-${plan.seed}`
    this.sessions = plan.sessions.map((session, number) => ({ ...session, number, validated: false, open: false, ended: false, disowned: false }))
    this.disconnected = false // by the user, with no token since
  }

  note(text) {
    this.lines.push(`${(performance.now() - this.started).toFixed(0).padStart(6)} ${text}`)
  }

  /** Resolves when the last copy of the last report has arrived; rejects when a request failed. */
  async run() {
    this.started = performance.now()
    this.note(new Date().toISOString())
    this.#after(this.sessions[0].dialAt, () => this.#dial(this.sessions[0]))
    while (this.tasks.size > 0) await Promise.all(this.tasks)
  }

  /** What the instance must be when all has arrived. */
  truth() {
    const open = this.sessions.filter((session) => session.open && !session.disowned)
    if (open.length > 0) return { status: 'active', connected: true, port: open.at(-1).port, open: open.length }
    return { status: this.disconnected ? 'inactive' : 'offline', connected: false, port: null, open: 0 }
  }

  describe() {
    const { seed, kind, story } = this.plan
    return `REPORTS_SEED=${seed} REPORTS_KIND=${kind} REPORTS_STORY=${story} ${this.instance.id}\n${this.lines.join('\n')}`
  }

  #after(ms, action) {
    const task = pause(ms)
      .then(action)
      .finally(() => this.tasks.delete(task))
    this.tasks.add(task)
  }

  /** What decides about a token is done one after the other, so that the truth is never a race. */
  #inTurn(action) {
    this.turn = this.turn.then(action)
    return this.turn
  }

  async #ask(what, request) {
    const answer = await request
    if (answer.status !== 200) throw new Error(`${what}: ${answer.status} ${answer.text}\n${this.describe()}`)
    return answer.json
  }

  // --- the client and the user -----------------------------------------------------------------------------------------

  async #connect(session) {
    const answer = await this.#ask('connect', this.user.api.post(`/api/instances/${this.instance.id}/connect`))
    this.token = answer.tunnel_token
    this.disconnected = false
    this.note(`tunnel ${session.number}: a new token`)
  }

  async #dial(session) {
    await this.#inTurn(async () => {
      if (!session.sameToken) await this.#connect(session)
      while (!session.validated) {
        const answer = await this.#ask('validate-key', this.system.api.internalPost('/validate-key', { api_key: this.token }))
        session.validated = answer.valid
        this.note(`tunnel ${session.number}: ${answer.message}`)
        if (!answer.valid) await this.#connect(session)
      }
    })
    if (session.userAt) this.#after(session.userAt - session.dialAt, () => this.#userDisconnects())
    if (session.opens) {
      this.#after(session.opensAt - session.dialAt, () => this.#open(session))
    } else {
      session.ended = true
      this.#dialNext(session, session.dialAt)
    }
  }

  /** As long after now as planned after that moment: what came late before does not bring them nearer. */
  #dialNext(session, since) {
    const next = this.sessions[session.number + 1]
    if (next) this.#after(next.dialAt - since, () => this.#dial(next))
  }

  #userDisconnects() {
    return this.#inTurn(async () => {
      await this.#ask('disconnect', this.user.api.post(`/api/instances/${this.instance.id}/disconnect`))
      this.disconnected = true
      this.note('the user disconnects')
      for (const session of this.sessions) {
        if (!session.validated || session.ended) continue
        session.disowned = true
        if (session.endsWhenDisowned === null) continue // its client does not hear of it
        session.life = session.endsWhenDisowned ?? 50
        if (session.open) this.#after(session.life, () => this.#end(session))
      }
    })
  }

  // --- the bore-server -------------------------------------------------------------------------------------------------

  #open(session) {
    // a port has one tunnel at a time
    if (this.sessions.some((other) => other.open && other.port === session.port)) return this.#after(20, () => this.#open(session))
    session.open = true
    this.note(`tunnel ${session.number} is open on ${session.port}`)
    if (this.plan.kind === 'usage' || this.plan.kind === 'bound') this.#start(session)
    if (this.plan.kind !== 'bound') this.#connected(session)
    if (session.life < Infinity) this.#after(session.life, () => this.#end(session))
    this.#dialNext(session, session.opensAt)
  }

  #end(session) {
    if (session.ended) return
    session.open = false
    session.ended = true
    this.note(`tunnel ${session.number} has ended`)
    if (this.plan.kind === 'bound') this.#farewell(session)
    else this.#disconnected(session)
    if (this.plan.kind === 'usage') this.#farewell(session)
  }

  /** One report: its copies arrive each at its time. */
  #report(session, what, delays, path, body, use) {
    delays.forEach((delay, copy) =>
      this.#after(delay, async () => {
        this.note(`tunnel ${session.number}: ${what}`)
        const answer = await this.#ask(what, this.system.api.internalPost(path, body))
        use?.(answer, copy)
      })
    )
  }

  #names(session) {
    const { kind } = this.plan
    if (kind === 'named') return { session_id: `tunnel-${session.number}` }
    if (kind === 'numbered') return { sequence: 100 + session.number }
    return kind === 'bound' ? { session_id: session.id } : undefined
  }

  #connected(session) {
    const path = `/instances/${this.instance.id}/tunnel-connected`
    this.#report(session, 'connected', session.connected, path, { remotePort: session.port, ...this.#names(session) })
  }

  #disconnected(session) {
    const path = `/instances/${this.instance.id}/tunnel-disconnected`
    this.#report(session, 'disconnected', session.disconnected, path, this.#names(session))
  }

  #start(session) {
    const body = { user_id: this.user.user_id, public_port: session.port, local_port: 80, server_id: this.server }
    this.#report(session, 'start', session.start, '/tunnel/start', body, (answer, copy) => {
      if (copy !== session.answered) return
      session.id = answer.session_id
      const usage = { user_id: this.user.user_id, session_id: session.id, bytes_in: 1000, bytes_out: 2000 }
      this.#report(session, 'usage', session.usage, '/tunnel/usage', usage)
      if (this.plan.kind === 'bound') this.#connected(session)
      if (session.ended) this.#farewell(session)
    })
  }

  /** tunnel/end, as soon as tunnel/start is answered. */
  #farewell(session) {
    if (!session.id) return
    if (this.plan.kind === 'bound') this.#disconnected(session)
    this.#report(session, 'end', session.end, '/tunnel/end', { session_id: session.id, bytes_transferred: 3000 })
  }
}
