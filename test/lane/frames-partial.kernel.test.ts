// A train of datagrams of which the kernel takes only the first: what went is counted as sent, the rest as dropped, to the packet.

import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { LinkSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { LinkSpec, LinkSpec_Protocol as Protocol, LinkDrops_Reason as Reason } from '../../src/gen/taplane/v1/link.ts';
import { FramesOverUdp } from '../../src/lane/frames/frames-udp.ts';
import { VNET_HEADER_BYTES } from '../../src/packet/vnet-header.ts';
import { inNamespace } from '../../src/sys/marked-tun.ts';
import { SOON } from '../harness/bound.ts';
import { createCable, createNamespace } from '../harness/namespace.ts';

const FRAME_BYTES = 600;
/** One system call takes 64 of them. */
const TRAIN = 100;

it('is counted to the packet', async () => {
  await using near = createNamespace();
  await using far = createNamespace();
  createCable({ namespace: near, device: 'e0', address: '192.0.2.1/24' }, { namespace: far, device: 'e1', address: '192.0.2.2/24' });
  near.run('sysctl', '-qw', 'net.ipv6.conf.e0.disable_ipv6=1');
  near.run('ping', '-c', '1', '192.0.2.2');
  // What is on its way is held against the buffer of the socket.
  near.run('tc', 'qdisc', 'add', 'dev', 'e0', 'root', 'tbf', 'rate', '300mbit', 'burst', '100kb', 'limit', '100mb');
  const gone = () => {
    const { packets, backlog } = JSON.parse(near.run('tc', '-j', '-s', 'qdisc', 'show', 'dev', 'e0'))[0] as Record<string, number>;
    return backlog === 0 ? (packets ?? 0) : -1;
  };
  const spec = LinkSpec.fromPartial({ protocol: Protocol.FRAMES, listen: '192.0.2.1:7', peers: [{ endpoint: '192.0.2.2:7' }] });
  const device = { ethernet: false, offload: true, write: () => 0 as const };
  const needs = { device, now: () => performance.now() };
  const tunnel = inNamespace(near.name, () => new FramesOverUdp(LinkSetup.fromPartial({ uid: 'l', spec }), needs));
  try {
    const frame = Buffer.alloc(VNET_HEADER_BYTES + FRAME_BYTES);
    frame.set([0x45, 0, FRAME_BYTES >> 8, FRAME_BYTES & 255, 0, 0, 0, 0, 64, 253], VNET_HEADER_BYTES);
    const send = (frames: number) => {
      for (let count = 0; count < frames; count++) tunnel.take(frame, 0, frame.length);
      tunnel.flush();
    };
    const lost = () => Number(tunnel.state().drops.find(({ reason }) => reason === Reason.SOCKET)?.packets ?? 0n);
    const partly = new Set<number>();
    let given = 0;
    // Whether the buffer is full at the first or the second call is up to where it was: not the same in each round.
    for (let round = 0; round < 8 && !partly.has(TRAIN - 64); round++) {
      send(13 * round);
      given += 13 * round;
      for (const before = lost(); lost() === before; given += TRAIN) {
        const sofar = lost();
        send(TRAIN);
        partly.add(lost() - sofar);
      }
      send(64);
      given += 64;
      await expect.poll(gone, SOON).toBeGreaterThan(0);
      await sleep(50);
    }
    expect([...partly]).toContain(TRAIN - 64);
    const { traffic, peers } = tunnel.state();
    expect(Number(traffic?.sentPackets) + lost()).toBe(given);
    expect(traffic?.sentBytes).toBe((traffic?.sentPackets ?? 0n) * BigInt(FRAME_BYTES));
    expect(peers[0]?.traffic?.sentPackets).toBe(traffic?.sentPackets);
    // ARP may be among them.
    expect(gone() - Number(traffic?.sentPackets)).toBeLessThan(8);
    expect(gone()).toBeGreaterThanOrEqual(Number(traffic?.sentPackets));
  } finally {
    tunnel.close();
  }
});
