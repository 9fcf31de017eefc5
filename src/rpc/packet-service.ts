// PacketService on the wire. Batches come encoded from the data plane and go out as they are; requests go in as they came. Nothing waits
// without a bound: a client that does not read holds up its own stream alone, a device that is slow its own client alone.

import type { ServerDuplexStream, ServerWritableStream, ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { invalidFields, TaplaneError } from '../errors.ts';
import type { StreamSetup } from '../gen/taplane/lane/v1/lane_service.ts';
import { CapturePacketsRequest, StreamPacketsRequest, PacketServiceService as service } from '../gen/taplane/v1/packet_service.ts';
import type { LanePipe, PipeEvents } from '../lane/client.ts';
import { enter, type Revocation, stay } from './gate.ts';
import { type HandlerNeeds, malformed, rawMethod } from './handlers.ts';
import { codeOf } from './observed.ts';

export const PACKET_SERVICE = 'taplane.v1.PacketService';

type Ask = NonNullable<StreamSetup['ask']>;

/** What the service needs of the agent. */
export interface Packets {
  /** Opens a stream or capture in the data plane. Rejects with TaplaneError; later failures come as events. */
  open(ask: Ask, events: PipeEvents): Promise<LanePipe>;
}

type Call = ServerDuplexStream<Buffer, Buffer> | ServerWritableStream<Buffer, Buffer>;

export function packetService(
  packets: Packets,
  needs: HandlerNeeds,
): { definition: ServiceDefinition; handlers: UntypedServiceImplementation } {
  return {
    definition: Object.fromEntries(Object.entries(service).map(([name, method]) => [name, rawMethod(method)])),
    handlers: {
      streamPackets: (call: ServerDuplexStream<Buffer, Buffer>) => streamPackets(call, packets, needs),
      capturePackets: (call: ServerWritableStream<Buffer, Buffer>) => capturePackets(call, packets, needs),
    },
  };
}

function capturePackets(call: ServerWritableStream<Buffer, Buffer>, packets: Packets, needs: HandlerNeeds): void {
  const { path } = service.capturePackets;
  const { fail, events, opened, stays } = answering(call, path, needs);
  try {
    const value = decode(CapturePacketsRequest.decode, call.request, path);
    opened(
      admitted(call, path, needs, value)
        .then(() => stays(value))
        .then(() => packets.open({ $case: 'capture', value }, events)),
    );
  } catch (error) {
    fail(error);
  }
}

function streamPackets(call: ServerDuplexStream<Buffer, Buffer>, packets: Packets, needs: HandlerNeeds): void {
  const { path } = service.streamPackets;
  let pipe: LanePipe | undefined;
  let begun = false;
  let halfClosed = false;
  const { fail, events, opened, stays, isOver } = answering(call, path, needs, () => call.resume());
  const begin = (bytes: Buffer): void => {
    begun = true;
    const request = decode(StreamPacketsRequest.decode, bytes, path);
    const { open } = request;
    if (open === undefined) throw invalidFields([{ field: 'open', description: 'must be given in the first request' }]);
    // Until the stream is there, what follows stays where it is bounded.
    call.pause();
    const opening = admitted(call, path, needs, request).then(async () => {
      // Not the frames, which would be kept for as long as the stream lasts.
      stays(StreamPacketsRequest.fromPartial({ open }));
      const found = await packets.open({ $case: 'stream', value: open }, events);
      // What came with a right that is gone by now is not sent in.
      if (isOver()) return found;
      pipe = found;
      pipe.send(bytes);
      if (halfClosed) pipe.end();
      call.resume();
      return found;
    });
    opened(opening);
  };
  call.on('data', (bytes: Buffer) => {
    try {
      if (!begun) begin(bytes);
      else if (pipe !== undefined && !pipe.send(bytes)) call.pause();
    } catch (error) {
      fail(error);
    }
  });
  call.on('end', () => {
    halfClosed = true;
    if (!begun) fail(invalidFields([{ field: 'open', description: 'must be given in the first request' }]));
    else pipe?.end();
  });
}

/** The way back: batches to the client, bounded, and the one end of the call. */
function answering(call: Call, path: string, needs: HandlerNeeds, room: () => void = () => {}) {
  let pipe: LanePipe | undefined;
  let over = false;
  let pendingBytes = 0;
  let paused = false;
  let revoked = false;
  let forget = (): void => {};
  const ended = needs.calls.begin(path, false);
  /** Twice is once. */
  const finish = (code: string): void => {
    over = true;
    ended(code);
    forget();
    // Whoever may no longer have the stream may not come back for it either.
    if (revoked) pipe?.end();
    // Else without a word: a client that lost its connection may come back for its stream.
    pipe?.destroy();
  };
  const fail = (error: unknown): void => {
    if (over) return;
    finish(codeOf(error));
    call.emit('error', needs.exit(error, path));
  };
  call.on('cancelled', () => finish('CANCELLED'));
  // A half-closed or reset call may also fail below us.
  call.on('error', () => finish('INTERNAL'));
  /** Ends the stream when its caller may no longer have it. Throws when it is over already: then nothing is to be opened. */
  const stays = (request: unknown): void => {
    forget = stay(needs.gate, path, call.getPeer(), request, ({ error, recorded }: Revocation) => {
      if (over) return;
      revoked = true;
      finish(error.code);
      void recorded.then(() => call.emit('error', needs.exit(error, path)));
    });
    if (!over) return;
    forget();
    throw new TaplaneError('CANCELLED', 'CANCELLED', `call ${path}: it was over before it was opened`);
  };
  const sent = (length: number, release: () => void) => (): void => {
    release();
    pendingBytes -= length;
    if (!paused || pendingBytes > needs.maxPendingBytes / 2) return;
    paused = false;
    pipe?.resume();
  };
  const events: PipeEvents = {
    batch(bytes, release) {
      if (over) return release();
      pendingBytes += bytes.length;
      call.write(bytes, sent(bytes.length, release));
      if (paused || pendingBytes <= needs.maxPendingBytes) return;
      paused = true;
      pipe?.pause();
    },
    end() {
      if (over) return;
      finish('OK');
      call.end();
    },
    failed: fail,
    room,
  };
  const opened = (opening: Promise<LanePipe>): void => {
    opening.then((found) => {
      pipe = found;
      if (over) finish('');
      else if (paused) found.pause();
    }, fail);
  };
  return { fail, events, opened, stays, isOver: () => over };
}

/** Streams are told of when they open; who may open one may use it. */
async function admitted(call: Call, path: string, needs: HandlerNeeds, request: unknown): Promise<void> {
  const leave = await enter(needs.gate, path, call.getPeer(), request);
  await leave();
}

function decode<Message>(read: (bytes: Buffer) => Message, bytes: Buffer, path: string): Message {
  try {
    return read(bytes);
  } catch (cause) {
    throw malformed(path, cause);
  }
}
