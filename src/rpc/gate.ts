// What every call passes on its way in and out: who calls, whether that is allowed, and the record of it. The handlers know the moments; what
// happens at them is decided by who composes the server.

import { EVERYTHING, NOTHING, type Scope } from '../access/authorize.ts';
import type { Caller } from '../access/caller.ts';
import { type ErrorCode, TaplaneError } from '../errors.ts';

/** A call that is about to be handled. */
export interface GatedCall {
  /** `/taplane.v1.InterfaceService/CreateInterface` */
  readonly path: string;
  readonly caller: Caller;
  /** Decoded; of a client stream the first message. */
  readonly request: unknown;
}

export interface Outcome {
  readonly code: 'OK' | ErrorCode;
  /** Of the TaplaneError; empty for OK. */
  readonly reason: string;
}

/** What lets calls in. A part that is absent lets everything pass. */
export interface Gate {
  /** Who is on the connection that grpc-js calls `peer` (`ServerUnaryCall.getPeer()`); undefined: nobody knows, and the call is UNAUTHENTICATED. */
  callerOf(peer: string): Caller | undefined;
  /** Throws TaplaneError PERMISSION_DENIED when policy does not allow it. Touches nothing. */
  authorize(call: GatedCall): void;
  /**
   * A stream that was let in goes on for as long as that is allowed: `end` is called with PERMISSION_DENIED when it no longer is, once, also before this
   * returns. The answer is called when the stream is over.
   */
  stays?(call: GatedCall, end: (error: TaplaneError) => void): () => void;
  /** Told of each call that is UNAUTHENTICATED, before its answer. Never rejects. */
  stranger?(path: string, error: TaplaneError): Promise<void>;
  /** What the caller may see in the answers of a method; everything where the gate does not say. */
  scopeOf?(path: string, caller: Caller): Scope;
  /**
   * Told of each call once: of a unary one before its answer goes out, of a stream before its first message. The answer waits until it resolves;
   * when it rejects, the call fails with that error. A call that was refused is told as well.
   */
  record(call: GatedCall, outcome: Outcome): Promise<void> | void;
}

const EVERYBODY: Caller = { kind: 'loopback', address: '' };

/** Lets everything pass and writes nothing down. */
export const OPEN_GATE: Gate = {
  callerOf: () => EVERYBODY,
  authorize() {},
  record() {},
};

/** What who is on this connection may see in the answers of a method. */
export function scopeOf(gate: Gate, path: string, peer: string): Scope {
  if (gate.scopeOf === undefined) return EVERYTHING;
  const caller = gate.callerOf(peer);
  // Its connection may be gone by now.
  return caller === undefined ? NOTHING : gate.scopeOf(path, caller);
}

/**
 * Passes `call` in. Throws what the gate throws, after it was recorded. The answer records how the call ended; it is called once, and of a stream
 * before its first message.
 */
export async function enter(gate: Gate, path: string, peer: string, request: unknown): Promise<(error?: unknown) => Promise<void>> {
  const caller = gate.callerOf(peer);
  if (caller === undefined) {
    const error = unknownCaller(path);
    await gate.stranger?.(path, error);
    throw error;
  }
  const call = { path, caller, request };
  try {
    gate.authorize(call);
  } catch (error) {
    await gate.record(call, outcomeOf(error));
    throw error;
  }
  return async (error) => {
    await gate.record(call, outcomeOf(error));
  };
}

/** What became of the right to a stream: the error that it ends with, and when that was written down. */
export interface Revocation {
  readonly error: TaplaneError;
  /** Never rejects: a disk that fails does not keep the stream open. */
  readonly recorded: Promise<void>;
}

/** Watches over a stream that was let in. `revoked` must stop it at once, and not throw. The answer is called when the stream is over. */
export function stay(gate: Gate, path: string, peer: string, request: unknown, revoked: (revocation: Revocation) => void): () => void {
  const caller = gate.callerOf(peer);
  if (caller === undefined || gate.stays === undefined) return () => {};
  const call = { path, caller, request };
  const record = async (error: TaplaneError) => gate.record(call, outcomeOf(error));
  return gate.stays(call, (error) => revoked({ error, recorded: record(error).catch(() => {}) }));
}

/** What a call gets on a connection that is known no more. */
export function unknownCaller(path: string): TaplaneError {
  const message = `call ${path}: nobody knows who is on this connection; it is over: connect anew`;
  return new TaplaneError('UNAUTHENTICATED', 'UNKNOWN_CALLER', message);
}

function outcomeOf(error: unknown): Outcome {
  if (error === undefined) return { code: 'OK', reason: '' };
  return error instanceof TaplaneError ? { code: error.code, reason: error.reason } : { code: 'INTERNAL', reason: 'INTERNAL' };
}
