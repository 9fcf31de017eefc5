// Failures of the kernel, the disk and other people, one at a time: a typed answer, nothing changed, nothing left, nothing of
// others touched.

import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { AdoptInterfaceRequest, ListInterfacesRequest, WatchInterfacesRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { bound, SOON } from '../harness/bound.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { runSync } from '../harness/process.ts';
import { shareAgent } from '../harness/shared-agent.ts';
import { failAt } from '../harness/strace.ts';
import { cidrs, link, links, restingSnapshot, snapshot, writeSysctl } from '../harness/truth.ts';
import { creation, deletion, type PartialSpec, TAP, TUN, updating } from './specs.ts';

const spec: PartialSpec = { mode: TUN, up: true, addresses: [{ cidr: '10.70.0.1/24' }], routes: [{ destination: '10.71.0.0/24' }] };
const names = (ns: Namespace): string[] =>
  links(ns)
    .map(({ ifname }) => ifname)
    .filter((name) => name !== 'lo');
const listed = async (agent: Agent): Promise<string[]> =>
  (await agent.client().interfaces.list(ListInterfacesRequest.fromPartial({}))).interfaces.map(({ name }) => name);

it('a create that the kernel fails at any call leaves nothing, at once or soon after, and the name is free again', {
  timeout: 300_000,
}, async () => {
  await using shared = await shareAgent();
  const { agent, ns } = shared;
  const { interfaces } = agent.client();
  await interfaces.create(creation('warm', spec));
  await interfaces.delete(deletion('warm'));
  /** `free`, or why the name is not: until the device of a creation that failed is let go, the next is refused before any call. */
  const nameIs = (): Promise<string> =>
    interfaces.create(creation('f0', spec, { validateOnly: true })).then(
      () => 'free',
      (error: { reason: string }) => error.reason,
    );
  // A creation makes at least so many of each, whatever else the agent looks at meanwhile.
  for (const [syscall, least] of [
    ['sendto', 10],
    ['ioctl', 3],
    ['recvfrom', 10],
  ] as const) {
    let refused = 0;
    for (let n = 1; ; n++) {
      const where = `${syscall} ${n}`;
      expect(n, where).toBeLessThan(80);
      // From the nth on everything fails, also the way back.
      await using fault = await failAt(agent.pid, syscall, 'ENOBUFS', `${n}+`);
      const outcome = await interfaces.create(creation('f0', spec)).then(
        () => 'made',
        (error: { code: string; reason: string }) => `${error.code} ${error.reason}`,
      );
      const fired = await fault.release();
      if (outcome === 'made') break;
      refused++;
      expect(fired, where).toBeGreaterThan(0);
      expect(outcome, where).toMatch(/^(RESOURCE_EXHAUSTED|UNAVAILABLE) (?!NAME_BUSY)/);
      await expect.poll(nameIs, { ...SOON, message: where }).toBe('free');
      expect(names(ns), where).toEqual([]);
      expect(await listed(agent), where).toEqual([]);
    }
    console.log(`${syscall}: refused from each of ${refused} calls on`);
    expect(refused, syscall).toBeGreaterThanOrEqual(least);
    await interfaces.delete(deletion('f0'));
  }
  await interfaces.create(creation('f0', spec));
  expect(cidrs(ns, 'f0')).toContain('10.70.0.1/24');
});

it.each([
  ['sendto', 'ENOMEM', 20],
  ['recvfrom', 'ENOBUFS', 20],
  ['openat', 'EMFILE', 1],
  ['fsync', 'EIO', 2],
])(
  'an update in which %s fails with %s takes nothing away: not ours, not defaults, not what others put there',
  { timeout: 300_000 },
  async (syscall, error, least) => {
    await using shared = await shareAgent();
    const { agent, ns } = shared;
    const { interfaces } = agent.client();
    const arrange = async (): Promise<string> => {
      await interfaces.delete({ ...deletion('u0'), allowMissing: true });
      await interfaces.create(
        creation('u0', { ...spec, mode: TAP, neighbours: [{ address: '10.70.0.9', macAddress: '02:00:00:00:00:09' }] }),
      );
      writeSysctl(ns, 'net/ipv6/conf/u0/disable_ipv6', '1');
      for (const words of [
        'addr add 10.72.0.1/24 dev u0',
        'route add 10.73.0.0/24 dev u0',
        'route add 10.74.0.0/24 via 10.72.0.9 dev u0',
        'neigh add 10.72.0.9 lladdr 02:00:00:00:00:08 dev u0',
      ])
        ns.ip(words);
      return restingSnapshot(ns);
    };
    let before = await arrange();
    const change: PartialSpec = {
      up: false,
      mtu: 1400,
      txQueueLength: 77,
      addresses: [{ cidr: '10.70.0.2/24' }],
      sysctls: { 'ipv4/rp_filter': '2' },
    };
    const update = updating('u0', change, ['spec.up', 'spec.mtu', 'spec.tx_queue_length', 'spec.addresses', 'spec.sysctls']);
    let refused = 0;
    let strays = 0;
    for (let n = 1; n < 80; n++) {
      await using fault = await failAt(agent.pid, syscall, error, String(n));
      const outcome = await interfaces.update(update).then(
        () => 'done',
        (reason: { code: string }) => reason.code,
      );
      const fired = await fault.release();
      if (outcome === 'done') {
        // Beyond the last call, or one that did not matter: the change is made, and the tour is over.
        if (fired === 0 || refused >= least) break;
        // A look at a late notification took the place of the nth call: once more.
        expect(++strays).toBeLessThan(10);
        before = await arrange();
        n--;
        continue;
      }
      refused++;
      expect(fired, `${syscall} ${n}`).toBeGreaterThan(0);
      await expect.poll(() => snapshot(ns), { ...SOON, message: `${syscall} ${n}: ${outcome}` }).toBe(before);
      const { spec: kept } = await interfaces.get({ name: 'interfaces/u0' });
      expect(kept, `${syscall} ${n}`).toMatchObject({ up: true, addresses: [{ cidr: '10.70.0.1/24' }] });
    }
    console.log(`${syscall} ${error}: refused at ${refused} calls`);
    expect(refused).toBeGreaterThanOrEqual(least);
  },
);

it('a delete that the disk refused does not come true after a crash', async () => {
  await using shared = await shareAgent();
  const { agent, ns } = shared;
  await agent.client().interfaces.create(creation('d0', spec));
  await using fault = await failAt(agent.pid, 'fsync', 'EIO', '1');
  await expect(agent.client().interfaces.delete(deletion('d0'))).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    reason: 'STATE_NOT_WRITABLE',
  });
  expect(await fault.release()).toBe(1);
  await sleep(200);
  await agent.kill9();
  await agent.restart();
  expect(await listed(agent)).toEqual(['interfaces/d0']);
  expect(names(ns)).toEqual(['d0']);
  expect((await agent.client().node.getNode()).conditions.find(({ type }) => type === 'StateIntact')?.reason).toBe('Intact');
});

it('a refused update is never seen', async () => {
  await using shared = await shareAgent();
  const { agent, ns } = shared;
  const { interfaces } = agent.client();
  await interfaces.create(creation('v0', { ...spec, mtu: 1500 }));
  const seen = new Set<number | undefined>();
  const stop = { now: false };
  const looking = (async () => {
    while (!stop.now) seen.add((await interfaces.get({ name: 'interfaces/v0' })).spec?.mtu);
  })();
  await using fault = await failAt(agent.pid, 'fsync', 'EIO', '2');
  await expect(interfaces.update(updating('v0', { mtu: 1400 }))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(await fault.release()).toBe(1);
  stop.now = true;
  await looking;
  expect([...seen]).toEqual([1500]);
  expect(link(ns, 'v0')?.mtu).toBe(1500);
});

it('a foreign device in a namespace made anew under the same name is not taken over', async () => {
  await using shared = await shareAgent();
  const { agent } = shared;
  const other = createNamespace();
  try {
    await agent.client().interfaces.create(creation('n0', { ...spec, networkNamespace: other.name }));
    process.kill(agent.pid, 'SIGSTOP');
    runSync('ip', 'netns', 'del', other.name);
    runSync('ip', 'netns', 'add', other.name);
    other.ip('tuntap add dev n0 mode tun');
    process.kill(agent.pid, 'SIGCONT');
    await expect
      .poll(async () => (await agent.client().interfaces.get({ name: 'interfaces/n0' })).status?.conditions[0]?.reason, SOON)
      .toBe('NAME_TAKEN');
    await agent.client().interfaces.delete(deletion('n0'));
    expect(names(other)).toEqual(['n0']);
    expect(link(other, 'n0')).not.toHaveProperty('ifalias');
  } finally {
    other[Symbol.dispose]();
  }
});

it('a file that is no network namespace is refused at once', async () => {
  await using shared = await shareAgent();
  const { agent } = shared;
  const fifo = `${agent.folder}/fifo`;
  runSync('mkfifo', fifo);
  for (const networkNamespace of [fifo, '/dev/null', '/proc/self/ns/mnt', '/etc/passwd', 'none-such']) {
    await expect(
      agent.client({ timeoutMs: bound(3000, 15_000) }).interfaces.create(creation('x0', { mode: TUN, networkNamespace })),
      networkNamespace,
    ).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'NAMESPACE_MISSING' });
  }
});

it('what cannot be repaired does not keep the rest from being repaired', async () => {
  await using ns = createNamespace();
  ns.ip('link add br0 type bridge');
  await using agent = await startAgent({ namespace: ns });
  await agent.client().interfaces.create(creation('r0', { ...spec, mode: TAP, mtu: 1400, controller: 'br0' }));
  ns.ip('link del br0');
  ns.ip('addr del 10.70.0.1/24 dev r0');
  ns.ip('link set r0 mtu 1500');
  await expect.poll(() => [link(ns, 'r0')?.mtu, cidrs(ns, 'r0').includes('10.70.0.1/24')], SOON).toEqual([1400, true]);
  await expect
    .poll(
      async () =>
        (await agent.client().interfaces.get({ name: 'interfaces/r0' })).status?.conditions.find(({ type }) => type === 'Ready')?.reason,
      SOON,
    )
    .toBe('BRIDGE_MISSING');
  ns.ip('link add br0 type bridge');
  await expect.poll(() => link(ns, 'r0')?.master, SOON).toBe('br0');
  // Another route in the place of ours is drift of ours.
  ns.ip('route replace 10.71.0.0/24 via 10.70.0.7 dev r0');
  await expect
    .poll(() => ns.run('ip', 'route', 'show', '10.71.0.0/24').trim(), SOON)
    .toBe('10.71.0.0/24 dev r0 proto 76 scope link linkdown');
});

it('two creations at once cannot have the same address', async () => {
  await using shared = await shareAgent();
  const { agent, ns } = shared;
  const { interfaces } = agent.client();
  for (let round = 0; round < 20; round++) {
    const outcomes = await Promise.allSettled(['a0', 'b0', 'c0'].map((name) => interfaces.create(creation(name, spec))));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'ADDRESS_IN_USE' });
    for (const name of names(ns)) await interfaces.delete(deletion(name));
  }
});

it('an agent lets go of a device that another agent adopts', async () => {
  await using ns = createNamespace();
  await using one = await startAgent({ namespace: ns });
  await using two = await startAgent({ namespace: ns });
  await one.client().interfaces.create(creation('s0', spec));
  await expect(two.client().interfaces.create(creation('s0', spec))).rejects.toMatchObject({
    code: 'ALREADY_EXISTS',
    reason: 'NAME_TAKEN',
  });
  await expect(two.client().interfaces.adopt(AdoptInterfaceRequest.fromPartial({ interfaceId: 's0' }))).rejects.toMatchObject({
    code: 'FAILED_PRECONDITION',
    reason: 'NOT_ADOPTABLE',
  });
  const adopted = await two.client().interfaces.adopt(AdoptInterfaceRequest.fromPartial({ interfaceId: 's0', takeOver: true }));
  await expect
    .poll(async () => (await one.client().interfaces.get({ name: 'interfaces/s0' })).status?.conditions[0]?.reason, SOON)
    .toBe('NAME_TAKEN');
  await one.client().interfaces.delete(deletion('s0'));
  expect(link(ns, 's0')?.ifalias).toBe(`taplane:${adopted.uid}`);
  expect(cidrs(ns, 's0')).toContain('10.70.0.1/24');
});

it('names the cause where the kernel only says no', async () => {
  await using ns = createNamespace();
  for (const scope of ['all', 'default']) ns.run('sh', '-c', `echo 1 > /proc/sys/net/ipv6/conf/${scope}/disable_ipv6`);
  await using agent = await startAgent({ namespace: ns, env: { TAPLANE_LIMITS_INTERFACES: '2' } });
  const { interfaces } = agent.client();
  await interfaces.create(creation('i4', spec));
  await expect(interfaces.create(creation('i6', { mode: TUN, up: true, addresses: [{ cidr: 'fd70::1/64' }] }))).rejects.toMatchObject({
    code: 'FAILED_PRECONDITION',
    reason: 'IPV6_DISABLED',
  });
  expect(names(ns)).toEqual(['i4']);
});

it('ends at once on SIGTERM, also with watchers, and tells them', async () => {
  await using shared = await shareAgent();
  const { agent } = shared;
  const client = agent.client();
  const watches = Array.from({ length: 20 }, () =>
    client.interfaces.watch(WatchInterfacesRequest.fromPartial({}), new AbortController().signal)[Symbol.asyncIterator](),
  );
  // `synced`: each is under way.
  await Promise.all(watches.map((watch) => watch.next()));
  const ends = watches.map((watch) =>
    watch.next().then(
      () => 'more',
      (error: { code: string }) => error.code,
    ),
  );
  const begun = performance.now();
  await agent.stop();
  expect(performance.now() - begun).toBeLessThan(bound(1500, 8000));
  expect(new Set(await Promise.all(ends))).toEqual(new Set(['UNAVAILABLE']));
});
