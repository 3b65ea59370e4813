// report.js: what a bench prints: a line for each figure, `ok` or `FAIL` where it has a goal, and `N passed, N failed` at
// the end.
let passed = 0
let failed = 0

export const line = (what, text) => console.log(`${what.padEnd(55)} ${text}`)

export function judge(what, holds, text) {
  if (holds) passed++
  else failed++
  line(`${holds ? 'ok  ' : 'FAIL'} ${what}`, text)
}

/** The last line; ends the process, with 1 if a goal was missed. */
export function finish() {
  console.log(`${passed} passed, ${failed} failed`)
  process.exit(failed ? 1 : 0)
}
