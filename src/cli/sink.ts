// Where the bytes of a capture go: a file, a pipe in the file system, or standard output. One write at a time, so that a slow reader holds
// back the writer. A reader that is gone is told, not thrown.

import { type FileHandle, open } from 'node:fs/promises';
import { printed } from './output.ts';

export interface Sink extends AsyncDisposable {
  /** Writes all of it. False when nobody reads it any more. */
  write(bytes: Uint8Array): Promise<boolean>;
}

/** `path` may be `-`. Creates the file, or empties it. */
export async function openSink(path: string): Promise<Sink> {
  if (path === '-') return standardOutput();
  return file(path, await attempt(path, () => open(path, 'w')));
}

function standardOutput(): Sink {
  let closed = false;
  const onError = (): void => {
    closed = true;
  };
  process.stdout.on('error', onError);
  return {
    async write(bytes) {
      if (!closed) await printed(bytes);
      return !closed;
    },
    async [Symbol.asyncDispose]() {
      process.stdout.off('error', onError);
    },
  };
}

function file(path: string, handle: FileHandle): Sink {
  return {
    async write(bytes) {
      try {
        for (let at = 0; at < bytes.length; ) at += (await handle.write(bytes, at)).bytesWritten;
        return true;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EPIPE') return false;
        throw failure(path, error);
      }
    },
    [Symbol.asyncDispose]: () => attempt(path, () => handle.close()),
  };
}

async function attempt<Result>(path: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    throw failure(path, error);
  }
}

function failure(path: string, cause: unknown): Error {
  return new Error(`write ${path}: ${(cause as Error).message}`, { cause });
}
