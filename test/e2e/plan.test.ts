// A plan is what happens: the operations that `validate_only` and `interface plan` list are those that `ip monitor` then shows, and
// the second time there are none.

import { expect, it } from 'vitest';
import type { PlanStep } from '../../src/gen/taplane/v1/interface.ts';
import { startAgent } from '../harness/agent.ts';
import { SOON } from '../harness/bound.ts';
import { type KernelEvent, watchKernel } from '../harness/ip-monitor.ts';
import { createNamespace } from '../harness/namespace.ts';
import { LATE_MS, link, snapshot } from '../harness/truth.ts';
import { creation, deletion, type PartialSpec, TAP, updating } from './specs.ts';

/** An operation on an object that the kernel announces, such as `address add 10.1.0.1/24`. */
function planned(steps: PlanStep[]): string[] {
  return steps.flatMap(({ command }) => {
    const [, object, verb, rest] = /^ip (?:-6 )?(tuntap|link|addr|route|neigh) (add|change|del|set|replace) (.*)$/.exec(command) ?? [];
    if (object === 'tuntap') return [`link add ${/dev (\S+)/.exec(command)?.[1]}`];
    if (command.includes('txqueuelen')) return []; // `ip monitor` does not print the queue length; `ip link` is asked below
    if (object === 'link')
      return verb === 'del' ? [`link del ${rest?.replace('dev ', '')}`] : [`link set ${rest?.replace(/^dev \S+ /, '')}`];
    if (object === 'addr') return [`address ${verb === 'del' ? 'del' : 'add'} ${rest?.split(' ')[0]}`];
    if (object === 'route') return [`route ${verb} ${rest?.split(' ')[0]}`];
    if (object === 'neigh') return [`neighbour ${verb === 'del' ? 'del' : 'add'} ${rest?.split(' ')[0]}`];
    return []; // sysctl: netlink announces nothing
  });
}

/** What was done on the device, read from what `ip monitor` printed; what the kernel adds by itself left out. */
function seen(events: KernelEvent[], device: string): string[] {
  const found: string[] = [];
  let known = { there: false, up: false, mtu: '1500', mac: '', master: '', alias: '' };
  for (const event of events.filter((item) => item.device === device)) {
    const { kind, deleted, text } = event;
    if (kind === 'link') {
      if (deleted) {
        // With a bridge in it, the line tells of the port, not of the device.
        if (!/\bmaster\b/.test(text)) found.push(`link del ${device}`);
        continue;
      }
      const now = {
        there: true,
        up: /<[^>]*\bUP\b/.test(text),
        mtu: /mtu (\d+)/.exec(text)?.[1] ?? '',
        mac: /link\/ether (\S+)/.exec(text)?.[1] ?? '',
        master: /master (\S+)/.exec(text)?.[1] ?? '',
        alias: /alias (\S+)/.exec(text)?.[1] ?? known.alias,
      };
      if (!known.there) found.push(`link add ${device}`);
      else {
        if (now.mtu !== known.mtu) found.push(`link set mtu ${now.mtu}`);
        if (now.mac !== known.mac) found.push(`link set address ${now.mac}`);
        if (now.master !== known.master) found.push(now.master === '' ? 'link set nomaster' : `link set master ${now.master}`);
        if (now.up !== known.up) found.push(`link set ${now.up ? 'up' : 'down'}`);
      }
      known = now;
    } else if (kind === 'address') {
      const cidr = /inet6? (\S+)/.exec(text)?.[1] ?? '';
      if (!cidr.startsWith('fe80:')) found.push(`address ${deleted ? 'del' : 'add'} ${cidr}`);
    } else if (kind === 'route') {
      if (/proto 76/.test(text)) found.push(`route ${deleted ? 'del' : 'add'} ${text.replace(/^unicast /, '').split(' ')[0]}`);
    } else if (/^10\./.test(text) && (/PERMANENT/.test(text) || deleted)) {
      found.push(`neighbour ${deleted ? 'del' : 'add'} ${text.split(' ')[0]}`);
    }
  }
  return found;
}

const full: PartialSpec = {
  mode: TAP,
  up: true,
  mtu: 1400,
  txQueueLength: 700,
  macAddress: '02:00:00:00:00:01',
  controller: 'br0',
  addresses: [{ cidr: '10.1.0.1/24' }, { cidr: '10.1.0.2/24' }, { cidr: 'fd01::1/64' }],
  routes: [{ destination: '10.2.0.0/16', gateway: '10.1.0.9' }, { destination: '10.3.0.0/16' }, { destination: 'fd02::/32' }],
  neighbours: [{ address: '10.1.0.9', macAddress: '02:00:00:00:00:09' }],
  sysctls: { 'ipv4/rp_filter': '2' },
};

const updates: [string, PartialSpec, string[]][] = [
  ['nothing', {}, []],
  ['MTU and queue', { mtu: 1300, txQueueLength: 900 }, []],
  [
    'one address less, one more',
    { addresses: [{ cidr: '10.1.0.1/24' }, { cidr: 'fd01::1/64' }, { cidr: 'fd01::2/64' }] },
    ['spec.addresses'],
  ],
  [
    'the primary address, which must not take its secondary along',
    { addresses: [{ cidr: '10.1.0.3/24' }, { cidr: '10.1.0.2/24' }, { cidr: 'fd01::1/64' }] },
    ['spec.addresses'],
  ],
  ['routes', { routes: [{ destination: '10.3.0.0/16', metric: 5 }] }, ['spec.routes']],
  ['neighbour', { neighbours: [{ address: '10.1.0.9', macAddress: '02:00:00:00:00:0a' }] }, []],
  ['MAC and bridge', { macAddress: '02:00:00:00:00:02', controller: '' }, ['spec.mac_address', 'spec.controller']],
  [
    'no IPv4 address, which takes IPv4 routes along',
    { addresses: [{ cidr: 'fd01::1/64' }], routes: [{ destination: '10.3.0.0/16' }] },
    ['spec.addresses', 'spec.routes'],
  ],
  ['down', { up: false }, ['spec.up']],
  ['setting', { sysctls: { 'ipv4/rp_filter': '1' } }, []],
];

/** What the kernel does along with the planned steps. */
const consequences: Record<string, string[]> = {
  'the primary address, which must not take its secondary along': ['address add 10.1.0.2/24'], // told to be primary now
  'no IPv4 address, which takes IPv4 routes along': ['neighbour del 10.1.0.9'],
  'MAC and bridge': ['neighbour del 10.1.0.9'],
  down: ['neighbour del 10.1.0.9', 'address del fd01::1/64', 'route del fd02::/32', 'route del 10.2.0.0/16', 'route del 10.3.0.0/16'],
};

it.each(updates)('plans exactly what happens on update: %s', async (what, change, mask) => {
  await using ns = createNamespace();
  ns.ip('link add br0 type bridge');
  await using agent = await startAgent({ namespace: ns });
  const { interfaces } = agent.client();
  // The kernel's own work on IPv6 (DAD, router solicitations) would be in the monitor too.
  await interfaces.create(creation('p0', full));
  await using watch = await watchKernel(ns);
  await watch.quiet(LATE_MS);
  watch.clear();
  const before = snapshot(ns);
  const promise = await interfaces.update(updating('p0', change, mask, { validateOnly: true }));
  expect(snapshot(ns)).toBe(before);
  expect(await watch.settle()).toEqual([]);
  // What the monitor is compared with begins where the device stands now.
  ns.ip('link set p0 alias seen');
  await expect.poll(() => ns.run('ip', 'link', 'show', 'p0'), SOON).toContain('alias taplane:');
  const done = await interfaces.update(updating('p0', change, mask));
  expect(done.plan).toEqual(promise.plan);
  const events = await watch.settle();
  const steps = planned(done.plan).filter((step) => !step.startsWith('link set alias'));
  const byKernel = new Set(consequences[what]);
  expect(seen(events, 'p0').filter((event) => event !== 'link add p0' && (steps.includes(event) || !byKernel.has(event)))).toEqual(steps);
  expect(link(ns, 'p0')?.txqlen).toBe(change.txQueueLength ?? full.txQueueLength);
  watch.clear();
  expect((await interfaces.update(updating('p0', change, mask))).plan).toEqual([]);
  expect((await watch.settle()).filter(({ kind }) => kind !== 'link')).toEqual([]);
});

it('plans exactly what happens on create and delete, by API and by command line', async () => {
  await using ns = createNamespace();
  ns.ip('link add br0 type bridge');
  await using agent = await startAgent({ namespace: ns });
  const { interfaces } = agent.client();
  await using watch = await watchKernel(ns);
  await watch.quiet(LATE_MS);
  watch.clear();
  const promise = await interfaces.create(creation('p0', full, { validateOnly: true }));
  const flags = '--mode tun --address 10.9.0.1/24 --route 10.10.0.0/16,via=10.9.0.2,metric=5 --mtu 1300 --up'.split(' ');
  const plan = await agent.cli(['interface', 'plan', 'p1', ...flags]);
  expect(plan.code).toBe(0);
  expect(await watch.settle()).toEqual([]);

  const done = await interfaces.create(creation('p0', full));
  const withoutUid = (steps: PlanStep[]): PlanStep[] =>
    steps.map((step) => ({ ...step, command: step.command.replace(/ # alias .*/, '') }));
  expect(withoutUid(done.plan)).toEqual(withoutUid(promise.plan));
  expect(seen(await watch.settle(), 'p0')).toEqual(planned(done.plan));

  watch.clear();
  expect((await agent.cli(['interface', 'create', 'p1', ...flags])).code).toBe(0);
  const lines = plan.stdout
    .trim()
    .split('\n')
    .map((command): PlanStep => ({ action: 0, object: '', command: command.trim() }));
  expect(lines.length).toBeGreaterThanOrEqual(5);
  expect(seen(await watch.settle(), 'p1')).toEqual(planned(lines));
  // Again: nothing to do, and nothing happens.
  watch.clear();
  const again = await agent.cli(['interface', 'plan', 'p1', ...flags]);
  expect(again.code).toBe(0);
  expect(again.stdout).not.toMatch(/\bip /);
  expect(await watch.settle()).toEqual([]);

  watch.clear();
  const removal = await interfaces.delete(deletion('p1', { validateOnly: true }));
  expect(await watch.settle()).toEqual([]);
  expect((await interfaces.delete(deletion('p1'))).plan).toEqual(removal.plan);
  expect((await watch.settle()).filter(({ kind, deleted }) => kind === 'link' && deleted)).toHaveLength(1);
});
