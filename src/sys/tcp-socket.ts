// TCP sockets with a mark and a device, opened here and then given to `node:net`: `server.listen({ fd })` and
// `new net.Socket({ fd, readable: true, writable: true })`, which own the fd from then on. Non-blocking; both families where there is IPv6.

import * as libc from './libc.ts';
import { formatSocketAddress } from './socket-address.ts';
import * as calls from './socket-calls.ts';
import { addressOfText, bindTo, boundAddress, openIpSocket, orClose, type SocketFamily, sockaddrOf, steer } from './socket-open.ts';
import { SysError } from './sys-error.ts';

export interface TcpListenerOptions {
  /** As of `parseSocketAddress`; port 0 takes a free one. */
  listen: string;
  /** SO_MARK; 0: none. Connections that are accepted have it too. */
  mark: number;
  /** SO_BINDTODEVICE; '': none. Connections that are accepted have it too. */
  device: string;
}

export interface TcpConnectionOptions {
  to: string;
  /** To bind to before; a free port of any address by default. */
  from?: string;
  /** Largest segment that either end sends (TCP_MAXSEG); 0 and absent: as the path is thought to take. */
  maxSegmentBytes?: number;
  mark: number;
  device: string;
}

/** How long the other side may be silent, see tcp(7). */
export interface TcpPatience {
  /** Silence before it is asked, in whole seconds, and between questions. */
  idleS: number;
  intervalS: number;
  /** Unanswered questions after which the connection ends. */
  count: number;
  /** What was sent may wait so long for its acknowledgement; 0: as the system thinks. */
  userTimeoutMs: number;
}

// linux/tcp.h
const TCP_NODELAY = 1;
const TCP_MAXSEG = 2;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;
const TCP_USER_TIMEOUT = 18;

/** Bound, and not listening yet: `server.listen({ fd })` does that. Throws SysError: EADDRINUSE, EADDRNOTAVAIL, ENODEV, EPERM, EINVAL. */
export function openTcpListener(options: TcpListenerOptions, only?: SocketFamily): { fd: number; address: string } {
  const address = addressOfText(options.listen);
  const socket = openIpSocket(calls.SOCK_STREAM, only);
  return orClose(socket, () => {
    steer(socket.fd, options.mark, options.device);
    // Connections of before that still wait for their end must not keep us from listening.
    libc.setsockoptInt(socket.fd, calls.SOL_SOCKET, calls.SO_REUSEADDR, 1);
    bindTo(socket, address);
    return { fd: socket.fd, address: formatSocketAddress(boundAddress(socket)) };
  });
}

/**
 * A socket that connects: `awaitConnection` says how that ends. Throws SysError when it fails at once: ENETUNREACH, EADDRNOTAVAIL, ENODEV, EPERM,
 * EAFNOSUPPORT, EINVAL.
 */
export function openTcpConnection(options: TcpConnectionOptions, only?: SocketFamily): number {
  const to = addressOfText(options.to);
  const from = options.from === undefined ? undefined : addressOfText(options.from);
  const socket = openIpSocket(calls.SOCK_STREAM, only);
  return orClose(socket, () => {
    steer(socket.fd, options.mark, options.device);
    libc.setsockoptInt(socket.fd, calls.SOL_TCP, TCP_NODELAY, 1);
    if (options.maxSegmentBytes) libc.setsockoptInt(socket.fd, calls.SOL_TCP, TCP_MAXSEG, options.maxSegmentBytes);
    if (from) bindTo(socket, from);
    const errno = -calls.connect(socket.fd, sockaddrOf(to, socket.family));
    if (errno !== 0 && errno !== calls.EINPROGRESS && errno !== calls.EINTR) throw new SysError(`connect ${options.to}`, errno);
    return socket.fd;
  });
}

/** Once the socket can be written to: 0 when it is connected, else the errno (SO_ERROR), such as ECONNREFUSED. Asking takes the error away. */
export function connectOutcome(fd: number): number {
  const value = Buffer.alloc(4);
  libc.getsockopt(fd, calls.SOL_SOCKET, calls.SO_ERROR, value);
  return value.readInt32LE(0);
}

/**
 * Calls `done` once, on the event loop, with 0 or the errno with which connecting failed. Nothing polls the fd any more then. Keep what it answers
 * until then; `close` gives up, after which `done` is not called. The fd stays the caller's.
 */
export function awaitConnection(fd: number, done: (errno: number) => void): libc.Poll {
  let over = false;
  const poll = libc.pollWritable(fd, () => {
    if (over) return;
    over = true;
    poll.close();
    done(connectOutcome(fd));
  });
  return {
    close() {
      if (over) return;
      over = true;
      poll.close();
    },
  };
}

/** Throws SysError EINVAL for values outside of what the kernel takes. */
export function setTcpPatience(fd: number, patience: TcpPatience): void {
  libc.setsockoptInt(fd, calls.SOL_SOCKET, calls.SO_KEEPALIVE, 1);
  libc.setsockoptInt(fd, calls.SOL_TCP, TCP_KEEPIDLE, patience.idleS);
  libc.setsockoptInt(fd, calls.SOL_TCP, TCP_KEEPINTVL, patience.intervalS);
  libc.setsockoptInt(fd, calls.SOL_TCP, TCP_KEEPCNT, patience.count);
  libc.setsockoptInt(fd, calls.SOL_TCP, TCP_USER_TIMEOUT, patience.userTimeoutMs);
}

/** Closes an fd that `node:net` has not got. */
export function closeTcp(fd: number): void {
  libc.close(fd);
}
