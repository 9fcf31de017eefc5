// Packets as people and programs read them: one line each, with a hex dump when it is wanted, or one JSON object each. Pure.

import { Direction, type Frame, type PacketBatch } from '../gen/taplane/v1/packet.ts';
import { type PacketSummary, summary } from './packet-summary.ts';

/** One frame of a batch, with what the batch says of all. */
export interface SeenPacket {
  sequence: bigint;
  /** Since 1970, nanoseconds. */
  timeNs: bigint;
  direction: Frame['direction'];
  /** Before it was cut. */
  length: number;
  bytes: Buffer;
  linkType: number;
}

const BILLION = 1_000_000_000n;

export function packetsOf(batch: PacketBatch, linkType: number): SeenPacket[] {
  const start = (batch.time?.seconds ?? 0n) * BILLION + BigInt(batch.time?.nanos ?? 0);
  return batch.frames.map(({ timeOffsetNs, direction, originalLength, data }, index) => ({
    sequence: batch.firstSequence + BigInt(index),
    timeNs: start + timeOffsetNs,
    direction,
    length: originalLength || data.length,
    bytes: data,
    linkType,
  }));
}

/** `12:34:56.789012 out 84 ICMP 10.0.0.1 > 10.0.0.2 echo request id 7 seq 1`, the time of day where this runs. */
export function packetLine(packet: SeenPacket): string {
  const { protocol, source, destination, sourcePort, destinationPort, vlan, info } = summary(packet.linkType, packet.bytes);
  const between = source === '' ? '' : `${end(source, sourcePort)} > ${end(destination, destinationPort)}`;
  const words = [
    timeOfDay(packet.timeNs),
    word(packet.direction),
    String(packet.length),
    protocol.replaceAll(' ', '-'),
    between,
    vlan === undefined ? '' : `vlan ${vlan}`,
    info,
  ];
  return words.filter((part) => part !== '').join(' ');
}

/** 16 bytes a line, as `tcpdump -X` has it. */
export function hexDump(bytes: Buffer): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const piece = bytes.subarray(at, at + 16);
    const hex = (piece.toString('hex').match(/.{1,4}/g) ?? []).join(' ');
    lines.push(`  0x${at.toString(16).padStart(4, '0')}:  ${hex.padEnd(39)}  ${piece.toString('latin1').replace(/[^ -~]/g, '.')}\n`);
  }
  return lines.join('');
}

/** The packet as an object for JSON: what the line says in words, and the bytes in base64. */
export function packetDocument(packet: SeenPacket): object {
  const { sequence, timeNs, direction, length, bytes } = packet;
  const found: PacketSummary = summary(packet.linkType, bytes);
  return {
    sequence: String(sequence),
    time: isoTime(timeNs),
    direction: word(direction) || 'unknown',
    length,
    ...(bytes.length < length && { capturedLength: bytes.length }),
    ...found,
    data: bytes.toString('base64'),
  };
}

/** In UTC, with all its nine digits. */
export function isoTime(timeNs: bigint): string {
  const second = new Date(Number(timeNs / BILLION) * 1000).toISOString().slice(0, 19);
  return `${second}.${String(timeNs % BILLION).padStart(9, '0')}Z`;
}

function timeOfDay(timeNs: bigint): string {
  const time = new Date(Number(timeNs / BILLION) * 1000);
  const parts = [time.getHours(), time.getMinutes(), time.getSeconds()].map((part) => String(part).padStart(2, '0'));
  return `${parts.join(':')}.${String((timeNs % BILLION) / 1000n).padStart(6, '0')}`;
}

function word(direction: Direction): string {
  return direction === Direction.INBOUND ? 'in' : direction === Direction.OUTBOUND ? 'out' : '';
}

function end(address: string, port: number | undefined): string {
  if (port === undefined) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
