// The receiving half of a UDP socket: several messages a call, each into a place of its own, which holds all that UDP_GRO puts together
// (recvmmsg(2), udp(7)). Nothing is allocated to receive.

import { addressNumber, MSG_DONTWAIT, MSG_TRUNC } from './libc.ts';
import { SOCKET_ADDRESS_BYTES, type SocketAddress, socketAddress } from './socket-address.ts';
import * as calls from './socket-calls.ts';
import { readSockaddrIn, type SocketFamily } from './socket-open.ts';

/** Messages a call, and calls in one turn of the event loop. A turn also ends after so many bytes: who decrypts them takes his time. */
export const SLOTS = 8;
export const ROUNDS = 8;
const TURN_BYTES = 256 * 1024;
const SLOT_BYTES = 65_536;

// What lies where in the memory that describes the messages: struct mmsghdr, struct iovec, control messages, sockaddr_in.
const HEADER_BYTES = 64;
const NAME_LENGTH_AT = 8;
const CONTROL_LENGTH_AT = 40;
const FLAGS_AT = 48;
const LENGTH_AT = 56;
const VECTORS_AT = SLOTS * HEADER_BYTES;
const CONTROLS_AT = VECTORS_AT + SLOTS * 16;
const CONTROL_BYTES = 64;
const NAMES_AT = CONTROLS_AT + SLOTS * CONTROL_BYTES;
const NAME_BYTES = 16;
const MEMORY_BYTES = NAMES_AT + SLOTS * NAME_BYTES;
const CMSG_HEADER_BYTES = 16;

/** As `TakeDatagrams` of udp-socket.ts. */
type Take = (bytes: Buffer, start: number, length: number, segmentBytes: number, from: SocketAddress) => void;

export class UdpReceiver {
  readonly #fd: number;
  readonly #family: SocketFamily;
  // In fields of their own: addresses keep nothing alive.
  readonly #arena = Buffer.from(new ArrayBuffer(SLOTS * SLOT_BYTES));
  readonly #memory = Buffer.from(new ArrayBuffer(MEMORY_BYTES));
  readonly #words = new Uint32Array(this.#memory.buffer);
  readonly #at = addressNumber(this.#memory);
  readonly #from: SocketAddress[] = Array.from({ length: SLOTS }, () => socketAddress(new Uint8Array(4), 0));
  #lastDrops = 0;
  #closed = false;
  overflows = 0;

  constructor(fd: number, family: SocketFamily) {
    this.#fd = fd;
    this.#family = family;
    const arena = addressNumber(this.#arena);
    const write = (address: number, at: number) => this.#memory.writeBigUInt64LE(BigInt(address), at);
    for (let slot = 0; slot < SLOTS; slot++) {
      const header = slot * HEADER_BYTES;
      const vector = VECTORS_AT + slot * 16;
      const name = family === 'inet6' ? addressNumber(this.#from[slot] as Buffer) : this.#at + NAMES_AT + slot * NAME_BYTES;
      write(name, header);
      write(this.#at + vector, header + 16);
      write(1, header + 24);
      write(this.#at + CONTROLS_AT + slot * CONTROL_BYTES, header + 32);
      write(arena + slot * SLOT_BYTES, vector);
      write(SLOT_BYTES, vector + 8);
      this.#again(slot);
    }
  }

  /** Receives until nothing waits or the turn is over. Answers how many messages came. An error that waits in the socket is taken off it. */
  turn(take: Take, flush: () => void): number {
    let messages = 0;
    let bytes = 0;
    for (let round = 0; round < ROUNDS && bytes < TURN_BYTES && !this.#closed; round++) {
      const count = calls.receiveMessages(this.#fd, this.#at, SLOTS, MSG_DONTWAIT);
      if (count === -calls.EAGAIN || count === -calls.EBADF) break;
      if (count <= 0) continue;
      for (let slot = 0; slot < count && !this.#closed; slot++) bytes += this.#give(slot, take);
      messages += count;
      if (!this.#closed) flush();
      if (count < SLOTS) break;
    }
    return messages;
  }

  /** Nothing is received or given any more, in the middle of a turn too. */
  close(): void {
    this.#closed = true;
  }

  #give(slot: number, take: Take): number {
    const words = this.#words;
    const header = (slot * HEADER_BYTES) / 4;
    const length = words[header + LENGTH_AT / 4] as number;
    const isCut = ((words[header + FLAGS_AT / 4] as number) & MSG_TRUNC) !== 0;
    const segmentBytes = this.#readControl(slot, words[header + CONTROL_LENGTH_AT / 4] as number) || length;
    this.#again(slot);
    // One that does not fit has not been seen: no kernel puts more together. An empty one holds nothing for anybody.
    if (isCut) this.overflows++;
    if (isCut || length === 0) return 0;
    const from = this.#from[slot] as SocketAddress;
    if (this.#family === 'inet') readSockaddrIn(this.#memory, NAMES_AT + slot * NAME_BYTES, from);
    take(this.#arena, slot * SLOT_BYTES, length, segmentBytes, from);
    return length;
  }

  /** The size of segments, 0 where there is only one; counts what the kernel says it has dropped so far. */
  #readControl(slot: number, length: number): number {
    const words = this.#words;
    const start = CONTROLS_AT + slot * CONTROL_BYTES;
    const end = start + Math.min(length, CONTROL_BYTES);
    let segmentBytes = 0;
    for (let at = start; at + CMSG_HEADER_BYTES + 4 <= end; ) {
      const size = words[at / 4] as number;
      if (size < CMSG_HEADER_BYTES) break;
      const level = words[at / 4 + 2];
      const type = words[at / 4 + 3];
      const value = words[at / 4 + 4] as number;
      if (level === calls.SOL_UDP && type === calls.UDP_GRO) segmentBytes = value;
      else if (level === calls.SOL_SOCKET && type === calls.SO_RXQ_OVFL) {
        // 32 bits that wrap, as of when this message was queued.
        this.overflows += (value - this.#lastDrops) >>> 0;
        this.#lastDrops = value;
      }
      at += (size + 7) & ~7;
    }
    return segmentBytes;
  }

  /** What the kernel overwrites in a header. */
  #again(slot: number): void {
    const header = (slot * HEADER_BYTES) / 4;
    this.#words[header + NAME_LENGTH_AT / 4] = this.#family === 'inet6' ? SOCKET_ADDRESS_BYTES : NAME_BYTES;
    this.#words[header + CONTROL_LENGTH_AT / 4] = CONTROL_BYTES;
  }
}
