// chaos.test.js: the crash test in its short form: each process is killed once. Times are printed, not judged.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crashTest, printFigures, victims } from '../chaos/crash.js'

test('kill -9 of each process in turn loses nothing that was acknowledged', { timeout: 300000 }, async () => {
  const figures = await crashTest({ rounds: 1 })
  printFigures(figures)
  assert.deepEqual(Object.keys(figures.recovery), victims)
})
