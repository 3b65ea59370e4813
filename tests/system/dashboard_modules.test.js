// dashboard_modules.test.js: the dashboard's modules that are pure: stream blocks, cursors, strips, words.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { compareCursors, place } from '../../services/gateway/web/app/cursor.js'
import { ago, duration, percent, size } from '../../services/gateway/web/app/format.js'
import { instance, putList, putRows, putStatus, renameRow } from '../../services/gateway/web/app/instances.js'
import { BlockParser } from '../../services/gateway/web/app/sse.js'
import { gradient, shares, totals } from '../../services/gateway/web/app/strip.js'

describe('dashboard modules', () => {
  test('blocks come whole, however the text is cut', () => {
    const text = ': keep-alive\n\nretry: 2000\nid: e-7\ndata: {"a":1}\n\nid: e-8\n\nevent: instance\r\nid: e-9\r\ndata: x\r\ndata:y\r\n\r\nnothing\n\n'
    const expected = [
      { id: 'e-7', name: '', data: '{"a":1}' },
      { id: 'e-8', name: '', data: null },
      { id: 'e-9', name: 'instance', data: 'x\ny' }
    ]
    for (let step = 1; step <= text.length; step++) {
      const parser = new BlockParser()
      const blocks = []
      for (let at = 0; at < text.length; at += step) blocks.push(...parser.feed(text.slice(at, at + step)))
      assert.deepEqual(blocks, expected, `in parts of ${step}`)
    }
  })

  test('cursors of one epoch are ordered by number; of two epochs not at all', () => {
    assert.ok(compareCursors('a-9', 'a-10') < 0)
    assert.equal(compareCursors('a-10', 'a-10'), 0)
    assert.ok(Number.isNaN(compareCursors('a-1', 'b-2')))
  })

  test('what was seen is old, what follows is next, everything else is a hole', () => {
    assert.equal(place('a-10', 'a-9', 'a-10'), 'old')
    assert.equal(place('a-10', 'a-10', 'a-15'), 'next')
    assert.equal(place('a-10', 'a-8', 'a-15'), 'next')
    assert.equal(place('a-10', 'a-11', 'a-15'), 'hole')
    assert.equal(place('a-10', 'b-10', 'b-11'), 'hole')
  })

  test('an answer that was under way takes back neither a name nor a status', () => {
    const moment = (ms) => new Date(ms).toISOString()
    const row = (name, status, at) => ({ id: 'inst_1', name, status, status_reason: '', created_at: moment(0), status_since: moment(at),
      updated_at: moment(at), heartbeat_age_ms: null })
    const told = () => { const { name, status } = instance('inst_1').peek(); return [name, status] }
    putList([row('before', 'active', 1000)], 1)
    renameRow('inst_1', 'after', 2000)
    putStatus('inst_1', 'offline', 'closed', 2500)
    for (const take of [putRows, putList]) {
      take([row('before', 'active', 1000)], 2)
      assert.deepEqual(told(), ['after', 'offline'])
    }
    putRows([row('newest', 'online', 3000)], 3)
    assert.deepEqual(told(), ['newest', 'online'])
  })

  test('strips: stretches are cut to the time shown, and the present is always seen', () => {
    const at = (hour) => new Date(Date.UTC(2026, 0, 1, hour)).toISOString()
    const parts = shares([{ status: 'online', from: at(0), to: at(6) }, { status: 'offline', from: at(6), to: at(12) }], Date.parse(at(3)), Date.parse(at(15)))
    assert.deepEqual(parts, [{ status: 'online', start: 0, end: 0.25 }, { status: 'offline', start: 0.25, end: 0.75 }])
    assert.match(gradient(parts), /var\(--fill-offline\) 25.00% 75.00%, transparent 75.00% 100%/)
    assert.deepEqual(totals(parts), [{ status: 'offline', share: 0.5 }, { status: 'online', share: 0.25 }])
    const young = shares([{ status: 'online', from: at(0), to: new Date(Date.parse(at(12)) - 1000).toISOString() }, { status: 'error', from: new Date(Date.parse(at(12)) - 1000).toISOString(), to: null }], Date.parse(at(0)), Date.parse(at(12)))
    assert.equal(young.at(-1).status, 'error')
    assert.ok(young.at(-1).end - young.at(-1).start >= 0.01)
    assert.match(gradient([{ status: 'x);evil', start: 0, end: 1 }]), /^linear-gradient\(to right, var\(--fill-inactive\) 0.00% 100.00%\)$/)
  })

  test('words for times, sizes and shares', () => {
    assert.deepEqual([0, 59999, 60000, 3600000, 3900000, 86400000 * 3 + 3600000].map(duration), ['0 s', '59 s', '1 min', '1 h', '1 h 5 min', '3 d 1 h'])
    assert.deepEqual([ago(500), ago(5000)], ['just now', '5 s ago'])
    assert.deepEqual([null, 0, 999, 1500, 2e6, 123456789].map(size), ['not reported', '0 B', '999 B', '1.5 kB', '2.0 MB', '123 MB'])
    assert.deepEqual([100, 99.999, 98.76, 50].map(percent), ['100 %', '99.99 %', '98.7 %', '50 %'])
  })
})
