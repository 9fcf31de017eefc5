// The way in, for each datagram: session, counter, key, then what stands in the packet. What fails any of them is a counted drop that changes
// nothing. No allocation for packets.
//
//   datagrams --type--> handshakes
//               '-----> session of the index --window--> opened in place --window--> peer: endpoint, timers
//                         --> length, then whose prefix holds the source --> `inner` --> coalescer --> device

import { LinkDrops_Reason as Drop } from '../../gen/taplane/v1/link.ts';
import type { Coalescer } from '../../packet/coalesce.ts';
import type { SocketAddress } from '../../sys/socket-address.ts';
import type { LinkCounts } from '../link/counts.ts';
import type { Handshakes } from './handshakes.ts';
import type { Indices } from './indices.ts';
import {
  COOKIE_REPLY,
  COOKIE_REPLY_BYTES,
  DATA,
  DATA_HEADER_BYTES,
  DATA_OVERHEAD_BYTES,
  DATA_RECEIVER_AT,
  INITIATION,
  INITIATION_BYTES,
  LEAST_DATA_BYTES,
  RESPONSE,
  RESPONSE_BYTES,
  readCounter,
} from './messages.ts';
import type { Peer } from './peer.ts';
import type { Peers } from './peers.ts';
import type { Session } from './session.ts';

const IPV4_BYTES = 20;
const IPV6_BYTES = 40;

/** `bytes[start, start + length)`, a packet that `peer` sent and may send (*borrows*). True: it is not for the device. */
export type InnerHook = (peer: Peer, bytes: Buffer, start: number, length: number) => boolean;

export interface ReceiverNeeds {
  peers: Peers;
  indices: Indices;
  handshakes: Handshakes;
  counts: LinkCounts;
  coalescer: Coalescer;
  now(): number;
}

export class Receiver {
  readonly #needs: ReceiverNeeds;
  /** Every packet of a peer passes here, and nowhere else, before it goes to the device. */
  inner: InnerHook = () => false;
  /** What the peer of the present datagrams was told already. */
  #told: Session | undefined;
  #toldData = false;

  constructor(needs: ReceiverNeeds) {
    this.#needs = needs;
  }

  /** Datagrams of one sender, see `TakeDatagrams`. */
  take = (bytes: Buffer, start: number, length: number, segmentBytes: number, from: SocketAddress): void => {
    const now = this.#needs.now();
    const end = start + length;
    const step = segmentBytes > 0 ? segmentBytes : length;
    this.#told = undefined;
    // One of no bytes is one too.
    for (let at = start; at < end || at === start; at += Math.max(1, step)) {
      const dropped = this.#datagram(bytes, at, Math.min(step, end - at), from, now);
      if (dropped !== Drop.UNSPECIFIED) this.#needs.counts.drop(dropped);
    }
  };

  flush = (): void => this.#needs.coalescer.flush();

  #datagram(bytes: Buffer, at: number, length: number, from: SocketAddress, now: number): Drop {
    const type = length < 4 ? 0 : bytes.readUInt32LE(at);
    if (type === DATA && length >= LEAST_DATA_BYTES) return this.#data(bytes, at, length, from, now);
    const { handshakes } = this.#needs;
    if (type === INITIATION && length === INITIATION_BYTES) return handshakes.takeInitiation(bytes.subarray(at, at + length), from, now);
    if (type === RESPONSE && length === RESPONSE_BYTES) return handshakes.takeResponse(bytes.subarray(at, at + length), from, now);
    if (type === COOKIE_REPLY && length === COOKIE_REPLY_BYTES) return handshakes.takeCookie(bytes.subarray(at, at + length), now);
    return Drop.MALFORMED;
  }

  #data(bytes: Buffer, at: number, length: number, from: SocketAddress, now: number): Drop {
    const session = this.#needs.indices.session(bytes.readUInt32LE(at + DATA_RECEIVER_AT));
    const counter = readCounter(bytes, at);
    if (session === undefined || counter < 0 || !session.mayReceive(now)) return Drop.UNAUTHENTICATED;
    if (!session.window.isNew(counter)) return Drop.REPLAYED;
    const inner = at + DATA_HEADER_BYTES;
    const room = length - DATA_OVERHEAD_BYTES;
    if (!session.receiving.open(counter, bytes, inner, room)) return Drop.UNAUTHENTICATED;
    if (!session.window.accept(counter)) return Drop.REPLAYED;
    const isData = room > 0;
    if (session !== this.#told || (isData && !this.#toldData)) {
      session.peer.received(session, from, now, isData);
      this.#told = session;
      this.#toldData = isData;
    }
    return isData ? this.#packet(session.peer, bytes, inner, room) : Drop.UNSPECIFIED;
  }

  #packet(peer: Peer, bytes: Buffer, at: number, room: number): Drop {
    const length = packetBytes(bytes, at, room);
    if (length === 0) return Drop.MALFORMED;
    const isIpv4 = (bytes[at] as number) >> 4 === 4;
    const owner = isIpv4 ? this.#needs.peers.route(bytes, at + 12, 4) : this.#needs.peers.route(bytes, at + 8, 16);
    if (owner !== peer) return Drop.SPOOFED;
    if (this.inner(peer, bytes, at, length)) return Drop.UNSPECIFIED;
    peer.traffic.received(length);
    this.#needs.counts.received(length);
    this.#needs.coalescer.add(bytes, at, length);
    return Drop.UNSPECIFIED;
  }
}

/** Bytes of the IP packet at `at`, by its own header; 0 when it is none, or larger than `room`. */
export function packetBytes(bytes: Buffer, at: number, room: number): number {
  const version = (bytes[at] as number) >> 4;
  if (version === 4 && room >= IPV4_BYTES) {
    const length = ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number);
    const header = ((bytes[at] as number) & 15) * 4;
    return header >= IPV4_BYTES && header <= length && length <= room ? length : 0;
  }
  if (version === 6 && room >= IPV6_BYTES) {
    const length = IPV6_BYTES + (((bytes[at + 4] as number) << 8) | (bytes[at + 5] as number));
    return length <= room ? length : 0;
  }
  return 0;
}
