// deploy.test.js: what is written down for containers and clusters fits the programs: settings, secrets, ports, probes,
// names. No engine is needed; `make test-compose` runs the containers.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { describe, test } from 'node:test'
import * as apps from 'kubernetes-models/apps/v1'
import * as autoscaling from 'kubernetes-models/autoscaling/v2'
import * as networking from 'kubernetes-models/networking.k8s.io/v1'
import * as policy from 'kubernetes-models/policy/v1'
import * as core from 'kubernetes-models/v1'
import YAML from 'yaml'
import { root } from './support/system.js'

const read = (...parts) => fs.readFileSync(path.join(root, ...parts), 'utf8')
const OURS = ['bus', 'auth', 'registry', 'monitor', 'alerter', 'metrics', 'gateway', 'stream', 'edge'].filter((name) => name === 'edge' || fs.existsSync(path.join(root, 'services', name)))

/** config.def: name -> { kind, readers: Set of process names }. */
const settings = (() => {
  const header = read('services/lib/config.h')
  const database = header.match(/DATABASE = ([A-Z| ]+),/)[1].split('|').map((name) => name.trim())
  const all = header.match(/^ {4}([A-Z]+) = 1 << [0-8],/gm).map((line) => line.trim().split(' ')[0])
  const names = (expression) => new Set(expression.split('|').flatMap((word) => (word.trim().startsWith('ALL') ? all : word.trim() === 'DATABASE' ? database : [word.trim()])).map((name) => name.toLowerCase()))
  const found = new Map()
  for (const [, kind, name, readers] of read('services/lib/config.def').matchAll(/^CONFIG\((\w+), (\w+), \w+, "[^"]*", [^,]+, [^,]+, ([^,]+), /gm)) found.set(name, { kind, readers: names(readers) })
  return found
})()
/** What a process cannot start without, beyond the bus and the database (services/lib/config.c). */
const REQUIRED = { gateway: ['JWT_SECRET', 'INTERNAL_API_KEY', 'EDGE_SECRET'], stream: ['JWT_SECRET', 'EDGE_SECRET'], auth: ['JWT_SECRET'], monitor: ['EDGE_SECRET', 'CANARY_URL'], edge: ['EDGE_SECRET'] }
/** Fixed in the image or by the entry program, or for ./bore alone. */
const NOT_GIVEN = new Set(['BORE_INSTANCE', 'GATEWAY_LISTEN', 'STREAM_LISTEN', 'WEB_DIR', 'BUS_ALLOW_PLAINTEXT'])
/** What Dockerfile and entry program give the edge beside config.def. */
const EDGE_ONLY = new Set(['EDGE_GATEWAY', 'EDGE_STREAM', 'EDGE_HEALTH_PORT', 'POD_NAMESPACE'])

/** Whether a variable means something to a process: a setting it reads, or the file of a secret it reads. */
function isRead(name, process) {
  const secret = name.replace(/_FILE$/, '')
  if (settings.get(name)?.readers.has(process)) return true
  if (name !== secret && settings.get(secret)?.kind === 'SECRET' && settings.get(secret).readers.has(process)) return true
  return process === 'edge' && (EDGE_ONLY.has(name) || ['EDGE_SECRET', 'EDGE_SECRET_FILE'].includes(name))
}

describe('docker-compose.yml', () => {
  const compose = YAML.parse(read('docker-compose.yml'), { merge: true })

  test('every process has a service, and each setting it reads can be set; nothing else is', () => {
    for (const process of OURS) {
      const service = compose.services[process]
      assert.ok(service, `no service ${process}`)
      assert.deepEqual(service.command, [process])
      const given = Object.keys(service.environment ?? {})
      for (const name of given) assert.ok(isRead(name, process), `${process} does not read ${name}`)
      for (const [name, { readers }] of settings)
        if (readers.has(process) && !NOT_GIVEN.has(name) && !name.startsWith('TLS_')) assert.ok(given.includes(name) || given.includes(`${name}_FILE`), `${process} reads ${name}, which cannot be set`)
      for (const name of REQUIRED[process] ?? []) assert.ok(given.includes(`${name}_FILE`) || service.environment[name], `${process} needs ${name}`)
    }
  })

  test('secrets come from volumes that are mounted, made by setup, at the places it writes', () => {
    const made = Object.fromEntries(compose.services.setup.volumes.map((mount) => mount.split(':')))
    const written = read('services/setup/setup.c')
    for (const [process, { environment = {}, volumes = [] }] of Object.entries(compose.services)) {
      const mounted = Object.fromEntries(volumes.map((mount) => mount.split(':')).map(([volume, place]) => [place, volume]))
      for (const [name, file] of Object.entries(environment)) {
        if (!/_FILE$/.test(name) || !file.startsWith('/secrets/')) continue
        const [, , directory, base] = file.split('/')
        assert.equal(made[mounted[`/secrets/${directory}`]], `/secrets/${directory}`, `${process}: ${file} is not mounted`)
        assert.ok(written.includes(`"${directory}/${base}"`), `setup does not write ${file}`)
      }
      if (process !== 'setup') for (const mount of volumes.filter((text) => text.includes(':/secrets/'))) assert.match(mount, /:ro$/, `${process}: ${mount}`)
    }
  })

  test('only the edge is published, and only who needs them is in the networks of bus and database', () => {
    for (const [name, service] of Object.entries(compose.services)) if (name !== 'edge' && !service.profiles) assert.equal(service.ports, undefined, name)
    for (const network of ['front', 'bus', 'database']) assert.equal(compose.networks[network].internal, true, network)
    const members = (network) => Object.entries(compose.services).filter(([, service]) => service.networks?.includes(network)).map(([name]) => name)
    const users = OURS.filter((name) => settings.get('DB_HOST').readers.has(name))
    assert.deepEqual(members('database').sort(), ['postgres', ...users].sort())
    assert.deepEqual(members('bus').sort(), OURS.filter((name) => name !== 'edge').sort())
  })
})

describe('deploy/k8s', () => {
  const models = { ...core, ...apps, ...autoscaling, ...networking, ...policy }
  const kustomization = YAML.parse(read('deploy/k8s/base/kustomization.yaml'))
  const load = (directory, files) => files.flatMap((file) => YAML.parseAllDocuments(read(directory, file)).map((document) => ({ file, ...document.toJS() })))
  const base = load('deploy/k8s/base', kustomization.resources)
  const everything = [...base, ...load('deploy/k8s/postgres', ['postgres.yaml'])]
  const overlay = YAML.parse(read('deploy/k8s/overlays/example/kustomization.yaml'))
  const of = (kind) => everything.filter((object) => object.kind === kind)
  const shared = of('ConfigMap').find((map) => map.metadata.name === 'bore-settings').data
  const container = (object) => object.spec.template.spec.containers[0]

  test('every file is listed, every object fits the schema of its kind', () => {
    const files = fs.readdirSync(path.join(root, 'deploy/k8s/base')).filter((file) => file !== 'kustomization.yaml')
    assert.deepEqual([...kustomization.resources].sort(), files.sort())
    for (const { file, ...object } of everything) {
      const Model = models[object.kind]
      assert.ok(Model, `${file}: what is ${object.kind}?`)
      assert.doesNotThrow(() => new Model(object).validate(), `${file}: ${object.kind} ${object.metadata.name}`)
    }
    // the validator notices what it should
    assert.throws(() => new apps.Deployment({ apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'x' }, spec: { replicas: 'two' } }).validate())
    const names = everything.map((object) => `${object.kind} ${object.metadata.name}`)
    assert.equal(new Set(names).size, names.length)
  })

  test('every process has a deployment with probes, limits, rights and the settings that it reads', () => {
    assert.deepEqual(of('Deployment').map((object) => object.metadata.name).sort(), [...OURS].sort())
    for (const name of Object.keys(shared)) assert.ok(settings.has(name), `bore-settings: there is no setting ${name}`)
    for (const object of of('Deployment')) {
      const process = object.metadata.name
      const spec = object.spec.template.spec
      const only = container(object)
      assert.deepEqual(only.args, [process])
      assert.ok(only.livenessProbe && (only.readinessProbe ?? only.startupProbe), `${process}: probes`)
      assert.ok(only.resources.limits.memory && only.resources.requests.cpu, `${process}: resources`)
      assert.equal(spec.securityContext.runAsNonRoot, true)
      assert.deepEqual(only.securityContext, { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } })
      assert.equal(spec.enableServiceLinks, false, `${process}: variables of services would look like settings`)
      const own = Object.fromEntries(only.env.map((entry) => [entry.name, entry.value]))
      for (const name of Object.keys(own)) assert.ok(isRead(name, process), `${process} does not read ${name}`)
      for (const name of REQUIRED[process] ?? []) assert.ok(`${name}_FILE` in own || name in shared, `${process} needs ${name}`)
      if (settings.get('DB_PASSWORD').readers.has(process)) assert.ok('DB_PASSWORD_FILE' in own, `${process} needs DB_PASSWORD`)
      if (process !== 'edge') assert.equal(own.BUS_CURVE_DIR, process === 'bus' ? '/secrets/bus' : '/secrets/client')
    }
  })

  test('secrets are mounted where settings look for them, and the overlay makes those with the files that setup writes', () => {
    const written = [...read('services/setup/setup.c').matchAll(/"((?:tokens|admin|edge|database)\/\w+)"/g)].map((match) => match[1])
    const generated = Object.fromEntries(overlay.secretGenerator.map(({ name, files }) => [name, files.map((file) => file.replace('secrets/', ''))]))
    for (const file of Object.values(generated).flat().filter((text) => !/^(bus|client)\//.test(text))) assert.ok(written.includes(file), `setup does not write ${file}`)
    assert.deepEqual(generated['bore-bus-keys'].map((file) => path.basename(file)), ['bus.key', 'bus.key_secret', 'client.key', 'client.key_secret'])
    assert.deepEqual(generated['bore-client-keys'].map((file) => path.basename(file)), ['bus.key', 'client.key', 'client.key_secret'])
    for (const object of [...of('Deployment'), ...of('StatefulSet')]) {
      const volumes = Object.fromEntries(object.spec.template.spec.volumes.map((volume) => [volume.name, volume.secret?.secretName]))
      const mounts = container(object).volumeMounts
      for (const { name } of mounts) assert.ok(name in volumes || object.spec.volumeClaimTemplates?.some((claim) => claim.metadata.name === name), `${object.metadata.name}: volume ${name}`)
      for (const mount of mounts.filter((one) => one.mountPath.startsWith('/secrets/'))) assert.ok(generated[volumes[mount.name]], `${object.metadata.name}: no secret for ${mount.mountPath}`)
      for (const { name, value } of container(object).env.filter((entry) => /_FILE$/.test(entry.name))) {
        const mount = mounts.find((one) => value.startsWith(`${one.mountPath}/`))
        assert.ok(mount, `${object.metadata.name}: ${name}=${value} is in no volume`)
        assert.ok(generated[volumes[mount.name]].some((file) => path.basename(file) === path.basename(value)), `${object.metadata.name}: ${value} is in no secret`)
      }
    }
  })

  test('services, probes, budgets, scalers, policies and the ingress name what there is', () => {
    const workloads = Object.fromEntries([...of('Deployment'), ...of('StatefulSet')].map((object) => [object.metadata.name, object]))
    const ports = (name) => Object.fromEntries((container(workloads[name]).ports ?? []).map((port) => [port.name, port.containerPort]))
    for (const [name, object] of Object.entries(workloads)) {
      assert.equal(object.spec.selector.matchLabels['app.kubernetes.io/name'], name)
      assert.equal(object.spec.template.metadata.labels['app.kubernetes.io/name'], name)
      for (const probe of ['startupProbe', 'readinessProbe', 'livenessProbe']) {
        const port = container(object)[probe]?.httpGet?.port ?? container(object)[probe]?.tcpSocket?.port
        if (port) assert.ok(port in ports(name), `${name}: ${probe} asks port ${port}`)
        const command = container(object)[probe]?.exec?.command
        if (command && name !== 'postgres') assert.equal(command[0], 'bore')
      }
    }
    for (const service of of('Service')) {
      const name = service.spec.selector['app.kubernetes.io/name']
      assert.equal(service.metadata.name, name)
      for (const port of service.spec.ports) assert.equal(ports(name)[port.targetPort], port.port, `service ${name}`)
    }
    for (const [name, url] of Object.entries({ BUS_URL: 'bus', CANARY_URL: 'edge' })) {
      const { hostname, port } = new URL(shared[name].replace('tcp:', 'http:'))
      const service = of('Service').find((object) => object.metadata.name === hostname)
      assert.equal(hostname, url)
      assert.ok(port === '' || service.spec.ports.some((entry) => String(entry.port) === port), name)
    }
    assert.equal(of('Service').find((object) => object.metadata.name === 'edge').spec.ports[0].port, 3000)
    for (const name of ['gateway', 'stream']) {
      assert.equal(of('Service').find((object) => object.metadata.name === name).spec.clusterIP, 'None', `${name}: the edge asks for every pod`)
      const scaler = of('HorizontalPodAutoscaler').find((object) => object.spec.scaleTargetRef.name === name)
      assert.ok(scaler && scaler.spec.minReplicas >= 2)
    }
    for (const object of of('PodDisruptionBudget')) assert.ok(workloads[object.spec.selector.matchLabels['app.kubernetes.io/name']])
    for (const name of ['bus', 'metrics']) if (workloads[name]) assert.deepEqual([workloads[name].spec.replicas, workloads[name].spec.strategy.type], [1, 'Recreate'], `${name}: never two`)
    const selected = (selector) => [selector?.matchLabels?.['app.kubernetes.io/name'], ...(selector?.matchExpressions ?? []).flatMap((expression) => expression.values)].filter(Boolean)
    for (const { metadata, spec } of of('NetworkPolicy')) {
      const named = [spec.podSelector, ...[...(spec.ingress ?? []).flatMap((rule) => rule.from ?? []), ...(spec.egress ?? []).flatMap((rule) => rule.to ?? [])].map((peer) => peer.podSelector)].flatMap(selected)
      for (const name of named) assert.ok(workloads[name] ?? !OURS.includes(name), `${metadata.name}: who is ${name}?`)
    }
    const policyOf = (name) => of('NetworkPolicy').find((object) => object.metadata.name === name)
    const users = OURS.filter((name) => settings.get('DB_HOST').readers.has(name)).sort()
    assert.deepEqual(selected(policyOf('bore-to-the-database').spec.podSelector).filter((name) => OURS.includes(name)).sort(), users)
    const backend = of('Ingress')[0].spec.rules[0].http.paths[0].backend.service
    assert.deepEqual(backend, { name: 'edge', port: { name: 'http' } })
    for (const { target } of overlay.patches) assert.ok(everything.some((object) => object.kind === target.kind && object.metadata.name === target.name), `the overlay changes ${target.kind} ${target.name}`)
  })

  test('copies are copies: a kustomization takes no file from elsewhere', () => {
    assert.equal(read('deploy/k8s/postgres/postgresql.conf'), read('deploy/local/postgresql.conf'))
    const version = read('CHANGELOG.md').match(/^## *\[?v?(\d[\w.-]*)/m)[1]
    assert.equal(kustomization.images[0].newTag, version)
    assert.match(read('docker-compose.yml'), new RegExp(`BORE_VERSION:-${version.replaceAll('.', '\\.')}\\}`))
  })
})

describe('deploy/systemd', () => {
  const units = fs.readdirSync(path.join(root, 'deploy/systemd')).filter((name) => name.endsWith('.service'))
  const process = (unit) => unit.match(/^bore-(\w+)@?\.service$/)[1]

  test('every process has a unit, with the secrets that it reads and no others', () => {
    assert.deepEqual(units.map(process).sort(), [...OURS].sort())
    const written = read('services/setup/setup.c')
    for (const unit of units) {
      const text = read('deploy/systemd', unit)
      assert.match(text, new RegExp(`^ExecStart=/usr/local/bin/bore ${process(unit)}$`, 'm'))
      const files = Object.fromEntries([...text.matchAll(/^Environment=(\w+)_FILE=%d\/(\w+)$/gm)].map(([, name, file]) => [name, file]))
      const credentials = Object.fromEntries([...text.matchAll(/^LoadCredential=(\w+):\/etc\/bore\/secrets\/(.+)$/gm)].map(([, name, file]) => [name, file]))
      for (const [name, file] of Object.entries(files)) {
        assert.ok(isRead(name, process(unit)), `${unit} does not read ${name}`)
        assert.ok(written.includes(`"${credentials[file]}"`), `${unit}: ${name}`)
      }
      assert.deepEqual(Object.values(files).sort(), Object.keys(credentials).sort(), unit)
      for (const name of (REQUIRED[process(unit)] ?? []).filter((one) => settings.get(one).kind === 'SECRET')) assert.ok(name in files, `${unit} needs ${name}`)
    }
  })

  test('systemd accepts the units, and haproxy their backends', { skip: !fs.existsSync('/usr/bin/systemd-analyze') && 'no systemd-analyze' }, () => {
    const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'bore-units.'))
    try {
      const place = path.join(scratch, 'etc/systemd/system')
      fs.cpSync(path.join(root, 'deploy/systemd'), place, { recursive: true })
      fs.mkdirSync(path.join(scratch, 'usr/local/bin'), { recursive: true })
      fs.copyFileSync(path.join(root, 'deploy/container/bore'), path.join(scratch, 'usr/local/bin/bore'))
      for (const name of ['basic', 'sysinit', 'shutdown', 'multi-user', 'network-online', 'network']) fs.writeFileSync(path.join(place, `${name}.target`), '[Unit]\nDescription=here\n')
      const verify = () => spawnSync('systemd-analyze', ['verify', `--root=${scratch}`, '--man=no', 'bore.target', ...units.map((unit) => unit.replace('@.', '@1.'))], { encoding: 'utf8', env: { ...globalThis.process.env, LC_ALL: 'C.UTF-8' } })
      const good = verify()
      assert.equal(good.status, 0, good.stderr)
      assert.equal(good.stderr, '')
      fs.appendFileSync(path.join(place, 'bore-.service.d/common.conf'), 'Restart=somewhat\n')
      assert.match(verify().stderr, /somewhat/, 'the common part is read for every unit')
    } finally {
      fs.rmSync(scratch, { recursive: true, force: true })
    }
    if (fs.existsSync('/usr/sbin/haproxy')) execFileSync('/usr/sbin/haproxy', ['-c', '-q', '-f', path.join(root, 'deploy/haproxy.cfg'), '-f', path.join(root, 'deploy/systemd/backends.cfg')], { env: { EDGE_SECRET: 'x', EDGE_TRUSTED_PROXIES: '', EDGE_MAXCONN: '1000' }, stdio: 'pipe' })
  })
})

describe('deploy/container', () => {
  test('the entry program knows every process, and what each is asked for its health', () => {
    const entry = read('deploy/container/bore')
    for (const process of OURS) assert.match(entry.split('set -eu')[0], new RegExp(`\\b${process}\\b`), process)
    const help = execFileSync(path.join(root, 'deploy/container/bore'), ['--help'], { encoding: 'utf8', env: { PATH: process.env.PATH, BORE_INSTANCE: '1' } })
    assert.match(help, /bore setup/)
  })

  test('haproxy accepts the edge of containers', { skip: !fs.existsSync('/usr/sbin/haproxy') }, () => {
    execFileSync('/usr/sbin/haproxy', ['-c', '-q', '-f', path.join(root, 'deploy/haproxy.cfg'), '-f', path.join(root, 'deploy/container/edge.cfg')], { env: { EDGE_SECRET: 'x', EDGE_TRUSTED_PROXIES: '', EDGE_MAXCONN: '1000' }, stdio: 'pipe' })
  })
})
