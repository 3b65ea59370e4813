// dashboard.test.js: the dashboard in a real Chromium against the running system: what is live, and what is said when it is
// not; who sees what. (dashboard_pages.test.js: the pages themselves.)
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { LAN_HOST, browserFor, live, row } from './support/browser.js'
import { unique, waitFor } from './support/system.js'

const PASSWORD = 'test123-password'

describe('dashboard', { timeout: 240000 }, () => {
  const sut = browserFor({ before, after, afterEach })

  const openStreams = async () => (await (await sut.system.admin()).api.get('/api/admin/stats')).json.active_streams.sse
  const beat = async (user, id, body) => assert.equal((await user.api.post(`/api/instances/${id}/heartbeat`, body)).status, 200)
  const disconnected = (id) => sut.system.api.internalPost(`/instances/${id}/tunnel-disconnected`, {})
  /** Milliseconds until `act` is seen. */
  const timed = async (what, act, seen) => {
    const started = performance.now()
    await act()
    await seen()
    console.log(`# ${what}: seen after ${(performance.now() - started).toFixed(0)} ms`)
  }

  test('sign up, create, connect; the row turns active, degraded, offline without a reload; history has it all', async () => {
    const { system } = sut
    const page = await (await sut.profile()).newPage()
    await page.goto('/')
    await page.waitForURL('**/login')
    await page.getByRole('link', { name: 'Create an account' }).click()
    await page.getByLabel('Your name').fill('Ada')
    const email = `${unique('ada')}@test.example`
    await page.getByLabel('E-mail address').fill(email)
    await page.getByLabel('Password', { exact: true }).fill(PASSWORD)
    await page.getByRole('button', { name: 'Create account' }).click()
    await page.waitForURL('**/dashboard')
    await page.getByRole('button', { name: 'Create your first instance' }).click()
    await page.getByLabel('Name', { exact: true }).fill('workstation')
    await page.getByLabel('Local port').fill('8443')
    await page.getByRole('button', { name: 'Create instance' }).click()
    await row(page, 'workstation').getByText('Inactive').waitFor()
    await page.evaluate(() => (globalThis.neverReloaded = true))

    await row(page, 'workstation').getByRole('button', { name: 'Connect' }).click()
    const command = await page.getByLabel('Command').textContent()
    const [, host, token] = command.match(/^bore local 8443 --to (\S+) --secret (tk_[0-9a-f]{64})$/) ?? []
    assert.equal(host, '127.0.0.1', command)
    const { instance_id: id } = (await system.api.internalPost('/validate-key', { api_key: token })).json
    await page.getByText('Waiting for the tunnel…').waitFor()
    await timed('connected', () => system.api.internalPost(`/instances/${id}/tunnel-connected`, { remotePort: 31234 }),
      () => row(page, 'workstation').getByText('Active', { exact: true }).waitFor())
    await page.getByText('Reachable at 127.0.0.1:31234').waitFor()
    await page.getByRole('button', { name: 'Done' }).click()
    assert.equal(await page.getByText(token).count(), 0, 'the token is shown once')
    await row(page, 'workstation').getByText('127.0.0.1:31234').waitFor()

    const user = { api: system.api.as((await system.api.post('/api/auth/login', { email, password: PASSWORD })).json.token) }
    await timed('degraded', () => beat(user, id, { has_code_server: true, vscode_responsive: false, cpu_usage: 12.5, memory_usage: 900 }),
      () => row(page, 'workstation').getByText('Degraded', { exact: true }).waitFor())
    await row(page, 'workstation').getByText(/ago|just now/).waitFor()
    await timed('offline', () => disconnected(id), () => row(page, 'workstation').getByText('Offline', { exact: true }).waitFor())
    await row(page, 'workstation').getByText('not connected').waitFor()
    assert.match(await row(page, 'workstation').getByRole('img').getAttribute('aria-label'), /offline/)

    await row(page, 'workstation').getByRole('link', { name: 'workstation' }).click()
    await page.waitForURL(`**/instances/${id}`)
    const timeline = page.getByRole('region', { name: 'Timeline' })
    await timeline.getByText('Offline').waitFor()
    const words = await timeline.getByRole('listitem').locator('b').allTextContents()
    assert.deepEqual(words, ['Offline', 'Degraded', 'Active', 'Starting', 'Inactive'])
    await page.getByRole('region', { name: 'Uptime' }).getByText('%').first().waitFor()
    await page.getByRole('img', { name: /Processor over time: now 12.5 %/ }).waitFor()
    await page.getByRole('region', { name: 'Tunnel sessions' }).getByText(/closed after/).waitFor()
    await page.getByRole('region', { name: 'Alerts' }).getByText('Instance Offline').waitFor()
    assert.equal(await page.evaluate(() => globalThis.neverReloaded), true)
  })

  test('renamed in one tab, renamed in the other; deleted in one, gone from both', async () => {
    const user = await sut.system.user()
    await sut.system.instance(user, { name: 'first' })
    const context = await sut.signedIn(user)
    const [left, right] = [await context.newPage(), await context.newPage()]
    for (const page of [left, right]) {
      await page.goto('/dashboard')
      await row(page, 'first').waitFor()
    }
    await row(left, 'first').getByRole('button', { name: 'Rename first' }).click()
    await left.getByLabel('Name', { exact: true }).fill('second')
    await left.getByRole('button', { name: 'Rename', exact: true }).click()
    await Promise.all([left, right].map((page) => row(page, 'second').waitFor()))
    await row(right, 'second').getByRole('button', { name: 'Delete second' }).click()
    await right.getByRole('button', { name: 'Delete', exact: true }).click()
    await Promise.all([left, right].map((page) => page.getByText('Your first tunnel').waitFor()))
  })

  test('ten tabs stay live on one stream, also when the tab that reads it is closed', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user, { name: 'shared' })
    await waitFor(async () => (await openStreams()) === 0, 'earlier streams to be gone')
    const context = await sut.signedIn(user)
    const pages = []
    for (let number = 0; number < 10; number++) pages.push(await context.newPage())
    await Promise.all(pages.map(async (page) => {
      await page.goto('/dashboard')
      await live(page)
    }))
    await waitFor(async () => (await openStreams()) > 0, 'the stream to be counted')
    assert.equal(await openStreams(), 1)
    await timed('active in ten tabs', () => system.connectTunnel(user, instance),
      () => Promise.all(pages.map((page) => row(page, 'shared').getByText('Active', { exact: true }).waitFor())))
    // Whichever tab reads the stream: another one takes over when it is closed, until the last one is alone.
    while (pages.length > 1) await pages.shift().close()
    await timed('offline in the last tab', () => disconnected(instance.id), () => row(pages[0], 'shared').getByText('Offline', { exact: true }).waitFor())
    await waitFor(async () => (await openStreams()) === 1, 'one stream')
  })

  test('without Web Locks (plain http in a local network) tabs still share one stream, and copying works', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user, { name: 'far' })
    const context = await sut.signedIn(user, { baseURL: `http://${LAN_HOST}:${system.port}` })
    const pages = [await context.newPage(), await context.newPage()]
    for (const page of pages) await page.goto('/dashboard')
    assert.equal(await pages[0].evaluate(() => navigator.locks === undefined && !isSecureContext), true)
    await Promise.all(pages.map((page) => live(page)))
    await system.connectTunnel(user, instance, { remotePort: 41001 })
    await Promise.all(pages.map((page) => row(page, 'far').getByText('Active', { exact: true }).waitFor()))
    await waitFor(async () => (await openStreams()) === 1, 'one stream')
    await pages[0].bringToFront()
    await row(pages[0], 'far').getByRole('button', { name: 'Copy Public address' }).click()
    await pages[0].getByText('Public address copied.').waitFor()
    await pages[0].getByRole('searchbox').press('Control+V')
    assert.equal(await pages[0].getByRole('searchbox').inputValue(), '127.0.0.1:41001')
    await pages[0].close()
    await disconnected(instance.id)
    await row(pages[1], 'far').getByText('Offline', { exact: true }).waitFor()
  })

  test('two users in two browsers never see each other', async () => {
    const { system } = sut
    const people = []
    for (const name of ['left', 'right']) {
      const user = await system.user()
      const instance = await system.instance(user, { name: `${name}-thing` })
      const page = await (await sut.signedIn(user)).newPage()
      await page.goto('/dashboard')
      await live(page)
      people.push({ user, instance, page, name })
    }
    await Promise.all(people.map(({ user, instance }) => system.connectTunnel(user, instance)))
    for (const [index, { page, name }] of people.entries()) {
      const other = people[1 - index]
      await row(page, `${name}-thing`).getByText('Active', { exact: true }).waitFor()
      assert.equal(await page.getByText(other.instance.name).count(), 0)
      await page.goto(`/instances/${other.instance.id}`)
      await page.getByRole('heading', { name: 'There is no such instance' }).waitFor()
    }
  })

  test('admin pages: for admins, and not even named to others', async () => {
    const { system } = sut
    const user = await system.user({ name: 'Grace' })
    const instance = await system.instance(user, { name: 'of-grace' })
    const page = await (await sut.signedIn(user)).newPage()
    for (const path of ['/admin', '/admin/users', '/admin/audit']) {
      await page.goto(path)
      await page.getByRole('heading', { name: 'There is no such page' }).waitFor()
      assert.equal(await page.getByText('Admin').count(), 0)
    }
    const admin = await (await sut.signedIn(await system.admin())).newPage()
    await admin.goto('/dashboard')
    await admin.getByRole('navigation', { name: 'Main' }).getByRole('link', { name: 'Admin' }).click()
    await admin.getByText('Instances by status').waitFor()
    const places = admin.getByRole('navigation', { name: 'Admin' })
    await places.getByRole('link', { name: 'Instances' }).click()
    await admin.getByRole('searchbox').fill('of-grace')
    await admin.getByRole('row', { name: new RegExp(`of-grace.*${user.email}`) }).waitFor()
    await system.connectTunnel(user, instance)
    await admin.getByRole('row', { name: /^Active.*of-grace/ }).waitFor()
    await places.getByRole('link', { name: 'Users' }).click()
    await admin.getByRole('searchbox').fill(user.email)
    await admin.getByRole('button', { name: `Manage ${user.email}` }).click()
    await admin.getByLabel('Plan').selectOption('pro')
    await admin.getByRole('button', { name: 'Set plan' }).click()
    await admin.getByRole('cell', { name: /^pro/ }).waitFor()
    await admin.getByRole('button', { name: `Manage ${user.email}` }).click()
    await admin.getByRole('button', { name: 'Make admin' }).click()
    await admin.getByRole('dialog').getByRole('button', { name: 'Make admin' }).click()
    await admin.getByText('admin', { exact: true }).waitFor()
    await places.getByRole('link', { name: 'Alerts' }).click()
    await admin.getByRole('row', { name: /Instance Offline.*workstation.*no channel is set up/ }).waitFor()
    await places.getByRole('link', { name: 'Audit' }).click()
    await admin.getByRole('cell', { name: /make.admin/i }).first().waitFor()
    await page.reload()
    await page.getByRole('navigation', { name: 'Main' }).getByRole('link', { name: 'Admin' }).click()
    await page.getByText('Instances by status').waitFor()
  })

  test('a session that ends says so, in all tabs, and signing in leads back', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user, { name: 'kept' })
    const context = await sut.signedIn(user)
    const [page, other] = [await context.newPage(), await context.newPage()]
    await page.goto(`/instances/${instance.id}`)
    await page.getByRole('heading', { name: 'kept' }).waitFor()
    await other.goto('/dashboard')
    await live(other)
    const admin = await system.admin()
    await timed('revoked', () => admin.api.post(`/api/admin/users/${user.user_id}/revoke-sessions`), () => page.getByText('Your session has ended').waitFor())
    await other.getByText('Your session has ended').waitFor()
    await page.getByLabel('E-mail address').fill(user.email)
    await page.getByLabel('Password', { exact: true }).fill(user.password)
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: 'kept' }).waitFor()
    assert.equal(new URL(page.url()).pathname, `/instances/${instance.id}`)
    await row(other, 'kept').waitFor()
    await page.goto('/account')
    await page.getByRole('button', { name: 'Sign out', exact: true }).click()
    await page.waitForURL('**/login')
    await other.getByText('You signed out in another tab').waitFor()
  })

  test('a stream that is down is said, with what is stale; afterwards all is live again', async () => {
    const { system } = sut
    const user = await system.user()
    const instance = await system.instance(user, { name: 'watched' })
    const page = await (await sut.signedIn(user)).newPage()
    await page.goto('/dashboard')
    await live(page)
    assert.equal(await page.getByText('Live updates are interrupted').count(), 0)
    await system.ctl('stop', 'stream')
    try {
      await timed('the banner', () => {}, () => page.getByText('Live updates are interrupted').waitFor())
      await page.locator('.live').getByText('Not live').waitFor()
      await system.connectTunnel(user, instance)
      await timed('a change meanwhile', () => {}, () => row(page, 'watched').getByText('Active', { exact: true }).waitFor())
    } finally {
      await system.ctl('start', 'stream')
    }
    await timed('live again', () => {}, () => live(page))
    await page.getByText('Live updates are interrupted').waitFor({ state: 'detached' })
    await disconnected(instance.id)
    await row(page, 'watched').getByText('Offline', { exact: true }).waitFor()
  })

  test('a server out of reach is said, with the time of what is shown', async () => {
    const { system } = sut
    const user = await system.user()
    await system.instance(user, { name: 'alone' })
    const context = await sut.signedIn(user)
    const page = await context.newPage()
    await page.goto('/dashboard')
    await live(page)
    await page.clock.install()
    await context.setOffline(true)
    await page.clock.fastForward(45000) // a stream silent for longer than its comments' interval is dead
    await page.getByText('The server cannot be reached.').waitFor()
    await page.getByText(/Everything below is as of/).waitFor()
    await context.setOffline(false)
    await page.clock.fastForward(10000)
    await live(page)
    await page.getByText('The server cannot be reached.').waitFor({ state: 'detached' })
  })
})
