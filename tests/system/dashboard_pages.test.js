// dashboard_pages.test.js: the dashboard's pages in a real Chromium: light and quick, usable by keyboard and screen reader, on a
// phone, with a thousand instances, and whatever people call their instances. (dashboard.test.js: what is live.)
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { after, afterEach, before, describe, test } from 'node:test'
import { createRequire } from 'node:module'
import { browserFor, live, row } from './support/browser.js'
import { waitFor } from './support/system.js'

const AXE = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const FIRST_VIEW_BYTES = 150_000
// Times are printed; `make bench` judges them, on a machine that does nothing else.
const JUDGES_TIMES = Boolean(process.env.JUDGE_TIMES)
const FIRST_PAINT_MS = 1000
const LONGEST_TASK_MS = 250

describe('dashboard pages', { timeout: 300000 }, () => {
  const sut = browserFor({ before, after, afterEach })

  test('the first view is small, compressed, kept by the browser, and painted soon', async () => {
    const user = await sut.system.user()
    await sut.system.instance(user, { name: 'one' })
    const context = await sut.signedIn(user)
    const paints = []
    for (let attempt = 0; attempt < 3; attempt++) {
      const page = await context.newPage()
      await page.goto('/dashboard')
      await row(page, 'one').waitFor()
      const seen = await page.evaluate(() => ({
        bytes: [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')].reduce((sum, { transferSize }) => sum + transferSize, 0),
        requests: performance.getEntriesByType('resource').length,
        paint: performance.getEntriesByName('first-contentful-paint')[0].startTime
      }))
      paints.push(seen.paint)
      if (attempt === 0) {
        console.log(`# first view: ${seen.bytes} bytes in ${seen.requests} requests`)
        assert.ok(seen.bytes > 10000 && seen.bytes < FIRST_VIEW_BYTES, `${seen.bytes} bytes`)
      } else {
        assert.ok(seen.bytes < 20000, `kept by the browser, but ${seen.bytes} bytes again`)
      }
      await page.close()
    }
    console.log(`# first contentful paint: ${paints.map((ms) => ms.toFixed(0)).join(', ')} ms`)
    if (JUDGES_TIMES) assert.ok(Math.max(...paints) < FIRST_PAINT_MS, paints.join(' '))
    const asset = await sut.system.api.get('/login', { headers: { 'accept-encoding': 'identity' } })
    const [script] = asset.text.match(/\/assets\/v-[0-9a-f]+\/main\.js/)
    const kept = await sut.system.api.get(script, { headers: { 'accept-encoding': 'gzip' } })
    assert.equal(kept.headers['content-encoding'], 'gzip')
    assert.match(kept.headers['cache-control'], /immutable/)
    assert.equal((await sut.system.api.get(script, { headers: { 'accept-encoding': 'gzip', 'if-none-match': kept.headers.etag } })).status, 304)
  })

  test('axe finds nothing serious on any page, in light and dark, on a desk and on a phone; no page is wider than a phone', async () => {
    const { system } = sut
    const [user, newcomer, admin] = [await system.user({ name: 'Ada' }), await system.user({ plan: 'trial' }), await system.admin()]
    const instances = []
    for (const name of ['web', 'database', 'editor', 'idle', 'gone']) instances.push(await system.instance(user, { name }))
    for (const instance of instances.slice(1)) await system.connectTunnel(user, instance)
    const beat = (instance, body) => user.api.post(`/api/instances/${instance.id}/heartbeat`, body)
    await beat(instances[1], { cpu_usage: 10, memory_usage: 500 })
    await beat(instances[2], { has_code_server: true, vscode_responsive: false })
    await beat(instances[3], { last_activity: Math.floor(Date.now() / 1000) - 7200 })
    await system.api.internalPost(`/instances/${instances[4].id}/tunnel-disconnected`, {})
    await system.api.internalPost('/servers', { id: 'server-1', host: 'one.example', port: 7835, region: 'eu', max_tunnels: 10 })
    const dialog = (name) => async (page) => {
      await page.getByRole('button', { name, exact: true }).first().click()
      await page.getByRole('dialog').waitFor()
    }
    const visits = [
      [null, '/login'],
      [null, '/signup'],
      [newcomer, '/dashboard'],
      [user, '/dashboard'],
      [user, '/dashboard', dialog('New instance')],
      [user, '/dashboard', dialog('Connect web')],
      [user, '/dashboard', dialog('Delete web')],
      [user, `/instances/${instances[1].id}`],
      [user, '/account'],
      [user, '/claim-trial'],
      [user, '/admin'],
      [admin, '/admin'],
      [admin, '/admin/instances'],
      [admin, '/admin/users'],
      [admin, '/admin/users', dialog(`Manage ${user.email}`)],
      [admin, '/admin/servers'],
      [admin, '/admin/alerts'],
      [admin, '/admin/audit'],
      [null, '/docs']
    ]
    const found = []
    const pages = new Map()
    /** Shows a path to somebody: loaded at first, later as links do it, because axe takes a second to load. */
    const show = async (who, path) => {
      const known = pages.get(who)
      if (known) {
        await known.evaluate((target) => {
          history.pushState(null, '', target)
          dispatchEvent(new PopStateEvent('popstate'))
        }, path)
        return known
      }
      const page = await (who ? await sut.signedIn(who) : await sut.profile()).newPage()
      pages.set(who, page)
      await page.goto(path)
      await page.getByRole('heading', { level: 1 }).waitFor()
      await page.evaluate(AXE) // past the CSP, which lets no page add it
      return page
    }
    for (const [who, path, act] of visits) {
      if (path === '/docs') pages.delete(who)
      const page = await show(who, path)
      await act?.(page)
      await page.waitForFunction(() => document.querySelector('h1') && !document.querySelector('.wait, .skeleton, [aria-busy=true]'))
      const look = async (mode, rules) => {
        const { violations } = await page.evaluate((only) => globalThis.axe.run(document, only ? { runOnly: only } : {}), rules)
        for (const one of violations) {
          if (['serious', 'critical'].includes(one.impact)) found.push(`${path} (${mode}): ${one.id}: ${one.nodes.map((node) => node.html.slice(0, 160)).slice(0, 3).join(' | ')}`)
        }
      }
      await look('light')
      await page.emulateMedia({ colorScheme: 'dark' })
      await page.setViewportSize({ width: 390, height: 844 })
      await look('dark, on a phone', ['color-contrast', 'scrollable-region-focusable', 'target-size'])
      const excess = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
      if (excess > 0) found.push(`${path}: ${excess} px wider than a phone`)
      await page.emulateMedia({ colorScheme: 'light' })
      await page.setViewportSize({ width: 1280, height: 800 })
      if (act) await page.keyboard.press('Escape')
    }
    assert.deepEqual(found, [])
  })

  test('a file that does not arrive is asked for again; for good, the page says so', async () => {
    const user = await sut.system.user()
    const context = await sut.signedIn(user)
    let refusals = 0
    await context.route('**/hooks.js', (route) => (refusals++ < 1 ? route.abort() : route.continue()))
    await context.route('**/page_account.js', (route) => (refusals++ < 3 ? route.abort() : route.continue()))
    const page = await context.newPage()
    await page.goto('/dashboard')
    await page.getByText('Your first tunnel').waitFor()
    await page.getByRole('link', { name: /Test/ }).click()
    await page.getByRole('heading', { name: 'Account' }).waitFor()
    const broken = await sut.signedIn(user)
    await broken.route('**/htm.js', (route) => route.abort())
    const blank = await broken.newPage()
    await blank.goto('/dashboard')
    await blank.getByRole('heading', { name: 'The page could not be loaded' }).waitFor()
    await broken.unroute('**/htm.js')
    await blank.getByRole('button', { name: 'Try again' }).click()
    await blank.getByText('Your first tunnel').waitFor()
  })

  test('an answer that is lost is asked for again without creating anything twice', async () => {
    const user = await sut.system.user()
    const page = await (await sut.signedIn(user)).newPage()
    await page.goto('/dashboard')
    let losses = 0
    await page.route('**/api/instances', async (route) => {
      if (route.request().method() !== 'POST' || losses++ > 0) return route.continue()
      await route.fetch()
      return route.abort()
    })
    await page.getByRole('button', { name: 'New instance' }).click()
    await page.getByLabel('Name', { exact: true }).fill('once')
    await page.getByLabel('Local port').fill('80')
    await page.getByRole('button', { name: 'Create instance' }).click()
    await page.getByRole('dialog').getByText('The server cannot be reached').waitFor()
    await page.getByRole('button', { name: 'Create instance' }).click()
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    assert.equal((await user.api.get('/api/instances')).json.total, 1)
    await row(page, 'once').waitFor()
  })

  test('everything a user does with an instance can be done by keyboard', async () => {
    const { system } = sut
    const user = await system.user()
    const page = await (await sut.signedIn(user)).newPage()
    await page.goto('/dashboard')
    await page.getByText('Your first tunnel').waitFor()
    /** Presses Tab until this has the focus. */
    const tabTo = async (locator) => {
      for (let press = 0; press < 40; press++) {
        if (await locator.evaluate((element) => element === document.activeElement)) return
        await page.keyboard.press('Tab')
      }
      assert.fail(`Tab never reached ${locator}`)
    }
    const focused = () => page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent)

    await page.keyboard.press('Tab')
    await page.getByRole('link', { name: 'Skip to the content' }).waitFor()
    await page.keyboard.press('Enter')
    await tabTo(page.getByRole('button', { name: 'New instance' }))
    await page.keyboard.press('Enter')
    await tabTo(page.getByLabel('Name', { exact: true }))
    await page.keyboard.type('by keyboard')
    await page.keyboard.press('Tab')
    await page.keyboard.type('70000')
    await page.keyboard.press('Enter')
    await page.getByRole('dialog').locator('.problem').first().waitFor()
    assert.equal(await page.getByLabel('Local port').evaluate((element) => element === document.activeElement), true, 'the wrong field has the focus')
    assert.equal(await page.getByLabel('Local port').getAttribute('aria-invalid'), 'true')
    await page.keyboard.press('Control+A')
    await page.keyboard.type('7000')
    await page.keyboard.press('Enter')
    await row(page, 'by keyboard').waitFor()
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    assert.match(await focused(), /New instance/, 'the focus is back where it was')

    await tabTo(page.getByRole('button', { name: 'Connect by keyboard' }))
    await page.keyboard.press('Enter')
    await tabTo(page.getByRole('button', { name: 'Copy the command' }))
    await page.keyboard.press('Enter')
    await page.getByRole('button', { name: 'Copied' }).waitFor()
    await page.keyboard.press('Escape')
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    await tabTo(page.getByRole('button', { name: 'Rename by keyboard' }))
    await page.keyboard.press('Enter')
    await tabTo(page.getByLabel('Name', { exact: true }))
    await page.keyboard.press('Control+A')
    await page.keyboard.type('renamed')
    await page.keyboard.press('Enter')
    await row(page, 'renamed').waitFor()
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    await page.evaluate(() => document.querySelector('main').focus())
    await tabTo(page.getByRole('button', { name: /^Starting/ }))
    await page.keyboard.press('Space')
    await row(page, 'renamed').waitFor()
    await tabTo(page.getByRole('button', { name: 'Disconnect renamed' }))
    await page.keyboard.press('Enter')
    await tabTo(page.getByRole('dialog').getByRole('button', { name: 'Disconnect', exact: true }))
    await page.keyboard.press('Enter')
    await page.getByText('No instance is like that').waitFor()
    await tabTo(page.getByRole('button', { name: 'Show all' }))
    await page.keyboard.press('Enter')
    await row(page, 'renamed').getByText('Inactive').waitFor()
    await page.evaluate(() => document.querySelector('main').focus())
    await tabTo(page.getByRole('link', { name: 'renamed' }))
    await page.keyboard.press('Enter')
    await page.getByRole('region', { name: 'Timeline' }).waitFor()
    await tabTo(page.getByRole('button', { name: 'Delete', exact: true }))
    await page.keyboard.press('Enter')
    await tabTo(page.getByRole('dialog').getByRole('button', { name: 'Delete', exact: true }))
    await page.keyboard.press('Enter')
    await page.getByText('Your first tunnel').waitFor()
  })

  test('names are text, whatever they say', async () => {
    const { system } = sut
    const nasty = ['<img src=x onerror="globalThis.pwned=1">', '"><script>globalThis.pwned=1</script>', '${globalThis.pwned=1}', "'; DROP TABLE users; --"]
    const user = await system.user({ name: nasty[0] })
    const made = []
    for (const name of nasty) made.push(await system.instance(user, { name }))
    const connect = (await user.api.post('/api/instances', { name: 'host', local_port: 1, server_host: "a.example';touch x" })).json
    const page = await (await sut.signedIn(user)).newPage()
    await page.goto('/dashboard')
    for (const name of nasty) await row(page, name).getByRole('heading', { name, exact: true }).waitFor()
    await page.goto(`/instances/${made[0].id}`)
    await page.getByRole('heading', { name: nasty[0] }).waitFor()
    if (connect.id) {
      await page.goto('/dashboard')
      await row(page, 'host').getByRole('button', { name: 'Connect host' }).click()
      assert.match(await page.getByLabel('Command').textContent(), /--to 'a\.example'\\'';touch x' /)
    }
    const admin = await (await sut.signedIn(await system.admin())).newPage()
    for (const path of ['/admin/users', '/admin/instances', '/admin/audit']) {
      await admin.goto(path)
      await admin.getByRole('row').nth(1).waitFor()
      assert.equal(await admin.evaluate(() => globalThis.pwned), undefined)
    }
    assert.equal(await page.evaluate(() => globalThis.pwned), undefined)
    assert.equal(await page.locator('main img, main script').count(), 0)
  })

  test('sign-in: errors beside their fields, a password that can be shown, throttling with a countdown', async () => {
    const { system } = sut
    const user = await system.user()
    const page = await (await sut.profile()).newPage()
    await page.goto('/signup')
    await page.getByRole('button', { name: 'Create account' }).click()
    for (const label of ['Your name', 'E-mail address', 'Password']) {
      const field = page.getByLabel(label, { exact: true })
      await page.waitForFunction((element) => element.getAttribute('aria-invalid') === 'true', await field.elementHandle())
      assert.ok(await page.locator(`#${(await field.getAttribute('aria-describedby')).split(' ')[0]}`).textContent())
    }
    await page.getByLabel('Your name').fill('Twice')
    await page.getByLabel('E-mail address').fill(user.email)
    await page.getByLabel('Password', { exact: true }).fill('test123-other')
    await page.getByRole('button', { name: 'Show password' }).click()
    assert.equal(await page.getByLabel('Password', { exact: true }).getAttribute('type'), 'text')
    await page.keyboard.press('Enter')
    await page.getByRole('button', { name: 'Create account' }).click()
    await page.getByText('There is already an account').waitFor()
    for (let attempt = 0; attempt < 10; attempt++) await system.api.post('/api/auth/login', { email: user.email, password: 'wrong' })
    await page.goto('/login?next=https://elsewhere.example/')
    await page.getByLabel('E-mail address').fill(user.email)
    await page.getByLabel('Password', { exact: true }).fill(user.password)
    await page.getByRole('button', { name: 'Sign in' }).click()
    const timer = page.getByRole('timer')
    await timer.waitFor()
    const left = async () => Number((await timer.textContent()).match(/in (\d+) s/)[1])
    const first = await left()
    await waitFor(async () => (await left()) < first, 'the countdown to move')
    assert.equal(await page.getByRole('button', { name: /^Wait \d+ s$/ }).getAttribute('aria-disabled'), 'true')
  })

  test('account: plan, password, sessions; colours as chosen', async () => {
    const { system } = sut
    const user = await system.user({ plan: 'trial' })
    const context = await sut.signedIn(user)
    const page = await context.newPage()
    await page.goto('/claim-trial')
    await page.getByRole('button', { name: 'Take Pro' }).click()
    await page.getByRole('region', { name: 'Pro' }).getByText('yours').waitFor()
    await system.api.post('/api/auth/login', { email: user.email, password: user.password }, { headers: { 'user-agent': 'curl/8.0' } })
    await page.getByRole('link', { name: /Test/ }).click()
    await page.getByText(/Pro/).first().waitFor()
    await page.getByRole('button', { name: /^End the session of curl/ }).click()
    await page.getByRole('button', { name: 'End session' }).click()
    await page.getByText('The session has ended.').waitFor()
    await page.getByRole('button', { name: /^End the session of curl/ }).waitFor({ state: 'detached' })
    await page.getByLabel('Present password', { exact: true }).fill('not it')
    await page.getByLabel('New password', { exact: true }).fill('another-password')
    await page.getByRole('button', { name: 'Change password' }).click()
    await page.getByText('This is not your present password.').waitFor()
    await page.getByLabel('Present password', { exact: true }).fill(user.password)
    await page.getByRole('button', { name: 'Change password' }).click()
    await page.getByText('Your password is changed.').waitFor()
    const theme = () => page.evaluate(() => document.documentElement.dataset.theme)
    await page.getByRole('button', { name: /^Colours: as the system/ }).click()
    await page.getByRole('button', { name: /^Colours: light/ }).click()
    assert.equal(await theme(), 'dark')
    await page.reload()
    await page.getByRole('button', { name: /^Colours: dark/ }).waitFor()
    assert.equal(await theme(), 'dark')
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), 'rgb(14, 18, 23)')
    await page.getByRole('button', { name: 'Sign out everywhere' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Sign out everywhere' }).click()
    await page.waitForURL('**/login')
    assert.equal((await context.cookies()).find(({ name, value }) => name === 'bore_session' && value), undefined)
  })

  test('a thousand instances: the page stays smooth while it loads, scrolls, is searched, and changes', async () => {
    const { system } = sut
    const user = await system.user()
    const first = await system.instance(user, { name: 'template' })
    system.sql(`INSERT INTO bore.instances (id, user_id, name, local_port, created_at, status_since, phase_since)
      SELECT 'inst_many' || n, user_id, 'machine ' || lpad(n::text, 4, '0'), 3000 + n, created_at - n * interval '1 second', now(), now()
      FROM bore.instances, generate_series(1, 999) AS n WHERE id = '${first.id}'`)
    system.sql(`INSERT INTO bore.status_history (instance_id, status, reason, at)
      SELECT id, (ARRAY['online', 'offline', 'degraded', 'idle'])[1 + (n + length(id)) % 4], 'past', now() - n * interval '2 hours'
      FROM bore.instances, generate_series(1, 10) AS n WHERE user_id = '${user.user_id}'`)
    const page = await (await sut.signedIn(user)).newPage()
    await page.addInitScript(() => {
      globalThis.tasks = []
      new PerformanceObserver((list) => globalThis.tasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: 'longtask', buffered: true })
    })
    const longTasks = async (what) => {
      const tasks = await page.evaluate(() => globalThis.tasks.splice(0))
      const longest = Math.max(0, ...tasks)
      console.log(`# ${what}: ${tasks.length} long tasks, the longest ${longest.toFixed(0)} ms`)
      return longest
    }
    await page.goto('/dashboard')
    await page.getByRole('button', { name: 'All 1,000' }).waitFor()
    await row(page, 'template').getByRole('img', { name: /online|offline|idle/ }).waitFor()
    const loading = await longTasks('loading 1,000 instances')
    assert.ok((await page.getByRole('article').count()) < 60, 'only what is near the window is on the page')

    const scrolled = await page.evaluate(async () => {
      const frames = []
      let last = performance.now()
      for (let at = 0; at < 120 * 250; at += 250) {
        scrollTo(0, at)
        await new Promise((resolve) => requestAnimationFrame(resolve))
        frames.push(performance.now() - last)
        last = performance.now()
      }
      scrollTo(0, document.documentElement.scrollHeight)
      return frames.sort((left, right) => left - right)
    })
    console.log(`# scrolling: ${scrolled.length} frames, half within ${scrolled[Math.floor(scrolled.length / 2)].toFixed(0)} ms, the slowest ${scrolled.at(-1).toFixed(0)} ms`)
    await row(page, 'machine 0999').waitFor()
    const scrolling = await longTasks('scrolling')

    await page.getByRole('searchbox').pressSequentially('machine 0512', { delay: 30 })
    await page.getByRole('button', { name: 'All 1', exact: true }).waitFor()
    const searching = await longTasks('searching')
    await page.getByRole('searchbox').fill('')
    await page.evaluate(() => scrollTo(0, 0))
    await row(page, 'template').waitFor()
    await longTasks('all again')
    await Promise.all(Array.from({ length: 60 }, (_, n) => user.api.patch(`/api/instances/inst_many${n + 1}`, { name: `changed ${n + 1}` })))
    await system.connectTunnel(user, first)
    await row(page, 'template').getByText('Active', { exact: true }).waitFor()
    await row(page, 'changed 3').waitFor()
    const changing = await longTasks('61 changes')
    // 50 ms is what browsers call long; a whole system runs beside the browser.
    if (JUDGES_TIMES) for (const longest of [loading, scrolling, searching, changing]) assert.ok(longest < LONGEST_TASK_MS, `a task of ${longest} ms`)
  })
})
