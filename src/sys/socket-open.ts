// How every IP socket here is opened: for both families where the machine has IPv6, bound, with a mark and a device. Non-blocking, close-on-exec.

import * as libc from './libc.ts';
import {
  formatSocketAddress,
  isAnyAddress,
  isIpv4,
  parseSocketAddress,
  portOf,
  SOCKET_ADDRESS_BYTES,
  type SocketAddress,
  socketAddress,
} from './socket-address.ts';
import * as calls from './socket-calls.ts';
import { isErrno, SysError } from './sys-error.ts';

/** `inet6` takes IPv4 too, as mapped addresses. */
export type SocketFamily = 'inet6' | 'inet';

export interface IpSocket {
  fd: number;
  family: SocketFamily;
}

/** sockaddr_in is 16 bytes: family, port, address, zeros. */
const SOCKADDR_IN_BYTES = 16;

/** Throws SysError, such as EMFILE. `only`: that family and no other. */
export function openIpSocket(type: number, only?: SocketFamily): IpSocket {
  const flags = type | libc.SOCK_NONBLOCK;
  if (only !== 'inet') {
    try {
      const fd = libc.socket(calls.AF_INET6, flags, 0);
      libc.setsockoptInt(fd, calls.SOL_IPV6, calls.IPV6_V6ONLY, 0);
      return { fd, family: 'inet6' };
    } catch (error) {
      if (only || !isErrno(error, 'EAFNOSUPPORT')) throw error;
    }
  }
  return { fd: libc.socket(calls.AF_INET, flags, 0), family: 'inet' };
}

/** Mark and device; 0 and '' are none. Throws SysError: EPERM, ENODEV. */
export function steer(fd: number, mark: number, device: string): void {
  if (mark !== 0) libc.setsockoptInt(fd, calls.SOL_SOCKET, calls.SO_MARK, mark | 0);
  if (device !== '') libc.setsockopt(fd, calls.SOL_SOCKET, calls.SO_BINDTODEVICE, Buffer.from(`${device}\0`));
}

/** Throws SysError EINVAL for text that is none. */
export function addressOfText(text: string): SocketAddress {
  const address = parseSocketAddress(text);
  if (!address) throw new SysError(`read address '${text}'`, calls.EINVAL);
  return address;
}

/** The sockaddr that a socket of this family takes. Throws SysError EAFNOSUPPORT when it has none for it. */
export function sockaddrOf(address: SocketAddress, family: SocketFamily): Uint8Array {
  if (family === 'inet6') return address;
  const bytes = Buffer.from(new ArrayBuffer(SOCKADDR_IN_BYTES));
  if (!isIpv4(address) && !isAnyAddress(address)) throw new SysError(`use ${formatSocketAddress(address)}`, calls.EAFNOSUPPORT);
  writeSockaddrIn(address, bytes, 0);
  return bytes;
}

/** Writes the 16 bytes of sockaddr_in. */
export function writeSockaddrIn(address: SocketAddress, bytes: Uint8Array, at: number): void {
  bytes[at] = calls.AF_INET;
  bytes[at + 1] = 0;
  bytes[at + 2] = address[2] as number;
  bytes[at + 3] = address[3] as number;
  for (let index = 0; index < 4; index++) bytes[at + 4 + index] = address[20 + index] as number;
}

/** Reads them into an address that is ours. */
export function readSockaddrIn(bytes: Uint8Array, at: number, address: SocketAddress): void {
  address[2] = bytes[at + 2] as number;
  address[3] = bytes[at + 3] as number;
  for (let index = 0; index < 4; index++) address[20 + index] = bytes[at + 4 + index] as number;
}

/** Throws SysError: EADDRINUSE, EADDRNOTAVAIL, EACCES. */
export function bindTo({ fd, family }: IpSocket, address: SocketAddress): void {
  libc.bind(fd, sockaddrOf(address, family));
}

/** What a socket is bound to. */
export function boundAddress({ fd, family }: IpSocket): SocketAddress {
  const bytes = Buffer.from(libc.getsockname(fd, SOCKET_ADDRESS_BYTES));
  if (family === 'inet6') return socketAddress(bytes.subarray(8, 24), portOf(bytes), bytes.readUInt32LE(24));
  return socketAddress(bytes.subarray(4, 8), portOf(bytes));
}

/** Runs the rest of an opening; closes the socket when that fails. */
export function orClose<Result>({ fd }: IpSocket, rest: () => Result): Result {
  try {
    return rest();
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}
