// Whose flow each frame is, in the words of tshark: its Community ID. A part of a datagram is told as its whole is.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Amount } from './flow-observer.ts';
import { run } from './process.ts';

const LINKTYPE_ETHERNET = 1;
const LINKTYPE_RAW = 101;
const FIELDS = ['communityid', 'ip.src', 'ipv6.src', 'ip.id', 'ipv6.fraghdr.ident'];
const OFFSETS = ['ip.frag_offset', 'ipv6.fraghdr.offset', 'ip.flags.mf', 'ipv6.fraghdr.more'];

function words(bytes: Buffer, ...values: number[]): Buffer {
  for (const [at, value] of values.entries()) bytes.writeUInt32LE(value, at * 4);
  return bytes;
}

/** For each frame its ID, and the protocols in it as `eth:ethertype:arp`; '' where tshark has none. */
export async function communities(frames: readonly Buffer[], ethernet: boolean): Promise<{ id: string; protocols: string }[]> {
  const folder = mkdtempSync(join(tmpdir(), 'tpl-tshark-'));
  try {
    const header = words(Buffer.alloc(24), 0xa1b2c3d4, 0x00040002, 0, 0, 262_144, ethernet ? LINKTYPE_ETHERNET : LINKTYPE_RAW);
    const records = frames.flatMap((frame, index) => [words(Buffer.alloc(16), index, 0, frame.length, frame.length), frame]);
    const file = join(folder, 'frames.pcap');
    writeFileSync(file, Buffer.concat([header, ...records]));
    const fields = [...FIELDS, ...OFFSETS, 'frame.protocols'].flatMap((field) => ['-e', field]);
    const shape = ['-T', 'fields', '-E', 'occurrence=f', '-E', 'separator=|'];
    const { code, stdout, stderr } = await run(['tshark', '-n', '-r', file, '--enable-protocol', 'communityid', ...shape, ...fields]);
    if (code !== 0) throw new Error(`tshark: ${stderr}`);
    const rows = stdout
      .replace(/\n$/, '')
      .split('\n')
      .map((line) => line.split('|'));
    if (rows.length !== frames.length) throw new Error(`tshark: ${rows.length} lines for ${frames.length} frames`);
    // Told with its last part; the next datagram may have the same number.
    const whole = new Map<string, string>();
    const ids: { id: string; protocols: string }[] = [];
    for (const [id = '', v4, v6, number, number6, offset, offset6, more, more6, protocols = ''] of rows.toReversed()) {
      const isLater = [offset, offset6].some((text) => Number(text ?? 0) > 0);
      const hasMore = [more, more6].some((text) => text === '1' || text === 'True');
      const datagram = [v4, v6, number, number6].join();
      if (isLater && !hasMore) whole.set(datagram, id);
      ids.push({ id: hasMore ? (whole.get(datagram) ?? '') : id, protocols });
    }
    return ids.reverse();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Adds up what belongs to the same name. */
export function amounts(parts: Iterable<[name: string, packets: number, bytes: number]>): Record<string, Amount> {
  const all: Record<string, Amount> = {};
  for (const [name, packets, bytes] of parts) {
    const sum = all[name] ?? { packets: 0, bytes: 0 };
    all[name] = { packets: sum.packets + packets, bytes: sum.bytes + bytes };
  }
  return all;
}
