// tunnel_plan.js: what happens to one instance, from a seed: when its client dials, which tunnels open, for how long and on
// which port, when its user disconnects, and how each report of the bore-server travels. tunnel_world.js plays it.
//
// A report is sent up to three times. Copies are lost, but one at least arrives; each travels for itself, up to LATE_MS,
// so reports and copies come in any order. What the kinds of bore-server say, and the least that must hold for the truth
// to be found in it:
//   named      connected and disconnected bear a session_id of the bore-server's own: nothing more
//   numbered   they bear a sequence: nothing more
//   bound      tunnel/start is sent first and answered soon, and they bear the session_id that it answered; then tunnel/end:
//              nothing more
//   usage      they bear nothing; tunnel/start, usage and tunnel/end are sent beside them
//   plain      they bear nothing, and that is all. Copies of a disconnected stay clear of other sessions, because nothing
//              tells them from another one's first; what follows a session lives longer than a report may be late, and is
//              dialed when the connected of the one before has arrived; a tunnel that its user disconnected ends when
//              another one follows
// Where the user disconnects, every tunnel that was validated does open. On one port, what names nothing (and a
// tunnel/start never does) can only be told apart when it is WINDOW_MS away from its like.

export const LATE_MS = 2500
export const WINDOW_MS = 4500
export const KINDS = ['named', 'numbered', 'bound', 'usage', 'plain']
export const STORIES = ['once', 'reconnects', 'user', 'overtaken']

/** Numbers that follow from a seed (mulberry32). */
export class Dice {
  constructor(seed) {
    this.state = seed >>> 0
    for (let i = 0; i < 8; i++) this.next()
  }

  next() {
    this.state = (this.state + 0x6d2b79f5) | 0
    let value = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state)
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value
    return ((value ^ (value >>> 14)) >>> 0) / 4294967296
  }

  between(least, most) {
    return least + Math.floor(this.next() * (most - least + 1))
  }

  chance(percent) {
    return this.next() * 100 < percent
  }
}

/** When the copies of a report that arrive do so, in ms after the first was sent: 1 to `most` of them, in no order. */
function copies(dice, { most = 3, least = 5, latest = LATE_MS } = {}) {
  const arriving = dice.chance(45) ? 1 : dice.between(1, most)
  return Array.from({ length: arriving }, () => (dice.chance(50) ? dice.between(least, Math.max(least, 80)) : dice.between(least, latest)))
}

function lifetime(dice, { plain, follows, ownPort }) {
  if (ownPort) return dice.between(LATE_MS + WINDOW_MS, LATE_MS + WINDOW_MS + 1000)
  if (plain && follows) return dice.between(LATE_MS + 300, 5000)
  return dice.chance(40) ? dice.between(20, 1500) : dice.between(1500, 5000)
}

/** When the next tunnel is dialed: while this one is open, at once after it, or later. */
function nextDial(dice, story, session, plain) {
  const ends = session.opensAt + session.life
  const way = story === 'overtaken' ? 1 : dice.between(0, 2)
  let at = ends + dice.between(LATE_MS + 500, 5000)
  if (way === 0) at = ends - dice.between(0, 3000)
  if (way === 1) at = ends + dice.between(10, story === 'overtaken' ? 300 : 2000)
  if (session.ownPort) at = Math.max(at, ends + 50)
  // whose user has disconnected often connects anew at once
  if (session.userAt && dice.chance(50)) at = session.userAt + dice.between(50, 2000)
  return Math.max(at, plain ? session.opensAt + LATE_MS + 300 : session.dialAt + 50)
}

/** The way of a tunnel's reports; `next`: when another one is dialed, or Infinity. */
function planReports(dice, { kind, story, session, sessions, next }) {
  const ends = session.opensAt + session.life
  const crowded = next < ends + LATE_MS + 300 || sessions.some((other) => other.opens && other.opensAt + other.life + LATE_MS > ends)
  session.connected = copies(dice)
  session.disconnected = copies(dice, {
    most: kind === 'plain' && crowded ? 1 : 3,
    least: story === 'overtaken' && next < Infinity ? LATE_MS / 2 : 5
  })
  session.start = copies(dice, { latest: kind === 'bound' ? LATE_MS / 5 : LATE_MS })
  session.answered = dice.between(0, session.start.length - 1) // the copy whose answer is not lost
  session.usage = copies(dice)
  session.end = copies(dice)
}

/** A port that no tunnel before had: a server that chooses by chance hardly gives one anew within WINDOW_MS. */
function anotherPort(dice, sessions) {
  let port
  do port = dice.between(10000, 65000)
  while (sessions.some((other) => other.port === port))
  return port
}

/** @returns {{kind, story, seed, sessions: object[]}} times in ms from the beginning */
export function planTunnels(seed, kind, story) {
  const dice = new Dice(seed)
  const plain = kind === 'plain'
  const count = story === 'once' ? 1 : dice.between(2, 4)
  const ownPort = story === 'reconnects' && dice.chance(30) ? dice.between(1024, 9999) : 0
  const unhappy = story === 'user' ? dice.between(0, count - 1) : dice.chance(10) ? count - 1 : -1
  const sessions = []
  let dialAt = dice.between(0, 2000)
  for (let i = 0; i < count; i++) {
    const last = i === count - 1
    const before = sessions[i - 1]
    const session = { dialAt, opensAt: dialAt + dice.between(100, 400), ownPort: ownPort > 0 }
    session.port = ownPort || anotherPort(dice, sessions)
    session.sameToken = i > 0 && story !== 'overtaken' && dice.chance(before.opensAt + before.life > dialAt ? 70 : 30)
    session.opens = last || unhappy >= 0 || story === 'overtaken' || !dice.chance(10)
    session.life = session.opens ? lifetime(dice, { plain, follows: i > 0, ownPort: session.ownPort && !last && kind !== 'named' && kind !== 'numbered' }) : 0
    if (i === unhappy) {
      session.userAt = Math.max(dialAt + 30, session.opensAt + dice.between(-300, Math.min(session.life, 3000) + 500))
      const lingers = dice.chance(20) && (last || !plain)
      session.endsWhenDisowned = lingers ? null : dice.between(5, 500)
    }
    if (last && dice.chance(60)) session.life = Infinity
    dialAt = last ? Infinity : nextDial(dice, story, session, plain)
    planReports(dice, { kind, story, session, sessions, next: dialAt })
    sessions.push(session)
  }
  return { kind, story, seed, sessions }
}
