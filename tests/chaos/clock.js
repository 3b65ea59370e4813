// clock.js: a wall clock of its own for a whole system, which the test sets: every process of it, PostgreSQL and HAProxy
// among them, runs with Debian's libfaketime. The monotonic clock is left alone, as when somebody sets a machine's time.
import fs from 'node:fs'
import path from 'node:path'
import { waitFor } from '../system/support/system.js'

const libraries = fs.readdirSync('/usr/lib').map((name) => `/usr/lib/${name}/faketime/libfaketimeMT.so.1`)

export class Clock {
  /** Restarts the processes of a running system, with the clock as it is. */
  static async install(system) {
    const clock = new Clock()
    clock.system = system
    clock.file = path.join(system.home, 'clock')
    clock.write('+0')
    const library = libraries.find((name) => fs.existsSync(name))
    if (!library) throw new Error('libfaketime is not installed')
    const settings = `LD_PRELOAD=${library} FAKETIME_TIMESTAMP_FILE='${clock.file}' FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1`
    const script = path.join(system.home, 'program/local/service_run')
    const text = fs.readFileSync(script, 'utf8')
    fs.writeFileSync(script, text.replace(/^cd .*/m, `export ${settings}\n$&`).replaceAll('env -i ', `env -i ${settings} `))
    const services = new Set(fs.readdirSync(path.join(system.home, 'service')).map((name) => name.replace(/-\d+$/, '')))
    for (const service of services) await system.ctl('restart', service)
    await waitFor(async () => (await system.api.get('/health')).status === 200, 'a system with a clock of its own')
    return clock
  }

  /** From now on every clock is `offset` from the machine's: '+1h', '-1h', '+0'. Resolves when gateway and database say so. */
  async set(offset) {
    this.write(offset)
    const expected = { '+1h': 3600, '+0': 0, '-1h': -3600 }[offset]
    const isSet = (milliseconds) => Math.abs(milliseconds / 1000 - Date.now() / 1000 - expected) < 60
    await waitFor(() => isSet(Number(this.system.sql('SELECT extract(epoch FROM clock_timestamp()) * 1000')[0][0])), `the database's clock at ${offset}`)
    await waitFor(async () => isSet((await this.system.api.get('/health')).json.timestamp), `a gateway's clock at ${offset}`)
  }

  write(offset) {
    fs.writeFileSync(`${this.file}.new`, `${offset}\n`, { mode: 0o644 })
    fs.renameSync(`${this.file}.new`, this.file)
  }
}
