// UDP with segmentation offload both ways (udp(7): UDP_SEGMENT, UDP_GRO): many datagrams of one size in one call. One socket of AF_INET6 serves
// both families; where IPv6 is off, one of AF_INET does. Not connected, so that an ICMP error of one peer does not silence the others.

import type { SocketAddress } from './socket-address.ts';

export interface UdpOptions {
  /** As of `parseSocketAddress`; port 0 takes a free one. */
  listen: string;
  /** SO_MARK; 0: none. */
  mark: number;
  /** SO_BINDTODEVICE; '': none. */
  device: string;
  /** SO_RCVBUF and SO_SNDBUF, forced where the capability allows it. */
  bufferBytes: number;
}

/** Takes what came in one call: datagrams of `segmentBytes` each, the last may be shorter. Valid until it returns; may be changed in place (*borrows*). */
export type TakeDatagrams = (bytes: Buffer, start: number, length: number, segmentBytes: number, from: SocketAddress) => void;

export interface UdpSocket {
  /** What it is bound to. */
  readonly address: string;
  /**
   * Sends `bytes[start, start + length)` as datagrams of `segmentBytes` (the last may be shorter) to `to`, in as many calls as the kernel needs
   * (*borrows*). At most 64 KiB. Answers 0, or the errno of what was not sent: what does not fit now is lost, as on a wire.
   */
  send(to: SocketAddress, bytes: Buffer, start: number, length: number, segmentBytes: number): number;
  /** Sends one datagram that must not be fragmented on its way, also where it is larger than the path is thought to take; 0 or errno. */
  sendWhole(to: SocketAddress, bytes: Buffer, start: number, length: number): number;
  /** Calls `take` for what comes and `flush` after each round, bounded in each turn of the event loop. Errors of the socket are drained. */
  listen(take: TakeDatagrams, flush: () => void): void;
  /** Datagrams that the kernel dropped since the socket's queue was full (SO_RXQ_OVFL or /proc), as far as known. */
  readonly overflows: number;
  /** Largest datagram to any peer that is sent without being fragmented at the source, over IPv6 (IPV6_MTU); 0: as the kernel thinks. */
  limitMtu(bytes: number): void;
  close(): void;
}

/** Opens and binds. Throws SysError: EADDRINUSE, EADDRNOTAVAIL, ENODEV, EPERM. */
export function openUdp(options: UdpOptions): UdpSocket {
  throw new Error(`not built yet: ${options.listen}`);
}
