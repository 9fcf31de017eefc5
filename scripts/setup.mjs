// Brings a fresh clone to where `npm start` and `npm test` can run: npm packages, and Debian packages when root. Plain JavaScript
// without dependencies, because it runs on whatever Node the machine has (18 or newer); everything after it runs on the Node
// that `npm ci` brings. Quiet when nothing is missing; one line for each thing it does. TAPLANE_SETUP=npm leaves Debian alone.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fetchKubernetesTools } from './kubernetes-tools.mjs';
import { fetchPromtool } from './promtool.mjs';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const BIN = join(ROOT, 'node_modules', '.bin');

/** An agent runs without any of them; they make the demo complete. */
const FOR_START = ['iproute2', 'iputils-ping', 'nats-server'];
/** Independent witnesses (ip, ping, strace, tcpdump), foreign makers of devices (openvpn) and foreign clients (Python). */
const FOR_TEST = [
  'iperf3',
  'iproute2',
  'iputils-ping',
  'libpcap0.8',
  'nats-server',
  'nfdump',
  'openvpn',
  'procps',
  'protobuf-compiler',
  'protobuf-compiler-grpc',
  'python3-grpcio',
  'python3-seccomp',
  'socat',
  'strace',
  'tcpdump',
  'tshark',
  'unzip',
  'wireguard-go',
  'wireguard-tools',
];

const forTest = process.argv.includes('--test');
installNpmPackages();
if (process.env.TAPLANE_SETUP !== 'npm') installDebianPackages(forTest ? FOR_TEST : FOR_START);
if (forTest) {
  const missing = fetchKubernetesTools(say);
  if (missing) say(`${missing}; the tests of the chart are skipped`);
  const noPromtool = process.env.TAPLANE_SETUP === 'npm' ? undefined : fetchPromtool(say);
  if (noPromtool) say(`${noPromtool}; a test of the alerts is skipped`);
}

function installNpmPackages() {
  const why = whyNpmPackagesAreStale();
  if (why) {
    say(`npm ci: ${why}`);
    // Not the Node of this project: npm is about to delete it, and its install scripts must find one.
    const path = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== BIN);
    const npm = spawnSync('npm', ['ci', '--loglevel=error'], {
      cwd: ROOT,
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, PATH: path.join(delimiter), NODE_ENV: 'development' },
    });
    if (npm.status !== 0) fail(`npm ci ended with ${ended(npm)}; is the package registry reachable?`);
  }
  const version = spawnSync(join(BIN, 'node'), ['--version'], { encoding: 'utf8' });
  if (version.status !== 0) fail('npm ci did not bring Node: npm must be allowed to run the install script of the package "node"');
}

/** npm writes node_modules/.package-lock.json last, so what it lists is really there. */
function whyNpmPackagesAreStale() {
  const hidden = join(ROOT, 'node_modules', '.package-lock.json');
  if (!existsSync(hidden)) return 'node_modules is not there';
  const wanted = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')).packages;
  const present = JSON.parse(readFileSync(hidden, 'utf8')).packages;
  for (const [path, entry] of Object.entries(wanted)) {
    const found = present[path];
    // An optional package is for another kind of machine.
    if (path === '' || (!found && entry.optional)) continue;
    if (found?.version !== entry.version) return `${path} is not at ${entry.version}`;
  }
  return undefined;
}

function installDebianPackages(packages) {
  if (!existsSync('/etc/debian_version')) return;
  const missing = missingOf(packages);
  if (missing.length === 0) return;
  const command = `apt-get install --no-install-recommends ${missing.join(' ')}`;
  if (process.getuid() !== 0) {
    say(`missing: ${missing.join(', ')}; what needs them is skipped. As root: ${command}`);
    return;
  }
  say(`apt-get install ${missing.join(' ')}`);
  let failed = apt('install', '--yes', '--no-install-recommends', ...missing);
  if (failed) {
    // The package lists are old, or were never fetched.
    say('apt-get update');
    failed = apt('update') ?? apt('install', '--yes', '--no-install-recommends', ...missing);
  }
  if (!failed) return;
  const still = missingOf(packages).join(', ');
  if (forTest) fail(`could not install ${still}:\n${failed}\nInstall them by hand, or set TAPLANE_SETUP=npm to go on without.`);
  say(`could not install ${still}; the agent starts without`);
}

function missingOf(packages) {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query fills it in
  const query = spawnSync('dpkg-query', ['--show', '--showformat=${db:Status-Status} ${Package}\n', ...packages], { encoding: 'utf8' });
  const installed = new Set();
  for (const line of (query.stdout ?? '').split('\n')) if (line.startsWith('installed ')) installed.add(line.slice('installed '.length));
  return packages.filter((name) => !installed.has(name));
}

/** Undefined when it went well, else the last lines it said. */
function apt(...args) {
  const options = ['--quiet', '-o', 'Acquire::Retries=1', '-o', 'Acquire::http::Timeout=20', '-o', 'DPkg::Lock::Timeout=120'];
  const run = spawnSync('apt-get', [...options, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  if (run.status === 0) return undefined;
  return `${run.stderr ?? ''}`.trim().split('\n').slice(-5).join('\n') || `apt-get ended with ${ended(run)}`;
}

function ended(run) {
  return run.error ? run.error.message : run.signal ? `signal ${run.signal}` : `code ${run.status}`;
}

function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

function fail(text) {
  say(text);
  process.exit(1);
}
