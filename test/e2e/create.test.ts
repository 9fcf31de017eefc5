// Every combination of flags, created over gRPC, is what `ip` says it is.

import { randomUUID } from 'node:crypto';
import { expect, it } from 'vitest';
import { startAgent } from '../harness/agent.ts';
import { createNamespace } from '../harness/namespace.ts';
import { shareAgent } from '../harness/shared-agent.ts';
import { link, tuntaps } from '../harness/truth.ts';
import { creation, deletion, TAP, TUN } from './specs.ts';

const flags = [false, true];

it('makes every combination of mode, queues, headers, owner and group as ip shows it', async () => {
  await using shared = await shareAgent();
  const { agent, ns } = shared;
  const { interfaces } = agent.client();
  let combinations = 0;
  for (const mode of [TUN, TAP])
    for (const multiQueue of flags)
      for (const packetInfo of flags)
        for (const vnetHeader of flags)
          for (const owner of ['', 'daemon', '4242'])
            for (const group of ['', 'daemon', '4343']) {
              const name = `t${combinations++}`;
              const made = await interfaces.create(
                creation(name, { mode, multiQueue, packetInfo, vnetHeader, owner, group, oneQueue: combinations % 2 === 0 }),
              );
              expect(made.name).toBe(`interfaces/${name}`);
              const told = link(ns, name)?.linkinfo?.info_data;
              // ip prints numbers for ids without a name.
              const data = Object.fromEntries(
                Object.entries(told ?? {}).map(([key, value]) => [key, typeof value === 'number' ? String(value) : value]),
              );
              expect({ name, ...data }).toMatchObject({
                name,
                type: mode === TUN ? 'tun' : 'tap',
                pi: packetInfo,
                vnet_hdr: vnetHeader,
                multi_queue: multiQueue,
                persist: true,
                ...(owner === '' ? {} : { user: owner }),
                ...(group === '' ? {} : { group }),
              });
              // Without an owner and a group the kernel would let anybody attach.
              if (owner === '' && group === '') expect(data).toHaveProperty('user', 'root');
              else if (owner === '') expect(data).not.toHaveProperty('user');
              if (group === '') expect(data).not.toHaveProperty('group');
              expect(link(ns, name)?.ifalias).toBe(`taplane:${made.uid}`);
              expect(made.status?.ifindex).toBe(link(ns, name)?.ifindex);
              await expect(interfaces.create(creation(name, { mode }))).rejects.toMatchObject({
                code: 'ALREADY_EXISTS',
                reason: 'INTERFACE_EXISTS',
              });
              await interfaces.delete(deletion(name));
              expect(link(ns, name)).toBeUndefined();
            }
  expect(combinations).toBe(144);
});

it('shows in ip tuntap what ip tuntap would have made', async () => {
  await using shared = await shareAgent();
  const { agent, ns } = shared;
  const { interfaces } = agent.client();
  const variants: [string, Parameters<typeof creation>[1], string][] = [
    ['v0', { mode: TUN }, 'mode tun user 0'],
    ['v1', { mode: TAP, multiQueue: true }, 'mode tap multi_queue user 0'],
    ['v2', { mode: TUN, packetInfo: true, owner: '1000' }, 'mode tun pi user 1000'],
    ['v3', { mode: TAP, vnetHeader: true, group: '1000' }, 'mode tap vnet_hdr group 1000'],
  ];
  for (const [name, spec, words] of variants) {
    await interfaces.create(creation(name, spec));
    const ours = tuntaps(ns).find((item) => item.ifname === name);
    await interfaces.delete(deletion(name));
    ns.ip(`tuntap add dev ${name} ${words}`);
    const theirs = tuntaps(ns).find((item) => item.ifname === name);
    expect(ours).toEqual(theirs);
    ns.ip(`link del ${name}`);
  }
});

it('gives the kernel what else a spec can ask for', async () => {
  await using ns = createNamespace();
  ns.ip('link add br0 type bridge');
  await using agent = await startAgent({ namespace: ns });
  const { interfaces } = agent.client();
  await interfaces.create(
    creation('full', {
      mode: TAP,
      up: true,
      mtu: 1400,
      txQueueLength: 321,
      macAddress: '02:00:00:00:0A:0b',
      controller: 'br0',
      addresses: [{ cidr: '10.1.0.1/24' }, { cidr: '10.1.0.2/24' }, { cidr: '10.9.0.1', peer: '10.9.0.2' }, { cidr: 'fd00:1::1/64' }],
      routes: [
        { destination: '10.20.0.0/16', gateway: '10.1.0.9', metric: 7, mtu: 1200 },
        { destination: '10.30.0.0/16', source: '10.1.0.2', table: 1000 },
        { destination: '192.0.2.0/24', gateway: '203.0.113.1', onlink: true },
        { destination: 'fd00:2::/48', gateway: 'fd00:1::9' },
      ],
      neighbours: [
        { address: '10.1.0.9', macAddress: '02:00:00:00:00:09' },
        { address: 'fd00:1::9', macAddress: '02:00:00:00:00:0a' },
      ],
      sysctls: { 'ipv4/ignore_routes_with_linkdown': '1', 'ipv4/rp_filter': '2', 'ipv6/accept_ra': '0' },
    }),
  );
  expect(link(ns, 'full')).toMatchObject({ mtu: 1400, txqlen: 321, address: '02:00:00:00:0a:0b', master: 'br0' });
  expect(link(ns, 'full')?.flags).toContain('UP');
  const text = (args: string[]): string => ns.run('ip', ...args).replace(/\s+$/gm, '');
  expect(text(['-o', '-4', 'addr', 'show', 'dev', 'full']).replace(/\\.*$/gm, '')).toBe(
    [
      '2: full    inet 10.1.0.1/24 scope global full',
      '2: full    inet 10.9.0.1 peer 10.9.0.2/32 scope global full',
      '2: full    inet 10.1.0.2/24 scope global secondary full',
    ]
      .join('\n')
      .replaceAll('2:', `${link(ns, 'full')?.ifindex}:`),
  );
  expect(text(['-4', 'route', 'show', 'table', 'all', 'proto', '76']).split('\n').sort()).toEqual([
    '10.20.0.0/16 via 10.1.0.9 dev full metric 7 dead linkdown mtu 1200',
    '10.30.0.0/16 dev full table 1000 scope link src 10.1.0.2 dead linkdown',
    '192.0.2.0/24 via 203.0.113.1 dev full dead onlink linkdown',
  ]);
  expect(text(['-6', 'route', 'show', 'proto', '76'])).toBe('fd00:2::/48 via fd00:1::9 dev full metric 1024 linkdown pref medium');
  expect(text(['neigh', 'show', 'dev', 'full', 'nud', 'permanent']).split('\n').sort()).toEqual([
    '10.1.0.9 lladdr 02:00:00:00:00:09 PERMANENT proto 76',
    'fd00:1::9 lladdr 02:00:00:00:00:0a PERMANENT proto 76',
  ]);
  for (const [key, value] of [
    ['ipv4/conf/full/ignore_routes_with_linkdown', '1'],
    ['ipv4/conf/full/rp_filter', '2'],
    ['ipv6/conf/full/accept_ra', '0'],
  ])
    expect(ns.run('cat', `/proc/sys/net/${key}`).trim()).toBe(value);
});

it('gives the same answer to the same request id, also after a restart, and has one effect', async () => {
  await using shared = await shareAgent();
  const { agent, ns } = shared;
  const requestId = randomUUID();
  const request = creation('tun%d', { mode: TUN, addresses: [{ cidr: '10.0.0.1/24' }] }, { requestId });
  const { interfaces } = agent.client();
  const answers = await Promise.all(Array.from({ length: 10 }, () => interfaces.create(request)));
  for (const answer of answers) expect(answer).toEqual(answers[0]);
  expect(tuntaps(ns)).toHaveLength(1);
  await expect(interfaces.create(creation('tun%d', { mode: TAP }, { requestId }))).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    reason: 'REQUEST_ID_REUSED',
  });
  await agent.kill9();
  await agent.restart();
  expect(await agent.client().interfaces.create(request)).toEqual(answers[0]);
  expect(tuntaps(ns)).toHaveLength(1);
  // The same without an id is another one.
  expect((await agent.client().interfaces.create(creation('tun%d', { mode: TUN }))).name).toBe('interfaces/tun1');
});

it('lets one of many creations of the same name win', async () => {
  await using shared = await shareAgent();
  const { agent, ns } = shared;
  const { interfaces } = agent.client();
  for (let round = 0; round < 20; round++) {
    const outcomes = await Promise.allSettled(Array.from({ length: 100 }, () => interfaces.create(creation('one', { mode: TUN }))));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const outcome of outcomes) if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'ALREADY_EXISTS' });
    await interfaces.delete(deletion('one'));
    expect(tuntaps(ns)).toHaveLength(0);
  }
});
