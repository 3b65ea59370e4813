// report.js: the frame of a bench: a system of its own, a line for each figure, `ok` or `FAIL` where it has a goal, and
// `N passed, N failed` at the end.
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { System, root } from '../system/support/system.js'

let passed = 0
let failed = 0

export const build = path.resolve(root, process.env.BORE_BUILD ?? 'build')

/** A directory for files of this run; gone at its end. */
export const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'bore-bench.'))

export const line = (what, text) => console.log(`${what.padEnd(55)} ${text}`)

export function judge(what, holds, text) {
  if (holds) passed++
  else failed++
  line(`${holds ? 'ok  ' : 'FAIL'} ${what}`, text)
}

/** Starts a system with these settings, measures, and ends the process, with 1 if a goal was missed. */
export async function bench(env, measure) {
  try {
    const system = await System.start({ env })
    try {
      await measure(system)
    } catch (error) {
      system.printLogs()
      throw error
    } finally {
      await system.stop()
    }
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true })
  }
  console.log(`${passed} passed, ${failed} failed`)
  process.exit(failed ? 1 : 0)
}
