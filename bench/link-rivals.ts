// Tunnels of others between two namespaces that a cable joins, for `links.ts`: each with an overlay subnet of its own, set up as its manual says
// and left at its defaults. What is not installed is left out.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { WireguardGo, wireguardKeys } from '../test/harness/foreign-wireguard.ts';
import type { Namespace } from '../test/harness/namespace.ts';
import { type Child, runSync } from '../test/harness/process.ts';

/** Where tunnels run. */
export interface Site {
  a: Namespace;
  b: Namespace;
  /** Of the cable. */
  addressA: string;
  addressB: string;
  /** For files; empty. */
  folder: string;
}

export interface Rival extends AsyncDisposable {
  name: string;
  /** Of the other end, seen from `a`. */
  address: string;
  /** All processes that carry it. */
  pids(): number[];
}

type Start = (site: Site, subnet: string) => Promise<Rival | undefined>;

/** In the order of the table. `subnet` ends with a dot. */
export const RIVALS: Record<string, Start> = {
  'C copy loop': copyLoop,
  'wireguard-go': wireguardGo,
  openvpn,
  tinc,
  nebula,
};

/** Two processes and what has to be done when they are there. */
async function pair(name: string, address: string, left: Child, right: Child, up: () => Promise<void>): Promise<Rival> {
  const rival: Rival = {
    name,
    address,
    pids: () => [left.pid, right.pid],
    async [Symbol.asyncDispose]() {
      await left[Symbol.asyncDispose]();
      await right[Symbol.asyncDispose]();
    },
  };
  try {
    await up();
    return rival;
  } catch (error) {
    await rival[Symbol.asyncDispose]();
    throw new Error(`${name}: ${(error as Error).message}\n${left.stdout}${left.stderr}${right.stdout}${right.stderr}`);
  }
}

async function deviceUp(ns: Namespace, device: string, address: string, mtu?: number): Promise<void> {
  for (const deadline = performance.now() + 10_000; !ns.has(device); await sleep(50)) {
    if (performance.now() > deadline) throw new Error(`${device} does not come`);
  }
  ns.ip(`address add ${address}/24 dev ${device}`);
  ns.ip(`link set dev ${device} ${mtu === undefined ? '' : `mtu ${mtu}`} up`);
}

function has(...commands: string[]): boolean {
  return commands.every((command) => ['/usr/bin', '/usr/sbin'].some((folder) => existsSync(join(folder, command))));
}

async function copyLoop({ a, b, addressB, folder }: Site, subnet: string): Promise<Rival | undefined> {
  if (!has('gcc')) return undefined;
  const program = join(folder, 'frames-copy');
  runSync('gcc', '-O2', '-o', program, join(import.meta.dirname, 'frames-copy.c'));
  const right = b.spawn([program, 'copy0', 'listen', '55555']);
  const left = a.spawn([program, 'copy0', addressB, '55555']);
  return pair('C copy loop', `${subnet}2`, left, right, async () => {
    await deviceUp(a, 'copy0', `${subnet}1`);
    await deviceUp(b, 'copy0', `${subnet}2`);
  });
}

async function wireguardGo({ a, b, addressA, addressB }: Site, subnet: string): Promise<Rival | undefined> {
  if (!has('wireguard-go', 'wg')) return undefined;
  const [near, far] = [await wireguardKeys(), await wireguardKeys()];
  const [left, right] = [new WireguardGo(a), new WireguardGo(b)];
  const bytes = (key: string) => Buffer.from(key, 'base64');
  await left.start(
    bytes(near.privateKey),
    51820,
    [`${subnet}1/24`],
    [{ publicKey: bytes(far.publicKey), endpoint: `${addressB}:51820`, allowed: [`${subnet}2/32`] }],
  );
  await right.start(
    bytes(far.privateKey),
    51820,
    [`${subnet}2/24`],
    [{ publicKey: bytes(near.publicKey), endpoint: `${addressA}:51820`, allowed: [`${subnet}1/32`] }],
  );
  return {
    name: 'wireguard-go',
    address: `${subnet}2`,
    pids: () => [left.pid, right.pid],
    async [Symbol.asyncDispose]() {
      await left[Symbol.asyncDispose]();
      await right[Symbol.asyncDispose]();
    },
  };
}

async function openvpn({ a, b, addressA, addressB, folder }: Site, subnet: string): Promise<Rival | undefined> {
  if (!has('openvpn', 'openssl')) return undefined;
  const at = join(folder, 'openvpn');
  mkdirSync(at);
  const fingerprint = (end: string): string => {
    const files = ['-keyout', join(at, `${end}.key`), '-out', join(at, `${end}.crt`)];
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    runSync('openssl', 'req', '-x509', ...key, '-days', '2', '-subj', `/CN=${end}`, ...files);
    return (
      runSync('openssl', 'x509', '-in', join(at, `${end}.crt`), '-noout', '-fingerprint', '-sha256')
        .split('=')[1]
        ?.trim() ?? ''
    );
  };
  const [near, far] = [fingerprint('near'), fingerprint('far')];
  const common = [
    '--dev-type',
    'tun',
    '--dev',
    'ovpn0',
    '--proto',
    'udp',
    '--disable-dco',
    '--topology',
    'p2p',
    '--port',
    '1194',
    '--verb',
    '1',
  ];
  const left = a.spawn([
    ...['openvpn', ...common, '--tls-client', '--remote', addressB, '--ifconfig', `${subnet}1`, `${subnet}2`],
    ...['--cert', join(at, 'near.crt'), '--key', join(at, 'near.key'), '--peer-fingerprint', far],
  ]);
  const right = b.spawn([
    ...['openvpn', ...common, '--tls-server', '--remote', addressA, '--dh', 'none', '--ifconfig', `${subnet}2`, `${subnet}1`],
    ...['--cert', join(at, 'far.crt'), '--key', join(at, 'far.key'), '--peer-fingerprint', near],
  ]);
  return pair('openvpn', `${subnet}2`, left, right, async () => {});
}

async function tinc({ a, b, addressA, addressB, folder }: Site, subnet: string): Promise<Rival | undefined> {
  if (!has('tincd')) return undefined;
  const ends = { near: { at: join(folder, 'tinc-near') }, far: { at: join(folder, 'tinc-far') } };
  const hosts: Record<string, string> = {};
  for (const [name, { at }] of Object.entries(ends)) {
    mkdirSync(join(at, 'hosts'), { recursive: true });
    const isNear = name === 'near';
    const lines = [`Name = ${name}`, 'DeviceType = tun', 'Interface = tinc0', 'AddressFamily = ipv4'];
    if (isNear) lines.push('ConnectTo = far');
    writeFileSync(join(at, 'tinc.conf'), `${lines.join('\n')}\n`);
    writeFileSync(join(at, 'hosts', name), `Address = ${isNear ? addressA : addressB}\nSubnet = ${subnet}${isNear ? 1 : 2}/32\n`);
    // It asks where to put the keys; the ends of its input are its own choice.
    const made = spawnSync('tincd', ['-c', at, '-K', '2048'], { input: '\n\n', encoding: 'utf8' });
    if (made.status !== 0) throw new Error(`tincd -K: ${made.stderr}`);
    hosts[name] = readFileSync(join(at, 'hosts', name), 'utf8');
  }
  writeFileSync(join(ends.near.at, 'hosts', 'far'), hosts['far'] ?? '');
  writeFileSync(join(ends.far.at, 'hosts', 'near'), hosts['near'] ?? '');
  const start = (ns: Namespace, at: string): Child => ns.spawn(['tincd', '-c', at, '-D', '--pidfile', join(at, 'pid')]);
  const [left, right] = [start(a, ends.near.at), start(b, ends.far.at)];
  return pair('tinc', `${subnet}2`, left, right, async () => {
    await deviceUp(a, 'tinc0', `${subnet}1`);
    await deviceUp(b, 'tinc0', `${subnet}2`);
  });
}

async function nebula({ a, b, addressA, addressB, folder }: Site, subnet: string): Promise<Rival | undefined> {
  if (!has('nebula', 'nebula-cert')) return undefined;
  const at = join(folder, 'nebula');
  mkdirSync(at);
  const file = (name: string): string => join(at, name);
  runSync('nebula-cert', 'ca', '-name', 'bench', '-out-crt', file('ca.crt'), '-out-key', file('ca.key'));
  const start = (ns: Namespace, name: string, own: number): Child => {
    const signed = ['-ca-crt', file('ca.crt'), '-ca-key', file('ca.key'), '-out-crt', file(`${name}.crt`), '-out-key', file(`${name}.key`)];
    runSync('nebula-cert', 'sign', '-name', name, '-ip', `${subnet}${own}/24`, ...signed);
    const other = { address: own === 1 ? addressB : addressA, inner: `${subnet}${3 - own}` };
    const config = {
      pki: { ca: file('ca.crt'), cert: file(`${name}.crt`), key: file(`${name}.key`) },
      static_host_map: { [other.inner]: [`${other.address}:4242`] },
      lighthouse: { am_lighthouse: false },
      listen: { host: '0.0.0.0', port: 4242 },
      tun: { dev: 'nebula0' },
      logging: { level: 'error', format: 'text' },
      firewall: {
        outbound: [{ port: 'any', proto: 'any', host: 'any' }],
        inbound: [{ port: 'any', proto: 'any', host: 'any' }],
      },
    };
    // JSON is YAML.
    writeFileSync(file(`${name}.yml`), JSON.stringify(config));
    return ns.spawn(['nebula', '-config', file(`${name}.yml`)]);
  };
  const [left, right] = [start(a, 'near', 1), start(b, 'far', 2)];
  return pair('nebula', `${subnet}2`, left, right, async () => {});
}
