// Connections of frames over TCP on the loopback: who may connect, what an end that misbehaves can do, and what is left behind.

import { readdirSync } from 'node:fs';
import { createServer, type Server, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { LinkSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import {
  type LinkPeer,
  LinkSpec,
  LinkSpec_Protocol as Protocol,
  LinkDrops_Reason as Reason,
  LinkStatus_State as State,
  LinkSpec_Transport as Transport,
} from '../../src/gen/taplane/v1/link.ts';
import { FramesOverTcp } from '../../src/lane/frames/frames-tcp.ts';
import { WAITING_MOST } from '../../src/lane/frames/stream-sender.ts';
import { finish, fold, pseudoHeaderSum, sumBytes } from '../../src/packet/checksum.ts';
import { GSO_TCPV4, NEEDS_CHECKSUM, VNET_HEADER_BYTES, writeVnetHeader } from '../../src/packet/vnet-header.ts';
import { SOON } from '../harness/bound.ts';
import { random } from '../harness/random.ts';

const held: { close(): void }[] = [];
afterEach(() => {
  for (const one of held.splice(0)) one.close();
});

function setupOf(spec: Partial<Omit<LinkSpec, 'peers'>> & { peers?: Partial<LinkPeer>[] }): LinkSetup {
  const whole = LinkSpec.fromPartial({ protocol: Protocol.FRAMES, transport: Transport.TCP, ...spec });
  return LinkSetup.fromPartial({ uid: 'link', spec: whole });
}

/** A tunnel for a TUN whose device keeps what it is given. */
function open(spec: Parameters<typeof setupOf>[0]): { tunnel: FramesOverTcp; written: Buffer[] } {
  const written: Buffer[] = [];
  const write = (bytes: Buffer, start: number, length: number) => {
    written.push(Buffer.from(bytes.subarray(start + VNET_HEADER_BYTES, start + length)));
    return 0 as const;
  };
  const needs = { device: { ethernet: false, offload: true, write }, now: () => performance.now() };
  const tunnel = new FramesOverTcp(setupOf(spec), needs);
  held.push(tunnel);
  return { tunnel, written };
}

function serve(spec: Parameters<typeof setupOf>[0] = {}): ReturnType<typeof open> & { port: number } {
  const { tunnel, written } = open({ listen: '127.0.0.1:0', ...spec });
  return { tunnel, written, port: Number(tunnel.state().listen.split(':')[1]) };
}

/** A plain client, with all that came to it. */
async function dial(port: number, localAddress = '127.0.0.1'): Promise<{ socket: Socket; received: Buffer[]; closed: Promise<void> }> {
  const socket = new Socket();
  const received: Buffer[] = [];
  held.push({ close: () => socket.destroy() });
  socket.on('data', (bytes: Buffer) => received.push(bytes)).on('error', () => {});
  const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()));
  await new Promise<void>((resolve) => socket.connect({ port, host: '127.0.0.1', localAddress }, resolve));
  return { socket, received, closed };
}

/** An IPv4 packet of UDP, which nobody joins with another. */
function packet(bytes: number, mark = 0): Buffer {
  const frame = Buffer.alloc(bytes, mark);
  frame.set([0x45, 0, bytes >> 8, bytes & 255, 0, 0, 0, 0, 64, 253, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
  return frame;
}

function framed(frame: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(frame.length >> 8, frame.length & 255), frame]);
}

function take(tunnel: FramesOverTcp, frame: Buffer): void {
  tunnel.take(Buffer.concat([Buffer.alloc(VNET_HEADER_BYTES), frame]), 0, VNET_HEADER_BYTES + frame.length);
}

function drops(tunnel: FramesOverTcp, reason: Reason): number {
  return Number(tunnel.state().drops.find((one) => one.reason === reason)?.packets ?? 0n);
}

async function up(tunnel: FramesOverTcp): Promise<void> {
  await expect.poll(() => tunnel.state().state, SOON).toBe(State.UP);
}

describe('a server', () => {
  it('has one connection: a new one takes the place of the old, and counts for itself', async () => {
    const { tunnel, port } = serve();
    const first = await dial(port);
    await up(tunnel);
    first.socket.write(framed(packet(40)));
    await expect.poll(() => tunnel.state().peers[0]?.traffic?.receivedPackets, SOON).toBe(1n);
    const second = await dial(port);
    await first.closed;
    take(tunnel, packet(60, 7));
    tunnel.flush();
    await expect.poll(() => Buffer.concat(second.received), SOON).toEqual(framed(packet(60, 7)));
    await up(tunnel);
    const { peers, traffic } = tunnel.state();
    expect(peers).toHaveLength(1);
    expect(peers[0]).toMatchObject({
      endpoint: `127.0.0.1:${second.socket.localPort}`,
      up: true,
      traffic: { sentPackets: 1n, receivedPackets: 0n },
    });
    expect(traffic).toMatchObject({ sentPackets: 1n, receivedPackets: 1n });
    expect(Buffer.concat(first.received)).toHaveLength(0);
  });

  it('takes connections from the address of its peer only, from any port, and another address at once when told so', async () => {
    const { tunnel, port } = serve({ peers: [{ endpoint: '127.0.0.2:1' }] });
    const stranger = await dial(port);
    await stranger.closed;
    expect(tunnel.state().reason).toMatch(/^waiting for 127\.0\.0\.2 to connect; refused 127\.0\.0\.1:\d+: comes from another address$/);
    expect(drops(tunnel, Reason.STRANGER)).toBe(1);
    const peer = await dial(port, '127.0.0.2');
    await up(tunnel);
    expect(tunnel.again(setupOf({ listen: '127.0.0.1:0', peers: [{ endpoint: '127.0.0.1:1' }] }))).toBe(true);
    await peer.closed;
    await dial(port);
    await up(tunnel);
  });

  it('counts what is no frame, and goes on', async () => {
    const { tunnel, written, port } = serve();
    const { socket } = await dial(port);
    const bad = [
      Buffer.alloc(0),
      Buffer.from('E'),
      Buffer.from('no packet of IP is like this'),
      Buffer.alloc(39, 0x60),
      Buffer.alloc(65_535),
    ];
    socket.write(Buffer.concat([...bad, packet(50)].map(framed)));
    await expect.poll(() => written, SOON).toEqual([packet(50)]);
    expect(drops(tunnel, Reason.MALFORMED)).toBe(bad.length);
    expect(tunnel.state().state).toBe(State.UP);
    // A frame that never ends holds nothing up but itself.
    socket.write(framed(packet(60)).subarray(0, 40));
    await sleep(50);
    await dial(port).then((next) => next.socket.write(framed(packet(70))));
    await expect.poll(() => written.at(-1), SOON).toEqual(packet(70));
  });

  it('gives frames up while the other end does not read, counts each, and loses none of the others', async () => {
    const { tunnel, port } = serve();
    const { socket, received } = await dial(port);
    await up(tunnel);
    socket.pause();
    const frame = packet(1400, 5);
    let given = 0;
    const before = process.memoryUsage().arrayBuffers;
    for (; drops(tunnel, Reason.OVERFLOW) < 1000; given++) {
      take(tunnel, frame);
      if (given % 64 === 63) {
        tunnel.flush();
        await sleep(0);
      }
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 * WAITING_MOST);
    const passed = given - drops(tunnel, Reason.OVERFLOW);
    expect(Number(tunnel.state().traffic?.sentPackets)).toBe(passed);
    socket.resume();
    await expect.poll(() => received.reduce((sum, { length }) => sum + length, 0), SOON).toBe(passed * 1402);
    const whole = Buffer.concat(received);
    for (let at = 0; at < whole.length; at += 1402) expect(whole.subarray(at, at + 1402).equals(framed(frame)), `at ${at}`).toBe(true);
    take(tunnel, packet(99));
    tunnel.flush();
    await expect.poll(() => Buffer.concat(received).subarray(-101), SOON).toEqual(framed(packet(99)));
  });
});

describe('a client', () => {
  /** A server that keeps its connections. */
  async function listener(port = 0): Promise<{ server: Server; port: number; sockets: Socket[] }> {
    const sockets: Socket[] = [];
    const server = createServer((socket) => sockets.push(socket.on('error', () => {})));
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    held.push({
      close: () => {
        server.close();
        for (const socket of sockets) socket.destroy();
      },
    });
    const address = server.address();
    return { server, sockets, port: typeof address === 'object' && address !== null ? address.port : 0 };
  }

  it('connects again when it was cut off, says meanwhile why it is not, and counts what goes nowhere', async () => {
    const { server, port, sockets } = await listener();
    const { tunnel } = open({ peers: [{ endpoint: `127.0.0.1:${port}` }] });
    await up(tunnel);
    server.close();
    sockets[0]?.resetAndDestroy();
    await expect.poll(() => tunnel.state().reason, SOON).toMatch(/: ECONNREFUSED, next try in \d+ ms$/);
    expect(tunnel.state()).toMatchObject({
      state: State.CONNECTING,
      peers: [{ up: false, reason: expect.stringContaining('ECONNREFUSED') }],
    });
    take(tunnel, packet(40));
    const frame = superFrame(Buffer.alloc(3 * 1000), 1000);
    tunnel.take(frame, 0, frame.length);
    expect(drops(tunnel, Reason.NOT_CONNECTED)).toBe(4);
    await listener(port);
    await up(tunnel);
  });

  it('waits longer before each try where it is cut off at once', async () => {
    const { server, port } = await listener();
    const times: number[] = [];
    server.on('connection', (socket) => {
      times.push(performance.now());
      socket.destroy();
    });
    open({ peers: [{ endpoint: `127.0.0.1:${port}` }] });
    await expect.poll(() => times.length, SOON).toBe(4);
    const waits = times.slice(1).map((time, index) => time - (times[index] as number));
    for (const [index, least] of [80, 160, 320].entries()) expect(waits[index], waits.join()).toBeGreaterThan(least - 5);
  });

  it('goes to another endpoint in place, with its counts', async () => {
    const [one, two] = [await listener(), await listener()];
    const { tunnel } = open({ peers: [{ endpoint: `127.0.0.1:${one.port}` }] });
    await up(tunnel);
    take(tunnel, packet(40));
    tunnel.flush();
    expect(tunnel.again(setupOf({ mtu: 1300, peers: [{ endpoint: `127.0.0.1:${two.port}` }] }))).toBe(true);
    await expect.poll(() => two.sockets.length, SOON).toBe(1);
    await up(tunnel);
    expect(tunnel.state()).toMatchObject({ mtu: 1300, traffic: { sentPackets: 1n }, peers: [{ endpoint: `127.0.0.1:${two.port}` }] });
    for (const other of [setupOf({ listen: ':0' }), setupOf({ peers: [] }), setupOf({ peers: [{ endpoint: 'nowhere' }] })])
      expect(tunnel.again(other)).toBe(false);
  });
});

/** A super-frame of TCP over IPv4, behind its virtio header. */
function superFrame(payload: Buffer, pieceBytes: number): Buffer {
  const frame = Buffer.concat([Buffer.alloc(VNET_HEADER_BYTES + 40), payload]);
  const vnet = { flags: NEEDS_CHECKSUM, gsoType: GSO_TCPV4, headerLength: 40, gsoSize: pieceBytes, checksumStart: 20, checksumOffset: 16 };
  writeVnetHeader(frame, 0, vnet);
  const ip = frame.subarray(VNET_HEADER_BYTES);
  ip.set([0x45, 0, ip.length >> 8, ip.length & 255, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
  ip.writeUInt16BE(finish(sumBytes(ip, 0, 20)), 10);
  ip.set([0x13, 0x88, 0x13, 0x89, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff], 20);
  ip.writeUInt16BE(fold(pseudoHeaderSum(ip, 12, 4, 6, ip.length - 20)), 36);
  return frame;
}

it('passes a super-frame in pieces, and puts it together again at the other end', async () => {
  const { tunnel: server, written, port } = serve();
  const { tunnel: client } = open({ peers: [{ endpoint: `127.0.0.1:${port}` }] });
  await Promise.all([up(server), up(client)]);
  const [pieces, pieceBytes] = [20, 1000];
  const payload = Buffer.from(random('super-frame').bytes(pieces * pieceBytes));
  const frame = superFrame(payload, pieceBytes);
  client.take(frame, 0, frame.length);
  client.flush();
  await expect.poll(() => written.length, SOON).toBe(1);
  expect(written[0]?.subarray(40).equals(payload)).toBe(true);
  const bytes = BigInt(pieces * (pieceBytes + 40));
  expect(client.state().traffic).toMatchObject({ sentPackets: BigInt(pieces), sentBytes: bytes });
  expect(server.state().traffic).toMatchObject({ receivedPackets: BigInt(pieces), receivedBytes: bytes });
});

it('counts all pieces of a super-frame that found no place', async () => {
  const { tunnel, port } = serve();
  await dial(port);
  await up(tunnel);
  const [pieces, pieceBytes] = [4000, 16];
  const frame = superFrame(Buffer.alloc(pieces * pieceBytes), pieceBytes);
  tunnel.take(frame, 0, frame.length);
  tunnel.flush();
  const lost = drops(tunnel, Reason.OVERFLOW);
  expect(lost).toBeGreaterThan(1);
  expect(Number(tunnel.state().traffic?.sentPackets) + lost).toBe(pieces);
});

it('leaves nothing open, whatever it was about to do', async () => {
  // What the event loop opens once and keeps.
  serve().tunnel.close();
  const open_ = () => readdirSync('/proc/self/fd').length;
  const before = open_();
  for (let count = 0; count < 20; count++) {
    const { tunnel, port } = serve();
    const ends = [open({ peers: [{ endpoint: `127.0.0.1:${port}` }] }).tunnel, open({ peers: [{ endpoint: '127.0.0.1:1' }] }).tunnel];
    if (count % 2 === 0) await up(tunnel);
    for (const end of [tunnel, ...ends]) {
      end.close();
      end.close();
      take(end, packet(40));
      end.flush();
    }
  }
  await expect.poll(open_, SOON).toBe(before);
});
