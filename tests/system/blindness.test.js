// blindness.test.js: outages in their short form, with a shortened timeout, in two systems side by side. Times are
// printed, not judged.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { blindnessTest, outages } from '../chaos/blindness.js'

describe('nobody is falsely offline, and who died is found', { concurrency: 2 }, () => {
  for (const [what, kind] of Object.entries({ 'whatever of ours freezes, and whatever the clock does': /frozen|clock/, 'whatever of ours is stopped': /stopped/ }))
    test(what, { timeout: 300000 }, async () => {
      const only = outages.map(({ name }) => name).filter((name) => kind.test(name))
      const figures = await blindnessTest({ timeoutSeconds: 2, outageMs: 3500, only })
      assert.deepEqual(Object.keys(figures), only)
    })
})
