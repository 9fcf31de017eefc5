// What consumers of a port get, and what becomes of what they send, on devices of every kind of header: none, packet information, virtio, both.

import { afterEach, expect, it } from 'vitest';
import { Device } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { Devices } from '../../src/lane/devices.ts';
import type { PortConsumer } from '../../src/lane/port.ts';
import { fold, sumBytes } from '../../src/packet/checksum.ts';
import { plainVnetHeader, readVnetHeader, VNET_HEADER_BYTES } from '../../src/packet/vnet-header.ts';
import { SOON } from '../harness/bound.ts';
import { createNamespace } from '../harness/namespace.ts';

const held: { close(): void }[] = [];
afterEach(() => {
  for (const one of held.splice(0)) one.close();
});

const KINDS = (['tun', 'tap'] as const).flatMap((mode) =>
  [false, true].flatMap((packetInfo) => [false, true].map((vnetHeader) => [mode, packetInfo, vnetHeader] as const)),
);

/** Keeps the IPv4 packets of UDP to port 4000, with what stands before them. */
class Keeper implements PortConsumer {
  readonly superFrames: boolean;
  readonly kept: Buffer[] = [];
  flushed = 0;
  readonly #linkBytes: number;

  constructor(superFrames: boolean, linkBytes: number) {
    this.superFrames = superFrames;
    this.#linkBytes = linkBytes;
  }

  take(bytes: Buffer, start: number, length: number): void {
    const frame = Buffer.from(bytes.subarray(start, start + length));
    const ip = frame.subarray((this.superFrames ? VNET_HEADER_BYTES : 0) + this.#linkBytes);
    if (ip[0] === 0x45 && ip[9] === 17 && ip.readUInt16BE(22) === 4000) this.kept.push(frame);
  }

  flush(): void {
    this.flushed = this.kept.length;
  }
}

const SEND = `import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_UDP, 103, 100)
for count in range(3): s.sendto(bytes([count]) * 250, ('10.91.0.2', 4000))`;

it.each(KINDS)('on a %s, packet information %s, virtio header %s', async (mode, packetInfo, vnetHeader) => {
  await using ns = createNamespace();
  const [tap, linkBytes] = [mode === 'tap', mode === 'tap' ? 14 : 0];
  ns.ip(`tuntap add dev t0 mode ${mode} ${packetInfo ? 'pi' : ''} ${vnetHeader ? 'vnet_hdr' : ''}`);
  ns.ip('link set dev t0 alias taplane:uid-t0 up');
  ns.ip('address add 10.91.0.1/24 dev t0');
  if (tap) ns.ip('neighbour add 10.91.0.2 lladdr 02:00:00:00:00:02 dev t0');
  const device = Device.fromPartial({ uid: 'uid-t0', interface: 't0', networkNamespace: ns.name, tap, packetInfo, vnetHeader });
  const devices = new Devices();
  held.push(devices);
  const port = devices.port(device);
  const [whole, first, second] = [new Keeper(false, linkBytes), new Keeper(true, linkBytes), new Keeper(true, linkBytes)];
  for (const consumer of [first, whole, second]) port.addConsumer(consumer);
  await ns.exec(['/usr/bin/python3', '-c', SEND]);

  // Pieces of 100, 100 and 50 bytes, each of its own.
  await expect.poll(() => whole.flushed, SOON).toBe(9);
  for (const [index, frame] of whole.kept.entries()) {
    const ip = frame.subarray(linkBytes);
    expect([...ip.subarray(28)]).toEqual(Array(index % 3 === 2 ? 50 : 100).fill(Math.floor(index / 3)));
    expect(fold(sumBytes(ip, 0, 20))).toBe(0xffff);
  }
  for (const { kept, flushed } of [first, second]) {
    expect(flushed).toBe(vnetHeader ? 3 : 9);
    for (const frame of kept) {
      const header = plainVnetHeader();
      readVnetHeader(frame, 0, header);
      if (vnetHeader) expect(header).toMatchObject({ gsoType: 5, gsoSize: 100 });
      else expect(header).toEqual(plainVnetHeader());
    }
  }
  if (!vnetHeader) expect(first.kept.map((frame) => frame.subarray(VNET_HEADER_BYTES))).toEqual(whole.kept);
  expect(second.kept).toEqual(first.kept);

  // And into the device: a frame behind an empty header, and one without.
  const received = () => (ns.ip('-j -s link show dev t0') as { stats64: { rx: { packets: number } } }[])[0]?.stats64.rx.packets;
  const before = received() ?? 0;
  const [one] = whole.kept;
  const frame = Buffer.concat([Buffer.alloc(VNET_HEADER_BYTES), one as Buffer]);
  expect(port.writeSuper(frame, 0, frame.length)).toBe(0);
  expect(port.write(one as Buffer, 0, (one as Buffer).length)).toBe(0);
  await expect.poll(received, SOON).toBe(before + 2);
});

it('tells consumers that nothing more comes also when the device goes in the middle of a turn', async () => {
  await using ns = createNamespace();
  ns.ip('tuntap add dev t0 mode tun');
  ns.ip('link set dev t0 alias taplane:uid-t0 up');
  ns.ip('address add 10.91.0.1/24 dev t0');
  const devices = new Devices();
  held.push(devices);
  const port = devices.port(Device.fromPartial({ uid: 'uid-t0', interface: 't0', networkNamespace: ns.name }));
  const keeper = new Keeper(false, 0);
  const last: PortConsumer = {
    take() {
      if (keeper.kept.length === 0 || !port.attached) return;
      ns.ip('link delete t0');
      port.check();
    },
    flush() {},
  };
  for (const consumer of [keeper, last]) port.addConsumer(consumer);
  await ns.exec(['/usr/bin/python3', '-c', SEND]);
  await expect.poll(() => port.attached, SOON).toBe(false);
  expect(keeper.flushed).toBe(keeper.kept.length);
  expect(keeper.flushed).toBeGreaterThan(0);
});
