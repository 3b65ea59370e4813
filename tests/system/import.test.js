// import.test.js: ./bore import: users and instances of an older installation in the same database, with whatever columns
// it had; run again, nothing is added twice.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import path from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { answered, DAYS, isTime, refused } from './support/expect.js'
import { root, systemFor } from './support/system.js'

// bcrypt of old-secret-1, -2 and -3, by different programs of different times.
const HASHES = [
  '$2b$04$Y7etwNQv/5Wmi3eXGLBNAOWPTElDbz75Ggv681u9i38L3d3h88nnG',
  '$2a$05$58amS6K04.GxlJgxWNXrBewAhCC6zMsOMwNN9cmYwU0n/C3Yd1jly',
  '$2y$10$Dxz2Nw4Z55Uirm.ji8zpleOyOgb9Mw308hbfuCfDICWP1ZT26kyBa'
]

describe('import', () => {
  const sut = systemFor({ before, after, afterEach })

  /** ./bore import; resolves to { code, stdout, stderr }, whatever the code. */
  const run = (...args) =>
    new Promise((resolve) =>
      execFile(path.join(root, 'bore'), ['import', ...args], { env: sut.system.env, cwd: root, timeout: 60000 }, (error, stdout, stderr) =>
        resolve({ code: error ? error.code : 0, stdout, stderr })
      )
    )
  const login = (email, password) => sut.system.api.post('/api/auth/login', { email, password })
  const older = (text) => sut.system.sql(text)
  const clear = () => older('DROP TABLE IF EXISTS public.instances; DROP TABLE IF EXISTS public.users')
  const count = (what) => Number(older(`SELECT count(*) FROM bore.${what}`)[0][0])
  const snapshot = () => older('SELECT id, email, name, plan, is_admin FROM bore.users ORDER BY id').concat(older('SELECT id, user_id, name, status FROM bore.instances ORDER BY id'))

  test('without older tables: one clear line, and nothing is changed', async () => {
    const { code, stdout, stderr } = await run()
    assert.notEqual(code, 0)
    assert.equal(stdout, '')
    assert.match(stderr, /^bore-import: [^\n]*public\.users[^\n]*\n$/)
    assert.equal(count('imported'), 0)
  })

  test('--help and an unknown option', async () => {
    const help = await run('--help')
    assert.equal(help.code, 0)
    assert.match(help.stdout, /DB_HOST/)
    const wrong = await run('--force')
    assert.notEqual(wrong.code, 0)
    assert.match(wrong.stderr, /^bore-import: [^\n]*--force[^\n]*\n$/)
  })

  test('tables that lack what is needed are named, and nothing is copied', async () => {
    older('CREATE TABLE public.users (id integer, email text); CREATE TABLE public.instances (id text, name text)')
    const { code, stderr } = await run()
    assert.notEqual(code, 0)
    for (const missing of ['password', 'user_id', 'local_port']) assert.ok(stderr.includes(missing), stderr)
    clear()
  })

  test('a first kind of installation: numbers for users, text ids for instances', async () => {
    const { system } = sut
    older(`
      CREATE TABLE public.users (id serial PRIMARY KEY, email varchar(255) UNIQUE NOT NULL, password_hash text, name text, plan text,
        plan_expires timestamptz, is_admin boolean DEFAULT false, created_at timestamptz DEFAULT now());
      INSERT INTO public.users (email, password_hash, name, plan, plan_expires, is_admin, created_at) VALUES
        ('Ann@Old.Example', '${HASHES[0]}', 'Ann', 'pro', now() + interval '90 days', true, '2023-05-06T07:08:09.123Z'),
        ('bob@old.example', '${HASHES[1]}', 'Bob', 'trial', now() - interval '1 day', false, '2023-06-01T00:00:00Z'),
        ('plain@old.example', 'my-plain-password', 'Plain', 'pro', NULL, false, now()),
        ('no address', '${HASHES[0]}', 'Nobody', 'pro', NULL, false, now()),
        ('ANN@old.example', '${HASHES[2]}', 'Another Ann', 'pro', NULL, false, now()),
        ('cat@old.example', '${HASHES[2]}', NULL, 'gold', NULL, NULL, NULL);
      CREATE TABLE public.instances (id text PRIMARY KEY, user_id integer, name text, local_port integer, remote_port integer, region text,
        server_host text, public_url text, status text, created_at timestamptz);
      INSERT INTO public.instances VALUES
        ('inst_known1', 1, 'workstation', 8443, 31000, 'eu', 'bore.old.example', 'bore.old.example:31000', 'online', '2023-07-01T00:00:00Z'),
        ('inst_known2', 2, E'two\\nlines', 22, NULL, NULL, NULL, NULL, 'inactive', '2023-07-02T00:00:00Z'),
        ('550e8400-e29b-41d4-a716-446655440000', 1, 'by uuid', 80, NULL, NULL, NULL, NULL, 'error', '2023-07-03T00:00:00Z'),
        ('17', 1, 'a number', 80, NULL, NULL, NULL, NULL, NULL, NULL),
        ('inst_bad_port', 1, 'x', 70000, NULL, NULL, NULL, NULL, NULL, NULL),
        ('inst_orphan', 99, 'x', 80, NULL, NULL, NULL, NULL, NULL, NULL),
        ('inst_of_skipped', 3, 'x', 80, NULL, NULL, NULL, NULL, NULL, NULL)`)
    const stream = await system.stream(await system.admin(), { query: '?scope=all' })
    const { code, stdout, stderr } = await run()
    assert.equal(code, 0, stderr)
    assert.match(stdout, /^users: 3 copied .*3 skipped$/m)
    assert.match(stdout, /^instances: 4 copied .*3 skipped$/m)
    for (const [kind, id, why] of [
      ['user', '3', 'bcrypt'],
      ['user', '4', 'address'],
      ['user', '5', 'e-mail'],
      ['instance', 'inst_bad_port', 'port'],
      ['instance', 'inst_orphan', 'user'],
      ['instance', 'inst_of_skipped', 'user']
    ])
      assert.match(stdout, new RegExp(`${kind} ${id} skipped: .*${why}`), stdout)
    for (const secret of ['my-plain-password', ...HASHES.map((hash) => hash.slice(10))]) assert.ok(!(stdout + stderr).includes(secret), 'nothing secret is printed')

    const ann = answered(await login('ann@old.example', 'old-secret-1'), 200)
    assert.deepEqual([ann.user.name, ann.user.plan, ann.user.is_admin], ['Ann', 'pro', true])
    isTime(ann.user.plan_expires, { near: Date.now() + 90 * DAYS })
    const me = (await system.api.get('/api/auth/me', { token: ann.token })).json
    assert.equal(me.created_at, '2023-05-06T07:08:09.123Z')
    const bob = answered(await login('bob@old.example', 'old-secret-2'), 200)
    const cat = answered(await login('cat@old.example', 'old-secret-3'), 200)
    assert.deepEqual([cat.user.name, cat.user.plan, cat.user.is_admin], ['cat', 'trial', false])
    isTime(cat.user.plan_expires, { near: Date.now() + DAYS })
    refused(await login('ann@old.example', 'old-secret-3'), 401, 'invalid_credentials')
    refused(await login('plain@old.example', 'my-plain-password'), 401, 'invalid_credentials')
    answered(await login('ann@old.example', 'old-secret-1'), 200, undefined)

    const list = answered(await system.api.get('/api/instances', { token: ann.token }), 200).instances
    assert.deepEqual(
      list.map(({ name, status, local_port: port, region, server_host: host, tunnel_connected: open, public_url: url }) => [name, status, port, region, host, open, url]).sort(),
      [
        ['a number', 'inactive', 80, 'local', null, false, null],
        ['by uuid', 'error', 80, 'local', null, false, null],
        ['workstation', 'offline', 8443, 'eu', 'bore.old.example', false, null]
      ]
    )
    const ids = Object.fromEntries(list.map(({ name, id }) => [name, id]))
    assert.equal(ids.workstation, 'inst_known1', 'clients know it')
    assert.equal(ids['by uuid'], '550e8400-e29b-41d4-a716-446655440000')
    assert.match(ids['a number'], /^inst_[0-9a-f]{24}$/)
    assert.equal(list.find(({ id }) => id === 'inst_known1').created_at, '2023-07-01T00:00:00.000Z')
    const [two] = answered(await system.api.get('/api/instances', { token: bob.token }), 200).instances
    assert.equal(two.name, 'two lines')

    // They are instances like all others: on the stream, with a history, ready for a tunnel, in pages.
    const created = () => stream.messages.filter((message) => message.event === 'instance' && message.json.type === 'created').map((message) => message.json.instanceId)
    await stream.until(() => created().length >= 4, 'the events')
    assert.deepEqual(created().sort(), [...Object.values(ids), two.id].sort())
    stream.close()
    const owner = { api: system.api.as(ann.token) }
    for (const id of Object.values(ids)) {
      const { status_history: history } = answered(await owner.api.get(`/api/instances/${id}/status-history`), 200)
      assert.equal(history.length, 1)
      await system.connectTunnel(owner, { id })
      assert.equal((await owner.api.get(`/api/instances/${id}`)).json.status, 'active')
    }
    const pages = []
    for (let cursor = ''; cursor !== undefined; ) {
      const page = answered(await owner.api.get(`/api/instances?limit=1${cursor && `&cursor=${encodeURIComponent(cursor)}`}`), 200)
      pages.push(...page.instances.map(({ id }) => id))
      cursor = page.next_cursor
    }
    assert.deepEqual(pages.sort(), Object.values(ids).sort())
    answered(await owner.api.get('/api/admin/users'), 200)
  })

  test('again: nothing twice, what is new is added, what was deleted here stays deleted', async () => {
    const { system } = sut
    const before = snapshot()
    const events = count('events')
    const again = await run()
    assert.equal(again.code, 0)
    assert.match(again.stdout, /^users: 0 copied .*3 copied before/m)
    assert.match(again.stdout, /^instances: 0 copied .*4 copied before/m)
    assert.deepEqual(snapshot(), before)
    assert.equal(count('events'), events)

    const bob = answered(await login('bob@old.example', 'old-secret-2'), 200)
    answered(await system.api.delete('/api/instances/inst_known2', { token: bob.token }), 200)
    older(`
      UPDATE public.users SET name = 'Renamed there' WHERE id = 1;
      INSERT INTO public.users (id, email, password_hash, name) VALUES (50, 'new@old.example', '${HASHES[0]}', 'New');
      INSERT INTO public.instances (id, user_id, name, local_port) VALUES ('inst_late', 50, 'late', 80), ('inst_known3', 2, 'bob again', 80)`)
    const third = await run()
    assert.match(third.stdout, /^users: 1 copied/m)
    assert.match(third.stdout, /^instances: 2 copied/m)
    assert.deepEqual((await system.api.get('/api/instances', { token: bob.token })).json.instances.map(({ id }) => id), ['inst_known3'])
    assert.equal((await login('ann@old.example', 'old-secret-1')).json.user.name, 'Ann')
    const late = answered(await login('new@old.example', 'old-secret-1'), 200)
    assert.equal((await system.api.get('/api/instances', { token: late.token })).json.total, 1)
  })

  test('two at once add nothing twice', async () => {
    older(`INSERT INTO public.users (id, email, password_hash, name) SELECT 100 + n, 'many' || n || '@old.example', '${HASHES[0]}', 'Many' FROM generate_series(1, 300) AS n;
           INSERT INTO public.instances (id, user_id, name, local_port) SELECT 'inst_many' || n, 100 + n, 'many', 80 FROM generate_series(1, 300) AS n`)
    const [users, instances] = [count('users'), count('instances')]
    const runs = await Promise.all([run(), run()])
    assert.deepEqual(runs.map(({ code }) => code), [0, 0])
    assert.deepEqual(runs.map(({ stdout }) => Number(stdout.match(/^users: (\d+) copied/m)[1])).sort(), [0, 300])
    assert.deepEqual([count('users'), count('instances')], [users + 300, instances + 300])
  })

  test('another kind of installation: uuids, camelCase columns, roles; an admin made here gets the old one’s instances', async () => {
    const { system } = sut
    clear()
    const uuid = (n) => `00000000-0000-4000-8000-00000000000${n}`
    const other = await system.user()
    older(`
      CREATE TABLE public.users (id uuid PRIMARY KEY, email text, "passwordHash" text, username text, "planType" text,
        "planExpiresAt" timestamp, role text, "createdAt" bigint);
      INSERT INTO public.users VALUES
        ('${uuid(1)}', 'dora@old.example', '${HASHES[0]}', 'Dora', 'Enterprise', NULL, 'ADMIN', 1700000000000),
        ('${uuid(2)}', '${system.secret('ADMIN_EMAIL').toUpperCase()}', '${HASHES[1]}', 'Root', 'pro', NULL, 'admin', NULL),
        ('${uuid(3)}', '${other.email}', '${HASHES[1]}', 'Same e-mail', 'pro', NULL, 'user', NULL);
      CREATE TABLE public.instances (id serial PRIMARY KEY, "userId" uuid, name text, "localPort" text, server_region text, server_address text, "createdAt" text);
      INSERT INTO public.instances ("userId", name, "localPort", server_region, server_address, "createdAt") VALUES
        ('${uuid(1)}', 'dora 1', '8080', 'us', '192.0.2.7', '2024-02-30T00:00:00Z'),
        ('${uuid(2)}', 'root 1', '8080', NULL, NULL, '2024-02-03 04:05:06'),
        ('${uuid(3)}', 'other 1', '8080', NULL, NULL, NULL),
        ('${uuid(1)}', '', 'eighty', NULL, NULL, NULL)`)
    const { code, stdout, stderr } = await run()
    assert.equal(code, 0, stderr)
    assert.match(stdout, /^users: 1 copied .*1 joined, 1 skipped$/m)
    assert.match(stdout, /^instances: 2 copied \(2 with a new id\).*2 skipped$/m)
    const dora = answered(await login('dora@old.example', 'old-secret-1'), 200)
    assert.deepEqual([dora.user_id, dora.user.name, dora.user.plan, dora.user.plan_expires, dora.user.is_admin], [uuid(1), 'Dora', 'enterprise', null, true])
    assert.equal((await system.api.get('/api/auth/me', { token: dora.token })).json.created_at, '2023-11-14T22:13:20.000Z')
    const [hers] = (await system.api.get('/api/instances', { token: dora.token })).json.instances
    assert.deepEqual([hers.name, hers.local_port, hers.region, hers.server_host], ['dora 1', 8080, 'us', '192.0.2.7'])
    isTime(hers.created_at, { near: Date.now() })
    const admin = await system.admin()
    answered(await login(admin.email, system.secret('ADMIN_PASSWORD')), 200)
    const [own] = (await admin.api.get('/api/instances')).json.instances
    assert.deepEqual([own.name, own.created_at], ['root 1', '2024-02-03T04:05:06.000Z'])
    assert.equal((await other.api.get('/api/instances')).json.total, 0, 'whoever has the same e-mail here need not be the same person')
    answered(await login(other.email, other.password), 200)
  })

  test('the older tables were only read', async () => {
    assert.equal(Number(older('SELECT count(*) FROM public.users')[0][0]), 3)
    assert.equal(Number(older('SELECT count(*) FROM public.instances')[0][0]), 4)
    const admin = await sut.system.admin()
    const { entries } = (await admin.api.get('/api/admin/audit?limit=500')).json
    assert.ok(entries.filter((entry) => entry.action === 'import').length >= 3, 'and each run that copied something is told')
    clear()
  })
})
