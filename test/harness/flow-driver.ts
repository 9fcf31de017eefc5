// A program that holds the queue of a device, as openvpn or QEMU would: writes what is inbound, reads what goes out, and hands outbound frames
// to the device as the node does; all in one order. And what the kernel says of the device.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Amount, Sums } from './flow-observer.ts';
import type { Sent } from './flow-traffic.ts';
import type { Namespace } from './namespace.ts';
import type { Child } from './process.ts';

/** As /proc/net/packet writes it (linux/if_ether.h). */
const ETH_P_ALL = '0003';
const PYTHON = '/usr/bin/python3';
const DRIVER = `
import fcntl, json, os, select, socket, struct, sys
name, mode = sys.argv[1], int(sys.argv[2])
fd = os.open('/dev/net/tun', os.O_RDWR)
fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH22x', name.encode(), mode | 0x1000)) # TUNSETIFF, without packet information
print('held', flush=True)
out = None
def hand_out(frame):
    try: out.send(frame)
    except OSError as problem:
        # It was down meanwhile, of which the socket tells once.
        if problem.errno not in (100, 6): raise
        out.send(frame)
def drain(seconds):
    while select.select([fd], [], [], seconds)[0]: os.read(fd, 65536)
for line in sys.stdin:
    if out is None:
        out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        out.bind((name, 0))
    for direction, text in json.loads(line):
        if direction == 'inbound': os.write(fd, bytes.fromhex(text))
        else: hand_out(bytes.fromhex(text))
        drain(0)
    drain(0.05)
    print('sent', flush=True)
`;

export class FlowDriver implements AsyncDisposable {
  readonly #child: Child;
  #asked = 0;

  private constructor(child: Child) {
    this.#child = child;
  }

  /** Back once it holds the queue. The device may be down until the first frame is sent. */
  static async hold(ns: Namespace, device: string, mode: 'tun' | 'tap'): Promise<FlowDriver> {
    const child = ns.spawn([PYTHON, '-c', DRIVER, device, mode === 'tun' ? '1' : '2']);
    await child.until(({ stdout }) => stdout.includes('held'), 'the queue to be held', 20_000);
    return new FlowDriver(child);
  }

  /** Back when all of them have passed the device. */
  async send(frames: readonly Pick<Sent, 'frame' | 'from'>[]): Promise<void> {
    this.#asked++;
    this.#child.stdin.write(`${JSON.stringify(frames.map(({ from, frame }) => [from, frame.toString('hex')]))}\n`);
    await this.#child.until(({ stdout }) => stdout.split('sent').length > this.#asked, 'frames to be sent', 30_000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }
}

/** As Promise.all, but back only when every one of them has ended, well or not: none goes on in a test that is over. */
export async function together(works: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(works)) if (result.status === 'rejected') throw result.reason;
}

/** What the device has counted: outbound is what was read or dropped, not what waits in its queue; its bytes are those of what was read. */
export function counted(ns: Namespace, device: string): Sums {
  const [found] = ns.ip(`-j -s -s link show dev ${device}`) as { stats64: Record<'rx' | 'tx', Amount & { dropped: number }> }[];
  if (found === undefined) throw new Error(`counters: no device ${device}`);
  const { rx, tx } = found.stats64;
  return {
    inbound: { packets: rx.packets, bytes: rx.bytes },
    outbound: { packets: tx.packets + tx.dropped, bytes: tx.bytes },
  };
}

/** Waits until as many programs watch all that passes the device as `count`, the meter among them (/proc/net/packet). */
export async function watched(ns: Namespace, device: string, count = 1): Promise<void> {
  const deadline = performance.now() + 20_000;
  for (;;) {
    const [found] = ns.has(device) ? (ns.ip(`-j link show dev ${device}`) as { ifindex: number }[]) : [];
    const lines = ns.run('cat', '/proc/net/packet').trim().split('\n').slice(1);
    const here = lines.filter((line) => {
      const [, , , protocol, index] = line.trim().split(/\s+/);
      return protocol === ETH_P_ALL && Number(index) === found?.ifindex;
    }).length;
    if (found !== undefined && here === count) return;
    if (performance.now() > deadline) throw new Error(`${device}: ${here} of ${count} programs watch it`);
    await sleep(20);
  }
}
