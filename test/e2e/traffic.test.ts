// Addresses that answer, routes that carry, a watch that is quick.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { LinkEvent_Kind, WatchInterfacesRequest, type WatchInterfacesResponse } from '../../src/gen/taplane/v1/interface_service.ts';
import { startAgent } from '../harness/agent.ts';
import { bound, SOON } from '../harness/bound.ts';
import { createNamespace } from '../harness/namespace.ts';
import { percentile, summary } from '../harness/percentile.ts';
import { creation, deletion, TAP, TUN, updating } from './specs.ts';

/** Holders are looked for by name over all namespaces: a name that no other test has. */
const DEVICE = `p${process.pid}`;

it('answers ping on its own address, and counts packets for an address behind it once a program is attached', async () => {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  const { interfaces } = agent.client();
  await interfaces.create(creation(DEVICE, { mode: TUN, up: true, addresses: [{ cidr: '10.7.0.1/24' }, { cidr: 'fd07::1/64' }] }));
  expect(ns.run('ping', '-c', '2', '-i', '0.01', '-W', '2', '10.7.0.1')).toContain(' 0% packet loss');
  expect(ns.run('ping', '-c', '2', '-i', '0.01', '-W', '2', 'fd07::1')).toContain(' 0% packet loss');

  const sent = (): number =>
    Number((ns.ip(`-j -s link show dev ${DEVICE}`) as { stats64: { tx: { packets: number } } }[])[0]?.stats64.tx.packets);
  await ns.exec(['ping', '-c', '3', '-i', '0.01', '-W', '1', '10.7.0.9']);
  expect(sent()).toBe(0);

  // A foreign program attaches by name and reads.
  const program = ns.spawn(['/usr/bin/python3', '-c', ATTACH, DEVICE]);
  try {
    await program.until((child) => child.stdout.includes('attached'), 'attaching');
    await ns.exec(['ping', '-c', '3', '-i', '0.01', '-W', '1', '10.7.0.9']);
    await expect.poll(sent, SOON).toBeGreaterThanOrEqual(3);
    const shown = await interfaces.get({ name: `interfaces/${DEVICE}` });
    expect(shown.status).toMatchObject({ carrier: true });
    expect(shown.status?.counters?.txPackets).toBeGreaterThanOrEqual(3n);
    expect(shown.status?.holders).toEqual([{ pid: program.pid, command: 'python3', queues: 1, attachment: '' }]);
    // The kernel's own tool agrees on who holds it.
    expect(ns.run('sh', '-c', 'ip -d tuntap 2>/dev/null')).toContain(`python3(${program.pid})`);
    expect(Number(readFileSync(`/proc/${program.pid}/stat`, 'utf8').split(' ')[0])).toBe(program.pid);
  } finally {
    await program[Symbol.asyncDispose]();
  }
});

const ATTACH = `
import fcntl, os, struct, sys, time
fd = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH22x', sys.argv[1].encode(), 0x1001))
print('attached', flush=True)
end = time.time() + 30
while time.time() < end:
    os.read(fd, 2048)
`;

const MOST_MS = bound(200, 1500);

it(`tells a watcher first what there is, then that this was all, then every change of any link in under ${MOST_MS} ms`, async () => {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  const { interfaces } = agent.client();
  await interfaces.create(creation('tun0', { mode: TUN }));
  await interfaces.create(creation('tap0', { mode: TAP }));
  const ending = new AbortController();
  const heard: { at: number; message: WatchInterfacesResponse }[] = [];
  const watching = (async () => {
    for await (const message of interfaces.watch(WatchInterfacesRequest.fromPartial({ includeLinks: true }), ending.signal))
      heard.push({ at: Date.now(), message });
  })();
  const synced = (): number => heard.findIndex(({ message }) => message.event?.$case === 'synced');
  await expect.poll(synced, SOON).toBeGreaterThanOrEqual(0);
  expect(
    heard
      .slice(0, synced() + 1)
      .map(({ message: { event } }) =>
        event?.$case === 'added' ? event.value.name : event?.$case === 'linkEvent' ? event.value.link : event?.$case,
      ),
  ).toEqual(['interfaces/tap0', 'interfaces/tun0', 'lo', 'tun0', 'tap0', 'synced']);

  const delays: number[] = [];
  const heardOf = async (kind: LinkEvent_Kind, since: number): Promise<void> => {
    const find = () =>
      heard.find(({ at, message: { event } }) => {
        if (at < since || event?.$case !== 'linkEvent') return false;
        return event.value.link === 'foreign' && event.value.kind === kind;
      });
    await expect.poll(find, { ...SOON, interval: 2 }).toBeDefined();
    delays.push((find()?.at ?? Number.POSITIVE_INFINITY) - since);
  };
  for (let round = 0; round < 50; round++) {
    // From before the command is started: the time of `ip` itself is in it.
    let since = Date.now();
    ns.ip('link add foreign type bridge');
    await heardOf(LinkEvent_Kind.ADDED, since);
    since = Date.now();
    ns.ip('link del foreign');
    await heardOf(LinkEvent_Kind.REMOVED, since);
    heard.length = 0;
  }
  console.log(`link by hand to watcher: ${summary(delays)}`);
  expect(percentile(delays, 100)).toBeLessThan(MOST_MS);
  ending.abort();
  await watching;
});

it('lets a watcher come back with its token and miss nothing, and says when the token is too old', async () => {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  const { interfaces } = agent.client();
  const hear = async (resumeToken: string, count: number): Promise<WatchInterfacesResponse[]> => {
    const ending = new AbortController();
    const messages: WatchInterfacesResponse[] = [];
    for await (const message of interfaces.watch(WatchInterfacesRequest.fromPartial({ resumeToken }), ending.signal)) {
      messages.push(message);
      if (messages.length === count) ending.abort();
    }
    return messages;
  };
  const [synced] = await hear('', 1);
  expect(synced?.event?.$case).toBe('synced');
  await interfaces.create(creation('tun0', { mode: TUN }));
  await sleep(20);
  await interfaces.update(updating('tun0', { mtu: 1400 }));
  await interfaces.delete(deletion('tun0'));
  const missed = await hear(synced?.resumeToken ?? '', 3);
  expect(missed.map(({ event }) => event?.$case)).toEqual(['added', 'modified', 'deleted']);
  expect((await hear(missed[1]?.resumeToken ?? '', 1)).map(({ event }) => event?.$case)).toEqual(['deleted']);
  await agent.restart();
  const stale = agent
    .client()
    .interfaces.watch(WatchInterfacesRequest.fromPartial({ resumeToken: synced?.resumeToken ?? '' }), new AbortController().signal);
  await expect(stale[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'OUT_OF_RANGE', reason: 'RESUME_TOKEN_TOO_OLD' });
});
