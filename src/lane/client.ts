// The agent's end of a packet connection. Batches come as the lane encoded them and are handed on undecoded, in buffers that are used again.

import { connect, type Socket } from 'node:net';
import { TaplaneError } from '../errors.ts';
import { StreamFailure, StreamSetup } from '../gen/taplane/lane/v1/lane_service.ts';
import { errorOf } from './failure-wire.ts';
import { HEAD_BYTES, KIND_BATCH, KIND_END, KIND_FAILURE, KIND_REQUEST, KIND_SETUP, MESSAGE_MOST, message, writeHead } from './framing.ts';

const READ_BYTES = 256 * 1024;
const POOLED = 8;
const POOLED_BYTES = 256 * 1024;

/** What a connection tells. Each is called in order, `end` or `failed` once and last. */
export interface PipeEvents {
  /** A `PacketBatch` in bytes. They stay as they are until `release` is called (*transfers*, back with `release`). */
  batch(bytes: Buffer, release: () => void): void;
  /** The stream is over, and all of it was told. */
  end(): void;
  failed(error: TaplaneError): void;
  /** What was sent has gone out: more may be sent after `send` answered false. */
  room(): void;
  /** `destroy` was called before the end. */
  destroyed?(): void;
}

export interface LanePipe {
  /** Passes on a `StreamPacketsRequest` in bytes. False: wait for `room`. */
  send(bytes: Buffer): boolean;
  /** The client sends no more. */
  end(): void;
  /** Stops and goes on reading. */
  pause(): void;
  resume(): void;
  /** Lets go without a word: the lane keeps the subscription for as long as it was asked to. */
  destroy(): void;
}

/** Connects to the packet socket of a lane and asks for a stream. Failures of the connection are told as UNAVAILABLE. */
export function openPipe(path: string, setup: StreamSetup, events: PipeEvents): LanePipe {
  let over = false;
  const reader = new MessageReader((kind, bytes, release) => {
    if (over) return release();
    if (kind === KIND_BATCH) return events.batch(bytes, release);
    over = true;
    if (kind === KIND_END) events.end();
    else if (kind === KIND_FAILURE) events.failed(errorOf(StreamFailure.decode(bytes)));
    else events.failed(gone(`message of unknown kind ${kind}`));
    socket.destroy();
  });
  const fail = (why: string): void => {
    if (over) return;
    over = true;
    socket.destroy();
    events.failed(gone(why));
  };
  const socket: Socket = connect({
    path,
    onread: {
      buffer: Buffer.allocUnsafeSlow(READ_BYTES),
      callback: (length: number, buffer: Uint8Array) => {
        try {
          reader.push(buffer as Buffer, length);
        } catch (error) {
          fail(error instanceof Error ? error.message : String(error));
        }
        return true;
      },
    },
  });
  socket.on('error', (error) => fail(error.message));
  socket.on('close', () => fail('its connection ended'));
  socket.on('drain', () => {
    if (!over) events.room();
  });
  socket.write(message(KIND_SETUP, StreamSetup.encode(setup).finish()));
  return {
    send(bytes) {
      if (over) return true;
      const head = Buffer.allocUnsafe(HEAD_BYTES);
      writeHead(head, 0, bytes.length, KIND_REQUEST);
      socket.cork();
      socket.write(head);
      const room = socket.write(bytes);
      socket.uncork();
      return room;
    },
    end() {
      if (!over) socket.write(message(KIND_END));
    },
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    destroy() {
      if (over) return;
      over = true;
      // What was sent still goes out; what comes is not heard.
      socket.resume();
      socket.destroySoon();
      events.destroyed?.();
    },
  };
}

function gone(why: string): TaplaneError {
  return new TaplaneError(
    'UNAVAILABLE',
    'LANE_UNAVAILABLE',
    `the data-plane process of the interface is not there: ${why}; it is being started again`,
    {
      retryAfterMs: 250,
    },
  );
}

/** Puts messages together in buffers that come back. */
class MessageReader {
  readonly #take: (kind: number, bytes: Buffer, release: () => void) => void;
  readonly #head = Buffer.alloc(HEAD_BYTES);
  readonly #pool: Buffer[] = [];
  #headBytes = 0;
  #whole: Buffer | undefined;
  #length = 0;
  #got = 0;

  constructor(take: (kind: number, bytes: Buffer, release: () => void) => void) {
    this.#take = take;
  }

  /** `piece[0, length)` is copied. Throws on a message that is too long. */
  push(piece: Buffer, length: number): void {
    let at = 0;
    while (at < length) {
      if (this.#whole === undefined) {
        const taken = piece.copy(this.#head, this.#headBytes, at, Math.min(length, at + HEAD_BYTES - this.#headBytes));
        this.#headBytes += taken;
        at += taken;
        if (this.#headBytes < HEAD_BYTES) return;
        this.#length = this.#head.readUInt32LE(0);
        if (this.#length > MESSAGE_MOST) throw new Error(`message of ${this.#length} bytes`);
        this.#whole = this.#buffer(this.#length);
        this.#got = 0;
      }
      const taken = piece.copy(this.#whole, this.#got, at, Math.min(length, at + this.#length - this.#got));
      this.#got += taken;
      at += taken;
      if (this.#got < this.#length) return;
      const whole = this.#whole;
      this.#whole = undefined;
      this.#headBytes = 0;
      this.#take(this.#head[4] as number, whole.subarray(0, this.#length), () => this.#giveBack(whole));
    }
  }

  #buffer(length: number): Buffer {
    if (length > POOLED_BYTES) return Buffer.allocUnsafeSlow(length);
    const fitting = this.#pool.at(-1);
    if (fitting !== undefined && fitting.length >= length) return this.#pool.pop() as Buffer;
    // A little more than is needed, so that the next one, which is seldom just as long, finds room too.
    return Buffer.allocUnsafeSlow(Math.min(POOLED_BYTES, Math.max(4096, Math.ceil((length * 1.25) / 4096) * 4096)));
  }

  #giveBack(buffer: Buffer): void {
    if (buffer.length > POOLED_BYTES || this.#pool.length >= POOLED) return;
    this.#pool.push(buffer);
    // The largest last: it fits the most.
    if (this.#pool.length > 1) this.#pool.sort((a, b) => a.length - b.length);
  }
}
