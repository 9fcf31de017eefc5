// Writes a `FlowBatch` in place, record after record, without objects: what a meter tells of goes from its table straight into bytes.
// Field numbers are those of proto/taplane/v1/flow.proto.

import { CommunityId } from '../packet/community-id.ts';
import {
  hasPorts,
  isIcmp,
  KIND_OTHER,
  KIND_V6,
  KIND_WORD,
  kindOf,
  PORTS_WORD,
  portsUnknown,
  protocolOf,
  vlanOf,
} from '../packet/flow-key.ts';
import { writeVarint } from '../packet/varint.ts';
import {
  COUNTERS,
  ETHERNET,
  FIRST_NANOS,
  FIRST_SECONDS,
  FLAGS,
  FRAGMENTS,
  FROM_B,
  LAST_NANOS,
  LAST_SECONDS,
  MACS,
  NUMBER,
  OUTGOING,
  STATE,
  TYPES,
} from './flow-table.ts';

/** Bytes of records after which a batch is handed on. */
export const BATCH_BYTES = 48 * 1024;
/** Longest record: addresses, both names of the flow, the name of the link, all counters. */
const RECORD_MOST = 512;
const LINK_MOST = 69;
const PEER_MOST = 63;
/** Names of peers that are kept in bytes. */
const PEERS_MOST = 1024;
const TOTALS_MOST = 128;
const LEAST_BYTES = 2048;
const NOTHING = Buffer.alloc(0);

/** Numbers of `Flow.Event` and `Flow.EndReason`. */
export const [START, UPDATE, END, OVERFLOW] = [1, 2, 3, 4] as const;
export const [IDLE_TIMEOUT, ACTIVE_TIMEOUT, END_OF_FLOW, FORCED_END, LACK_OF_RESOURCES] = [1, 2, 3, 4, 5] as const;
const [INBOUND, OUTBOUND] = [1, 2] as const;

const BYTES = 2;
const tag = (field: number, type = 0): number => (field << 3) | type;

/** Counters of one direction, in the order of `Traffic`. */
export interface TrafficCounts {
  packets: number;
  bytes: number;
  totalPackets: number;
  totalBytes: number;
}

/** The account of a meter, see `MeterTotals`. */
export interface Totals {
  seenPackets: number;
  seenBytes: number;
  recordedPackets: number;
  recordedBytes: number;
  sampledOutPackets: number;
  sampledOutBytes: number;
  droppedFrames: number;
  activeFlows: number;
}

export type PeerOf = (bytes: Uint8Array, at: number, size: 4 | 16) => string;

export class FlowBatchWriter {
  readonly #flowId: Buffer;
  /** The field `link` of every record, in bytes. */
  #link: Buffer = NOTHING;
  /** The field `peer` of this record, in bytes. */
  #peer: Buffer = NOTHING;
  readonly #peers = new Map<string, Buffer>();
  /** Names the peer behind the link that has the inner address of `size` bytes at `bytes[at]`; '' when it is not known. */
  peerOf: PeerOf | undefined;
  /** Grows with the batch, and goes with it: most interfaces have little to tell. */
  #out = NOTHING;
  readonly #addresses = new Uint8Array(32);
  readonly #community = new CommunityId();
  readonly #forward: TrafficCounts = { packets: 0, bytes: 0, totalPackets: 0, totalBytes: 0 };
  readonly #reverse: TrafficCounts = { packets: 0, bytes: 0, totalPackets: 0, totalBytes: 0 };
  #at = 0;
  #records = 0;
  /** Number of the next record. */
  #next = 1;

  /** `epoch` are 16 characters. */
  constructor(epoch: string) {
    this.#flowId = Buffer.from(`${epoch}-`, 'latin1');
  }

  /** The link that carries the flows from now on, `links/{link}` of at most 69 bytes; '' for none. */
  set link(name: string) {
    const text = Buffer.from(name.slice(0, LINK_MOST), 'latin1');
    if (text.length === 0) this.#link = NOTHING;
    else this.#link = textField(24, text);
  }

  /** Records in the batch so far. */
  get records(): number {
    return this.#records;
  }

  get isFull(): boolean {
    return this.#at >= BATCH_BYTES;
  }

  /** Number that the next record gets. */
  get next(): number {
    return this.#next;
  }

  /**
   * Adds a record of the flow at `words[at]` and notes in it that its counters were told. Answers the packets of this record; its bytes are
   * in `toldBytes`.
   */
  add(words: Int32Array, counters: Float64Array, at: number, event: number, reason: number, sampling: number): number {
    const counts = (at >> 1) + COUNTERS;
    this.#count(this.#forward, counters, counts);
    this.#count(this.#reverse, counters, counts + 2);
    const state = words[at + STATE] as number;
    const number = ((words[at + NUMBER + 1] as number) >>> 0) * 2 ** 32 + ((words[at + NUMBER] as number) >>> 0);
    const begin = this.#begin(number, event, reason);
    this.#time(6, (words[at + FIRST_SECONDS] as number) >>> 0, words[at + FIRST_NANOS] as number);
    this.#time(7, (words[at + LAST_SECONDS] as number) >>> 0, words[at + LAST_NANOS] as number);
    this.#number(8, (state & OUTGOING) === 0 ? INBOUND : OUTBOUND);
    this.#ethernet(words, at, state);
    this.#network(words, at, state);
    if ((state & FRAGMENTS) !== 0) this.#number(20, 1);
    this.#finish(begin, sampling);
    return this.#forward.packets + this.#reverse.packets;
  }

  /** Bytes of the packets of the record that was added last. */
  get toldBytes(): number {
    return this.#forward.bytes + this.#reverse.bytes;
  }

  /** Adds the record of what found no room: `inbound` is forward. */
  addOverflow(inbound: TrafficCounts, outbound: TrafficCounts, times: Int32Array, sampling: number): void {
    Object.assign(this.#forward, inbound);
    Object.assign(this.#reverse, outbound);
    const begin = this.#begin(0, OVERFLOW, LACK_OF_RESOURCES);
    this.#time(6, (times[0] as number) >>> 0, times[1] as number);
    this.#time(7, (times[2] as number) >>> 0, times[3] as number);
    this.#number(8, INBOUND);
    this.#finish(begin, sampling);
  }

  /** The batch in bytes of its own, beginning with `head`; empties the writer. */
  take(head: Uint8Array, totals: Totals, nowSeconds: number, nowNanos: number): { bytes: Buffer; firstSequence: number; records: number } {
    const firstSequence = this.#next - this.#records;
    const whole = Buffer.allocUnsafeSlow(head.length + this.#at + TOTALS_MOST + 32);
    whole.set(head, 0);
    let at = head.length;
    whole[at++] = tag(7);
    at = writeVarint(whole, at, firstSequence);
    at += this.#out.copy(whole, at, 0, this.#at);
    at = writeTotals(whole, at, totals);
    at = writeTime(whole, at, 11, nowSeconds, nowNanos);
    const records = this.#records;
    if (this.#at < LEAST_BYTES) this.#out = NOTHING;
    this.#at = 0;
    this.#records = 0;
    return { bytes: whole.subarray(0, at), firstSequence, records };
  }

  #count(into: TrafficCounts, counters: Float64Array, at: number): void {
    const packets = counters[at] as number;
    const bytes = counters[at + 1] as number;
    into.packets = packets - (counters[at + 4] as number);
    into.bytes = bytes - (counters[at + 5] as number);
    into.totalPackets = packets;
    into.totalBytes = bytes;
    counters[at + 4] = packets;
    counters[at + 5] = bytes;
  }

  #grow(): void {
    const before = this.#out;
    this.#out = Buffer.allocUnsafeSlow(Math.min(BATCH_BYTES + 2 * RECORD_MOST, Math.max(LEAST_BYTES, before.length * 4)));
    before.copy(this.#out, 0, 0, this.#at);
  }

  /** Begins a record; answers where its length goes. */
  #begin(number: number, event: number, reason: number): number {
    if (this.#out.length - this.#at < RECORD_MOST) this.#grow();
    const out = this.#out;
    out[this.#at++] = tag(8, BYTES);
    const begin = this.#at;
    this.#at += 2;
    this.#number(1, this.#next++);
    out[this.#at++] = tag(2, BYTES);
    const digits = String(number);
    out[this.#at++] = this.#flowId.length + digits.length;
    out.set(this.#flowId, this.#at);
    this.#at += this.#flowId.length;
    for (let index = 0; index < digits.length; index++) out[this.#at++] = digits.charCodeAt(index);
    this.#number(4, event);
    if (reason !== 0) this.#number(5, reason);
    return begin;
  }

  #finish(begin: number, sampling: number): void {
    this.#traffic(21, this.#forward);
    if (this.#reverse.totalPackets > 0) this.#traffic(22, this.#reverse);
    if (sampling > 1) this.#number(23, sampling);
    this.#out.set(this.#link, this.#at);
    this.#at += this.#link.length;
    this.#out.set(this.#peer, this.#at);
    this.#at += this.#peer.length;
    this.#peer = NOTHING;
    const length = this.#at - begin - 2;
    this.#out[begin] = (length & 0x7f) | 0x80;
    this.#out[begin + 1] = length >>> 7;
    this.#records++;
  }

  #ethernet(words: Int32Array, at: number, state: number): void {
    const types = words[at + TYPES] as number;
    const vlan = vlanOf(words[at + KIND_WORD] as number);
    if ((state & ETHERNET) === 0 && vlan === 0) return;
    const out = this.#out;
    out[this.#at++] = tag(9, BYTES);
    const begin = this.#at++;
    if ((state & ETHERNET) !== 0) {
      for (let field = 1; field <= 2; field++) {
        out[this.#at++] = tag(field, BYTES);
        out[this.#at++] = 6;
        for (let byte = (field - 1) * 6; byte < field * 6; byte++)
          out[this.#at++] = (words[at + MACS + (byte >> 2)] as number) >>> (8 * (byte & 3));
      }
    }
    if ((types & 0xffff) !== 0) this.#number(3, types & 0xffff);
    if (vlan !== 0) this.#number(4, vlan);
    out[begin] = this.#at - begin - 1;
  }

  #network(words: Int32Array, at: number, state: number): void {
    const kindWord = words[at + KIND_WORD] as number;
    const kind = kindOf(kindWord);
    if (kind === KIND_OTHER) return;
    const size = kind === KIND_V6 ? 16 : 4;
    const fromB = (state & FROM_B) !== 0;
    const source = fromB ? 4 : 0;
    this.#address(10, words, at + source, size, 0);
    this.#address(11, words, at + 4 - source, size, size);
    // Behind the link is whom the node sends to, or who sends to the node.
    if (this.#link.length > 0) this.#findPeer((state & OUTGOING) === 0 ? 0 : size, size);
    const protocol = protocolOf(kindWord);
    if (protocol !== 0) this.#number(12, protocol);
    const ports = words[at + PORTS_WORD] as number;
    const sourcePort = fromB ? ports & 0xffff : ports >>> 16;
    const destinationPort = fromB ? ports >>> 16 : ports & 0xffff;
    const types = words[at + TYPES] as number;
    const flags = words[at + FLAGS] as number;
    let first = sourcePort;
    let second = destinationPort;
    if (portsUnknown(kindWord)) {
      first = -1;
      second = -1;
    } else if (hasPorts(protocol)) {
      if (sourcePort !== 0) this.#number(13, sourcePort);
      if (destinationPort !== 0) this.#number(14, destinationPort);
    } else if (isIcmp(protocol, kind)) {
      first = (types >>> 16) & 0xff;
      second = types >>> 24;
      this.#icmp(first, second);
    }
    this.#text(3, this.#community.hash(this.#addresses, 0, size, size, protocol, first, second));
    if ((flags & 0xff) !== 0) this.#number(16, flags & 0xff);
    if ((flags & 0xff00) !== 0) this.#number(17, (flags >>> 8) & 0xff);
    if ((flags & 0xff0000) !== 0) this.#number(18, (flags >>> 16) & 0xff);
    if (flags >>> 24 !== 0) this.#number(19, flags >>> 24);
  }

  /** Writes an address, and keeps it in `#addresses` from `keepAt` on. */
  /** By the address that is kept at `at`. */
  #findPeer(at: number, size: 4 | 16): void {
    const name = this.peerOf?.(this.#addresses, at, size) ?? '';
    if (name === '') return;
    let field = this.#peers.get(name);
    if (field === undefined) {
      if (this.#peers.size >= PEERS_MOST) this.#peers.clear();
      field = textField(25, Buffer.from(name).subarray(0, PEER_MOST));
      this.#peers.set(name, field);
    }
    this.#peer = field;
  }

  #address(field: number, words: Int32Array, at: number, size: 4 | 16, keepAt: number): void {
    const out = this.#out;
    out[this.#at++] = tag(field, BYTES);
    out[this.#at++] = size;
    for (let byte = 0; byte < size; byte++) {
      const value = (words[at + (byte >> 2)] as number) >>> (24 - 8 * (byte & 3));
      this.#addresses[keepAt + byte] = value;
      out[this.#at++] = value;
    }
  }

  #icmp(type: number, code: number): void {
    const out = this.#out;
    out[this.#at++] = tag(15, BYTES);
    const begin = this.#at++;
    if (type !== 0) this.#number(1, type);
    if (code !== 0) this.#number(2, code);
    out[begin] = this.#at - begin - 1;
  }

  #text(field: number, text: string): void {
    if (text === '') return;
    this.#out[this.#at++] = tag(field, BYTES);
    this.#out[this.#at++] = text.length;
    this.#at += this.#out.write(text, this.#at, 'latin1');
  }

  #number(field: number, value: number): void {
    // Fields from 16 on have tags of two bytes.
    this.#at = writeVarint(this.#out, this.#at, tag(field));
    this.#at = writeVarint(this.#out, this.#at, value);
  }

  #time(field: number, seconds: number, nanos: number): void {
    this.#at = writeTime(this.#out, this.#at, field, seconds, nanos);
  }

  #traffic(field: number, counts: TrafficCounts): void {
    this.#at = writeVarint(this.#out, this.#at, tag(field, BYTES));
    const begin = this.#at++;
    if (counts.packets !== 0) this.#number(1, counts.packets);
    if (counts.bytes !== 0) this.#number(2, counts.bytes);
    if (counts.totalPackets !== 0) this.#number(3, counts.totalPackets);
    if (counts.totalBytes !== 0) this.#number(4, counts.totalBytes);
    this.#out[begin] = this.#at - begin - 1;
  }
}

function writeTime(out: Uint8Array, from: number, field: number, seconds: number, nanos: number): number {
  let at = from;
  out[at++] = tag(field, BYTES);
  const begin = at++;
  if (seconds !== 0) {
    out[at++] = tag(1);
    at = writeVarint(out, at, seconds);
  }
  if (nanos !== 0) {
    out[at++] = tag(2);
    at = writeVarint(out, at, nanos);
  }
  out[begin] = at - begin - 1;
  return at;
}

function writeTotals(out: Uint8Array, from: number, totals: Totals): number {
  let at = from;
  out[at++] = tag(10, BYTES);
  const begin = at++;
  const { seenPackets, seenBytes, recordedPackets, recordedBytes, sampledOutPackets, sampledOutBytes } = totals;
  const inTablePackets = seenPackets - recordedPackets - sampledOutPackets;
  const inTableBytes = seenBytes - recordedBytes - sampledOutBytes;
  const values = [seenPackets, seenBytes, recordedPackets, recordedBytes, inTablePackets, inTableBytes, sampledOutPackets, sampledOutBytes];
  for (const [index, value] of [...values, totals.droppedFrames, totals.activeFlows].entries()) {
    if (value === 0) continue;
    out[at++] = tag(index + 1);
    at = writeVarint(out, at, value);
  }
  out[begin] = at - begin - 1;
  return at;
}

/** Fields from 16 on have tags of two bytes; `text` is shorter than 128. */
function textField(field: number, text: Buffer): Buffer {
  return Buffer.concat([Buffer.from([(tag(field, BYTES) & 0x7f) | 0x80, tag(field, BYTES) >> 7, text.length]), text]);
}
