// libc by number: the only file that knows koffi. Calls are thin: integers and buffers in, integers out, errno as SysError.
// A Buffer passed here is borrowed for the call. EINTR is retried; EAGAIN is returned as -1 where a caller drains an fd.
// Every fd opened here is close-on-exec.

import koffi from 'koffi';
import { SysError } from './sys-error.ts';

const libc = koffi.load(null);

const cOpen = libc.func('int open(const char *path, int flags, int mode)');
const cClose = libc.func('int close(int fd)');
const cIoctl = libc.func('int ioctl(int fd, unsigned long request, void *argument)');
const cIoctlInt = libc.func('ioctl', 'int', ['int', 'ulong', 'ulong']);
const cSocket = libc.func('int socket(int domain, int type, int protocol)');
const cBind = libc.func('int bind(int fd, const void *address, uint length)');
const cGetsockname = libc.func('int getsockname(int fd, void *address, void *length)');
const cSetsockopt = libc.func('int setsockopt(int fd, int level, int name, const void *value, uint length)');
const cSend = libc.func('long send(int fd, const void *bytes, size_t length, int flags)');
const cRecvfrom = libc.func('long recvfrom(int fd, void *bytes, size_t length, int flags, void *address, void *addressLength)');
const cSetns = libc.func('int setns(int fd, int kind)');
const cFcntl = libc.func('int fcntl(int fd, int command, int argument)');
const cFlock = libc.func('int flock(int fd, int operation)');
const cRead = libc.func('long read(int fd, void *bytes, size_t length)');
const cWrite = libc.func('long write(int fd, const void *bytes, size_t length)');
const cWriteFrom = libc.func('write', 'long', ['int', 'uint64_t', 'size_t']);
const cMmap = libc.func('void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)');
const cMunmap = libc.func('int munmap(void *address, size_t length)');
const cGetsockopt = libc.func('int getsockopt(int fd, int level, int name, void *value, void *length)');

// asm-generic/fcntl.h, bits/socket.h, asm-generic/errno-base.h
export const O_RDONLY = 0;
export const O_RDWR = 2;
export const O_CREAT = 0o100;
export const O_NOCTTY = 0o400;
export const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
export const O_NOFOLLOW = 0o400000;
export const SOCK_RAW = 3;
export const SOCK_CLOEXEC = 0o2000000;
export const SOCK_NONBLOCK = 0o4000;
export const MSG_DONTWAIT = 0x40;
export const MSG_TRUNC = 0x20;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
const F_GETFD = 1;
const EINTR = 4;
const EAGAIN = 11;

/** Calls again while interrupted; throws SysError unless the errno is in `quiet`, for which it answers -1. */
function checked(call: string, run: () => number | bigint, quiet = 0): number {
  for (;;) {
    const result = Number(run());
    if (result >= 0) return result;
    const errno = koffi.errno();
    if (errno === EINTR) continue;
    if (errno === quiet) return -1;
    throw new SysError(call, errno);
  }
}

/** open(2), close-on-exec. Throws SysError. */
export function open(path: string, flags: number, mode = 0): number {
  return checked(`open ${path}`, () => cOpen(path, flags | O_CLOEXEC, mode));
}

/** close(2). Never throws: after close the fd is gone whatever it answers. */
export function close(fd: number): void {
  cClose(fd);
}

/** ioctl(2) with a structure, read and written in place (*borrows*). `name` is for the error. */
export function ioctl(fd: number, request: number, argument: Uint8Array, name: string): number {
  return checked(name, () => cIoctl(fd, request, argument));
}

/** ioctl(2) with a plain number. */
export function ioctlNumber(fd: number, request: number, argument: number, name: string): number {
  return checked(name, () => cIoctlInt(fd, request, argument));
}

/** socket(2), close-on-exec. */
export function socket(domain: number, type: number, protocol: number): number {
  return checked('socket', () => cSocket(domain, type | SOCK_CLOEXEC, protocol));
}

/** bind(2) to a raw sockaddr. */
export function bind(fd: number, address: Uint8Array): void {
  checked('bind', () => cBind(fd, address, address.length));
}

/** getsockname(2) as a raw sockaddr of at most `size` bytes. */
export function getsockname(fd: number, size: number): Uint8Array {
  const address = Buffer.alloc(size);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(size);
  checked('getsockname', () => cGetsockname(fd, address, length));
  return address.subarray(0, length.readUInt32LE());
}

/** setsockopt(2) with an int. */
export function setsockoptInt(fd: number, level: number, name: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  checked(`setsockopt ${level}/${name}`, () => cSetsockopt(fd, level, name, bytes, 4));
}

/** setsockopt(2) with a raw value (*borrows*). */
export function setsockopt(fd: number, level: number, name: number, value: Uint8Array): void {
  checked(`setsockopt ${level}/${name}`, () => cSetsockopt(fd, level, name, value, value.length));
}

/** Calls on other threads, which libuv has 4 of, and koffi some dozens of places for. */
const ELSEWHERE_MOST = 4;
const waiting: ((over: () => void) => void)[] = [];
let running = 0;

/** Starts a call on another thread, when it is its turn; `over` must be called at its end. */
function elsewhere(start: (over: () => void) => void): void {
  waiting.push(start);
  next();
}

function next(): void {
  if (running >= ELSEWHERE_MOST) return;
  const start = waiting.shift();
  if (start === undefined) return;
  running++;
  start(() => {
    running--;
    next();
  });
}

/** As `setsockopt`, on another thread (*borrows* until it is done). Calls back with false when it failed; the errno is not known then. */
export function setsockoptLater(fd: number, level: number, name: number, value: Uint8Array, done: (well: boolean) => void): void {
  elsewhere((over) =>
    cSetsockopt.async(fd, level, name, value, value.length, (error: unknown, result: number) => {
      over();
      done(!error && result === 0);
    }),
  );
}

/** send(2) of one datagram. */
export function send(fd: number, bytes: Uint8Array): number {
  return checked('send', () => cSend(fd, bytes, bytes.length, 0));
}

/** recvfrom(2) into `bytes` and `address` (*borrows*): length, more than `bytes` holds when cut (MSG_TRUNC), -1 when nothing waits. */
export function receive(fd: number, bytes: Uint8Array, address: Uint8Array, flags: number): number {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(address.length);
  return checked('recv', () => cRecvfrom(fd, bytes, bytes.length, flags | MSG_TRUNC, address, length), EAGAIN);
}

/** getsockopt(2) into `value` (*borrows*). */
export function getsockopt(fd: number, level: number, name: number, value: Uint8Array): void {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(value.length);
  checked(`getsockopt ${level}/${name}`, () => cGetsockopt(fd, level, name, value, length));
}

/** read(2) for hot paths: bytes read, or the negative errno. `bytes` is borrowed; nothing is thrown or allocated. */
export function read(fd: number, bytes: Uint8Array, length: number): number {
  const result = cRead(fd, bytes, length) as number;
  return result >= 0 ? result : -koffi.errno();
}

/** write(2) for hot paths: bytes written, or the negative errno. `bytes` is borrowed; nothing is thrown or allocated. */
export function write(fd: number, bytes: Uint8Array, length: number): number {
  const result = cWrite(fd, bytes, length) as number;
  return result >= 0 ? result : -koffi.errno();
}

/** As `write`, of `bytes[start, start + length)`. Throws RangeError for a place outside of `bytes`. */
export function writeFrom(fd: number, bytes: Uint8Array, start: number, length: number): number {
  if (start < 0 || length < 0 || start + length > bytes.length) throw new RangeError(`write ${start}+${length} of ${bytes.length}`);
  const result = cWriteFrom(fd, addressNumber(bytes) + start, length) as number;
  return result >= 0 ? result : -koffi.errno();
}

/** Memory that the kernel and we share. */
export interface SharedMemory {
  bytes: ArrayBuffer;
  /** After this nobody may touch `bytes`. */
  unmap(): void;
  /** The same, on another thread. */
  unmapLater(): void;
}

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_FAILED = 2n ** 64n - 1n;

/** mmap(2) of an fd from its start, shared, for reading and writing. Throws SysError. */
export function mapShared(fd: number, length: number): SharedMemory {
  const address = cMmap(null, length, PROT_READ_WRITE, MAP_SHARED, fd, 0) as bigint;
  if (address === MAP_FAILED) throw new SysError('mmap', koffi.errno());
  return {
    bytes: koffi.view(address, length),
    unmap: () => void cMunmap(address, length),
    unmapLater: () => elsewhere((over) => cMunmap.async(address, length, over)),
  };
}

/** Address of a buffer, for structures that point. The caller keeps the buffer alive for as long as the structure is in use. */
export function addressOf(bytes: Uint8Array): bigint {
  return BigInt(koffi.address(bytes));
}

/** setns(2) of the calling thread. */
export function setns(fd: number, kind: number): void {
  checked('setns', () => cSetns(fd, kind));
}

/** flock(2). Throws SysError EAGAIN when another holds it and LOCK_NB is given. */
export function flock(fd: number, operation: number): void {
  checked('flock', () => cFlock(fd, operation));
}

/** Readiness of an fd on the event loop. Keep it: when it is collected, it closes itself. */
export interface Poll {
  close(): void;
}

interface PollHandle extends Poll {
  start(events: object, callback: (status: number) => void): void;
}

// The declared type lacks the status that is really passed first, and `start` of the handle.
const koffiPoll = koffi.node.poll as unknown as (fd: number, events: object, callback: (status: number) => void) => PollHandle;

/** Throws SysError EBADF: what libuv refuses would end the process, without a word of who was to blame. */
function startPoll(fd: number, events: object, callback: (status: number) => void): PollHandle {
  checked('poll', () => cFcntl(fd, F_GETFD, 0));
  return koffiPoll(fd, events, callback);
}

/** Calls `ready` whenever `fd` is readable or in error, level-triggered; `status` < 0 is an error after which polling has stopped. Close before closing the fd. */
export function pollReadable(fd: number, ready: (status: number) => void): Poll {
  return startPoll(fd, { readable: true }, ready);
}

/** As `pollReadable`, where an error is not the end: once it has been taken off the fd, `again` goes on. After `close` it does nothing. */
export function pollReadableOn(fd: number, ready: (status: number) => void): Poll & { again(): void } {
  let handle: PollHandle | undefined = startPoll(fd, { readable: true }, ready);
  return {
    close() {
      handle?.close();
      handle = undefined;
    },
    again() {
      handle?.start({ readable: true }, ready);
    },
  };
}

/** Calls `ready` once, when `fd` can be written to or is in error. Close before closing the fd, and before another polls it. */
export function pollWritable(fd: number, ready: () => void): Poll {
  return startPoll(fd, { writable: true }, ready);
}

/** Calls `failed` once when the fd comes into error or the other side is gone, and never for what can be read. Close before closing the fd. */
export function pollError(fd: number, failed: () => void): Poll {
  return startPoll(fd, { disconnect: true }, failed);
}

/** A shared library, loaded for as long as the process lives. */
export interface Library {
  /**
   * Declares a function by its C prototype; addresses are bigint, `null` is NULL, a Buffer is borrowed for the call.
   * Throws an Error when the library has no such symbol.
   */
  declare(prototype: string): (...values: unknown[]) => unknown;
}

/** dlopen(3) of the first of these names that loads; undefined when none does. */
export function openLibrary(names: readonly string[]): Library | undefined {
  for (const name of names) {
    try {
      const library = koffi.load(name);
      return { declare: (prototype) => library.func(prototype) };
    } catch {
      // The next name may load.
    }
  }
  return undefined;
}

/**
 * The process itself: libc, and OpenSSL where Node brings it. For hot paths declare addresses as `uint64_t` and pass numbers: those cost least.
 */
export const processLibrary: Library = { declare: (prototype) => libc.func(prototype) };

/** errno of the last call that failed. Read it before anything else is called. */
export function lastErrno(): number {
  return koffi.errno();
}

const addresses = new WeakMap<Uint8Array, number>();
let lastBytes: Uint8Array | undefined;
let lastAddress = 0;

/**
 * Address of a buffer as a number (they are below 2^47). Remembered: the memory of a buffer does not move while the buffer lives. An address
 * keeps nothing alive, and whoever uses it checks bounds: nobody else does.
 */
export function addressNumber(bytes: Uint8Array): number {
  if (bytes === lastBytes) return lastAddress;
  let address = addresses.get(bytes);
  if (address === undefined) {
    // Small ones lie on V8's heap, where they would move, until somebody asks for their ArrayBuffer, as this does.
    address = Number(koffi.address(bytes));
    addresses.set(bytes, address);
  }
  lastBytes = bytes;
  lastAddress = address;
  return address;
}

const cMemcpy = libc.func('void *memcpy(void *to, const void *from, size_t length)');

/** Copies `length` bytes of memory that is somebody else's. The caller vouches for the address. */
export function copyMemory(address: bigint, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  if (length > 0) cMemcpy(bytes, address, length);
  return bytes;
}
