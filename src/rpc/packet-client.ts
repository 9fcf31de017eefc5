// The packets of an agent for a client: captures, and streams that go both ways.
//
//   stream:  open --first batch--> attached --end()--> half-closed --> over      cancel(), a break, or close() of the client: over at once
//
// Reading holds back the server while its reader does not read, but for the few batches that gRPC keeps; `send` holds back the sender in
// the same way, in bytes. When a stream is over, every `send` that still waits rejects: nothing is left that could wait for ever.

import type { Client, ClientDuplexStream, ServiceError } from '@grpc/grpc-js';
import { PacketBatch } from '../gen/taplane/v1/packet.ts';
import {
  type CapturePacketsRequest,
  PacketServiceService as methods,
  type StreamOpen,
  StreamPacketsRequest,
} from '../gen/taplane/v1/packet_service.ts';

/** Bytes of requests that may be on their way before `send` waits. */
const MAX_PENDING_BYTES = 256 * 1024;

export interface PacketStream {
  /** What the agent sends, the first with `opened`. Read it once; leaving the loop cancels. Ends without an error after `cancel`. */
  readonly batches: AsyncIterable<PacketBatch>;
  /** Sends a request; resolves when there is room for another. Rejects with the error of the stream when it is over. */
  send(request: Partial<Omit<StreamPacketsRequest, 'open'>>): Promise<void>;
  /** Half-closes: what was sent is worked off, what waits still comes, then `batches` ends. */
  end(): void;
  cancel(): void;
}

export interface PacketClient {
  /** Watches an interface until a limit of the request, or the signal. */
  capture(request: CapturePacketsRequest, signal: AbortSignal): AsyncIterable<PacketBatch>;
  /** Opens a stream. Failures to open come from `batches` and `send`. */
  stream(open: StreamOpen): PacketStream;
}

/** What a stream needs of its client. */
export interface StreamNeeds {
  client: Client;
  /** Aborts when the client closes. */
  closed: AbortSignal;
  /** An error of grpc-js in our form. */
  failed(error: ServiceError): Error;
}

/** What a closed client gives: as with its other streams, nothing comes. */
const neverOpened: PacketStream = {
  batches: {
    async *[Symbol.asyncIterator]() {},
  },
  async send() {
    throw new Error('send packets: the client is closed');
  },
  end() {},
  cancel() {},
};

export function openStream(needs: StreamNeeds, open: StreamOpen): PacketStream {
  const { client, closed, failed } = needs;
  if (closed.aborted) return neverOpened;
  const same = (bytes: Buffer): Buffer => bytes;
  // Requests are encoded here, so that their bytes can be counted: the stream of grpc-js counts messages.
  const call: ClientDuplexStream<Buffer, PacketBatch> = client.makeBidiStreamRequest(methods.streamPackets.path, same, PacketBatch.decode);
  let over = false;
  let cancelled = false;
  let ending = false;
  let failure: Error | undefined;
  let pendingBytes = 0;
  const waiting = new Set<() => void>();
  const wake = (): void => {
    for (const one of waiting) one();
  };
  const cancel = (): void => {
    if (over) return;
    cancelled = true;
    call.cancel();
    finish();
  };
  const finish = (): void => {
    over = true;
    closed.removeEventListener('abort', cancel);
    wake();
  };
  // Also without a reader: an error that nobody hears would end the process.
  call.on('error', (error: ServiceError) => {
    if (!cancelled) failure ??= failed(error);
  });
  call.on('status', finish);
  closed.addEventListener('abort', cancel, { once: true });

  const hasRoom = (): boolean => pendingBytes <= MAX_PENDING_BYTES && !call.writableNeedDrain;
  const write = (request: Partial<StreamPacketsRequest>): void => {
    const { buffer, byteOffset, length } = StreamPacketsRequest.encode({ ...StreamPacketsRequest.create(), ...request }).finish();
    const bytes = Buffer.from(buffer, byteOffset, length);
    pendingBytes += bytes.length;
    call.write(bytes, () => {
      pendingBytes -= bytes.length;
      wake();
    });
  };
  call.on('drain', wake);
  write({ open });

  return {
    batches: {
      async *[Symbol.asyncIterator]() {
        try {
          yield* call as AsyncIterable<PacketBatch>;
        } catch (error) {
          if (!cancelled) throw failure ?? failed(error as ServiceError);
        } finally {
          cancel();
        }
      },
    },
    async send(request) {
      if (ending && !over) throw new Error('send packets: the stream was ended');
      if (!over) write(request);
      while (!over && !hasRoom()) {
        await new Promise<void>((resolve) => {
          const again = (): void => {
            waiting.delete(again);
            resolve();
          };
          waiting.add(again);
        });
      }
      if (over) throw failure ?? new Error('send packets: the stream is over');
    },
    end() {
      if (ending || over) return;
      ending = true;
      call.end();
    },
    cancel,
  };
}
