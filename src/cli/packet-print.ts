// Batches of packets on stdout, in the asked form; resolves when the reader has taken them.

import type { PacketBatch } from '../gen/taplane/v1/packet.ts';
import { UsageError } from './exit-code.ts';
import { printed } from './output.ts';
import { hexDump, packetDocument, packetLine, packetsOf, type SeenPacket } from './packet-line.ts';
import type { Settings } from './settings.ts';

/** Prints at most `most` packets of `batch` and answers how many those were. */
export type PacketPrinter = (batch: PacketBatch, linkType: number, most?: number) => Promise<number>;

export async function packetPrinter({ output }: Settings): Promise<PacketPrinter> {
  const form = await formOf(output);
  return async (batch, linkType, most = Number.POSITIVE_INFINITY) => {
    const seen = packetsOf(batch, linkType).slice(0, most);
    if (seen.length > 0) await printed(seen.map(form).join(''));
    return seen.length;
  };
}

async function formOf(output: Settings['output']): Promise<(packet: SeenPacket) => string> {
  if (output === 'table') return (packet) => `${packetLine(packet)}\n`;
  if (output === 'wide') return (packet) => `${packetLine(packet)}\n${hexDump(packet.bytes)}`;
  if (output === 'json') return (packet) => `${JSON.stringify(packetDocument(packet))}\n`;
  if (output === 'name') throw new UsageError('packets have no names: use -o table, wide, json or yaml');
  const { stringify } = await import('yaml');
  return (packet) => `---\n${stringify(packetDocument(packet))}`;
}
