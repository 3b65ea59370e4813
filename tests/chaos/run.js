// run.js: `make chaos`. The crash test in its long form; this one judges times: service back within 3 s, no request
// beyond the 3 s after which clients in the field give up.
import { crashTest, printFigures } from './crash.js'

const rounds = Number(process.env.ROUNDS ?? 5)
const figures = await crashTest({ rounds, settleMs: 2000 })
printFigures(figures)
const slow = Object.entries(figures.recovery).filter(([, times]) => Math.max(...times) > 3000)
const failed = slow.length + (figures.longestRequestMs > 3000 ? 1 : 0)
for (const [victim, times] of slow) console.log(`not back within 3 s after ${victim}: ${times.join(', ')} ms`)
if (figures.longestRequestMs > 3000) console.log(`a request took ${figures.longestRequestMs} ms`)
console.log(`${Object.keys(figures.recovery).length + 1 - failed} passed, ${failed} failed`)
process.exit(failed ? 1 : 0)
