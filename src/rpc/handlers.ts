// From async functions and generators to grpc-js handlers, in bytes: decoding and encoding happen here, inside the one try, so
// that nothing a client sends can throw out of grpc-js, and a malformed request is INVALID_ARGUMENT instead of INTERNAL.
//
// Every call passes the gate between the two: who calls, whether that is allowed, and the record of it.
//
// Unary: `signal` aborts when the client cancels or the deadline passes; the answer is then dropped.
// Server stream: at most `maxPendingBytes` wait for the client; then the generator is not asked for more. When the client
// cancels, the generator's `return` is called at once, also in the middle of a wait: grpc-js never emits `drain` after a cancel. The same when the
// caller may no longer have it.

import type { handleServerStreamingCall, handleUnaryCall, ServerUnaryCall, ServerWritableStream, ServiceError } from '@grpc/grpc-js';
import type { Scope } from '../access/authorize.ts';
import { TaplaneError } from '../errors.ts';
import { enter, type Gate, type Revocation, scopeOf, stay } from './gate.ts';
import { type CallObserver, observed } from './observed.ts';
import type { ErrorExit } from './status.ts';

export interface CallContext {
  /** Aborts when the client no longer waits. */
  signal: AbortSignal;
  /** When the client stops waiting; undefined for never. */
  deadline: Date | undefined;
  /** As grpc-js names the other end of the connection; the gate knows who that is. */
  peer: string;
  /** What of the answers the caller may see. */
  readonly scope: Scope;
}

/** The part of a generated method that the adapter needs. */
export interface Method<Request, Response> {
  path: string;
  requestStream: boolean;
  responseStream: boolean;
  requestDeserialize(bytes: Buffer): Request;
  responseSerialize(message: Response): Buffer;
}

export interface HandlerNeeds {
  exit: ErrorExit;
  /** What every call passes. */
  gate: Gate;
  /** Who counts calls. */
  calls: CallObserver;
  /** Largest answer, bytes. */
  maxMessageBytes: number;
  /** How much one stream may have waiting for its client, bytes. */
  maxPendingBytes: number;
}

/** A method on bytes: what `Server.addService` is given instead of the generated one. */
export function rawMethod(method: { path: string; requestStream: boolean; responseStream: boolean }) {
  const same = (bytes: Buffer) => bytes;
  return {
    path: method.path,
    requestStream: method.requestStream,
    responseStream: method.responseStream,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
}

/** Decodes, passes the gate, answers, is recorded; only then the answer goes out. What `answer` throws leaves by the one exit. */
export function unary<Request, Response>(
  method: Method<Request, Response>,
  needs: HandlerNeeds,
  answer: (request: Request, context: CallContext) => Promise<Response>,
): handleUnaryCall<Buffer, Buffer> {
  return (call, callback) => {
    const context = contextOf(call, needs.gate, method.path);
    const run = async (): Promise<Buffer> => {
      const request = decode(method, call.request);
      const leave = await enter(needs.gate, method.path, context.peer, request);
      let bytes: Buffer;
      try {
        bytes = encode(method, needs, await answer(request, context));
      } catch (error) {
        await leave(error);
        throw error;
      }
      await leave();
      return bytes;
    };
    observed(needs.calls, method.path, true, call.metadata, context.signal, run).then(
      (bytes) => callback(null, bytes),
      (error: unknown) => callback(failure(error, method.path, needs.exit, context.signal)),
    );
  };
}

/** The same for a stream: it is recorded before its first message, and ends when its client goes or policy no longer allows it. */
export function serverStream<Request, Response>(
  method: Method<Request, Response>,
  needs: HandlerNeeds,
  answer: (request: Request, context: CallContext) => AsyncIterable<Response>,
): handleServerStreamingCall<Buffer, Buffer> {
  return (call) => {
    const context = contextOf(call, needs.gate, method.path);
    const run = async (): Promise<void> => {
      const request = decode(method, call.request);
      const leave = await enter(needs.gate, method.path, context.peer, request);
      await leave();
      let revocation: Revocation | undefined;
      const forget = stay(needs.gate, method.path, context.peer, request, (found) => {
        revocation = found;
        context.abort();
      });
      try {
        const write = boundedWriter(call, context.signal, needs.maxPendingBytes);
        for await (const message of untilAborted(answer(request, context), context.signal)) {
          await write(encode(method, needs, message));
        }
      } catch (error) {
        if (revocation === undefined) throw error;
      } finally {
        forget();
      }
      await revocation?.recorded;
      if (revocation !== undefined) throw revocation.error;
    };
    observed(needs.calls, method.path, false, call.metadata, context.signal, run).then(
      () => call.end(),
      // grpc-js ends the call with the status of an error that is emitted, after what was written before it.
      (error: unknown) => call.emit('error', failure(error, method.path, needs.exit, context.signal)),
    );
  };
}

type OwnContext = CallContext & { abort(): void };

function contextOf(call: ServerUnaryCall<Buffer, Buffer> | ServerWritableStream<Buffer, Buffer>, gate: Gate, path: string): OwnContext {
  const cancelled = new AbortController();
  call.once('cancelled', () => cancelled.abort());
  const deadline = call.getDeadline();
  const at = deadline instanceof Date ? deadline.getTime() : deadline;
  return {
    signal: cancelled.signal,
    abort: () => cancelled.abort(),
    deadline: Number.isFinite(at) ? new Date(at) : undefined,
    peer: call.getPeer(),
    get scope() {
      return scopeOf(gate, path, call.getPeer());
    },
  };
}

function decode<Request>(method: Method<Request, unknown>, bytes: Buffer): Request {
  try {
    return method.requestDeserialize(bytes);
  } catch (cause) {
    throw malformed(method.path, cause);
  }
}

/** For bytes that are no message. */
export function malformed(path: string, cause: unknown): TaplaneError {
  return new TaplaneError('INVALID_ARGUMENT', 'MALFORMED_REQUEST', `read request of ${path}: not a valid protobuf message`, { cause });
}

function encode<Response>(method: Method<unknown, Response>, needs: HandlerNeeds, message: Response): Buffer {
  const bytes = method.responseSerialize(message);
  if (bytes.length <= needs.maxMessageBytes) return bytes;
  throw new TaplaneError(
    'RESOURCE_EXHAUSTED',
    'RESPONSE_TOO_LARGE',
    `answer ${method.path}: ${bytes.length} bytes exceed the limit of ${needs.maxMessageBytes}`,
    {
      metadata: { subject: 'message', limitBytes: String(needs.maxMessageBytes) },
    },
  );
}

/** After a cancel nobody hears the answer, and whatever was thrown because of it is no bug to log. */
function failure(error: unknown, path: string, exit: ErrorExit, signal: AbortSignal): ServiceError {
  const aborted = signal.aborted && !(error instanceof TaplaneError);
  return exit(aborted ? new TaplaneError('CANCELLED', 'CANCELLED', 'the client no longer waits') : error, path);
}

/** Ends with the signal even where `source` waits for something that never comes; its `return` is always called, once. */
async function* untilAborted<Message>(source: AsyncIterable<Message>, signal: AbortSignal): AsyncGenerator<Message> {
  const iterator = source[Symbol.asyncIterator]();
  const aborted = whenAborted(signal);
  try {
    while (!signal.aborted) {
      const next = await Promise.race([iterator.next(), aborted.promise]);
      if (next === undefined || next.done) return;
      yield next.value;
    }
  } finally {
    aborted.forget();
    // Not awaited: a generator that is in the middle of a wait queues the return behind it.
    void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

function whenAborted(signal: AbortSignal): { promise: Promise<undefined>; forget(): void } {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const onAbort = () => resolve(undefined);
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  return { promise, forget: () => signal.removeEventListener('abort', onAbort) };
}

/** Counts bytes, because the stream of grpc-js counts messages, whatever their size. Rejects never; ends waiting on abort. */
function boundedWriter(call: ServerWritableStream<Buffer, Buffer>, signal: AbortSignal, maxPendingBytes: number) {
  let pendingBytes = 0;
  let wake: (() => void) | undefined;
  signal.addEventListener('abort', () => wake?.(), { once: true });
  return async (bytes: Buffer): Promise<void> => {
    pendingBytes += bytes.length;
    let room = call.write(bytes, () => {
      pendingBytes -= bytes.length;
      wake?.();
    });
    while (!signal.aborted && (!room || pendingBytes > maxPendingBytes)) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
      room = !call.writableNeedDrain;
    }
  };
}
