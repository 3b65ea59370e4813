// run.js: `make chaos`. The crash test and the outages in their long form; this one judges times: service back within 3 s,
// no request beyond the 3 s after which clients in the field give up; a client that died during an outage found within
// its timeout and 2 s of covered time. ONLY=crash or ONLY=blindness runs one of them; OUTAGES is a
// pattern of those to run, OUTAGE_SECONDS is 40.
import { blindnessTest, outages } from './blindness.js'
import { crashTest, printFigures } from './crash.js'

let passed = 0
let failed = 0
function judge(holds, complaint) {
  if (holds) passed++
  else {
    failed++
    console.log(complaint)
  }
}

async function crashes() {
  const rounds = Number(process.env.ROUNDS ?? 5)
  const figures = await crashTest({ rounds, settleMs: 2000 })
  printFigures(figures)
  for (const [victim, times] of Object.entries(figures.recovery))
    judge(Math.max(...times) <= 3000, `not back within 3 s after ${victim}: ${times.join(', ')} ms`)
  judge(figures.longestRequestMs <= 3000, `a request took ${figures.longestRequestMs} ms`)
}

async function blindness() {
  const timeoutSeconds = 10
  const only = outages.map(({ name }) => name).filter((name) => new RegExp(process.env.OUTAGES ?? '').test(name))
  const figures = await blindnessTest({ timeoutSeconds, outageMs: Number(process.env.OUTAGE_SECONDS ?? 40) * 1000, every: 2000, living: 10, only })
  for (const [name, { coveredMs }] of Object.entries(figures))
    judge(coveredMs <= timeoutSeconds * 1000 + 2000, `${name}: the dead client was found after ${coveredMs} ms of covered time`)
}

const parts = { crash: crashes, blindness }
for (const [name, part] of Object.entries(parts)) if (!process.env.ONLY || process.env.ONLY === name) await part()
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed ? 1 : 0)
