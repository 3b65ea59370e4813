// heart.js: a client that sends heartbeats, as those in the field do, and goes on when one fails.

export class Heart {
  /** every: milliseconds between two; each gives up after 3 s, as clients in the field do. */
  constructor(user, instance, { every = 300, timeout = 3000 } = {}) {
    Object.assign(this, { user, instance, every, timeout, count: 0, failed: 0, beating: false })
  }

  /** One heartbeat; resolves to its answer. */
  async beat(body) {
    const answer = await this.user.api.post(`/api/instances/${this.instance.id}/heartbeat`, body, { timeout: this.timeout })
    if (answer.status !== 200) throw new Error(`heartbeat: ${answer.status} ${answer.text}`)
    this.count++
    this.heardAt = performance.now()
    return answer
  }

  start() {
    this.beating = true
    this.running = (async () => {
      while (this.beating) {
        await this.beat().catch(() => this.failed++)
        await new Promise((resolve) => setTimeout(resolve, this.every))
      }
    })()
    return this
  }

  stop() {
    this.beating = false
    return this.running
  }

  /** Resolves when so many more were heard. */
  async beats(more) {
    const wanted = this.count + more
    const until = performance.now() + 30000
    while (this.count < wanted) {
      if (performance.now() > until) throw new Error(`no ${more} heartbeats within 30 s`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  async beatsAndStop(more) {
    await this.beats(more)
    await this.stop()
  }
}
