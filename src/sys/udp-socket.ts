// UDP with segmentation offload both ways (udp(7): UDP_SEGMENT, UDP_GRO): many datagrams of one size in one call. One socket of AF_INET6 serves
// both families; where IPv6 is off, one of AF_INET does. Not connected, so that an ICMP error of one peer does not silence the others.

import * as libc from './libc.ts';
import { formatSocketAddress, isIpv4, type SocketAddress } from './socket-address.ts';
import * as calls from './socket-calls.ts';
import { addressOfText, bindTo, boundAddress, type IpSocket, openIpSocket, orClose, type SocketFamily, steer } from './socket-open.ts';
import { isErrno } from './sys-error.ts';
import { UdpReceiver } from './udp-receiver.ts';
import { UdpSender } from './udp-sender.ts';

export interface UdpOptions {
  /** As of `parseSocketAddress`; port 0 takes a free one. */
  listen: string;
  /** SO_MARK; 0: none. */
  mark: number;
  /** SO_BINDTODEVICE; '': none. */
  device: string;
  /** SO_RCVBUF and SO_SNDBUF, forced where the capability allows it. */
  bufferBytes: number;
  /** Takes what comes over IPv6 without a checksum too, which the kernel drops otherwise (RFC 6935; UDP_NO_CHECK6_RX). */
  uncheckedIpv6?: boolean;
}

/**
 * Takes what came together: datagrams of `segmentBytes` each, the last may be shorter, none is empty. All of it, `from` too, is valid until it
 * returns; the bytes may be changed in place (*borrows*).
 */
export type TakeDatagrams = (bytes: Buffer, start: number, length: number, segmentBytes: number, from: SocketAddress) => void;

export interface UdpSocket {
  /** What it is bound to. */
  readonly address: string;
  /**
   * Sends `bytes[start, start + length)` as datagrams of `segmentBytes` (the last may be shorter) to `to`, in as many calls as the kernel needs
   * (*borrows*). At most 64 KiB. Answers 0, or the errno of what was not sent: what does not fit now is lost, as on a wire.
   */
  send(to: SocketAddress, bytes: Buffer, start: number, length: number, segmentBytes: number): number;
  /** Bytes of the last `send` or `sendWhole` that the kernel took: from the start, whole datagrams. */
  readonly sentBytes: number;
  /** Sends one datagram that must not be fragmented on its way, also where it is larger than the path is thought to take; 0 or errno. */
  sendWhole(to: SocketAddress, bytes: Buffer, start: number, length: number): number;
  /** Calls `take` for what comes and `flush` after each round, bounded in each turn of the event loop. Errors of the socket are drained. */
  listen(take: TakeDatagrams, flush: () => void): void;
  /** Datagrams that the kernel dropped since the socket's queue was full (SO_RXQ_OVFL or /proc), as far as known. */
  readonly overflows: number;
  /**
   * What is fragmented at the source over IPv6 is cut into packets of at most so many bytes, header included (IPV6_MTU): 1280 or more; 0: as
   * large as the kernel thinks that the path takes. Linux does not fragment for this alone: a packet above the limit that the device and the
   * path, as far as the kernel knows it, take is sent whole. Nothing for IPv4, whose routers fragment.
   */
  limitMtu(bytes: number): void;
  close(): void;
}

/** After so many errors in a row with nothing to read the socket rests for a while. */
const ERRORS_MOST = 16;
const REST_MS = 100;
const LEAST_MTU = 1280;

/** Opens and binds. Throws SysError: EADDRINUSE, EADDRNOTAVAIL, ENODEV, EPERM, EINVAL for text that is no address. `only`: of this family. */
export function openUdp(options: UdpOptions, only?: SocketFamily): UdpSocket {
  const address = addressOfText(options.listen);
  const socket = openIpSocket(calls.SOCK_DGRAM, only);
  return orClose(socket, () => {
    steer(socket.fd, options.mark, options.device);
    setBuffer(socket.fd, calls.SO_RCVBUFFORCE, calls.SO_RCVBUF, options.bufferBytes);
    setBuffer(socket.fd, calls.SO_SNDBUFFORCE, calls.SO_SNDBUF, options.bufferBytes);
    discover(socket, calls.PMTUDISC_DONT);
    libc.setsockoptInt(socket.fd, calls.SOL_SOCKET, calls.SO_RXQ_OVFL, 1);
    allows(socket.fd, calls.UDP_GRO, 1);
    if (options.uncheckedIpv6 === true) allows(socket.fd, calls.UDP_NO_CHECK6_RX, 1);
    // An older kernel ignores the control message, and would send one datagram of all.
    const segments = allows(socket.fd, calls.UDP_SEGMENT, 0);
    bindTo(socket, address);
    return new BoundUdp(socket, segments);
  });
}

/** Forced where the capability allows it, else as far as net.core.rmem_max and wmem_max let us. */
function setBuffer(fd: number, forced: number, asked: number, bytes: number): void {
  try {
    libc.setsockoptInt(fd, calls.SOL_SOCKET, forced, bytes);
  } catch (error) {
    if (!isErrno(error, 'EPERM')) throw error;
    libc.setsockoptInt(fd, calls.SOL_SOCKET, asked, bytes);
  }
}

/** Whether the kernel knows this option of UDP. */
function allows(fd: number, option: number, value: number): boolean {
  try {
    libc.setsockoptInt(fd, calls.SOL_UDP, option, value);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOPROTOOPT', 'EINVAL')) return false;
    throw error;
  }
}

/** Path MTU discovery of both families: whether IPv4 gets DF, and IPv6 is fragmented at the source. */
function discover({ fd, family }: IpSocket, how: number): void {
  libc.setsockoptInt(fd, calls.SOL_IP, calls.IP_MTU_DISCOVER, how);
  if (family === 'inet6') libc.setsockoptInt(fd, calls.SOL_IPV6, calls.IPV6_MTU_DISCOVER, how);
}

class BoundUdp implements UdpSocket {
  readonly address: string;
  readonly #socket: IpSocket;
  readonly #sender: UdpSender;
  readonly #receiver: UdpReceiver;
  #poll: ReturnType<typeof libc.pollReadableOn> | undefined;
  #resting: NodeJS.Timeout | undefined;
  #errors = 0;
  #closed = false;

  constructor(socket: IpSocket, segments: boolean) {
    this.#socket = socket;
    this.#sender = new UdpSender(socket.fd, socket.family, segments);
    this.#receiver = new UdpReceiver(socket.fd, socket.family);
    this.address = formatSocketAddress(boundAddress(socket));
  }

  get overflows(): number {
    return this.#receiver.overflows;
  }

  get sentBytes(): number {
    return this.#closed ? 0 : this.#sender.sentBytes;
  }

  send(to: SocketAddress, bytes: Buffer, start: number, length: number, segmentBytes: number): number {
    return this.#closed ? calls.EBADF : this.#sender.send(to, bytes, start, length, segmentBytes);
  }

  sendWhole(to: SocketAddress, bytes: Buffer, start: number, length: number): number {
    if (this.#closed) return calls.EBADF;
    const [level, option] = isIpv4(to) ? [calls.SOL_IP, calls.IP_MTU_DISCOVER] : [calls.SOL_IPV6, calls.IPV6_MTU_DISCOVER];
    if (level === calls.SOL_IPV6 && this.#socket.family === 'inet') return calls.EAFNOSUPPORT;
    libc.setsockoptInt(this.#socket.fd, level, option, calls.PMTUDISC_PROBE);
    try {
      return this.#sender.send(to, bytes, start, length, Math.max(1, length));
    } finally {
      libc.setsockoptInt(this.#socket.fd, level, option, calls.PMTUDISC_DONT);
    }
  }

  listen(take: TakeDatagrams, flush: () => void): void {
    if (this.#closed || this.#poll) throw new Error('listen: once, on a socket that is open');
    this.#poll = libc.pollReadableOn(this.#socket.fd, (status) => {
      if (this.#closed) return;
      const came = this.#receiver.turn(take, flush);
      this.#errors = came > 0 || status >= 0 ? 0 : this.#errors + 1;
      // An error has ended polling, and receiving has taken it off the socket.
      if (status < 0 && !this.#closed) this.#goOn();
    });
  }

  limitMtu(bytes: number): void {
    if (this.#closed || this.#socket.family === 'inet') return;
    libc.setsockoptInt(this.#socket.fd, calls.SOL_IPV6, calls.IPV6_MTU, bytes === 0 ? 0 : Math.max(LEAST_MTU, bytes));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#resting);
    this.#receiver.close();
    this.#poll?.close();
    this.#poll = undefined;
    libc.close(this.#socket.fd);
  }

  #goOn(): void {
    if (this.#errors < ERRORS_MOST) this.#poll?.again();
    else this.#resting = setTimeout(() => this.#poll?.again(), REST_MS);
  }
}
