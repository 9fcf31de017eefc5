// The sending half of a UDP socket: one message header that is filled in for each call (recvmsg(2), udp(7)). Nothing is allocated to send.

import { addressNumber } from './libc.ts';
import { isIpv4, SOCKET_ADDRESS_BYTES, type SocketAddress } from './socket-address.ts';
import * as calls from './socket-calls.ts';
import { type SocketFamily, writeSockaddrIn } from './socket-open.ts';

// What lies where: struct msghdr, struct iovec, the control message of UDP_SEGMENT (struct cmsghdr and 16 bits), the address.
const NAME_LENGTH_AT = 8;
const CONTROL_LENGTH_AT = 40;
const VECTOR_AT = 64;
const VECTOR_LENGTH_AT = VECTOR_AT + 8;
const CONTROL_AT = 80;
const SEGMENT_AT = CONTROL_AT + 16;
const NAME_AT = 104;
const MEMORY_BYTES = NAME_AT + 32;
const CONTROL_BYTES = 24;
const CONTROL_LENGTH = 18;

/** UDP_MAX_SEGMENTS of kernels before 6.9, and the most that a datagram of IPv4 holds. */
const MOST_SEGMENTS = 64;
export const MOST_BYTES = 65_507;
const TWO_32 = 2 ** 32;

export class UdpSender {
  readonly #fd: number;
  readonly #family: SocketFamily;
  readonly #segments: boolean;
  /** In a field of its own: addresses keep nothing alive. */
  readonly #memory = Buffer.from(new ArrayBuffer(MEMORY_BYTES));
  readonly #words = new Uint32Array(this.#memory.buffer);
  readonly #at = addressNumber(this.#memory);

  /** Bytes of the last `send` that the kernel took. */
  sentBytes = 0;

  /** `segments`: the kernel knows UDP_SEGMENT. */
  constructor(fd: number, family: SocketFamily, segments: boolean) {
    this.#fd = fd;
    this.#family = family;
    this.#segments = segments;
    const memory = this.#memory;
    memory.writeBigUInt64LE(BigInt(this.#at + NAME_AT), 0);
    memory.writeUInt32LE(family === 'inet6' ? SOCKET_ADDRESS_BYTES : 16, NAME_LENGTH_AT);
    memory.writeBigUInt64LE(BigInt(this.#at + VECTOR_AT), 16);
    memory.writeUInt32LE(1, 24);
    memory.writeBigUInt64LE(BigInt(this.#at + CONTROL_AT), 32);
    memory.writeUInt32LE(CONTROL_LENGTH, CONTROL_AT);
    memory.writeUInt32LE(calls.SOL_UDP, CONTROL_AT + 8);
    memory.writeUInt32LE(calls.UDP_SEGMENT, CONTROL_AT + 12);
  }

  /** As `UdpSocket.send`. Throws RangeError for bytes outside of the buffer. */
  send(to: SocketAddress, bytes: Buffer, start: number, length: number, segmentBytes: number): number {
    if (!(start >>> 0 === start && length >>> 0 === length && start + length <= bytes.length && segmentBytes >= 1)) {
      throw new RangeError(`send: ${length} bytes from ${start} of ${bytes.length} by ${segmentBytes}`);
    }
    this.sentBytes = 0;
    if (!this.#setName(to)) return calls.EAFNOSUPPORT;
    const at = addressNumber(bytes) + start;
    if (length <= segmentBytes) return this.#call(at, length, 0);
    if (!this.#segments) return this.#sendEach(at, length, segmentBytes);
    const most = Math.max(1, Math.min(MOST_SEGMENTS, Math.floor(MOST_BYTES / segmentBytes))) * segmentBytes;
    for (let done = 0; done < length; done += most) {
      const errno = this.#sendMany(at + done, Math.min(most, length - done), segmentBytes);
      if (errno !== 0) return errno;
    }
    return 0;
  }

  #sendMany(at: number, length: number, segmentBytes: number): number {
    if (length <= segmentBytes) return this.#call(at, length, 0);
    const errno = this.#call(at, length, segmentBytes);
    // Datagrams that must be fragmented (EINVAL, EMSGSIZE) and devices that cannot do sums (EIO) are not segmented: each for itself.
    if (errno === calls.EINVAL || errno === calls.EIO || errno === calls.EMSGSIZE) return this.#sendEach(at, length, segmentBytes);
    return errno;
  }

  #sendEach(at: number, length: number, segmentBytes: number): number {
    for (let done = 0; done < length; done += segmentBytes) {
      const errno = this.#call(at + done, Math.min(segmentBytes, length - done), 0);
      if (errno !== 0) return errno;
    }
    return 0;
  }

  /** One system call; 0 or errno. `segmentBytes` 0: one datagram. */
  #call(at: number, length: number, segmentBytes: number): number {
    const words = this.#words;
    words[VECTOR_AT / 4] = at % TWO_32;
    words[VECTOR_AT / 4 + 1] = Math.floor(at / TWO_32);
    words[VECTOR_LENGTH_AT / 4] = length;
    words[SEGMENT_AT / 4] = segmentBytes;
    words[CONTROL_LENGTH_AT / 4] = segmentBytes === 0 ? 0 : CONTROL_BYTES;
    for (;;) {
      const result = calls.sendMessage(this.#fd, this.#at, 0);
      if (result >= 0) {
        this.sentBytes += length;
        return 0;
      }
      if (result !== -calls.EINTR) return -result;
    }
  }

  /** False when this socket has no way to it. */
  #setName(to: SocketAddress): boolean {
    if (this.#family === 'inet6') {
      for (let index = 0; index < SOCKET_ADDRESS_BYTES; index++) this.#memory[NAME_AT + index] = to[index] as number;
      return true;
    }
    if (!isIpv4(to)) return false;
    writeSockaddrIn(to, this.#memory, NAME_AT);
    return true;
  }
}
