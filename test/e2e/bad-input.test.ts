// Bad input gets a typed error that names the field, before any call of the kernel; nothing that a client sends ends the agent.

import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { expect, it } from 'vitest';
import * as service from '../../src/gen/taplane/v1/interface_service.ts';
import * as link from '../../src/gen/taplane/v1/link_service.ts';
import { GetNodeRequest, NodeServiceService } from '../../src/gen/taplane/v1/node_service.ts';
import { startAgent } from '../harness/agent.ts';
import { bound } from '../harness/bound.ts';
import { createNamespace } from '../harness/namespace.ts';
import { random } from '../harness/random.ts';
import { countSyscalls } from '../harness/strace.ts';
import { links, snapshot } from '../harness/truth.ts';
import { linking, relinking, somebody, VXLAN, wireguard } from '../link/links.ts';
import { creation, type PartialSpec, TAP, TUN } from './specs.ts';

/** More for a soak. */
const MUTATIONS = Number(process.env['TAPLANE_MUTATIONS'] ?? 9000);
const IN_FLIGHT = 64;
const PROBE_MS = 500;
const DEADLINE_EXCEEDED = 4;
/** The interface of links. */
const JOINED = 'joined0';

const names = [
  '',
  '.',
  '..',
  '/',
  'a/b',
  '../x',
  'sixteen-bytes-xx',
  'nul\0name',
  'white space',
  'ünïcode',
  '-dash',
  'tun%d%d',
  'tun%s',
  '%',
  'lo',
  'all',
  'default',
  'eth0',
  'enp3s0',
  'wlan0',
  '__proto__',
].filter((name) => name !== '__proto__');

const specs: [string, PartialSpec, string][] = [
  ['no mode', { mode: 0 }, 'mode'],
  ['unknown mode', { mode: 7 as never }, 'mode'],
  ...[0, 67, 65_536, 0xffffffff].map((mtu): [string, PartialSpec, string] => [`MTU ${mtu}`, { mtu }, 'mtu']),
  ['MTU of a TAP', { mode: TAP, mtu: 65_522 }, 'mtu'],
  ['MTU too small for IPv6', { mtu: 1279, addresses: [{ cidr: 'fd00::1/64' }] }, 'mtu'],
  ...[
    '0.0.0.0/0',
    '5.0.0.1/1',
    '10.0.0.1/7',
    'fd00::1/15',
    '0.0.0.1/8',
    '::ffff:10.0.0.1/120',
    '224.0.0.1/24',
    'ff02::1/64',
    '127.0.0.1/8',
    '::1/128',
    '::/0',
    '255.255.255.255/32',
    '10.0.0.0/24',
    '10.0.0.1/33',
    'fe80::1%lo/64',
    '10.1/16',
    '0x0a000001/24',
    'x',
    '',
  ].map((cidr): [string, PartialSpec, string] => [`address ${cidr}`, { addresses: [{ cidr }] }, 'addresses[0].cidr']),
  ...[
    '10.0.0.1/24',
    '0.0.0.0/0',
    '::/0',
    '0.0.0.0/1',
    '128.0.0.0/1',
    '224.0.0.0/4',
    'ff00::/8',
    '127.0.0.0/8',
    '::ffff:0:0/96',
    '10.0.0.0/99',
    '',
  ].map((destination): [string, PartialSpec, string] => [`route ${destination}`, { routes: [{ destination }] }, 'routes[0].destination']),
  ['gateway of another family', { routes: [{ destination: '10.0.0.0/24', gateway: 'fd00::1' }] }, 'routes[0].gateway'],
  ['route in the local table', { routes: [{ destination: '10.0.0.0/24', table: 255 }] }, 'routes[0].table'],
  ['address twice', { addresses: [{ cidr: '10.0.0.1/24' }, { cidr: '10.0.0.1/24' }] }, 'addresses[1]'],
  ['MAC of a TUN', { macAddress: '02:00:00:00:00:01' }, 'mac_address'],
  ['group MAC', { mode: TAP, macAddress: '01:00:5e:00:00:01' }, 'mac_address'],
  ['zero MAC', { mode: TAP, macAddress: '00:00:00:00:00:00' }, 'mac_address'],
  ['bridge for a TUN', { controller: 'br0' }, 'controller'],
  ['neighbour of a TUN', { neighbours: [{ address: '10.0.0.1', macAddress: '02:00:00:00:00:01' }] }, 'neighbours[0]'],
  ['namespace outside', { networkNamespace: '../../etc' }, 'network_namespace'],
  ['namespace path with ..', { networkNamespace: '/run/netns/../x' }, 'network_namespace'],
  ['sysctl outside', { sysctls: { '../../kernel/panic': '1' } }, 'sysctls["../../kernel/panic"]'],
  ['sysctl value', { sysctls: { 'ipv4/rp_filter': '1; reboot' } }, 'sysctls["ipv4/rp_filter"]'],
  ['queues without multi_queue', { queues: 2 }, 'queues'],
  ['queue length', { txQueueLength: 1_000_001 }, 'tx_queue_length'],
  ['user unknown', { owner: 'nobody-of-that-name' }, 'owner'],
];

it('answers every bad name and spec with the field, and calls no kernel', async () => {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  const { interfaces } = agent.client();
  await expect(interfaces.create(creation('', { mode: TUN }))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  const before = snapshot(ns);
  const { calls } = await countSyscalls(agent.pid, 'ioctl,sendto,sendmsg,socket', async () => {
    for (const name of names) {
      const error = await interfaces.create(creation(name, { mode: TUN })).catch((reason) => reason);
      expect(error, JSON.stringify(name)).toMatchObject({
        code: 'INVALID_ARGUMENT',
        reason: 'INVALID_FIELDS',
        fields: [{ field: 'interface_id' }],
      });
      for (const call of [
        interfaces.get({ name: `interfaces/${name}` }),
        interfaces.delete({ ...service.DeleteInterfaceRequest.fromPartial({}), name: `interfaces/${name}` }),
      ]) {
        await expect(call).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', fields: [{ field: 'name' }] });
      }
    }
    for (const [what, spec, field] of specs) {
      const error = await interfaces.create(creation('ok0', { mode: TUN, ...spec })).catch((reason) => reason);
      expect(error, what).toMatchObject({ code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELDS' });
      expect(
        error.fields.map((item: { field: string }) => item.field),
        what,
      ).toContain(`interface.spec.${field}`);
    }
    const many = await interfaces
      .create(creation('..', { mode: 0, mtu: 1, addresses: [{ cidr: 'x' }], routes: [{ destination: 'y' }] }))
      .catch((reason) => reason);
    expect(many.fields.map((item: { field: string }) => item.field)).toEqual([
      'interface_id',
      'interface.spec.mode',
      'interface.spec.mtu',
      'interface.spec.addresses[0].cidr',
      'interface.spec.routes[0].destination',
    ]);
  });
  const ofKernel = (trace: typeof calls): string[] =>
    trace
      .map(({ text }) => text)
      // Now and then the agent reads whole tables by itself; a request never does so first.
      .filter((text) => /TUNSET|NETLINK|nl_pid|AF_NETLINK|nlmsg/.test(text) && !text.includes('NLM_F_DUMP'));
  expect(ofKernel(calls)).toEqual([]);
  expect(snapshot(ns)).toBe(before);
  // The same look sees the calls of a creation that is right.
  const right = await countSyscalls(agent.pid, 'ioctl,sendto,sendmsg,socket', () => interfaces.create(creation('ok0', { mode: TUN })));
  expect(ofKernel(right.calls).length).toBeGreaterThan(3);
});

it(
  `survives ${MUTATIONS} mutated requests and huge ones, with a typed error for each`,
  async () => {
    const dice = random('mutations');
    await using ns = createNamespace();
    await using agent = await startAgent({ namespace: ns });
    await agent.client().interfaces.create(creation(JOINED, { mode: TUN, up: true }));
    const raw = new Client(`unix:${agent.socket}`, credentials.createInsecure(), { 'grpc.max_send_message_length': -1 });
    const bytes = (value: Buffer): Buffer => value;
    const send = (path: string, body: Buffer, deadlineMs = 60_000): Promise<number> =>
      new Promise((resolve) => {
        raw.makeUnaryRequest(
          path,
          bytes,
          bytes,
          body,
          new Metadata(),
          { deadline: Date.now() + deadlineMs },
          (error: ServiceError | null) => resolve(error?.code ?? 0),
        );
      });
    // Interfaces in a namespace that does not exist, so that a mutant that happens to be right makes no device.
    const seeds: [string, Buffer][] = valid().map(([path, message]) => [path, Buffer.from(message)]);
    const codes = new Map<number, number>();
    // Measured from when the heap has its size.
    let rssBefore = 0;
    let sent = 0;
    const worker = async (): Promise<void> => {
      while (sent++ < MUTATIONS) {
        if (sent === MUTATIONS / 5) rssBefore = agent.rss();
        const [path, seed] = dice.pick(seeds);
        // A probe that is right takes its time; the client goes away.
        const isProbe = path === link.LinkServiceService.probeLink.path;
        const code = await send(path, mutate(seed, dice), isProbe ? PROBE_MS : undefined);
        if (isProbe && code === DEADLINE_EXCEEDED) continue;
        codes.set(code, (codes.get(code) ?? 0) + 1);
      }
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
    console.log(
      `codes: ${[...codes]
        .sort(([a], [b]) => a - b)
        .map(([code, count]) => `${code}:${count}`)
        .join(' ')}; memory ${(rssBefore / 2 ** 20).toFixed(0)} -> ${(agent.rss() / 2 ** 20).toFixed(0)} MiB`,
    );
    // OK, INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, RESOURCE_EXHAUSTED, FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE; never UNKNOWN, INTERNAL or a deadline.
    expect([...codes.keys()].filter((code) => ![0, 3, 5, 6, 8, 9, 10, 11].includes(code))).toEqual([]);
    expect(codes.get(3)).toBeGreaterThan(MUTATIONS / 10);

    const create = '/taplane.v1.InterfaceService/CreateInterface';
    // A length prefix of 2 GiB inside, 5 MiB in all, a million empty submessages, 10,000 levels of nesting.
    expect(await send(create, Buffer.from([0x12, 0xff, 0xff, 0xff, 0xff, 0x07]))).toBe(3);
    expect(await send(create, Buffer.alloc(5 * 2 ** 20))).toBe(8);
    expect([3, 8]).toContain(await send(create, Buffer.concat([Buffer.from([0x12, 0x80, 0x80, 0x7a]), Buffer.alloc(2_000_000 - 128)])));
    expect(await send(create, nested(10_000))).toBe(3);
    raw.close();
    const { lanes } = await agent.client().node.getNode();
    expect(lanes.map(({ restarts }) => restarts)).toEqual([0n]);
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
    // A few mutants lose just the namespace and are right: those devices are there, and no others.
    const { interfaces } = await agent.client().interfaces.list(service.ListInterfacesRequest.fromPartial({}));
    expect(interfaces.length).toBeLessThan(MUTATIONS / 1000);
    expect(
      links(ns)
        .map(({ ifname }) => `interfaces/${ifname}`)
        .filter((name) => name !== 'interfaces/lo')
        .sort(),
    ).toEqual(interfaces.map(({ name }) => name));
    expect(agent.rss() - rssBefore).toBeLessThan(bound(96, 256) * 2 ** 20);
  },
  300_000 + MUTATIONS * 2,
);

function valid(): [string, Uint8Array][] {
  const spec: PartialSpec = {
    mode: TAP,
    networkNamespace: 'tpl-none',
    mtu: 1400,
    addresses: [{ cidr: '10.0.0.1/24', peer: '10.0.0.2' }],
    routes: [{ destination: '10.1.0.0/16', gateway: '10.0.0.2', metric: 5 }],
    neighbours: [{ address: '10.0.0.2', macAddress: '02:00:00:00:00:02' }],
    sysctls: { 'ipv4/rp_filter': '2' },
    flowMetering: { activeTimeout: 60 },
  };
  const method = service.InterfaceServiceService;
  const name = 'interfaces/tun0';
  return [
    [method.createInterface.path, service.CreateInterfaceRequest.encode(creation('tun0', spec)).finish()],
    [method.getInterface.path, service.GetInterfaceRequest.encode({ name }).finish()],
    [
      method.listInterfaces.path,
      service.ListInterfacesRequest.encode(service.ListInterfacesRequest.fromPartial({ pageSize: 5, labelSelector: { a: 'b' } })).finish(),
    ],
    [
      method.updateInterface.path,
      service.UpdateInterfaceRequest.encode(
        service.UpdateInterfaceRequest.fromPartial({
          interface: { name, spec: spec as object },
          updateMask: ['spec.mtu'],
          allowMissing: true,
        }),
      ).finish(),
    ],
    [
      method.deleteInterface.path,
      service.DeleteInterfaceRequest.encode(service.DeleteInterfaceRequest.fromPartial({ name, etag: '"x"' })).finish(),
    ],
    [
      method.addAddress.path,
      service.AddAddressRequest.encode(service.AddAddressRequest.fromPartial({ name, address: { cidr: '10.0.0.1/24' } })).finish(),
    ],
    [
      method.removeAddress.path,
      service.RemoveAddressRequest.encode(service.RemoveAddressRequest.fromPartial({ name, address: { cidr: '10.0.0.1/24' } })).finish(),
    ],
    [
      method.addRoute.path,
      service.AddRouteRequest.encode(service.AddRouteRequest.fromPartial({ name, route: { destination: '10.0.0.0/24' } })).finish(),
    ],
    [
      method.removeRoute.path,
      service.RemoveRouteRequest.encode(service.RemoveRouteRequest.fromPartial({ name, route: { destination: '10.0.0.0/24' } })).finish(),
    ],
    [
      method.adoptInterface.path,
      service.AdoptInterfaceRequest.encode(
        service.AdoptInterfaceRequest.fromPartial({ interfaceId: 'tun0', networkNamespace: 'tpl-none' }),
      ).finish(),
    ],
    [NodeServiceService.getNode.path, GetNodeRequest.encode({}).finish()],
    ...validLinks(),
  ];
}

/** On an interface that is there, so that mutants come as far as the data plane; of all methods `watchLinks` alone would not end. */
function validLinks(): [string, Uint8Array][] {
  const method = link.LinkServiceService;
  const name = 'links/west';
  const peer = { publicKey: somebody(), endpoint: '127.0.0.1:9', allowedPrefixes: ['10.9.0.0/16', 'fd00::/64'], presharedKey: somebody() };
  const labels = { a: 'b' };
  const tunnel = wireguard(JOINED, [{ ...peer, keepalive: 5, displayName: 'b' }], { wireguard: { privateKey: somebody() }, mtu: 1400 });
  const vxlan = {
    interface: `interfaces/${JOINED}`,
    protocol: VXLAN,
    vxlan: { vni: 5, ageSeconds: 9 },
    peers: [{ endpoint: '127.0.0.1:4789', macAddresses: ['02:00:00:00:00:01'] }],
  };
  const { ListLinksRequest, DeleteLinkRequest, ProbeLinkRequest } = link;
  const listed = ListLinksRequest.fromPartial({ pageSize: 5, labelSelector: labels, interface: 'interfaces/a' });
  return [
    [method.createLink.path, link.CreateLinkRequest.encode(linking('west', tunnel, { labels })).finish()],
    [method.createLink.path, link.CreateLinkRequest.encode(linking('west', vxlan)).finish()],
    [method.getLink.path, link.GetLinkRequest.encode({ name }).finish()],
    [method.listLinks.path, ListLinksRequest.encode(listed).finish()],
    [method.updateLink.path, link.UpdateLinkRequest.encode(relinking('west', tunnel, ['spec.peers'], { allowMissing: true })).finish()],
    [method.deleteLink.path, DeleteLinkRequest.encode(DeleteLinkRequest.fromPartial({ name, etag: '"x"' })).finish()],
    [method.probeLink.path, ProbeLinkRequest.encode(ProbeLinkRequest.fromPartial({ name, peer: 'b', count: 1, intervalMs: 1 })).finish()],
  ];
}

/** One to four of: a byte changed, bits flipped, a piece cut out, doubled, or put in at random. */
function mutate(seed: Buffer, dice: ReturnType<typeof random>): Buffer {
  let bytes = Buffer.from(seed);
  for (let left = dice.integer(1, 4); left > 0; left--) {
    const at = dice.integer(0, Math.max(0, bytes.length - 1));
    const length = dice.integer(0, 16);
    switch (dice.integer(0, 4)) {
      case 0:
        if (bytes.length > 0) bytes[at] = dice.integer(0, 255);
        break;
      case 1:
        if (bytes.length > 0) bytes[at] = (bytes[at] ?? 0) ^ (1 << dice.integer(0, 7));
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
        break;
      default:
        bytes = Buffer.concat([bytes.subarray(0, at), dice.bytes(length), bytes.subarray(at)]);
    }
  }
  return bytes;
}

/** A field that holds itself, `levels` deep. */
function nested(levels: number): Buffer {
  let inner: Buffer = Buffer.alloc(0);
  for (let level = 0; level < levels; level++) {
    const length: number[] = [];
    for (let left = inner.length; ; left >>>= 7) {
      length.push(left > 127 ? (left & 127) | 128 : left);
      if (left <= 127) break;
    }
    inner = Buffer.concat([Buffer.from([0x12, ...length]), inner]);
  }
  return inner;
}
