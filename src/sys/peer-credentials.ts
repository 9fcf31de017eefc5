// Who is at the other end of a unix socket, as the kernel noted it when that end connected (SO_PEERCRED, unix(7)): it cannot be forged, and it
// does not change when the other process changes its user or hands the socket on.

import { getsockopt } from './libc.ts';

// asm-generic/socket.h
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** Of the connected unix socket `fd`. A process of another pid namespace has pid 0. Throws SysError. */
export function peerCredentials(fd: number): PeerCredentials {
  // struct ucred of linux/socket.h: pid, uid, gid, 32 bits each.
  const ucred = Buffer.alloc(12);
  getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ucred);
  return { pid: ucred.readInt32LE(0), uid: ucred.readUInt32LE(4), gid: ucred.readUInt32LE(8) };
}
