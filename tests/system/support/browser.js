// browser.js: a real Chromium, with fresh profiles, and pages that tell what went wrong inside them.
import assert from 'node:assert/strict'
import { chromium } from 'playwright-core'
import { System } from './system.js'

/** A host name that browsers treat as one in a local network: plain http, no secure context. */
export const LAN_HOST = 'bore.lan.test'

const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  `--host-resolver-rules=MAP ${LAN_HOST} 127.0.0.1`
]

/** The browser; close it. */
export function openBrowser() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS })
}

/** A browser profile of its own whose pages note in `complaints` what they report of errors, refused content or foreign requests. */
export async function openProfile(browser, system, options = {}) {
  const context = await browser.newContext({ baseURL: system.url, viewport: { width: 1280, height: 800 }, ...options })
  context.setDefaultTimeout(30000)
  const complaints = []
  const troubles = [] // what may be meant (a refusal, a page left early), but explains a failure
  context.on('requestfailed', (request) => troubles.push(`${request.failure()?.errorText}: ${request.url()}`))
  context.on('response', (response) => {
    if (response.status() >= 400) troubles.push(`${response.status()}: ${response.url()}`)
  })
  context.on('page', (page) => {
    page.on('pageerror', (error) => complaints.push(`error: ${error.stack ?? error}`))
    page.on('console', (message) => {
      const isOwn = message.type() === 'error' && !/Failed to load resource|Cross-Origin-Opener-Policy header has been ignored/.test(message.text())
      if (isOwn) complaints.push(`console: ${message.text()}`)
    })
    page.on('request', (request) => {
      if (![system.url, `http://${LAN_HOST}:${system.port}/`].some((own) => request.url().startsWith(own)) && !request.url().startsWith('data:')) complaints.push(`foreign request: ${request.url()}`)
    })
  })
  return Object.assign(context, { complaints, troubles })
}

/** What the pages show, for a failed test. */
async function printPages(profile) {
  for (const line of [...profile.complaints, ...profile.troubles]) console.log(`# ${line}`)
  for (const page of profile.pages()) {
    const text = await page.locator('body').innerText({ timeout: 1000 }).catch((error) => error.message)
    console.log(`# ---- ${page.url()}\n${text.replace(/^/gm, '#   ')}`)
  }
}

/**
 * before/after of a test file with one system and one browser: { system, profile(options), signedIn(user, options) }. Each
 * profile is closed after its test, which fails when one of its pages complained.
 */
export function browserFor({ before, after, afterEach }, options) {
  const holder = { failed: false, profiles: [] }
  before(async () => {
    holder.system = await System.start(options)
    holder.browser = await openBrowser()
  })
  afterEach(async (context) => {
    const isFailed = Boolean(context.error) || context.passed === false
    holder.failed ||= isFailed
    const complaints = []
    for (const profile of holder.profiles.splice(0)) {
      if (isFailed) await printPages(profile)
      complaints.push(...profile.complaints)
      await profile.close()
    }
    assert.deepEqual(complaints, [], 'no page reported an error, a refused script or style, or a request to elsewhere')
  })
  after(async () => {
    await holder.browser?.close()
    if (holder.failed) holder.system?.printLogs()
    await holder.system?.stop()
  })
  holder.profile = async (profileOptions) => {
    const profile = await openProfile(holder.browser, holder.system, profileOptions)
    holder.profiles.push(profile)
    return profile
  }
  /** A profile in which this user is signed in. */
  holder.signedIn = async (user, profileOptions) => {
    const profile = await holder.profile(profileOptions)
    await profile.addCookies([{ name: 'bore_session', value: user.token, url: profileOptions?.baseURL ?? holder.system.url, httpOnly: true, sameSite: 'Strict' }])
    return profile
  }
  return holder
}

/** The row of an instance in the list. */
export const row = (page, name) => page.getByRole('article', { name, exact: true })

/** Waits until the page shows live changes. */
export const live = (page) => page.locator('.live').getByText('Live', { exact: true }).waitFor()
