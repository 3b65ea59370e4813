// run.js: `make test-compose`. Everything that docker compose promises, against a real engine: a fresh clone comes up, the
// tour works, nothing but the edge answers, replicas share the work, no crash loses a word, a backup is a backup.
//
//   node tests/compose/run.js [STEP...]     only these steps, by their first words ("scale"); `up` always
// Ends with `N passed, N failed`, or with one line where no engine runs. KEEP=1 leaves the system running.
import { Compose, whyNoEngine } from './compose.js'
import * as basics from './basics.js'
import * as operations from './operations.js'
import * as replicas from './replicas.js'

const reason = whyNoEngine()
if (reason) {
  console.log(`test-compose: skipped: ${reason}`)
  process.exit(0)
}

const wanted = process.argv.slice(2)
const system = await Compose.create()
const tally = { passed: 0, failed: 0 }

async function step(name, act) {
  const started = performance.now()
  try {
    await act(system)
    tally.passed++
    console.log(`ok   ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)`)
    return true
  } catch (error) {
    tally.failed++
    console.log(`FAIL ${name}: ${error.stack ?? error}`)
    return false
  }
}

process.on('SIGINT', async () => {
  await system.remove()
  process.exit(130)
})
try {
  for (const [name, act] of Object.entries({ ...basics.steps, ...replicas.steps, ...operations.steps })) {
    const needed = name.startsWith('up')
    if (!needed && wanted.length > 0 && !wanted.some((word) => name.startsWith(word))) continue
    const good = await step(name, act)
    if (needed && !good) break
  }
  if (tally.failed > 0) system.printLogs()
} finally {
  if (!process.env.KEEP) await system.remove()
  else console.log(`# left running in ${system.directory}: COMPOSE_PROJECT_NAME=${system.project} PORT=${system.port}`)
}
console.log(`\n${tally.passed} passed, ${tally.failed} failed`)
process.exitCode = tally.failed ? 1 : 0
