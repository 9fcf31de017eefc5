// The connections of a server: who is on each of them, how many there may be, and what became of them. grpc-js knows a connection by the remote
// address of its socket; here that address is a key of our own, by which the caller is found again, in one look-up.
//
// One too many is let in for a moment, a few of them at a time, so that its call can be told why; it counts as none.
//
// A connection is admitted once its caller is known and before a byte of HTTP/2 is read. It is forgotten when its socket closes. One whose first
// call does not come in time is closed: that is what a silent client, a half-open one and one that never ends its headers have in common.

import type { Socket } from 'node:net';
import { type Caller, callerName } from '../access/caller.ts';
import { TaplaneError } from '../errors.ts';
import { unknownCaller } from './gate.ts';
import { REFUSALS, type Refusal, type RefusalLog } from './refusals.ts';

export type CallerKind = Caller['kind'];

/** What a metric wants to know; the counts but `open` and `handshaking` only grow. */
export interface ConnectionCounts {
  readonly open: Readonly<Record<CallerKind, number>>;
  /** Connections that are in the middle of their TLS handshake. */
  readonly handshaking: number;
  readonly accepted: Readonly<Record<CallerKind, number>>;
  /** Connections that were closed before they could call, by reason. */
  readonly refused: Readonly<Record<Refusal, number>>;
}

export interface ConnectionLimits {
  /** Open connections of all callers; root over a unix socket gets in beyond it, since somebody has to. */
  maxConnections: number;
  /** Of one caller: a user, an identity, all of loopback. */
  maxConnectionsPerClient: number;
  /** TLS handshakes in progress, of all and of one address (of IPv6 its /64). */
  maxHandshakes: number;
  maxHandshakesPerAddress: number;
  /** From the first byte to the last, milliseconds. */
  handshakeTimeoutMs: number;
  /** A connection whose first call does not come within this is closed, milliseconds. */
  firstCallTimeoutMs: number;
}

interface Connection {
  readonly caller: Caller;
  readonly socket: Socket;
  /** The limit that it exceeds. */
  readonly excess: Limit | undefined;
  silence: NodeJS.Timeout | undefined;
}

/** What a connection exceeds that is one too many. */
export type Limit = Extract<Refusal, 'connections' | 'client_connections'>;

/** Connections above a limit that are told so, at once; more are just closed. */
const MOST_EXCESS = 16;
/** How long one of these has to make its call, milliseconds. */
const EXCESS_MS = 1000;

export class ConnectionTable {
  readonly #limits: ConnectionLimits;
  readonly #refusals: RefusalLog;
  readonly #byKey = new Map<string, Connection>();
  readonly #perClient = new Tally();
  readonly #perAddress = new Tally();
  readonly #shaking = new Map<Socket, { group: string; clock: NodeJS.Timeout }>();
  #excess = 0;
  readonly #open = { unix: 0, tls: 0, loopback: 0 };
  readonly #accepted = { unix: 0, tls: 0, loopback: 0 };
  #last = 0;
  #closed = false;
  #emptied: () => void = () => {};

  constructor(limits: ConnectionLimits, refusals: RefusalLog) {
    this.#limits = limits;
    this.#refusals = refusals;
  }

  get handshakeTimeoutMs(): number {
    return this.#limits.handshakeTimeoutMs;
  }

  /** Takes `socket` (*transfers*) and gives it to `inject`, or closes it when there are too many already. */
  admit(socket: Socket, caller: Caller, inject: (socket: Socket) => void): void {
    // Whatever happens to it later: a socket without a listener for errors ends the process.
    socket.on('error', () => {});
    const name = callerName(caller);
    const from = caller.kind === 'unix' ? name : `${name} ${caller.address}`;
    if (this.#closed) {
      this.refuse(socket, 'stopping', from);
      return;
    }
    const excess = this.#exceeded(caller, name);
    if (excess !== undefined && this.#excess >= MOST_EXCESS) {
      this.refuse(socket, excess, from);
      return;
    }
    const key = `connection-${++this.#last}`;
    let silence: NodeJS.Timeout;
    if (excess === undefined) {
      silence = setTimeout(() => this.refuse(socket, 'no_call', from), this.#limits.firstCallTimeoutMs);
      this.#count(socket, name, caller.kind);
    } else {
      silence = setTimeout(() => socket.destroy(), EXCESS_MS);
      this.#excess += 1;
      this.#refusals.refused(excess, from);
    }
    this.#byKey.set(key, { caller, socket, excess, silence });
    socket.once('close', () => {
      clearTimeout(silence);
      this.#byKey.delete(key);
      if (excess !== undefined) this.#excess -= 1;
      if (this.#byKey.size === 0) this.#emptied();
    });
    Object.defineProperties(socket, { remoteAddress: { value: key }, remotePort: { value: undefined } });
    inject(socket);
  }

  #count(socket: Socket, name: string, kind: CallerKind): void {
    this.#perClient.add(name);
    this.#open[kind] += 1;
    this.#accepted[kind] += 1;
    socket.once('close', () => {
      this.#perClient.remove(name);
      this.#open[kind] -= 1;
    });
  }

  #exceeded(caller: Caller, name: string): Limit | undefined {
    const isRoot = caller.kind === 'unix' && caller.uid === 0;
    if (!isRoot && this.#byKey.size - this.#excess >= this.#limits.maxConnections) return 'connections';
    return this.#perClient.of(name) >= this.#limits.maxConnectionsPerClient ? 'client_connections' : undefined;
  }

  /** Whether a TLS handshake may begin on `socket`; if not, it is closed. */
  beginHandshake(socket: Socket): boolean {
    socket.on('error', () => {});
    const address = socket.remoteAddress ?? '';
    const group = addressGroup(address);
    const full = this.#shaking.size >= this.#limits.maxHandshakes;
    if (this.#closed || full || this.#perAddress.of(group) >= this.#limits.maxHandshakesPerAddress) {
      this.refuse(socket, this.#closed ? 'stopping' : full ? 'handshakes' : 'address_handshakes', address);
      return false;
    }
    const clock = setTimeout(() => this.refuse(socket, 'handshake_timeout', address), this.#limits.handshakeTimeoutMs);
    this.#shaking.set(socket, { group, clock });
    this.#perAddress.add(group);
    socket.once('close', () => this.endHandshake(socket));
    return true;
  }

  /** Twice is once. */
  endHandshake(socket: Socket): void {
    const handshake = this.#shaking.get(socket);
    if (handshake === undefined) return;
    clearTimeout(handshake.clock);
    this.#shaking.delete(socket);
    this.#perAddress.remove(handshake.group);
  }

  refuse(socket: Socket, why: Refusal, from: string, error?: string): void {
    socket.destroy();
    this.#refusals.refused(why, from, error);
  }

  /** The caller on the connection that grpc-js calls `peer`. */
  callerOf(peer: string): Caller | undefined {
    return this.#byKey.get(peer)?.caller;
  }

  /** Told of every call. Throws what the call is to end with: nobody is known there, or the connection is one too many. */
  called(peer: string, path: string): void {
    const connection = this.#byKey.get(peer);
    if (connection === undefined) throw unknownCaller(path);
    if (connection.excess !== undefined) throw this.#tooMany(connection.excess, connection.caller, path);
    clearTimeout(connection.silence);
    connection.silence = undefined;
  }

  #tooMany(limit: Limit, caller: Caller, path: string): TaplaneError {
    const { maxConnections, maxConnectionsPerClient } = this.#limits;
    const [most, whose] = limit === 'connections' ? [maxConnections, 'all callers'] : [maxConnectionsPerClient, callerName(caller)];
    const cure =
      'make calls over one connection, close those that are not used, or raise limits.connections and limits.connectionsPerClient';
    return new TaplaneError('RESOURCE_EXHAUSTED', 'TOO_MANY_CONNECTIONS', `call ${path}: ${whose} may have ${most} connections; ${cure}`, {
      metadata: { subject: limit, limit: String(most) },
    });
  }

  counts(): ConnectionCounts {
    const refused = Object.fromEntries(REFUSALS.map((why) => [why, this.#refusals.count(why)])) as Record<Refusal, number>;
    return { open: { ...this.#open }, handshaking: this.#shaking.size, accepted: { ...this.#accepted }, refused };
  }

  /** From now on nobody is admitted; handshakes in progress end. */
  close(): void {
    this.#closed = true;
    for (const socket of this.#shaking.keys()) socket.destroy();
  }

  /** Resolves when nothing is open any more, at the latest after `withinMs`. */
  async drained(withinMs: number): Promise<void> {
    if (this.#byKey.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, withinMs);
    this.#emptied = resolve;
    await promise;
    clearTimeout(timer);
  }

  /** What is still open ends now. */
  cut(): void {
    for (const { socket } of this.#byKey.values()) socket.destroy();
  }
}

/** How many of each name there are; names with none are not kept. */
class Tally {
  readonly #counts = new Map<string, number>();

  of(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  add(name: string): void {
    this.#counts.set(name, this.of(name) + 1);
  }

  remove(name: string): void {
    const left = this.of(name) - 1;
    if (left > 0) this.#counts.set(name, left);
    else this.#counts.delete(name);
  }
}

/** One client has all addresses of its IPv6 /64; the first four groups of the text say which, as inet_ntop writes them. */
export function addressGroup(address: string): string {
  if (!address.includes(':') || address.includes('.')) return address;
  const [head = '', tail] = address.split('::');
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const rest = tail === '' ? [] : tail.split(':');
    while (groups.length + rest.length < 8) groups.push('0');
    groups.push(...rest);
  }
  return `${groups.slice(0, 4).join(':')}::/64`;
}
