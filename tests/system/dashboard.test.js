// dashboard.test.js: the dashboard in a real Chromium against the running system: what a person does, sees and reads.
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { openBrowser, openProfile } from './support/browser.js'
import { systemFor, unique } from './support/system.js'

const PASSWORD = 'test123-password'

describe('dashboard', { timeout: 240000 }, () => {
  const sut = systemFor({ before, after, afterEach })
  let browser
  const profiles = []

  before(async () => {
    browser = await openBrowser()
  })
  after(async () => {
    await browser?.close()
  })
  afterEach(async () => {
    for (const profile of profiles.splice(0)) {
      const complaints = profile.complaints
      await profile.close()
      assert.deepEqual(complaints, [], 'no page reported an error, a refused script or style, or a request to elsewhere')
    }
  })

  /** A browser profile of its own. */
  async function profile(options) {
    const opened = await openProfile(browser, sut.system, options)
    profiles.push(opened)
    return opened
  }

  /** A profile in which this user is signed in. */
  async function signedIn(user, options) {
    const opened = await profile(options)
    await opened.addCookies([{ name: 'bore_session', value: user.token, url: sut.system.url, httpOnly: true, sameSite: 'Strict' }])
    return opened
  }

  const row = (page, name) => page.getByRole('article', { name, exact: true })

  test('sign up, create, connect; the row follows the tunnel without a reload', async () => {
    const { system } = sut
    const page = await (await profile()).newPage()
    await page.goto('/')
    await page.waitForURL('**/login')
    await page.getByRole('link', { name: 'Create an account' }).click()
    await page.getByLabel('Your name').fill('Ada')
    await page.getByLabel('E-mail address').fill(`${unique('ada')}@test.example`)
    await page.getByLabel('Password', { exact: true }).fill(PASSWORD)
    await page.getByRole('button', { name: 'Create account' }).click()
    await page.waitForURL('**/dashboard')
    await page.getByRole('button', { name: 'Create your first instance' }).click()
    await page.getByLabel('Name', { exact: true }).fill('workstation')
    await page.getByLabel('Local port').fill('8443')
    await page.getByRole('button', { name: 'Create instance' }).click()
    await row(page, 'workstation').getByText('Inactive').waitFor()

    await row(page, 'workstation').getByRole('button', { name: 'Connect' }).click()
    const command = await page.getByLabel('Command').textContent()
    const [, host, token] = command.match(/^bore local 8443 --to (\S+) --secret (tk_[0-9a-f]{64})$/) ?? []
    assert.ok(token, command)
    assert.equal(host, '127.0.0.1')
    await page.getByText('Waiting for the tunnel…').waitFor()
    const valid = await system.api.internalPost('/validate-key', { api_key: token })
    const id = valid.json.instance_id
    const reported = performance.now()
    await system.api.internalPost(`/instances/${id}/tunnel-connected`, { remotePort: 31234 })
    await page.getByText('Reachable at 127.0.0.1:31234').waitFor()
    console.log(`# connected is seen after ${(performance.now() - reported).toFixed(0)} ms`)
    await page.getByRole('button', { name: 'Done' }).click()
    await row(page, 'workstation').getByText('Active').waitFor()
    await system.api.internalPost(`/instances/${id}/tunnel-disconnected`, {})
    await row(page, 'workstation').getByText('Offline').waitFor()
    await row(page, 'workstation').getByText('not connected').waitFor()
  })

  test('a name in one tab is renamed in the other; a deleted instance leaves both', async () => {
    const { system } = sut
    const user = await system.user()
    await system.instance(user, { name: 'first' })
    const context = await signedIn(user)
    const [left, right] = [await context.newPage(), await context.newPage()]
    for (const page of [left, right]) {
      await page.goto('/dashboard')
      await row(page, 'first').waitFor()
    }
    await row(left, 'first').getByRole('button', { name: 'Rename first' }).click()
    await left.getByLabel('Name', { exact: true }).fill('second')
    await left.getByRole('button', { name: 'Rename', exact: true }).click()
    await row(left, 'second').waitFor()
    await row(right, 'second').waitFor()
    await row(right, 'second').getByRole('button', { name: 'Delete second' }).click()
    await right.getByRole('button', { name: 'Delete', exact: true }).click()
    await right.getByText('Your first tunnel').waitFor()
    await left.getByText('Your first tunnel').waitFor()
  })
})
