// The packets of a capture file, as often as it is to be played, read in pieces: the file may be larger than memory, or a pipe.

import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { type CapturedPacket, CaptureReader } from '../packet/capture-reader.ts';
import { UsageError } from './exit-code.ts';

export class ReplaySource {
  readonly #path: string;
  /** Bytes that have been read, over all rounds. */
  bytesRead = 0;
  /** Bytes of the file; undefined for a pipe. */
  readonly size: number | undefined;

  private constructor(path: string, size: number | undefined) {
    this.#path = path;
    this.size = size;
  }

  /** `path` may be `-`. Throws UsageError. */
  static async open(path: string): Promise<ReplaySource> {
    if (path === '-') {
      if (process.stdin.isTTY) throw new UsageError('standard input is a terminal: give a file, or pipe a capture in');
      return new ReplaySource(path, undefined);
    }
    const found = await stat(path).catch((error: Error) => fail(path, error.message));
    return new ReplaySource(path, found.isFile() ? found.size : undefined);
  }

  /** Reads it once, from the start, until the signal. Throws UsageError for what is no capture. */
  async *packets(signal: AbortSignal): AsyncGenerator<CapturedPacket[]> {
    const reader = new CaptureReader();
    const input = this.#path === '-' ? process.stdin : createReadStream(this.#path);
    // A pipe in which nothing comes must not hold up the end.
    const stop = () => input.destroy();
    signal.addEventListener('abort', stop, { once: true });
    try {
      for await (const chunk of input as AsyncIterable<Buffer>) {
        this.bytesRead += chunk.length;
        yield reader.push(chunk);
      }
      reader.end();
    } catch (error) {
      if (!signal.aborted) fail(this.#path, (error as Error).message);
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }
}

function fail(path: string, cause: string): never {
  throw new UsageError(`read ${path === '-' ? 'standard input' : path}: ${cause}`);
}
