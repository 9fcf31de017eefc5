// A data plane that does what a test says: each stream or capture that is opened is handed to the test, which sends batches, hears requests
// and ends it. The server and the wire before it are real.

import { PacketBatch } from '../../src/gen/taplane/v1/packet.ts';
import { StreamPacketsRequest } from '../../src/gen/taplane/v1/packet_service.ts';
import type { Packets } from '../../src/rpc/packet-service.ts';

type Ask = Parameters<Packets['open']>[0];
type Events = Parameters<Packets['open']>[1];
type Some<T> = T extends Buffer | bigint
  ? T
  : T extends (infer Item)[]
    ? Some<Item>[]
    : T extends object
      ? { [Key in keyof T]?: Some<T[Key]> }
      : T;

export class ScriptedStream {
  readonly ask: Ask;
  readonly requests: StreamPacketsRequest[] = [];
  /** The client reads too slowly. */
  paused = false;
  halfClosed = false;
  /** The client is gone. */
  destroyed = false;
  /** Called after each request and the half-close. */
  onRequest: () => void = () => {};
  readonly #events: Events;

  constructor(ask: Ask, events: Events) {
    this.ask = ask;
    this.#events = events;
  }

  send(batch: Some<PacketBatch>): void {
    this.#events.batch(Buffer.from(PacketBatch.encode(PacketBatch.fromPartial(batch)).finish()), () => {});
  }

  end(): void {
    this.#events.end();
  }

  fail(error: Parameters<Events['failed']>[0]): void {
    this.#events.failed(error);
  }

  /** Frames that the client has sent in. */
  get frames(): Buffer[] {
    return this.requests.flatMap(({ frames }) => frames);
  }
}

export interface ScriptedPackets extends Packets {
  readonly streams: ScriptedStream[];
}

/** `script` is called for each stream; what it throws refuses it. `hears: false` reads no requests. */
export function scriptedPackets(script: (stream: ScriptedStream) => void | Promise<void>, { hears = true } = {}): ScriptedPackets {
  const streams: ScriptedStream[] = [];
  return {
    streams,
    async open(ask, events) {
      const stream = new ScriptedStream(ask, events);
      streams.push(stream);
      await script(stream);
      return {
        send(bytes) {
          stream.requests.push(StreamPacketsRequest.decode(bytes));
          stream.onRequest();
          return hears;
        },
        end() {
          stream.halfClosed = true;
          stream.onRequest();
        },
        pause() {
          stream.paused = true;
        },
        resume() {
          stream.paused = false;
        },
        destroy() {
          stream.destroyed = true;
        },
      };
    },
  };
}
