// settings.test.js: one table of settings: what --help of each process lists, what the documents say, and what is
// refused at start in one clear line. No system is started.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { describe, test } from 'node:test'
import { root } from './support/system.js'

const programs = path.join(path.resolve(root, process.env.BORE_BUILD ?? 'build'), 'bin')
const GOOD = { JWT_SECRET: '9f2c4b7d1e8a6035c7d4e9b1f0a28364', INTERNAL_API_KEY: 'k7Gq2vX9pL4mZ8tR', EDGE_SECRET: 'f81b0c2e7d' }
const DATABASE = ['stream', 'auth', 'registry', 'monitor', 'alerter', 'metrics']

/** Every declaration of config.def: { name, kind, preset, readers(process) }. */
const settings = fs
  .readFileSync(path.join(root, 'services/lib/config.def'), 'utf8')
  .split('\n')
  .map((line) => line.match(/^CONFIG\((\w+), (\w+), \w+, "([^"]*)", [^"]*?, ([A-Z |&~]+), "([^"]+)"\)$/))
  .filter(Boolean)
  .map(([, kind, name, preset, readers, help]) => ({
    kind,
    name,
    preset,
    help,
    isReadBy: (process) => {
      if (readers === 'ALL') return true
      if (readers === 'ALL & ~IMPORT') return process !== 'import'
      return readers.split(' | ').some((word) => word.toLowerCase() === process || (word === 'DATABASE' && DATABASE.includes(process)))
    }
  }))

/** Runs a process in an empty directory with nothing but these settings. */
function start(process, args = [], env = {}) {
  const cwd = fs.mkdtempSync(path.join(os.tmpdir(), 'bore-settings.'))
  try {
    const { status, stdout, stderr } = spawnSync(path.join(programs, `bore-${process}`), args, { cwd, env, encoding: 'utf8', timeout: 10000 })
    return { status, stdout, stderr }
  } finally {
    fs.rmSync(cwd, { recursive: true })
  }
}

/** Ended with 2 and exactly one line that says `words`, and nothing of `hidden`. */
function refusedAtStart(result, process, words, hidden) {
  assert.equal(result.status, 2, `${process}: ${result.stderr}`)
  assert.equal(result.stdout, '')
  assert.match(result.stderr, /^[^\n]+\n$/, `one line: ${result.stderr}`)
  assert.ok(result.stderr.startsWith(`bore-${process}: `), result.stderr)
  for (const word of words) assert.ok(result.stderr.includes(word), `${word} in: ${result.stderr}`)
  if (hidden) assert.ok(!result.stderr.includes(hidden), 'a secret is not printed')
}

describe('settings', () => {
  // The two that serve containers only have an argument and no settings of their own.
  const small = ['healthcheck', 'setup']
  const processes = fs.readdirSync(programs).filter((name) => name.startsWith('bore-')).map((name) => name.slice(5)).filter((name) => !small.includes(name))
  const roleOf = (process) => (process === 'migrate' ? 'import' : process) // migrate reads what import reads

  test('the processes that there must be', () => {
    for (const process of ['alerter', 'auth', 'bus', 'gateway', 'import', 'metrics', 'migrate', 'monitor', 'registry', 'stream']) assert.ok(processes.includes(process), process)
    assert.ok(settings.length > 50, 'the table was read')
  })

  test('--help of each process lists its own settings, with default and meaning, and no other', () => {
    for (const process of processes) {
      const { status, stdout, stderr } = start(process, ['--help'])
      assert.equal(status, 0, stderr)
      const listed = [...stdout.matchAll(/^ {2}([A-Z][A-Z0-9_]+) \(/gm)].map(([, name]) => name)
      const expected = settings.filter((setting) => setting.isReadBy(roleOf(process)))
      assert.deepEqual(listed.sort(), expected.map(({ name }) => name).sort(), process)
      for (const { name, preset, help, kind } of expected) {
        assert.ok(stdout.includes(help), `${process}: ${name} has its meaning`)
        if (preset && kind !== 'SECRET') assert.ok(stdout.match(new RegExp(`^ {2}${name} \\(.*${preset.replace(/[.*+?^$()|[\]\\]/g, '\\$&')}`, 'm')), `${process}: ${name} has its default`)
      }
    }
  })

  test('--version', () => {
    const version = fs.readFileSync(path.join(root, 'CHANGELOG.md'), 'utf8').match(/^## *\[?v?(\d[\w.-]*)/m)?.[1] ?? '0.0.0'
    for (const process of processes) {
      const { status, stdout } = start(process, ['--version'])
      assert.equal(status, 0)
      assert.ok(stdout.includes(version), `${process}: ${stdout}`)
    }
  })

  test('README and .env.example have the settings of config.def', () => {
    for (const file of ['README.md', '.env.example']) {
      const fresh = execFileSync('awk', ['-f', 'tools/settings_doc.awk', 'services/lib/config.def', file], { cwd: root, encoding: 'utf8' })
      assert.equal(fs.readFileSync(path.join(root, file), 'utf8'), fresh, `${file}: make docs`)
    }
    const readme = fs.readFileSync(path.join(root, 'README.md'), 'utf8')
    for (const { name, preset } of settings) assert.ok(readme.includes(`| \`${name}\` | ${preset && `\`${preset}\``} |`), name)
  })

  test('an unknown option, and a word too many', () => {
    for (const process of processes) {
      refusedAtStart(start(process, ['--verbose'], GOOD), process, ['--verbose', '--help'])
      refusedAtStart(start(process, ['now'], GOOD), process, ['now'])
    }
  })

  test('weak and example secrets', () => {
    const weak = [undefined, '', 'short', 'your-super-secret-jwt-key-change-in-production', 'changeme-changeme-changeme-changeme', 'x'.repeat(40), 'abababababababababababababababababababab', 'my-password-is-longer-than-32-characters', GOOD.JWT_SECRET.slice(1)]
    for (const [name, readers] of [['JWT_SECRET', ['gateway', 'stream', 'auth']], ['INTERNAL_API_KEY', ['gateway']]]) {
      for (const process of readers) {
        for (const value of weak) {
          if (name === 'INTERNAL_API_KEY' && value === GOOD.JWT_SECRET.slice(1)) continue
          const env = { ...GOOD, [name]: value }
          if (value === undefined) delete env[name]
          refusedAtStart(start(process, [], env), process, [name, 'openssl rand'], value?.length > 10 ? value : undefined)
        }
      }
    }
  })

  test('values out of bounds or of the wrong type name the setting', () => {
    for (const [process, name, value] of [
      ['auth', 'DB_PORT', 'abc'],
      ['auth', 'DB_PORT', '0'],
      ['auth', 'DB_PORT', '65536'],
      ['auth', 'BCRYPT_COST', '3'],
      ['auth', 'PRO_SELF_SERVICE', 'maybe'],
      ['auth', 'JWT_TTL_SECONDS', '-1'],
      ['auth', 'JWT_TTL_SECONDS', '1h'],
      ['registry', 'TUNNEL_TOKEN_TTL_SECONDS', '0'],
      ['registry', 'IDLE_TIMEOUT_SECONDS', 'nan'],
      ['gateway', 'GATEWAY_THREADS', '1e9'],
      ['stream', 'STREAM_MAX', '12 000'],
      ['bus', 'BUS_QUEUE_MAX', '99999999999999999999']
    ])
      refusedAtStart(start(process, [], { ...GOOD, [name]: value }), process, [name])
  })

  test('an empty value counts as not set; a broken .env is named by its line', () => {
    const cwd = fs.mkdtempSync(path.join(os.tmpdir(), 'bore-settings.'))
    fs.writeFileSync(path.join(cwd, '.env'), '# fine\nDB_PORT=5432\nthis is nothing\n')
    const run = () => spawnSync(path.join(programs, 'bore-auth'), ['now'], { cwd, env: { ...GOOD, DB_PORT: '' }, encoding: 'utf8' })
    refusedAtStart(run(), 'auth', ['now'])
    const broken = spawnSync(path.join(programs, 'bore-auth'), [], { cwd, env: GOOD, encoding: 'utf8', timeout: 10000 })
    refusedAtStart(broken, 'auth', ['.env', '3'])
    fs.writeFileSync(path.join(cwd, '.env'), 'DB_PORT=70000\n')
    refusedAtStart(spawnSync(path.join(programs, 'bore-auth'), [], { cwd, env: GOOD, encoding: 'utf8', timeout: 10000 }), 'auth', ['DB_PORT'])
    fs.rmSync(cwd, { recursive: true })
  })
})
