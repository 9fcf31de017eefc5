// Probes that travel inside a link, in the form that every host answers: ICMP echo (RFC 792, RFC 4443), with a mark in its data by which another
// data plane of this kind knows them, takes them out before its device, and answers with what it has counted. On Ethernet they are frames of the
// local experimental EtherType (IEEE 802, 88b5) to a group address that no bridge forwards. Pure, no allocation.
//
//   | mark 8 | kind 1 | 0 | 0 0 | sequence 4 | sent at 8, microseconds | received 4 | zero 4 | padding ... |      behind an ICMP header of 8

import { finish, fold, pseudoHeaderSum, sumBytes } from './checksum.ts';

/** What a probe asks or says. */
export const ProbeKind = { PING: 1, PONG: 2, TRAIN: 3, TRAIN_ACK: 4, TRAIN_ASK: 5 } as const;

/** Least bytes of a probe: IPv6, ICMP and data. */
export const PROBE_LEAST_BYTES = 88;

const MARK = Buffer.from('9b1e7a4ce5d20f83', 'hex');
const DATA_BYTES = 32;
const ICMP_BYTES = 8;
const ETHERNET_BYTES = 14;
const ETHERTYPE = 0x88b5;
const GROUP = Buffer.from('0180c200000e', 'hex');
const ICMP = 1;
const ICMPV6 = 58;

export interface Probe {
  /** One of `ProbeKind`. */
  kind: number;
  sequence: number;
  /** Microseconds of the clock of whoever made the ping; of a train a number that nobody can guess. PONG and TRAIN_ACK give it back. Below 2^53. */
  sentAt: number;
  /** Probes of this train, or pings, that whoever says this has received. */
  received: number;
  /** Bytes of the IP packet, or of what stands behind the Ethernet header and 20 bytes. */
  bytes: number;
  /** A host has answered it, not a data plane: an echo of our own words. */
  isEcho: boolean;
}

export function emptyProbe(): Probe {
  return { kind: 0, sequence: 0, sentAt: 0, received: 0, bytes: 0, isEcho: false };
}

/** Between whom a probe goes: both addresses of 4, or both of 16 bytes; or, on Ethernet, the MAC of the sender, of 6, with `to` empty. */
export interface ProbePath {
  from: Uint8Array;
  to: Uint8Array;
  /** Hops: 1 where nobody but the other end of the link should see it. */
  ttl: number;
}

/** Writes a probe of `probe.bytes` at the begin of `out`, padded with zeros; answers the length of the frame, 0 when it does not fit. */
export function writeProbe(probe: Probe, path: ProbePath, out: Buffer): number {
  const ethernet = path.to.length === 0;
  const v4 = path.to.length === 4;
  const head = ethernet ? ETHERNET_BYTES : v4 ? 20 : 40;
  const length = ethernet ? probe.bytes + ETHERNET_BYTES : probe.bytes;
  const message = head + (ethernet ? 0 : ICMP_BYTES);
  if (length > out.length || length > 65_535 || length < message + DATA_BYTES) return 0;
  out.fill(0, 0, length);
  MARK.copy(out, message);
  out[message + 8] = probe.kind;
  out.writeUInt32BE(probe.sequence >>> 0, message + 12);
  out.writeUInt32BE(Math.floor(probe.sentAt / 2 ** 32), message + 16);
  out.writeUInt32BE(probe.sentAt % 2 ** 32, message + 20);
  out.writeUInt32BE(probe.received >>> 0, message + 24);
  if (ethernet) {
    GROUP.copy(out, 0);
    out.set(path.from, 6);
    out.writeUInt16BE(ETHERTYPE, 12);
    return length;
  }
  if (v4) writeV4(path, out, length);
  else writeV6(path, out, length);
  writeIcmp(probe, v4, out, head, length);
  return length;
}

/** Whether a frame could be a probe, by a byte or two: what is asked of every frame. */
export function mayBeProbe(bytes: Buffer, start: number, length: number, ethernet: boolean): boolean {
  if (ethernet) return length > ETHERNET_BYTES && bytes[start + 12] === 0x88 && bytes[start + 13] === 0xb5;
  return length > 20 && (((bytes[start] as number) >> 4 === 4 && bytes[start + 9] === ICMP) || bytes[start + 6] === ICMPV6);
}

/** Reads a probe from `bytes[start, start + length)` into `into`; false for every other frame, which costs a few comparisons. */
export function readProbe(bytes: Buffer, start: number, length: number, ethernet: boolean, into: Probe): boolean {
  let message: number;
  into.isEcho = false;
  if (ethernet) {
    if (length < ETHERNET_BYTES + DATA_BYTES || bytes[start + 12] !== 0x88 || bytes[start + 13] !== 0xb5) return false;
    message = start + ETHERNET_BYTES;
    into.bytes = length - ETHERNET_BYTES;
  } else {
    const version = (bytes[start] as number) >> 4;
    if (version === 4) {
      if (bytes[start] !== 0x45 || bytes[start + 9] !== ICMP || length < 20 + ICMP_BYTES + DATA_BYTES) return false;
      message = start + 20;
    } else {
      if (version !== 6 || bytes[start + 6] !== ICMPV6 || length < 40 + ICMP_BYTES + DATA_BYTES) return false;
      message = start + 40;
    }
    const type = bytes[message] as number;
    const isRequest = type === (version === 4 ? 8 : 128);
    if (!isRequest && type !== (version === 4 ? 0 : 129)) return false;
    // Data planes say all they say in requests: a reply comes from a host.
    into.isEcho = !isRequest;
    into.bytes = length;
    message += ICMP_BYTES;
  }
  for (let at = 0; at < 8; at++) if (bytes[message + at] !== MARK[at]) return false;
  into.kind = bytes[message + 8] as number;
  into.sequence = bytes.readUInt32BE(message + 12);
  into.sentAt = bytes.readUInt32BE(message + 16) * 2 ** 32 + bytes.readUInt32BE(message + 20);
  into.received = bytes.readUInt32BE(message + 24);
  return true;
}

function writeV4(path: ProbePath, out: Buffer, length: number): void {
  out[0] = 0x45;
  out.writeUInt16BE(length, 2);
  // Not to be fragmented.
  out.writeUInt16BE(0x4000, 6);
  out[8] = path.ttl;
  out[9] = ICMP;
  out.set(path.from, 12);
  out.set(path.to, 16);
  out.writeUInt16BE(finish(sumBytes(out, 0, 20)), 10);
}

function writeV6(path: ProbePath, out: Buffer, length: number): void {
  out[0] = 0x60;
  out.writeUInt16BE(length - 40, 4);
  out[6] = ICMPV6;
  out[7] = path.ttl;
  out.set(path.from, 8);
  out.set(path.to, 24);
}

function writeIcmp(probe: Probe, v4: boolean, out: Buffer, at: number, length: number): void {
  out[at] = v4 ? 8 : 128;
  out.writeUInt16BE(0x7461, at + 4);
  out.writeUInt16BE(probe.sequence & 0xffff, at + 6);
  const bytes = length - at;
  const pseudo = v4 ? 0 : pseudoHeaderSum(out, 8, 16, ICMPV6, bytes);
  out.writeUInt16BE(~fold(sumBytes(out, at, bytes, pseudo)) & 0xffff, at + 2);
}
