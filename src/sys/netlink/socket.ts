// A netlink socket for requests. The kernel works on a request inside send(2), so that answers wait when it returns: calls here
// are synchronous and last as long as the kernel's own lock. A dump that the kernel calls inconsistent is read again, at most
// `DUMP_TRIES` times. Answers with a foreign port or an old sequence number are dropped. The socket belongs to the network
// namespace in which it was opened, for life.

import * as libc from '../libc.ts';
import { SysError } from '../sys-error.ts';
import { describe } from './describe.ts';
import { decode, encode, type Message, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, type Request, readAck } from './message.ts';

const AF_NETLINK = 16;
const NETLINK_ROUTE = 0;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const EINTR = 4;
const EBADMSG = 74;
const EMSGSIZE = 90;
const ETIMEDOUT = 110;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;

const DUMP_TRIES = 10;
const RECEIVE_BYTES = 256 * 1024;
/** Buffers of sockets that were closed: many live for one question. */
const SPARE_MOST = 2;
const spare: Buffer[] = [];
/** More than this in one datagram, or this many datagrams for one answer, is no kernel's. */
const MAX_DATAGRAMS = 100_000;

export const debugging = (process.env['TAPLANE_DEBUG'] ?? '').split(',').includes('netlink');

/** Prints a message when debugging. */
export function trace(direction: '>' | '<' | '!', message: Message): void {
  if (debugging) process.stderr.write(`${describe(direction, message)}\n`);
}

/** What was done on a socket since it was opened. */
export interface NetlinkCounts {
  requests: number;
  interruptedDumps: number;
  /** Changes and dumps that the kernel refused. A look at something that is not there is none. */
  errors: number;
}

/** How bytes travel: the kernel's socket, or in tests a kernel that lies. */
export interface Wire {
  send(datagram: Buffer): void;
  /** The next datagram and its sender's port, undefined when none came in time. The buffer is valid until the next call (*borrows*). */
  receive(): { datagram: Buffer; port: number } | undefined;
  close(): void;
}

/** A socket for requests in the current network namespace of the calling thread. */
export class Netlink {
  readonly counts: NetlinkCounts = { requests: 0, interruptedDumps: 0, errors: 0 };
  readonly strict: boolean;
  readonly #wire: Wire;
  #sequence = 0;

  constructor(wire: Wire & { strict?: boolean } = openWire()) {
    this.#wire = wire;
    this.strict = wire.strict ?? false;
  }

  /** Sends a request that is answered by an ack. Throws SysError with the kernel's words; `call` is for the error. */
  request(call: string, request: Request): void {
    const sequence = this.#send(request);
    for (const message of this.#answers(call, sequence)) {
      if (message.type !== NLMSG_ERROR) continue;
      const ack = readAck(message);
      if (ack.errno !== 0) throw this.#refused(call, ack.errno, ack.text);
      return;
    }
  }

  /** Sends a request that is answered by one object. Throws SysError. */
  get<T>(call: string, request: Request, read: (payload: Buffer) => T | undefined): T {
    const sequence = this.#send(request);
    for (const message of this.#answers(call, sequence)) {
      if (message.type === NLMSG_ERROR) {
        const ack = readAck(message);
        throw new SysError(call, ack.errno === 0 ? EBADMSG : ack.errno, ack.text);
      }
      const object = read(message.payload);
      if (object !== undefined) return object;
    }
    throw new SysError(call, EBADMSG);
  }

  /**
   * Reads a whole table; objects that `read` answers with undefined are left out. `begins` is called before each try: what `read` was given before is void.
   * Throws SysError, EINTR when it never came out consistent.
   */
  dump<T>(call: string, request: Request, read: (payload: Buffer) => T | undefined, begins: () => void = () => {}): T[] {
    for (let tries = 0; tries < DUMP_TRIES; tries++) {
      begins();
      const found = this.#dumpOnce(call, request, read);
      if (found !== undefined) return found;
      this.counts.interruptedDumps++;
    }
    throw new SysError(call, EINTR, `the table changed during each of ${DUMP_TRIES} reads`);
  }

  close(): void {
    this.#wire.close();
  }

  #dumpOnce<T>(call: string, request: Request, read: (payload: Buffer) => T | undefined): T[] | undefined {
    const sequence = this.#send(request);
    const found: T[] = [];
    let interrupted = false;
    for (const message of this.#answers(call, sequence)) {
      if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
      if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) {
        const ack = readAck(message);
        if (ack.errno !== 0) throw this.#refused(call, ack.errno, ack.text);
        return interrupted ? undefined : found;
      }
      const object = read(message.payload);
      if (object !== undefined) found.push(object);
    }
    throw new SysError(call, EBADMSG);
  }

  #refused(call: string, errno: number, text: string): SysError {
    this.counts.errors++;
    return new SysError(call, errno, text);
  }

  #send(request: Request): number {
    this.#sequence = (this.#sequence + 1) >>> 0 || 1;
    const datagram = encode(request, this.#sequence);
    this.counts.requests++;
    if (debugging) for (const message of decode(datagram)) trace('>', message);
    this.#wire.send(datagram);
    return this.#sequence;
  }

  /** Messages that answer `sequence`, until the caller stops or the kernel falls silent. */
  *#answers(call: string, sequence: number): Generator<Message> {
    for (let count = 0; count < MAX_DATAGRAMS; count++) {
      const received = this.#wire.receive();
      if (received === undefined) throw new SysError(call, ETIMEDOUT, 'no answer from the kernel');
      // Only the kernel has port 0: anything else was sent by a process.
      if (received.port !== 0) continue;
      for (const message of decode(received.datagram)) {
        if (message.sequence !== sequence || message.type === NLMSG_NOOP) continue;
        trace('<', message);
        yield message;
      }
    }
    throw new SysError(call, EBADMSG, 'endless answer');
  }
}

function openWire(): Wire & { strict: boolean } {
  let fd = libc.socket(AF_NETLINK, libc.SOCK_RAW, NETLINK_ROUTE);
  let strict = true;
  try {
    const timeout = Buffer.alloc(16);
    timeout.writeBigInt64LE(5n, 0);
    libc.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout);
    libc.setsockoptInt(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
    libc.setsockoptInt(fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
    try {
      libc.setsockoptInt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
    } catch {
      strict = false; // before Linux 4.20: dumps are not filtered by the kernel, readers filter again
    }
    libc.bind(fd, netlinkAddress(0));
  } catch (error) {
    libc.close(fd);
    throw error;
  }
  // One life for buffer and fd: the socket's owner holds them both.
  const bytes = spare.pop() ?? Buffer.allocUnsafeSlow(RECEIVE_BYTES);
  const sender = Buffer.alloc(12);
  return {
    strict,
    send: (datagram) => {
      libc.send(fd, datagram);
    },
    receive: () => {
      const length = libc.receive(fd, bytes, sender, 0);
      if (length < 0) return undefined;
      if (length > bytes.length) throw new SysError('recv', EMSGSIZE, `answer of ${length} bytes`);
      return { datagram: bytes.subarray(0, length), port: sender.readUInt32LE(4) };
    },
    close: () => {
      // The number is soon another's: after this every call fails with EBADF.
      const old = fd;
      fd = -1;
      if (old < 0) return;
      libc.close(old);
      if (spare.length < SPARE_MOST) spare.push(bytes);
    },
  };
}

/** struct sockaddr_nl of this process with multicast groups (RTMGRP_* bits). */
export function netlinkAddress(groups: number): Buffer {
  const address = Buffer.alloc(12);
  address.writeUInt16LE(AF_NETLINK, 0);
  address.writeUInt32LE(groups >>> 0, 8);
  return address;
}
