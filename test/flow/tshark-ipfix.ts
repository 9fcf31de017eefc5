// Wireshark as a reader of IPFIX messages: datagrams in, data records as it names and prints their fields out.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { interfaceDescription, LINKTYPE_RAW, packetBlockBytes, sectionHeader, writePacket } from '../../src/packet/pcapng.ts';
import { runSync } from '../harness/process.ts';

/** Without it, tests that ask it are skipped. */
export const hasTshark = existsSync('/usr/bin/tshark');

export type Fields = Record<string, unknown>;

export interface Dissected {
  /** Data records in order. */
  records: Fields[];
  /** Headers of the messages. */
  messages: { sequence: number; domain: number; exportTimeS: number }[];
  /** Template numbers announced, in order. */
  templates: number[];
  /** Complaints: malformed packets, gaps of the sequence, data without template. */
  complaints: string[];
}

/** What tshark makes of these messages, sent to port 4739. */
export function dissect(messages: Uint8Array[]): Dissected {
  const folder = mkdtempSync(join(tmpdir(), 'tpl-tshark-'));
  try {
    const file = join(folder, 'ipfix.pcapng');
    writeFileSync(file, capture(messages));
    const fields = (filter: string, ...names: string[]) =>
      runSync('tshark', '-r', file, '-Y', filter, '-T', 'fields', ...names.flatMap((name) => ['-e', name]))
        .split('\n')
        .filter((line) => line.trim() !== '');
    const dissected: Dissected = { records: [], messages: [], templates: [], complaints: [] };
    dissected.complaints.push(...fields('_ws.malformed || _ws.expert', '_ws.expert.message'));
    for (const packet of JSON.parse(runSync('tshark', '-r', file, '-T', 'json', '--no-duplicate-keys', '-J', 'cflow'))) {
      const message: Fields | undefined = packet._source.layers.cflow;
      if (message === undefined) dissected.complaints.push('a packet without cflow');
      else collect(message, dissected);
    }
    return dissected;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function collect(message: Fields, into: Dissected): void {
  into.messages.push({
    sequence: Number(message['cflow.sequence']),
    domain: Number(message['cflow.od_id']),
    exportTimeS: Number((message['cflow.timestamp_tree'] as Fields)['cflow.exporttime']),
  });
  for (const [name, set] of Object.entries(message)) {
    if (!name.startsWith('Set ')) continue;
    for (const [part, fields] of Object.entries(set as Fields)) {
      if (part.startsWith('Flow ')) into.records.push(fields as Fields);
      else if (part.startsWith('Template ')) into.templates.push(Number((fields as Fields)['cflow.template_id']));
      else if (!part.startsWith('cflow.flowset_') && part !== 'cflow.template_frame') into.complaints.push(`${name}: ${part}`);
    }
  }
}

/** The messages as UDP from 10.0.0.1 to 10.0.0.2. */
function capture(messages: Uint8Array[]): Buffer {
  const blocks = [sectionHeader(), interfaceDescription({ name: 'udp', linkType: LINKTYPE_RAW, snapLength: 0 })];
  for (const message of messages) {
    const packet = Buffer.alloc(28 + message.length);
    packet.set([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.writeUInt16BE(packet.length, 2);
    packet.writeUInt16BE(40_000, 20);
    packet.writeUInt16BE(4739, 22);
    packet.writeUInt16BE(8 + message.length, 24);
    packet.set(message, 28);
    const block = Buffer.alloc(packetBlockBytes(packet.length));
    writePacket(block, 0, 0, 1n, packet, 0, packet.length, packet.length, 'unknown');
    blocks.push(block);
  }
  return Buffer.concat(blocks);
}
