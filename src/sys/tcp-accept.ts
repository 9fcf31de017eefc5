// Connections that come in at a TCP socket of `openTcpListener`, one by one and with their fd, for those who want to read into memory of their
// own: `node:net` gives accepted sockets a new buffer for each read.

import * as libc from './libc.ts';
import { portOf, SOCKET_ADDRESS_BYTES, type SocketAddress, socketAddress } from './socket-address.ts';
import * as calls from './socket-calls.ts';
import { SysError } from './sys-error.ts';

const cListen = libc.processLibrary.declare('int listen(int fd, int backlog)') as (fd: number, backlog: number) => number;
const cAccept4 = libc.processLibrary.declare('int accept4(int fd, void *address, void *length, int flags)') as (
  fd: number,
  address: Buffer,
  length: Buffer,
  flags: number,
) => number;

/** listen(2): connections are accepted by the kernel from now on, `backlog` of them before somebody takes them. Throws SysError EADDRINUSE. */
export function listenTcp(fd: number, backlog: number): void {
  if (cListen(fd, backlog) !== 0) throw new SysError('listen', libc.lastErrno());
}

/** A connection that came in: its socket, non-blocking and close-on-exec, belongs to the caller. Else the errno, such as EAGAIN and EMFILE. */
export function acceptTcp(listener: number): { fd: number; from: SocketAddress } | number {
  const address = Buffer.alloc(SOCKET_ADDRESS_BYTES);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(address.length);
  const fd = cAccept4(listener, address, length, libc.SOCK_NONBLOCK | libc.SOCK_CLOEXEC);
  if (fd < 0) return libc.lastErrno();
  const isV4 = address.readUInt16LE(0) === calls.AF_INET;
  const from = isV4
    ? socketAddress(address.subarray(4, 8), portOf(address))
    : socketAddress(address.subarray(8, 24), portOf(address), address.readUInt32LE(24));
  return { fd, from };
}
