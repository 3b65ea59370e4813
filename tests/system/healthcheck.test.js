// healthcheck.test.js: the programs that containers are asked with: is this process well, is it stuck itself, is the
// database at this version.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { root, systemFor } from './support/system.js'

const build = path.resolve(root, process.env.BORE_BUILD ?? 'build')

describe('healthcheck', () => {
  const sut = systemFor({ before, after, afterEach })

  /** Runs a program with the environment of a process of the system; resolves to { status, text }. */
  function run(program, args, env = {}) {
    const { system } = sut
    const [pid] = system.pids('registry')
    const inherited = Object.fromEntries(fs.readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').filter(Boolean).map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]))
    return new Promise((resolve) => {
      const child = spawn(path.join(build, 'bin', program), args, { env: { ...inherited, ...env }, cwd: '/' })
      let text = ''
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk))
      child.on('close', (status) => resolve({ status, text: text.trim() }))
    })
  }
  const check = (args, env) => run('bore-healthcheck', args, env)

  test('every process is heard on the bus; a replica that is not there is not', async () => {
    for (const name of ['bus', 'auth', 'registry', 'gateway', 'stream']) assert.deepEqual(await check([name], { BORE_INSTANCE: '1' }), { status: 0, text: '' }, name)
    for (const args of [['registry'], ['--live', 'registry']]) assert.deepEqual(await check(args, { BORE_INSTANCE: '77' }), { status: 1, text: 'others are heard on the bus, it is not' })
  })

  test('a process that is stopped is stuck; one that cannot reach the bus is not', async () => {
    const { system } = sut
    const [pid] = system.kill('registry', 'SIGSTOP')
    assert.equal((await check(['--live', 'registry'])).status, 1)
    process.kill(pid, 'SIGCONT')
    const nowhere = { BUS_URL: 'tcp://127.0.0.1:9' }
    assert.deepEqual(await check(['registry'], nowhere), { status: 1, text: 'nobody is heard on the bus' })
    assert.equal((await check(['--live', 'registry'], nowhere)).status, 0)
  })

  test('over HTTP: 200 and nothing else', async () => {
    const { system } = sut
    assert.equal((await check([`${system.url}/livez`])).status, 0)
    assert.deepEqual(await check([`${system.url}/no-such-page`]), { status: 1, text: 'it does not answer 200' })
    assert.equal((await check(['http://127.0.0.1:9/livez'])).status, 1)
    assert.equal((await check([])).status, 2)
  })

  test('bore-migrate: done already is done; a newer schema is refused', async () => {
    const { system } = sut
    const done = await run('bore-migrate', [])
    assert.equal(done.status, 0, done.text)
    assert.match(done.text, /the database is at this version/)
    system.sql("INSERT INTO bore.schema_migrations (number, name) VALUES (999, 'of tomorrow')")
    const refused = await run('bore-migrate', [])
    system.sql('DELETE FROM bore.schema_migrations WHERE number = 999')
    assert.equal(refused.status, 1)
    assert.match(refused.text, /start a newer program/)
  })
})
