// tcpdump as a witness: what passed a device, and which of it an expression of pcap-filter(7) picks. It keeps everything and filters
// afterwards: a filter in the kernel does not see VLAN tags where they stand, since the kernel has taken them off.
//
//   await using out = await startTcpdump(ns, 'tap0', 'out');
//   await out.has(5);
//   expect(frames).toEqual(out.frames('udp').map(({ data }) => data));

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Namespace } from './namespace.ts';
import { type Child, runSync } from './process.ts';

export interface Recorded {
  timeNs: bigint;
  /** Bytes that it had before it was cut. */
  length: number;
  data: Buffer;
}

export class Tcpdump implements AsyncDisposable {
  readonly #folder: string;
  readonly #child: Child;

  constructor(folder: string, child: Child) {
    this.#folder = folder;
    this.#child = child;
  }

  get #file(): string {
    return join(this.#folder, 'all.pcap');
  }

  /** Frames so far, those that match `expression` or all. */
  frames(expression = ''): Recorded[] {
    if (expression === '') return pcapFrames(readFileSync(this.#file));
    return picked(this.#file, expression);
  }

  /** Waits until at least `count` frames are there. */
  async has(count: number, timeoutMs = 20_000): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (this.frames().length < count) {
      if (performance.now() > deadline) throw new Error(`tcpdump: ${this.frames().length} of ${count} frames after ${timeoutMs} ms`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Waits until nothing has come for a while, for what cannot be counted beforehand. */
  async settles(forMs = 1000): Promise<void> {
    let last = -1;
    for (let since = performance.now(); performance.now() - since < forMs; ) {
      const count = this.frames().length;
      if (count !== last) since = performance.now();
      last = count;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Ends it. Throws when the kernel dropped something that it should have seen. */
  async stop(): Promise<void> {
    this.#child.kill('SIGINT');
    const { stderr } = await this.#child.ended;
    if (!/^0 packets dropped by kernel/m.test(stderr)) throw new Error(`tcpdump lost packets: ${stderr}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Resolves once it sees what passes. Both directions unless one is given. Keeps 4096 bytes of a frame: its ring has as many places. */
export async function startTcpdump(ns: Namespace, device: string, direction: 'in' | 'out' | 'inout' = 'inout'): Promise<Tcpdump> {
  const folder = mkdtempSync(join(tmpdir(), 'tpl-tcpdump-'));
  const nano = '--time-stamp-precision=nano';
  const how = ['-n', '-p', '-U', '--immediate-mode', '-Z', 'root', '-B', '16384', '-s', '4096', nano];
  const child = ns.spawn(['tcpdump', '-i', device, '-Q', direction, ...how, '-w', join(folder, 'all.pcap')]);
  await child.until(({ stderr }) => stderr.includes('listening on'), 'tcpdump to listen', 20_000);
  return new Tcpdump(folder, child);
}

/** Frames of a file, pcap or pcapng, that an expression picks; all without one. */
export function picked(file: string, expression = ''): Recorded[] {
  const out = `${file}.picked`;
  runSync('tcpdump', '-n', '-Z', 'root', '--time-stamp-precision=nano', '-r', file, '-w', out, ...(expression === '' ? [] : [expression]));
  const frames = pcapFrames(readFileSync(out));
  rmSync(out);
  return frames;
}

/** Whole records of a pcap file with nanoseconds that may still grow. */
function pcapFrames(file: Buffer): Recorded[] {
  if (file.length < 24) return [];
  if (file.readUInt32LE(0) !== 0xa1b23c4d) throw new Error('pcap file: no nanoseconds');
  const frames: Recorded[] = [];
  for (let at = 24; at + 16 <= file.length; ) {
    const captured = file.readUInt32LE(at + 8);
    if (at + 16 + captured > file.length) break;
    const timeNs = BigInt(file.readUInt32LE(at)) * 1_000_000_000n + BigInt(file.readUInt32LE(at + 4));
    frames.push({ timeNs, length: file.readUInt32LE(at + 12), data: file.subarray(at + 16, at + 16 + captured) });
    at += 16 + captured;
  }
  return frames;
}

const LINKTYPE_ETHERNET = 1;
const LINKTYPE_RAW = 101;

/** Frames in which tshark finds something to complain of: a checksum, a length, a header. One line for each. */
export function complaints(frames: readonly Buffer[], ethernet: boolean): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'tpl-tshark-'));
  try {
    const words = (bytes: Buffer, ...values: number[]): Buffer => {
      for (const [at, value] of values.entries()) bytes.writeUInt32LE(value, at * 4);
      return bytes;
    };
    const header = words(Buffer.alloc(24), 0xa1b2c3d4, 0x00040002, 0, 0, 262_144, ethernet ? LINKTYPE_ETHERNET : LINKTYPE_RAW);
    const records = frames.flatMap((frame, index) => [words(Buffer.alloc(16), index, 0, frame.length, frame.length), frame]);
    const file = join(folder, 'frames.pcap');
    writeFileSync(file, Buffer.concat([header, ...records]));
    const checks = ['ip', 'tcp', 'udp'].flatMap((protocol) => ['-o', `${protocol}.check_checksum:TRUE`]);
    const fields = ['frame.number', 'ip.src', 'ipv6.src', '_ws.expert.message'].flatMap((field) => ['-e', field]);
    const bad = ['ip', 'tcp', 'udp'].map((protocol) => `${protocol}.checksum.status == 0`).join(' or ');
    const filter = `${bad} or _ws.malformed or _ws.expert.severity >= 0x600000`;
    return runSync('tshark', '-n', '-r', file, ...checks, '-Y', filter, '-T', 'fields', ...fields)
      .split('\n')
      .filter(Boolean);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
