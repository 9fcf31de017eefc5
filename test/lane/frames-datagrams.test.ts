// Frames over UDP on the loopback: each is a datagram of its own, in order, however they were put together.

import { createSocket, type Socket } from 'node:dgram';
import { afterEach, expect, it } from 'vitest';
import { LinkSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import {
  LinkSpec,
  LinkSpec_Protocol as Protocol,
  LinkDrops_Reason as Reason,
  LinkStatus_State as State,
} from '../../src/gen/taplane/v1/link.ts';
import { FramesOverUdp } from '../../src/lane/frames/frames-udp.ts';
import { VNET_HEADER_BYTES } from '../../src/packet/vnet-header.ts';
import { SOON } from '../harness/bound.ts';
import { random } from '../harness/random.ts';

/** EtherType of probes. */
const PROBE_TYPE = 0x88b5;

const held: { close(): void }[] = [];
afterEach(() => {
  for (const one of held.splice(0)) one.close();
});

async function peer(): Promise<{ socket: Socket; received: Buffer[]; endpoint: string }> {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 4 * 1024 * 1024 });
  const received: Buffer[] = [];
  // Probes go about once a second, whatever a test does.
  socket.on('message', (bytes) => (bytes.length < 14 || bytes.readUInt16BE(12) !== PROBE_TYPE) && received.push(bytes));
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  held.push({ close: () => socket.close() });
  return { socket, received, endpoint: `127.0.0.1:${socket.address().port}` };
}

function setupOf(endpoint: string, more: Partial<LinkSpec> = {}): LinkSetup {
  const spec = LinkSpec.fromPartial({ protocol: Protocol.FRAMES, listen: '127.0.0.1:0', peers: [{ endpoint }], ...more });
  return LinkSetup.fromPartial({ uid: 'link', spec });
}

function open(endpoint: string): { tunnel: FramesOverUdp; written: Buffer[]; port: number; now: (ms: number) => void } {
  const written: Buffer[] = [];
  const write = (bytes: Buffer, start: number, length: number) => {
    written.push(Buffer.from(bytes.subarray(start + VNET_HEADER_BYTES, start + length)));
    return 0 as const;
  };
  let later = 0;
  const needs = { device: { ethernet: true, offload: true, write }, now: () => performance.now() + later };
  const tunnel = new FramesOverUdp(setupOf(endpoint), needs);
  held.push(tunnel);
  const now = (ms: number) => {
    later = ms;
  };
  return { tunnel, written, port: Number(tunnel.state().listen.split(':')[1]), now };
}

/** An Ethernet frame of a protocol that nobody looks into. */
function frame(bytes: number, mark: number): Buffer {
  const whole = Buffer.alloc(bytes, mark);
  whole.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb6]);
  return whole;
}

function take(tunnel: FramesOverUdp, bytes: Buffer): void {
  tunnel.take(Buffer.concat([Buffer.alloc(VNET_HEADER_BYTES), bytes]), 0, VNET_HEADER_BYTES + bytes.length);
}

it('sends each frame as one datagram, in order, of whatever sizes they are', async () => {
  const { received, endpoint } = await peer();
  const { tunnel } = open(endpoint);
  const chance = random('datagrams');
  const sizes = [14, 60, 60, 1472, 1472, 1472, 900, 900, 1472, 14];
  for (let round = 0; round < 40; round++) {
    const frames = Array.from({ length: chance.integer(1, 120) }, (_, index) => frame(chance.pick(sizes), round + index));
    for (const one of frames) take(tunnel, one);
    tunnel.flush();
    await expect.poll(() => received.length, SOON).toBe(frames.length);
    expect(received.splice(0)).toEqual(frames);
  }
  const { traffic, drops } = tunnel.state();
  expect(drops).toEqual([]);
  expect(traffic?.sentPackets).toBeGreaterThan(40n);
});

it('is up while something was heard in the last 3 minutes, and takes another peer in place', async () => {
  const [one, two] = [await peer(), await peer()];
  const { tunnel, written, port, now } = open(one.endpoint);
  expect(tunnel.state()).toMatchObject({ state: State.CONNECTING, peers: [{ up: false, lastReceivedTime: undefined }] });
  one.socket.send(frame(60, 1), port, '127.0.0.1');
  await expect.poll(() => written, SOON).toEqual([frame(60, 1)]);
  expect(tunnel.state()).toMatchObject({ state: State.UP, reason: '', peers: [{ up: true, endpoint: one.endpoint }] });
  expect(Math.abs(Number(tunnel.state().peers[0]?.lastReceivedTime?.seconds) - Date.now() / 1000)).toBeLessThan(5);
  now(180_100);
  expect(tunnel.state()).toMatchObject({ state: State.CONNECTING, reason: `${one.endpoint}: nothing heard for 3 minutes` });
  now(0);
  expect(tunnel.again(setupOf(two.endpoint))).toBe(true);
  expect(tunnel.state()).toMatchObject({ state: State.CONNECTING, peers: [{ endpoint: two.endpoint, traffic: { receivedPackets: 0n } }] });
  one.socket.send(frame(60, 2), port, '127.0.0.1');
  two.socket.send(frame(60, 3), port, '127.0.0.1');
  await expect.poll(() => written.at(-1), SOON).toEqual(frame(60, 3));
  expect(tunnel.state().drops).toEqual([{ reason: Reason.STRANGER, packets: 1n }]);
  expect(tunnel.again(setupOf(two.endpoint, { listen: '127.0.0.1:1' }))).toBe(false);
  expect(tunnel.again(setupOf(''))).toBe(false);
});
