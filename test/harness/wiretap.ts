// tcpdump on a device, for what is much or is to be judged: it filters in the kernel, has a large ring, and tells of checksums. It throws
// when it missed something, and does not end before it has written what was expected. `tcpdump.ts` looks at a few packets at once.
//
//   await using wire = await Wiretap.listen(ns, 'tun0', '-Q', 'in');
//   ...
//   await wire.stop(sent.length);
//   expect(wire.packets()).toEqual(sent);

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Namespace } from './namespace.ts';
import { type Child, run } from './process.ts';

/** What it says on SIGUSR1: captured, received by the filter, dropped by the kernel. */
const COUNTS = /(\d+) packets? captured, (\d+) packets? received by filter, (\d+) packets? dropped by kernel/g;
const STOP_MS = 20_000;
const MAGIC = 0xa1b2c3d4;
const FILE_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;

export class Wiretap implements AsyncDisposable {
  readonly #folder = mkdtempSync(join(tmpdir(), 'tpl-wiretap-'));
  readonly #file = join(this.#folder, 'seen.pcap');
  readonly #child: Child;

  private constructor(ns: Namespace, device: string, options: string[]) {
    // Not in immediate mode: there every packet takes as much of the ring as the longest.
    const how = ['-n', '-p', '-s', '262144', '-B', '65536', '-Z', 'root'];
    this.#child = ns.spawn(['tcpdump', '-i', device, ...how, '-w', this.#file, ...options]);
  }

  /** Back once it listens. Options and filter are those of tcpdump; `-Q in` is what was written into the device. */
  static async listen(ns: Namespace, device: string, ...options: string[]): Promise<Wiretap> {
    const wire = new Wiretap(ns, device, options);
    await wire.#child.until(({ stderr }) => stderr.includes('listening on'), 'tcpdump to listen', 20_000);
    return wire;
  }

  /** Ends it, once it has written `least` packets. Throws when they do not come, or when the kernel had to drop something. */
  async stop(least: number): Promise<void> {
    const deadline = performance.now() + STOP_MS;
    for (let told = 0; ; told++) {
      this.#child.kill('SIGUSR1');
      const counts = await this.#child.until(({ stderr }) => [...stderr.matchAll(COUNTS)][told], 'the counts of tcpdump', STOP_MS);
      if (Number(counts[1]) >= least) break;
      if (performance.now() > deadline) throw new Error(`tcpdump has not seen ${least} packets: ${counts[0]}`);
      await sleep(100);
    }
    this.#child.kill('SIGINT');
    const { stderr } = await this.#child.ended;
    if (!/^0 packets dropped by kernel$/m.test(stderr)) throw new Error(`tcpdump missed packets\n${stderr}`);
  }

  /** After `stop`: what passed, as `tcpdump -vv` tells it, a line for each packet or more. */
  async told(...filter: string[]): Promise<string> {
    const { stdout, stderr, code } = await run(['tcpdump', '-n', '-vv', '-r', this.#file, ...filter]);
    if (code !== 0) throw new Error(`tcpdump -r: ${stderr}`);
    return stdout;
  }

  /** After `stop`: what passed, whole packets. */
  packets(): Buffer[] {
    const bytes = readFileSync(this.#file);
    if (bytes.readUInt32LE(0) !== MAGIC) throw new Error('pcap file: magic number is another one');
    const packets: Buffer[] = [];
    for (let at = FILE_HEADER_BYTES; at + RECORD_HEADER_BYTES <= bytes.length; ) {
      const captured = bytes.readUInt32LE(at + 8);
      if (captured !== bytes.readUInt32LE(at + 12)) throw new Error('pcap file: a packet was cut');
      at += RECORD_HEADER_BYTES;
      packets.push(bytes.subarray(at, at + captured));
      at += captured;
    }
    return packets;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
