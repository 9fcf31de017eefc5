// Calls on IP sockets, thin: integers and addresses in, the result or a negative errno out. Nothing is thrown or allocated.
// An address of memory is a number (`addressNumber`); whoever passes one keeps the memory alive and vouches for its bounds.

import { lastErrno, processLibrary } from './libc.ts';

// bits/socket.h, netinet/in.h, linux/udp.h, linux/in.h, linux/in6.h, asm-generic/socket.h
export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOL_SOCKET = 1;
export const SOL_TCP = 6;
export const SOL_UDP = 17;
export const SOL_IP = 0;
export const SOL_IPV6 = 41;
export const SO_REUSEADDR = 2;
export const SO_ERROR = 4;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_KEEPALIVE = 9;
export const SO_BINDTODEVICE = 25;
export const SO_SNDBUFFORCE = 32;
export const SO_RCVBUFFORCE = 33;
export const SO_MARK = 36;
export const SO_RXQ_OVFL = 40;
export const UDP_NO_CHECK6_RX = 102;
export const UDP_SEGMENT = 103;
export const UDP_GRO = 104;
export const IP_MTU_DISCOVER = 10;
export const IPV6_MTU_DISCOVER = 23;
export const IPV6_MTU = 24;
export const IPV6_V6ONLY = 26;
/** Of both families: never DF, and DF always whatever the path is thought to take. */
export const PMTUDISC_DONT = 0;
export const PMTUDISC_PROBE = 3;

export const EINTR = 4;
export const EIO = 5;
export const EBADF = 9;
export const EAGAIN = 11;
export const EINVAL = 22;
export const EMSGSIZE = 90;
export const EAFNOSUPPORT = 97;
export const EINPROGRESS = 115;

type Call = (...values: (number | null)[]) => number;
const declare = (prototype: string) => processLibrary.declare(prototype) as Call;
const cSendmsg = declare('long sendmsg(int fd, uint64_t message, int flags)');
const cRecvmmsg = declare('int recvmmsg(int fd, uint64_t messages, uint count, int flags, uint64_t timeout)');
const cConnect = processLibrary.declare('int connect(int fd, const void *address, uint length)');

/** sendmsg(2) of the struct msghdr at `message`: bytes sent, or the negative errno. */
export function sendMessage(fd: number, message: number, flags: number): number {
  const result = cSendmsg(fd, message, flags);
  return result >= 0 ? result : -lastErrno();
}

/** recvmmsg(2) into `count` structs mmsghdr: how many came, or the negative errno. */
export function receiveMessages(fd: number, messages: number, count: number, flags: number): number {
  const result = cRecvmmsg(fd, messages, count, flags, 0);
  return result >= 0 ? result : -lastErrno();
}

/** connect(2): 0, or the negative errno. */
export function connect(fd: number, address: Uint8Array): number {
  return cConnect(fd, address, address.length) === 0 ? 0 : -lastErrno();
}
