// The error of this room: which call failed, with which errno, and what the kernel said about it.

import os from 'node:os';

const nameByErrno = new Map<number, string>(Object.entries(os.constants.errno).map(([name, number]) => [number, name]));
// Aliases share a number; these are the names that Linux prints.
nameByErrno.set(11, 'EAGAIN');
nameByErrno.set(95, 'EOPNOTSUPP');
nameByErrno.set(77, 'EBADFD');
nameByErrno.set(19, 'ENODEV');

/** Name of an errno, such as `EPERM`; `errno 999` for one that has no name. */
export function errnoName(errno: number): string {
  return nameByErrno.get(errno) ?? `errno ${errno}`;
}

/** A system call that failed. `code` is the errno's name, `detail` what the kernel's extended ack added, '' if nothing. */
export class SysError extends Error {
  override readonly name = 'SysError';
  readonly call: string;
  readonly errno: number;
  readonly code: string;
  readonly detail: string;

  constructor(call: string, errno: number, detail = '') {
    const code = errnoName(errno);
    super(`${call}: ${code}${detail === '' ? '' : `: ${detail}`}`);
    this.call = call;
    this.errno = errno;
    this.code = code;
    this.detail = detail;
  }
}

/** True for a SysError with one of these errno names. */
export function isErrno(error: unknown, ...codes: string[]): error is SysError {
  return error instanceof SysError && codes.includes(error.code);
}
