// browser.js: a real Chromium, with a fresh profile, and pages that tell what went wrong inside them.
import { chromium } from 'playwright-core'

const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync'
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
  context.on('page', (page) => {
    page.on('pageerror', (error) => complaints.push(`error: ${error.stack ?? error}`))
    page.on('console', (message) => {
      const isOwn = message.type() === 'error' && !/Failed to load resource/.test(message.text())
      if (isOwn) complaints.push(`console: ${message.text()}`)
    })
    page.on('request', (request) => {
      if (!request.url().startsWith(system.url) && !request.url().startsWith('data:')) complaints.push(`foreign request: ${request.url()}`)
    })
  })
  return Object.assign(context, { complaints })
}
