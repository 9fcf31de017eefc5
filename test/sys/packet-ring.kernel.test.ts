// The tap on real devices: directions, VLAN tags that the kernel has put aside, devices that go down or away, what stays behind.

import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { inNamespace } from '../../src/sys/marked-tun.ts';
import { PacketRing, type RingFrame } from '../../src/sys/packet-ring.ts';
import { createCable, createNamespace, type Namespace } from '../harness/namespace.ts';
import { link } from '../harness/truth.ts';

const shape = (bytes: number) => ({ bytes, blockBytes: 128 * 1024, retireMs: 16 });
const MEBIBYTE = 1024 * 1024;
/** An EtherType for experiments: nothing that the kernel says by itself has it. */
const TYPE = '88b5';
const HEAD = `020000000002020000000001${TYPE}`;

interface Seen extends RingFrame {
  data: string;
  header: string;
}

class Tapped implements Disposable {
  readonly ring: PacketRing;
  readonly seen: Seen[] = [];

  constructor(ns: Namespace, device: string, bytes: number) {
    const index = link(ns, device)?.ifindex ?? 0;
    this.ring = inNamespace(ns.name, () => PacketRing.open(index, shape(bytes)));
  }

  readonly take = (frame: RingFrame): void => {
    const data = this.ring.bytes.toString('hex', frame.start, frame.start + frame.captured);
    if (data.slice(24, 28) === TYPE)
      this.seen.push({ ...frame, data, header: this.ring.bytes.toString('hex', frame.start - 10, frame.start) });
  };

  drain(): void {
    while (this.ring.drain(64, this.take));
  }

  async until(count: number): Promise<void> {
    const drained = (): number => {
      this.drain();
      return this.seen.length;
    };
    await expect.poll(drained, { timeout: 15_000 }).toBeGreaterThanOrEqual(count);
  }

  [Symbol.dispose](): void {
    this.ring.close();
  }
}

/** Sends frames out of a device, one after another. */
function send(ns: Namespace, device: string, ...frames: string[]): void {
  const script = `
import socket, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind((sys.argv[1], 0))
for frame in sys.argv[2:]: raw.send(bytes.fromhex(frame))
`;
  ns.run('/usr/bin/python3', '-c', script, device, ...frames);
}

/** As many numbered frames of 114 bytes as come together in so many seconds, one each millisecond, or `every` seconds. */
async function sendFor(ns: Namespace, device: string, seconds: number, every: number): Promise<number> {
  const script = `
import socket, sys, time
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind((sys.argv[1], 0))
begun, sent, every = time.time(), 0, float(sys.argv[3])
while time.time() < begun + float(sys.argv[2]):
    raw.send(bytes.fromhex('${HEAD}') + sent.to_bytes(4, 'big') + bytes(96))
    sent += 1
    if every > 0: time.sleep(every)
print(sent)
`;
  const { stdout, stderr } = await ns.exec(['/usr/bin/python3', '-c', script, device, String(seconds), String(every)]);
  expect(stderr).toBe('');
  return Number(stdout);
}

async function withCable(work: (near: Namespace, far: Namespace) => Promise<void>): Promise<void> {
  await using near = createNamespace();
  await using far = createNamespace();
  createCable({ namespace: near, device: 'e0' }, { namespace: far, device: 'e1' });
  await expect.poll(() => link(near, 'e0')?.operstate, { timeout: 15_000 }).toBe('UP');
  await work(near, far);
}

it('tells which way frames went, when, and what tag the kernel has taken off', async () => {
  await withCable(async (near, far) => {
    using tap = new Tapped(near, 'e0', MEBIBYTE);
    const begun = Date.now() / 1000;
    send(near, 'e0', `${HEAD}aaaa`);
    send(far, 'e1', `${HEAD}bbbb`, `${HEAD.slice(0, 24)}81002005${TYPE}cccc`, `${HEAD.slice(0, 24)}88a80006${TYPE}dddd`, `${HEAD}eeee`);
    await tap.until(5);
    const { seen } = tap;
    expect(seen.map(({ data }) => data)).toEqual(['aaaa', 'bbbb', 'cccc', 'dddd', 'eeee'].map((tail) => HEAD + tail));
    expect(seen.map(({ outgoing }) => outgoing)).toEqual([true, false, false, false, false]);
    expect(seen.map(({ vlanTpid, vlanTci }) => (vlanTpid === 0 ? '' : `${vlanTpid.toString(16)} ${vlanTci.toString(16)}`))).toEqual([
      '',
      '',
      '8100 2005',
      '88a8 6',
      '',
    ]);
    for (const { seconds, nanos, length, captured, header } of seen) {
      expect(seconds + nanos / 1e9).toBeGreaterThan(begun - 1);
      expect(seconds + nanos / 1e9).toBeLessThan(Date.now() / 1000 + 1);
      expect([length, captured]).toEqual([16, 16]);
      // Flags and GSO type: nothing is left to do.
      expect(header.slice(0, 4)).toBe('0000');
    }
  });
});

it('loses nothing while its reader stands still for 400 ms, however little passes', async () => {
  await withCable(async (near) => {
    using tap = new Tapped(near, 'e0', 4 * MEBIBYTE);
    const sent = await sendFor(near, 'e0', 0.4, 0.001);
    expect(sent).toBeGreaterThan(50);
    await tap.until(sent);
    expect(tap.ring.takeDrops()).toBe(0);
    expect(tap.seen.map(({ data }) => Number.parseInt(data.slice(28, 36), 16))).toEqual(Array.from({ length: sent }, (_, index) => index));
  });
});

it('counts exactly what found no room', async () => {
  await withCable(async (near, far) => {
    // Neither end says anything by itself.
    near.run('sh', '-c', 'echo 1 > /proc/sys/net/ipv6/conf/e0/disable_ipv6');
    far.run('sh', '-c', 'echo 1 > /proc/sys/net/ipv6/conf/e1/disable_ipv6');
    using tap = new Tapped(near, 'e0', 1);
    expect(tap.ring.blocks).toBe(2);
    const sent = await sendFor(near, 'e0', 0.3, 0);
    await tap.until(100);
    await new Promise((resolve) => setTimeout(resolve, 200));
    tap.drain();
    const drops = tap.ring.takeDrops();
    expect(drops).toBeGreaterThan(0);
    expect(tap.seen.length + drops).toBe(sent);
    expect(tap.ring.takeDrops()).toBe(0);
    // And goes on.
    send(near, 'e0', `${HEAD}ff`);
    const before = tap.seen.length;
    await tap.until(before + 1);
    expect(tap.seen.at(-1)?.data).toBe(`${HEAD}ff`);
  });
});

it('says ENETDOWN once, and goes on by itself when the device is up again', async () => {
  await withCable(async (near) => {
    using tap = new Tapped(near, 'e0', MEBIBYTE);
    expect(tap.ring.problem()).toBeUndefined();
    let calls = 0;
    tap.ring.listen(() => calls++);
    near.ip('link set e0 down');
    await expect.poll(() => calls, { timeout: 15_000 }).toBeGreaterThan(0);
    expect(tap.ring.problem()).toBe('ENETDOWN');
    expect(tap.ring.problem()).toBeUndefined();
    tap.ring.listen(() => calls++);
    const before = calls;
    near.ip('link set e0 up');
    await expect.poll(() => link(near, 'e0')?.operstate, { timeout: 15_000 }).toBe('UP');
    send(near, 'e0', `${HEAD}01`);
    await tap.until(1);
    await expect.poll(() => calls, { timeout: 15_000 }).toBeGreaterThan(before);
    expect(tap.seen.map(({ data }) => data)).toEqual([`${HEAD}01`]);
  });
});

/** Makes a TAP, and on a word writes three frames into it and lets it go, with which it is gone. */
const BRIEF = `
import fcntl, os, struct, subprocess, sys
fd = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH', b'r0', 0x1002)) # TUNSETIFF, IFF_TAP | IFF_NO_PI
subprocess.run(['ip', 'link', 'set', 'r0', 'up'], check=True)
print('up', flush=True)
sys.stdin.readline()
for n in range(3): os.write(fd, bytes.fromhex('${HEAD}') + bytes([n]))
os.close(fd)
`;

it('gives all that it has when the device is gone, also what the kernel has not handed over', async () => {
  await using ns = createNamespace();
  // Now and then the kernel is faster.
  for (let round = 0; round < 8; round++) {
    await using brief = ns.spawn(['/usr/bin/python3', '-c', BRIEF]);
    await brief.until(({ stdout }) => stdout.includes('up'), 'the device', 20_000);
    using tap = new Tapped(ns, 'r0', MEBIBYTE);
    brief.stdin.write('\n');
    const deadline = performance.now() + 15_000;
    while (tap.ring.problem() !== 'ENETDOWN' && performance.now() < deadline) await new Promise((resolve) => setImmediate(resolve));
    tap.drain();
    tap.ring.drainRest(tap.take);
    expect(tap.seen.map(({ data }) => data.slice(28))).toEqual(['00', '01', '02']);
    await brief.ended;
  }
});

it('leaves no descriptor and no memory behind, 200 times', async () => {
  await withCable(async (near) => {
    const held = (): { fds: number; maps: number } => ({
      fds: readdirSync('/proc/self/fd').length,
      maps: readFileSync('/proc/self/maps', 'utf8')
        .split('\n')
        .filter((line) => line.includes('socket:[')).length,
    });
    const before = held();
    const index = link(near, 'e0')?.ifindex ?? 0;
    for (let round = 0; round < 200; round++) {
      const ring = inNamespace(near.name, () => PacketRing.open(index, shape(MEBIBYTE)));
      if (round % 2 === 0) ring.listen(() => {});
      // Those that were closed before go on another thread.
      if (round === 7) await expect.poll(() => held().maps, { timeout: 15_000 }).toBe(before.maps + 1);
      ring.close();
      ring.close();
    }
    // A device that is not there: what was opened on the way is closed again.
    for (let round = 0; round < 20; round++)
      expect(() => inNamespace(near.name, () => PacketRing.open(9999, shape(MEBIBYTE)))).toThrow('ENODEV');
    await expect.poll(held, { timeout: 15_000 }).toEqual(before);
  });
});
