// The way out, for each frame: cut into packets, each sealed where it stands, and as many as possible sent in one call.
//
//   frame of the device --Outgoing.cut--> | header 16 | packet, zeros up to 16 | tag 16 | header 16 | packet ... --sealed in place--> socket
//
// Zeros go no further than the path takes. A batch is packets of one peer that are equally long on the wire, the last may be shorter: the kernel cuts it into datagrams. It goes when it is
// full, when what comes next does not fit behind it, and with `flush`. No allocation for packets.

import { LinkDrops_Reason as Drop } from '../../gen/taplane/v1/link.ts';
import type { PieceSink } from '../../packet/cut.ts';
import type { UdpSocket } from '../../sys/udp-socket.ts';
import type { LinkCounts } from '../link/counts.ts';
import type { Outgoing } from '../link/outgoing.ts';
import { DATA_HEADER_BYTES, DATA_OVERHEAD_BYTES, padded, writeDataHeader } from './messages.ts';
import type { Peer } from './peer.ts';
import type { Session } from './session.ts';

/** Of one call: UDP over IPv6 without jumbograms. */
const BATCH_BYTES = 65_535 - 48;
/** The largest inner packet that one datagram takes. */
export const PACKET_BYTES_MOST = (BATCH_BYTES - DATA_OVERHEAD_BYTES) & -16;
/** A piece is written behind a batch before it is known to belong to it. */
const ARENA_BYTES = 2 * 65_536;

export class Sender implements PieceSink {
  readonly buffer = Buffer.alloc(ARENA_BYTES);
  readonly #outgoing: Outgoing;
  readonly #counts: LinkCounts;
  /** Bytes of the largest inner packet on any path. */
  #mtu: number;
  #socket: UdpSocket;
  #peer: Peer | undefined;
  #session: Session | undefined;
  /** Bytes of the largest inner packet to this peer. */
  #most = 0;
  /** The batch, `buffer[start, end)`, and what each packet of it takes on the wire. */
  #start = 0;
  #end = 0;
  #segment = 0;
  #packets = 0;
  /** Of each packet of the batch, without padding. */
  readonly #inner = new Uint16Array(Math.ceil(BATCH_BYTES / DATA_OVERHEAD_BYTES));

  constructor(socket: UdpSocket, outgoing: Outgoing, counts: LinkCounts, mtu: number) {
    this.#socket = socket;
    this.#outgoing = outgoing;
    this.#counts = counts;
    this.#mtu = mtu;
  }

  /** What there is has been sent by the one before. */
  setSocket(socket: UdpSocket): void {
    this.#socket = socket;
  }

  setMtu(mtu: number): void {
    this.#mtu = mtu;
  }

  /** `bytes[start, start + length)`: a frame behind its virtio header (*borrows*). */
  frame(peer: Peer, session: Session, bytes: Buffer, start: number, length: number, now: number): void {
    this.#begin(peer, session);
    if (this.#outgoing.cut(bytes, start, length, this.#most, this) > 0) peer.sent(session, now, true);
  }

  /** A packet without anything in it, at once. */
  keepalive(peer: Peer, session: Session, now: number): void {
    this.#begin(peer, session);
    this.put(this.place(0), 0);
    this.flush();
    peer.sent(session, now, false);
  }

  /** One inner packet by itself, not to be fragmented on its way, and counted as nothing of the node's; false when it could not go. */
  whole(peer: Peer, session: Session, bytes: Buffer, start: number, length: number, now: number): boolean {
    this.flush();
    this.#begin(peer, session);
    const to = this.place(length);
    bytes.copy(this.buffer, to, start, start + length);
    const { endpoint } = peer;
    const wire = this.#seal(session, to, length);
    peer.sent(session, now, true);
    return endpoint !== undefined && this.#socket.sendWhole(endpoint, this.buffer, to - DATA_HEADER_BYTES, wire) === 0;
  }

  place(bytes: number): number {
    const wire = DATA_OVERHEAD_BYTES + padded(bytes, this.#most);
    if (this.#end - this.#start + wire > BATCH_BYTES || this.#end + wire > ARENA_BYTES) this.flush();
    return this.#end + DATA_HEADER_BYTES;
  }

  put(start: number, bytes: number): void {
    const from = start - DATA_HEADER_BYTES;
    const wire = this.#seal(this.#session as Session, start, bytes);
    if (wire > this.#segment && this.#packets > 0) this.#send();
    if (this.#packets === 0) {
      this.#start = from;
      this.#segment = wire;
    }
    this.#end = from + wire;
    this.#inner[this.#packets++] = bytes;
    // Only the last one may be shorter.
    if (wire < this.#segment) this.flush();
  }

  /** Sends the batch. */
  flush(): void {
    if (this.#packets > 0) this.#send();
    this.#start = 0;
    this.#end = 0;
  }

  /** Makes a message of the packet that stands at `start`; its length. */
  #seal(session: Session, start: number, bytes: number): number {
    const { buffer } = this;
    const length = padded(bytes, this.#most);
    for (let at = start + bytes; at < start + length; at++) buffer[at] = 0;
    const counter = session.nextCounter();
    writeDataHeader(buffer, start - DATA_HEADER_BYTES, session.remoteIndex, counter);
    session.sending.seal(counter, buffer, start, length);
    return DATA_OVERHEAD_BYTES + length;
  }

  #begin(peer: Peer, session: Session): void {
    if (peer !== this.#peer) this.flush();
    this.#peer = peer;
    this.#session = session;
    const { pathMtu } = peer;
    this.#most = pathMtu > 0 && pathMtu < this.#mtu ? pathMtu : this.#mtu;
  }

  #send(): void {
    const peer = this.#peer as Peer;
    const packets = this.#packets;
    let sent = packets;
    this.#packets = 0;
    const { endpoint } = peer;
    const length = this.#end - this.#start;
    if (endpoint === undefined || this.#socket.send(endpoint, this.buffer, this.#start, length, this.#segment) !== 0) {
      sent = endpoint === undefined ? 0 : this.#socket.sentBytes / this.#segment;
      this.#counts.drop(endpoint === undefined ? Drop.NOT_CONNECTED : Drop.SOCKET, packets - sent);
    }
    let innerBytes = 0;
    for (let index = 0; index < sent; index++) innerBytes += this.#inner[index] as number;
    // A keepalive is no packet of the node.
    if (innerBytes === 0) return;
    peer.traffic.sentPackets += sent;
    peer.traffic.sentBytes += innerBytes;
    this.#counts.sentPackets += sent;
    this.#counts.sentBytes += innerBytes;
  }
}
