// blindness.test.js: outages in their short form, with a shortened timeout, in a system for each kind, two at once. Times are
// printed, not judged.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { blindnessTest, outages } from '../chaos/blindness.js'
import { isSanitized } from './support/system.js'

describe('nobody is falsely offline, and who died is found', { concurrency: 2 }, () => {
  for (const [what, kind] of Object.entries({ 'whatever of ours freezes': /frozen/, 'whatever of ours is stopped': /stopped/, 'whatever the clock does': /clock/ }))
    test(what, { timeout: 300000, skip: isSanitized && what.includes('clock') && 'libfaketime and AddressSanitizer both want to be loaded first' }, async () => {
      const only = outages.map(({ name }) => name).filter((name) => kind.test(name))
      const figures = await blindnessTest({ timeoutSeconds: 2, outageMs: 3500, only })
      assert.deepEqual(Object.keys(figures), only)
    })
})
