// What an agent does by itself: other namespaces, time, drift that is not repaired, fights, restarts and reboots.

import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { InterfaceSpec_Drift } from '../../src/gen/taplane/v1/interface.ts';
import { bound } from '../harness/bound.ts';
import { watchKernel } from '../harness/ip-monitor.ts';
import { createNamespace } from '../harness/namespace.ts';
import { runSync } from '../harness/process.ts';
import * as truth from '../harness/truth.ts';
import { manage, reasonOf, type Spec, TAP, TUN, until } from './managed.ts';

const address = (cidr: string, more: object = {}) => ({ cidr, ...more });
const inode = (path: string) => /\d+/.exec(readlinkSync(path))?.[0];

describe('another namespace', () => {
  it('has the interface, which is repaired there, and is really freed when it is deleted; when its name is back, so is the interface', async () => {
    await using managed = await manage();
    const other = createNamespace();
    try {
      await managed.create('n0', {
        mode: TAP,
        networkNamespace: other.name,
        up: true,
        addresses: [address('10.50.0.1/24')],
        routes: [{ destination: '10.51.0.0/16' }],
        sysctls: { 'ipv4/rp_filter': '2' },
      });
      expect([managed.ns.has('n0'), other.has('n0')]).toEqual([false, true]);
      expect(truth.sysctl(other, 'net/ipv4/conf/n0/rp_filter')).toBe('2');
      other.ip('address del 10.50.0.1/24 dev n0');
      await until(() => truth.cidrs(other, 'n0').includes('10.50.0.1/24'), 'repair of the address');
      truth.writeSysctl(other, 'net/ipv4/conf/n0/rp_filter', '0');
      await until(() => truth.sysctl(other, 'net/ipv4/conf/n0/rp_filter') === '2', 'repair of the setting');
      other.ip('link del n0');
      await until(() => other.has('n0') && truth.routes(other, 'n0').some(({ dst }) => dst === '10.51.0.0/16'), 'repair of the device');

      // A veth end in a namespace goes with it: it is freed when, and only when, this one is gone.
      managed.ns.ip(`link add alive type veth peer name peer netns ${other.name}`);
      const { pid } = managed.agent;
      const home = inode(`/proc/${pid}/ns/net`);
      other[Symbol.dispose]();
      await until(() => !managed.ns.has('alive'), 'the end of the namespace');
      expect(inode(`/proc/${pid}/ns/net`)).toBe(home);
      await until(async () => (await managed.condition('n0', 'Ready'))?.reason === 'NAMESPACE_MISSING', 'the condition');
      expect((await managed.get('n0')).status?.state).toBe(3);
      expect(await reasonOf(managed.create('n1', { mode: TUN, networkNamespace: 'no-such' }))).toBe('NAMESPACE_MISSING');

      runSync('ip', 'netns', 'add', other.name);
      await until(() => other.has('n0') && truth.cidrs(other, 'n0').includes('10.50.0.1/24'), 'the interface in the new namespace', 60_000);
      await managed.delete('n0');
      expect(other.has('n0')).toBe(false);
    } finally {
      other[Symbol.dispose]();
    }
  });
});

describe('time', () => {
  it('takes an address away, and nobody puts it back', async () => {
    await using managed = await manage();
    await using watch = await watchKernel(managed.ns);
    await managed.create('t0', {
      mode: TUN,
      up: true,
      addresses: [address('10.52.0.1/24', { validLifetime: 4 }), address('fd52::1/64', { validLifetime: 4 }), address('10.53.0.1/24')],
    });
    const cidrs = () => truth.cidrs(managed.ns, 't0').filter((cidr) => !cidr.startsWith('fe80'));
    expect(cidrs()).toHaveLength(3);
    await watch.settle();
    watch.clear();
    await until(() => cidrs().length === 1, 'the end of both', 60_000);
    await sleep(500);
    expect(cidrs()).toEqual(['10.53.0.1/24']);
    const added = (await watch.settle()).filter(
      ({ kind, deleted, device, text }) => kind === 'address' && !deleted && device === 't0' && /10\.52|fd52/.test(text),
    );
    // The kernel itself tells of an IPv6 address once more when it is no longer preferred.
    expect(added.filter(({ text }) => !text.includes('deprecated') && !/valid_lft [01]sec/.test(text))).toEqual([]);
    const { spec, status } = await managed.get('t0');
    expect([spec?.addresses.length, status?.state, status?.repairs]).toEqual([3, 1, 0n]);
    await managed.agent.restart();
    expect(cidrs()).toEqual(['10.53.0.1/24']);
  });
});

describe('an ephemeral interface', () => {
  it('ends with the agent, at its stop and at the start after a crash; the others stay', async () => {
    await using managed = await manage();
    const both = async () => {
      await managed.create('e0', { mode: TUN, ephemeral: true, up: true });
      return [managed.ns.has('e0'), managed.ns.has('e1')];
    };
    await managed.create('e1', { mode: TUN });
    expect(await both()).toEqual([true, true]);
    await managed.agent.stop();
    expect([managed.ns.has('e0'), managed.ns.has('e1')]).toEqual([false, true]);
    await managed.agent.start();
    expect(await both()).toEqual([true, true]);
    await managed.agent.kill9();
    expect([managed.ns.has('e0'), managed.ns.has('e1')]).toEqual([true, true]);
    await managed.agent.start();
    expect([managed.ns.has('e0'), managed.ns.has('e1')]).toEqual([false, true]);
    expect(await reasonOf(managed.get('e0'))).toBe('INTERFACE_NOT_FOUND');
  });
});

describe('drift', () => {
  it('is reported or ignored where the spec says so, also over a restart; asking again makes it right', async () => {
    await using managed = await manage();
    const { ns } = managed;
    const spec: Spec = { mode: TUN, up: true, mtu: 1400, addresses: [address('10.54.0.1/24')] };
    await managed.create('d0', { ...spec, drift: InterfaceSpec_Drift.REPORT });
    await managed.create('d1', { ...spec, addresses: [address('10.55.0.1/24')], drift: InterfaceSpec_Drift.IGNORE });
    for (const name of ['d0', 'd1']) ns.ip(`link set ${name} mtu 1300`);
    await until(async () => (await managed.condition('d0', 'Drifted'))?.message.includes('ip link set dev d0 mtu 1400'), 'the report');
    const states = async () =>
      Promise.all(
        ['d0', 'd1'].map(async (name) => [
          truth.link(ns, name)?.mtu,
          (await managed.get(name)).status?.state,
          (await managed.condition(name, 'Drifted'))?.status,
        ]),
      );
    expect(await states()).toEqual([
      [1300, 2, 1],
      [1300, 1, undefined],
    ]);
    await managed.agent.restart();
    await until(async () => (await managed.condition('d0', 'Drifted'))?.status === 1, 'the report after a restart');
    expect(await states()).toEqual([
      [1300, 2, 1],
      [1300, 1, undefined],
    ]);
    ns.ip('link set d0 mtu 1400');
    await until(async () => (await managed.condition('d0', 'Drifted')) === undefined, 'the end of the report');
    await managed.update('d1', { mtu: 1400 }, ['spec.mtu']);
    expect(truth.link(ns, 'd1')?.mtu).toBe(1400);
  });
});

describe('a fight', () => {
  it('is fought with twenty repairs, then one a second, at little cost, and ends when the other side does', {
    timeout: 180_000,
  }, async () => {
    await using managed = await manage();
    const { ns, agent } = managed;
    await managed.create('f0', { mode: TUN, up: true, addresses: [address('10.56.0.1/24')] });
    await using watch = await watchKernel(ns);
    const cpuMs = () => {
      const fields = readFileSync(`/proc/${agent.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
      return (Number(fields[11]) + Number(fields[12])) * 10;
    };
    const [begun, cpu] = [Date.now(), cpuMs()];
    const fighter = ns.spawn(['sh', '-c', 'while :; do ip address del 10.56.0.1/24 dev f0 2>/dev/null; sleep 0.05; done']);
    await sleep(6_000);
    await until(async () => (await managed.condition('f0', 'Contended'))?.reason === 'AnotherManager', 'the condition', 60_000);
    const share = (cpuMs() - cpu) / (Date.now() - begun);
    await fighter[Symbol.asyncDispose]();
    const repairs = (await watch.settle()).filter(({ kind, deleted, device }) => kind === 'address' && !deleted && device === 'f0').length;
    const seconds = (Date.now() - begun) / 1000;
    console.log(`${repairs} repairs in ${seconds.toFixed(1)} s, ${(100 * share).toFixed(1)} % of a core`);
    expect(repairs).toBeGreaterThanOrEqual(20);
    expect(repairs).toBeLessThanOrEqual(20 + Math.ceil(seconds) + 1);
    expect(share).toBeLessThan(bound(0.2, 0.7));
    await until(() => truth.cidrs(ns, 'f0').includes('10.56.0.1/24'), 'the last repair');
    await until(async () => (await managed.condition('f0', 'Contended')) === undefined, 'the end of the condition', 60_000);
    expect((await managed.get('f0')).status?.state).toBe(1);
  });
});

describe('a start', () => {
  const everything: [string, Spec][] = [
    [
      'r0',
      {
        mode: TAP,
        up: true,
        mtu: 1400,
        txQueueLength: 77,
        owner: '1234',
        multiQueue: true,
        controller: 'br0',
        addresses: [address('10.57.0.1/24'), address('10.57.0.2/24'), address('10.58.0.1', { peer: '10.58.0.2' }), address('fd57::1/64')],
        routes: [
          { destination: '10.59.0.0/16', gateway: '10.57.0.9' },
          { destination: 'fd59::/48', gateway: 'fd57::9' },
        ],
        neighbours: [{ address: '10.57.0.9', macAddress: '02:00:00:00:00:09' }],
        sysctls: { 'ipv4/rp_filter': '2', 'ipv6/accept_ra': '0' },
      },
    ],
    [
      'r1',
      {
        mode: TUN,
        up: true,
        addresses: [address('10.60.0.1/24', { validLifetime: 3600 })],
        routes: [{ destination: '10.61.0.0/16', table: 1000 }],
      },
    ],
    ['r2', { mode: TUN }],
  ];

  it('with everything in place changes nothing, after a stop and after a crash', async () => {
    await using managed = await manage();
    managed.ns.ip('link add br0 type bridge');
    for (const [name, spec] of everything) await managed.create(name, spec);
    await using watch = await watchKernel(managed.ns);
    await watch.quiet(truth.LATE_MS);
    for (const end of ['stop', 'kill9'] as const) {
      const before = truth.snapshot(managed.ns);
      watch.clear();
      await managed.agent[end]();
      await managed.agent.start();
      await sleep(200);
      expect((await watch.settle()).map(({ text }) => text)).toEqual([]);
      expect(truth.snapshot(managed.ns)).toBe(before);
    }
  });

  it('after a reboot restores everything, with the same MAC addresses', async () => {
    await using managed = await manage();
    const { ns } = managed;
    ns.ip('link add br0 type bridge');
    for (const [name, spec] of everything) await managed.create(name, spec);
    const picture = () =>
      truth
        .snapshot(ns, { except: (device) => !device.startsWith('r') })
        .replace(/"(ifindex|link_netnsid)":\d+,/g, '')
        .replace(/"(root_id|bridge_id|designated_\w+|\w*timer|hold_\w+|no|port\w*|id)":[^,}]*,?/g, '')
        .split('\n')
        .filter((line) => !/NOARP|fe80::/.test(line));
    const before = picture();
    const mac = truth.link(ns, 'r0')?.address;
    await managed.agent.kill9();
    for (const [name] of everything) ns.ip(`link del ${name}`);
    await managed.agent.start();
    expect(picture()).toEqual(before);
    expect(truth.link(ns, 'r0')?.address).toBe(mac);
    ns.ip('link del r0');
    await until(() => truth.link(ns, 'r0')?.address === mac, 'the same MAC after a deletion');
  });

  it('leaves no fd behind in the agent, however often devices come and go', async () => {
    await using managed = await manage();
    const cycle = async () => {
      await managed.create('x0', { mode: TUN, sysctls: { 'ipv4/rp_filter': '1' } });
      await managed.delete('x0');
    };
    for (let n = 0; n < 5; n++) await cycle();
    const open = () =>
      readdirSync(`/proc/${managed.agent.pid}/fd`).filter((fd) => existsSync(`/proc/${managed.agent.pid}/fd/${fd}`)).length;
    const before = open();
    for (let n = 0; n < 20; n++) await cycle();
    // Each call above has a connection of its own, and so have the lane's state and its flows.
    expect(open()).toBeLessThanOrEqual(before + 44);
  });
});
