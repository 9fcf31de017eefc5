// The vxlan tunnel by itself, between a device that is an array and sockets on loopback, with a clock of the test's own.

import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { expect, it } from 'vitest';
import { LinkSetup } from '../../../src/gen/taplane/lane/v1/lane_service.ts';
import {
  LinkDrops_Reason as Drop,
  type LinkPeer,
  LinkSpec,
  LinkStatus_State as State,
  type VxlanSpec,
} from '../../../src/gen/taplane/v1/link.ts';
import { InjectRejection_Reason as Rejected } from '../../../src/gen/taplane/v1/packet.ts';
import { VxlanTunnel } from '../../../src/lane/vxlan/vxlan.ts';
import { GSO_UDP_L4, NEEDS_CHECKSUM, plainVnetHeader, VNET_HEADER_BYTES, writeVnetHeader } from '../../../src/packet/vnet-header.ts';
import { SOON } from '../../harness/bound.ts';
import { random, seed } from '../../harness/random.ts';
import { tcpPacket, udpPacket } from '../../packet/frames.ts';
import { hex } from '../../packet/requests.ts';

/** EtherType of probes. */
const PROBE_TYPE = 0x88b5;

const [LOCAL, MAC, OTHER, ALL] = ['020000000001', '0200000000aa', '0200000000bb', 'ffffffffffff'];

/** A frame of an EtherType for experiments. */
const frame = (to: string, from: string, text = 'payload') => Buffer.concat([hex(`${to} ${from} 88b6`), Buffer.from(text.padEnd(46))]);
const vxlan = (inner: Buffer, head = '0800000000000700') => Buffer.concat([hex(head), inner]);

interface Remote {
  socket: Socket;
  endpoint: string;
  got: Buffer[];
}

async function remoteAt(address: string, port = 0): Promise<Remote> {
  const socket = createSocket('udp4').bind(port, address);
  await once(socket, 'listening');
  const got: Buffer[] = [];
  // Probes go about once a second, whatever a test does.
  socket.on('message', (bytes) => bytes.readUInt16BE(20) !== PROBE_TYPE && got.push(bytes));
  return { socket, endpoint: `${address}:${socket.address().port}`, got };
}

function setupOf(peers: Partial<LinkPeer>[], vxlan: Partial<VxlanSpec> = {}, more: Partial<LinkSpec> = {}): LinkSetup {
  const spec = LinkSpec.fromPartial({ listen: '127.0.0.1:0', peers, vxlan: { vni: 7, ...vxlan }, ...more });
  return LinkSetup.fromPartial({ uid: 'u', spec });
}

async function made(addresses: string[], vxlan: Partial<VxlanSpec> = {}, peerOf = (_: number): Partial<LinkPeer> => ({})) {
  const remotes: Remote[] = [];
  for (const address of addresses) remotes.push(await remoteAt(address));
  const peers = remotes.map(({ endpoint }, index) => ({ endpoint, ...peerOf(index) }));
  const written: Buffer[] = [];
  const clock = { nowMs: 1_000_000 };
  const outcome = { of: Rejected.UNSPECIFIED as Rejected };
  const write = (bytes: Buffer, start: number, length: number): Rejected => {
    written.push(Buffer.from(bytes.subarray(start + VNET_HEADER_BYTES, start + length)));
    return outcome.of;
  };
  const tunnel = new VxlanTunnel(setupOf(peers, vxlan), {
    device: { ethernet: true, offload: true, write },
    now: () => clock.nowMs,
  });
  const port = Number(tunnel.state().listen.split(':').at(-1));
  const drops = () => Object.fromEntries(tunnel.state().drops.map(({ reason, packets }) => [reason, Number(packets)]));
  return {
    tunnel,
    remotes: remotes as [Remote, Remote, Remote],
    peers,
    written,
    clock,
    outcome,
    drops,
    take: (...frames: Buffer[]) => {
      for (const one of frames) tunnel.take(Buffer.concat([Buffer.alloc(VNET_HEADER_BYTES), one]), 0, VNET_HEADER_BYTES + one.length);
      tunnel.flush();
    },
    /** Comes from a remote, and has been taken. */
    arrive: async (remote: Remote, datagram: Buffer) => {
      const all = () => tunnel.state().drops.reduce((sum, { packets }) => sum + packets, tunnel.state().traffic?.receivedPackets ?? 0n);
      const before = all();
      remote.socket.send(datagram, port, '127.0.0.1');
      await expect.poll(all, SOON).toBeGreaterThan(before);
    },
    [Symbol.dispose]: () => {
      tunnel.close();
      tunnel.close();
      for (const { socket } of remotes) socket.close();
    },
  };
}

it('floods what is not known, sends what is to its remote, and says so', async () => {
  using end = await made(['127.0.0.2', '127.0.0.3']);
  const [one, two] = end.remotes;
  expect(end.tunnel.state()).toMatchObject({ state: State.CONNECTING, mtu: 1450, addresses: [], drops: [] });
  end.take(frame(MAC, LOCAL, 'unknown'), frame(ALL, LOCAL, 'broadcast'));
  await expect.poll(() => [one.got.length, two.got.length], SOON).toEqual([2, 2]);
  expect(two.got).toEqual([vxlan(frame(MAC, LOCAL, 'unknown')), vxlan(frame(ALL, LOCAL, 'broadcast'))]);

  await end.arrive(one, vxlan(frame(LOCAL, MAC, 'hello')));
  expect(end.written).toEqual([frame(LOCAL, MAC, 'hello')]);
  expect(end.tunnel.state().state).toBe(State.UP);
  end.take(frame(MAC, LOCAL, 'known'));
  await expect.poll(() => one.got.length, SOON).toBe(3);
  await end.arrive(two, vxlan(frame(LOCAL, MAC, 'moved')));
  end.take(frame(MAC, LOCAL, 'there'));
  await expect.poll(() => two.got.length, SOON).toBe(3);
  expect([one.got.length, two.got[2]]).toEqual([3, vxlan(frame(MAC, LOCAL, 'there'))]);

  const state = end.tunnel.state();
  expect(state).toMatchObject({ state: State.UP, reason: '', addresses: [{ macAddress: '02:00:00:00:00:aa', endpoint: two.endpoint }] });
  expect(state.traffic).toEqual({ sentPackets: 6n, sentBytes: 360n, receivedPackets: 2n, receivedBytes: 120n });
  expect(state.peers).toMatchObject([
    { up: true, traffic: { sentPackets: 3n, receivedPackets: 1n } },
    { up: true, traffic: { sentPackets: 3n, receivedPackets: 1n } },
  ]);
  end.clock.nowMs += 180_001;
  expect(end.tunnel.state()).toMatchObject({ state: State.CONNECTING, peers: [{ up: false }, { up: false }] });
  end.clock.nowMs += 120_000;
  expect(end.tunnel.state().addresses).toEqual([]);
});

it('ignores reserved bits, and counts what is none of ours', async () => {
  using end = await made(['127.0.0.2']);
  const [one] = end.remotes;
  const inner = frame(LOCAL, MAC);
  await end.arrive(one, vxlan(inner, 'ffffffff000007ff'));
  expect(end.written).toHaveLength(1);
  for (const bad of [vxlan(inner, 'f7ffffff00000700'), vxlan(inner.subarray(0, 13)), hex('08'), Buffer.alloc(300)])
    await end.arrive(one, bad);
  for (const vni of ['000006', '010007', '000107']) await end.arrive(one, vxlan(inner, `08000000${vni}00`));
  const stranger = await remoteAt('127.0.0.9');
  await end.arrive(stranger, vxlan(inner));
  stranger.socket.close();
  // The same address from another port is the same remote.
  const twin = await remoteAt('127.0.0.2');
  await end.arrive(twin, vxlan(inner));
  twin.socket.close();
  expect([end.drops(), end.written.length]).toEqual([{ [Drop.MALFORMED]: 4, [Drop.STRANGER]: 4 }, 2]);
});

it('tells remotes at one address by their ports', async () => {
  using end = await made(['127.0.0.2', '127.0.0.2']);
  const [one, two] = end.remotes;
  await end.arrive(two, vxlan(frame(LOCAL, MAC)));
  await end.arrive(one, vxlan(frame(LOCAL, OTHER)));
  const places = Object.fromEntries(end.tunnel.state().addresses.map(({ macAddress, endpoint }) => [macAddress, endpoint]));
  expect(places).toEqual({ '02:00:00:00:00:aa': two.endpoint, '02:00:00:00:00:bb': one.endpoint });
});

it('does not let another remote have an address that is pinned, nor learn that of a group', async () => {
  using end = await made(['127.0.0.2', '127.0.0.3'], { noLearning: true }, (index) =>
    index === 0 ? { macAddresses: ['02:00:00:00:00:aa'] } : {},
  );
  const [one, two] = end.remotes;
  await end.arrive(two, vxlan(frame(LOCAL, MAC)));
  await end.arrive(two, vxlan(frame(LOCAL, OTHER)));
  await end.arrive(one, vxlan(frame(LOCAL, MAC)));
  expect([end.drops(), end.written.length]).toEqual([{ [Drop.SPOOFED]: 1 }, 2]);
  expect(end.tunnel.state().addresses.map(({ macAddress }) => macAddress)).toEqual(['02:00:00:00:00:aa']);
  expect(end.tunnel.again(setupOf(end.peers))).toBe(true);
  await end.arrive(two, vxlan(frame(LOCAL, MAC)));
  await end.arrive(two, vxlan(frame(LOCAL, OTHER)));
  await end.arrive(two, vxlan(frame(LOCAL, '030000000001')));
  expect(end.drops()).toEqual({ [Drop.SPOOFED]: 2 });
  expect(end.tunnel.state().addresses.map(({ macAddress }) => macAddress)).toEqual(['02:00:00:00:00:aa', '02:00:00:00:00:bb']);
});

it('floods under the storm limit, whole frames and super-frames; known addresses are not held back, flapping ones are', async () => {
  using end = await made(['127.0.0.2', '127.0.0.3'], { stormLimit: 400 });
  const [one, two] = end.remotes;
  await end.arrive(one, vxlan(frame(LOCAL, OTHER)));
  end.take(...Array.from({ length: 150 }, () => frame(ALL, LOCAL)));
  expect(end.drops()).toEqual({ [Drop.STORM]: 50 });
  await expect.poll(() => [one.got.length, two.got.length], SOON).toEqual([100, 100]);
  end.take(...Array.from({ length: 150 }, (_, index) => frame(OTHER, LOCAL, `payload ${index}`)));
  await expect.poll(() => one.got.length, SOON).toBe(250);
  // The same again and again goes round.
  end.take(...Array.from({ length: 150 }, () => frame(OTHER, LOCAL)));
  expect(end.drops()).toEqual({ [Drop.STORM]: 50 + 135 });
  await expect.poll(() => one.got.splice(250).length, SOON).toBe(15);

  // Twenty datagrams, as many as a twentieth of a second allows, of thirty.
  end.clock.nowMs += 50;
  const packet = Buffer.concat([hex(`${ALL} ${LOCAL} 0800`), udpPacket(4, Buffer.alloc(30_000))]);
  const header = plainVnetHeader();
  Object.assign(header, {
    flags: NEEDS_CHECKSUM,
    gsoType: GSO_UDP_L4,
    gsoSize: 1000,
    headerLength: 42,
    checksumStart: 34,
    checksumOffset: 6,
  });
  const bytes = Buffer.concat([Buffer.alloc(VNET_HEADER_BYTES), packet]);
  writeVnetHeader(bytes, 0, header);
  end.tunnel.take(bytes, 0, bytes.length);
  end.tunnel.flush();
  expect(end.drops()).toEqual({ [Drop.STORM]: 195 });
  await expect.poll(() => two.got.length, SOON).toBe(120);

  for (let move = 0; move < 10; move++) await end.arrive(move % 2 === 0 ? one : two, vxlan(frame(LOCAL, MAC)));
  end.clock.nowMs += 250;
  end.take(...Array.from({ length: 150 }, (_, index) => frame(MAC, LOCAL, `moved ${index}`)));
  await expect.poll(() => two.got.length, SOON).toBe(220);
  expect(end.drops()).toEqual({ [Drop.STORM]: 245 });
  end.clock.nowMs += 1000;
  end.take(...Array.from({ length: 150 }, (_, index) => frame(MAC, LOCAL, `here ${index}`)));
  await expect.poll(() => two.got.length, SOON).toBe(370);
  expect(end.drops()).toEqual({ [Drop.STORM]: 245 });
});

it('follows an address to our own side', async () => {
  using end = await made(['127.0.0.2', '127.0.0.3']);
  const [one, two] = end.remotes;
  await end.arrive(one, vxlan(frame(LOCAL, MAC)));
  end.take(frame(OTHER, MAC));
  end.take(frame(MAC, LOCAL, 'home'));
  await expect.poll(() => two.got.length, SOON).toBe(2);
  expect(end.tunnel.state().addresses).toEqual([]);
});

it('counts what nobody takes: no remote, too big, cut off, a device that is down, a remote that cannot be reached', async () => {
  using end = await made(['127.0.0.2'], {});
  const [one] = end.remotes;
  end.outcome.of = Rejected.INTERFACE_DOWN;
  await end.arrive(one, vxlan(frame(LOCAL, MAC)));
  await expect.poll(end.drops, SOON).toEqual({ [Drop.DEVICE]: 1 });
  end.outcome.of = Rejected.UNSPECIFIED;
  end.take(hex(`${ALL} ${LOCAL}`));
  end.take(Buffer.concat([hex(`${ALL} ${LOCAL} 0800`), udpPacket(4, Buffer.alloc(1423))]));
  expect(end.drops()).toEqual({ [Drop.DEVICE]: 1, [Drop.MALFORMED]: 1, [Drop.TOO_BIG]: 1 });
  // A broadcast address, which the socket may not send to.
  end.tunnel.again(setupOf([{ endpoint: '255.255.255.255:4789' }, { endpoint: 'nonsense' }]));
  end.take(frame(ALL, LOCAL));
  expect(end.drops()).toMatchObject({ [Drop.SOCKET]: 1 });
  end.tunnel.again(setupOf([]));
  end.take(frame(ALL, LOCAL), frame(MAC, LOCAL));
  expect(end.drops()).toMatchObject({ [Drop.NO_PEER]: 2 });
  expect(end.tunnel.state().reason).toBe('it has no remotes');
});

it('keeps what it knows of remotes that stay when it is declared again; another VNI, socket or device is another tunnel', async () => {
  using end = await made(['127.0.0.2', '127.0.0.3']);
  const [one, two] = end.remotes;
  await end.arrive(one, vxlan(frame(LOCAL, MAC)));
  await end.arrive(two, vxlan(frame(LOCAL, OTHER)));
  const three = { endpoint: '127.0.0.4:4789', displayName: 'three' };
  expect(end.tunnel.again(setupOf([three, { endpoint: two.endpoint }], { stormLimit: 5 }, { mtu: 1400 }))).toBe(true);
  const state = end.tunnel.state();
  expect(state.mtu).toBe(1400);
  expect(state.peers.map(({ endpoint, displayName, up }) => [endpoint, displayName, up])).toEqual([
    [three.endpoint, 'three', false],
    [two.endpoint, '', true],
  ]);
  expect(state.addresses.map(({ endpoint }) => endpoint)).toEqual([two.endpoint]);
  await end.arrive(one, vxlan(frame(LOCAL, MAC)));
  expect(end.drops()).toEqual({ [Drop.STRANGER]: 1 });
  expect(end.tunnel.again(setupOf([{ endpoint: '[2001:db8::1]:4789' }]))).toBe(true);
  expect(end.tunnel.state().mtu).toBe(1430);
  for (const more of [{ listen: '127.0.0.1:1' }, { socketMark: 1 }, { bindDevice: 'lo' }, { interface: 'interfaces/x' }]) {
    expect(end.tunnel.again(setupOf(end.peers, {}, more))).toBe(false);
  }
  expect(end.tunnel.again(setupOf(end.peers, { vni: 8 }))).toBe(false);
});

it('answers for neighbours of remotes that are there, into the device', async () => {
  using end = await made(['127.0.0.2', '127.0.0.3'], { noLearning: true, suppressNeighbours: true });
  const [one, two] = end.remotes;
  const arp = (from: string, fromIp: string, toIp: string) =>
    hex(`${ALL} ${from} 0806 0001 0800 06 04 0001 ${from} ${fromIp} 000000000000 ${toIp}`);
  await end.arrive(one, vxlan(arp(MAC, '0a000002', '0a000009')));
  end.take(arp(LOCAL, '0a000001', '0a000002'));
  expect(end.written.at(-1)).toEqual(hex(`${LOCAL} ${MAC} 0806 0001 0800 06 04 0002 ${MAC} 0a000002 ${LOCAL} 0a000001`));
  end.tunnel.again(setupOf([{ endpoint: two.endpoint }], { noLearning: true, suppressNeighbours: true }));
  end.take(arp(LOCAL, '0a000001', '0a000002'));
  await expect.poll(() => two.got, SOON).toEqual([vxlan(arp(LOCAL, '0a000001', '0a000002'))]);
  expect([one.got, end.written.length]).toEqual([[], 2]);
});

it(`bears whatever comes from either side (seed ${seed})`, async () => {
  const dice = random('tunnel');
  using end = await made(['127.0.0.2', '127.0.0.3'], { suppressNeighbours: true, maxAddresses: 20, stormLimit: 1_000_000 });
  const arp = hex(`${ALL} ${MAC} 0806 0001 0800 06 04 0001 ${MAC} 0a000001 000000000000 0a000002`);
  const seeds = [
    frame(LOCAL, MAC),
    arp,
    ...([4, 6] as const).flatMap((version) =>
      [tcpPacket({ version, payload: Buffer.alloc(3000, 1) }), udpPacket(version, Buffer.alloc(500, 2))].map((packet) =>
        Buffer.concat([hex(`${LOCAL} ${MAC} ${version === 4 ? '0800' : '86dd'}`), packet]),
      ),
    ),
  ];
  const mutant = () => {
    const bytes = Buffer.from(dice.pick(seeds));
    for (let count = dice.integer(0, 4); count > 0; count--) bytes[dice.integer(0, Math.min(80, bytes.length) - 1)] = dice.integer(0, 255);
    return bytes.subarray(0, dice.next() < 0.2 ? dice.integer(0, bytes.length) : bytes.length);
  };
  for (let round = 0; round < 40; round++) {
    const all = () => {
      const { traffic, drops } = end.tunnel.state();
      return Number(traffic?.receivedPackets) + drops.reduce((sum, { packets }) => sum + Number(packets), 0);
    };
    const before = all();
    for (let count = 0; count < 50; count++) {
      const bytes = dice.next() < 0.9 ? vxlan(mutant()) : mutant();
      if (bytes.length > 0)
        end.remotes[dice.integer(0, 1) as 0 | 1].socket.send(bytes, Number(end.tunnel.state().listen.split(':').at(-1)), '127.0.0.1');
      const header = plainVnetHeader();
      if (dice.next() < 0.5)
        Object.assign(header, { flags: 1, gsoType: dice.pick([0, 1, 4, 5, 0x81, 7]), gsoSize: dice.pick([0, 1, 100, 1400]) });
      if (dice.next() < 0.5)
        Object.assign(header, { checksumStart: dice.pick([14, 34, 54, 60_000]), checksumOffset: dice.pick([6, 16, 60_000]) });
      const out = Buffer.concat([Buffer.alloc(VNET_HEADER_BYTES), mutant()]);
      writeVnetHeader(out, 0, header);
      end.tunnel.take(out, 0, out.length);
      if (dice.next() < 0.2) end.tunnel.flush();
    }
    end.clock.nowMs += dice.integer(0, 20_000);
    await expect.poll(all, SOON).toBeGreaterThan(before + 20);
  }
  end.tunnel.flush();
  await end.arrive(end.remotes[0], vxlan(frame(LOCAL, MAC)));
  expect(end.tunnel.state().addresses.length).toBeLessThanOrEqual(20);
});
