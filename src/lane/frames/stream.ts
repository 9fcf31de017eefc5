// A connected socket as frames use it. A plain one is read into one buffer, again and again: a new buffer for each read, as `node:net` has it
// otherwise, costs more than all else that is done with the bytes, since each counts as memory to be collected.

import { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { SysError } from '../../sys/sys-error.ts';
import { closeTcp } from '../../sys/tcp-socket.ts';

const READ_BYTES = 128 * 1024;
const EINVAL = 22;

/** Takes `bytes[0, length)`, valid until it returns (*borrows*). */
export type TakeBytes = (bytes: Buffer, length: number) => void;

export interface Stream {
  readonly socket: Socket | TLSSocket;
  readonly isEncrypted: boolean;
  /**
   * What comes is given to `take`, and `flush` is called when nothing more is there at the moment. Before that nothing is read: called once, in the
   * turn in which the stream was made.
   */
  listen(take: TakeBytes, flush: () => void): void;
}

/** Takes over a connected fd. Throws SysError, and it is closed, when it is no socket of a kind that can be used. */
export function plainStream(fd: number): Stream {
  let take: TakeBytes | undefined;
  let flush: (() => void) | undefined;
  const callback = (length: number, bytes: Uint8Array) => {
    take?.(bytes as Buffer, length);
    flush?.();
    return true;
  };
  const onread = { buffer: Buffer.allocUnsafeSlow(READ_BYTES), callback };
  const socket = socketOf(fd, { onread });
  return {
    socket,
    isEncrypted: false,
    listen(taker, flusher) {
      take = taker;
      flush = flusher;
    },
  };
}

/** Takes over a connected fd for TLS, which reads by itself. Throws as `plainStream`. */
export function socketForTls(fd: number): Socket {
  return socketOf(fd, {});
}

/** What has been decrypted, which comes in records of 16 KiB: several of them are in one read. */
export function tlsStream(socket: TLSSocket): Stream {
  return {
    socket,
    isEncrypted: true,
    listen(take, flush) {
      let isDue = false;
      const due = () => {
        isDue = false;
        flush();
      };
      socket.on('data', (bytes: Buffer) => {
        take(bytes, bytes.length);
        if (!isDue) setImmediate(due);
        isDue = true;
      });
    },
  };
}

function socketOf(fd: number, options: object): Socket {
  try {
    const socket = new Socket({ fd, readable: true, writable: true, ...options });
    socket.setNoDelay(true);
    return socket;
  } catch (error) {
    closeTcp(fd);
    throw new SysError('open socket', EINVAL, error instanceof Error ? error.message : '');
  }
}
