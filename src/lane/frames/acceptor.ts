// The server of frames over TCP: one peer is connected at a time. A new connection that may be takes the place of the old one: a client that was
// restarted, or whose path broke, is not kept waiting until its old connection is found dead. With `allowed` it must come from that
// address, from any port. With TLS it takes the place once it has shown who it is; how many begin to, are about to, and for how long, is bounded: a
// connection beyond that is closed before anything is computed for it.

import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { LinkDrops_Reason as Drop, type TlsSpec } from '../../gen/taplane/v1/link.ts';
import * as libc from '../../sys/libc.ts';
import { formatSocketAddress, type SocketAddress } from '../../sys/socket-address.ts';
import { errnoName } from '../../sys/sys-error.ts';
import { acceptTcp, listenTcp } from '../../sys/tcp-accept.ts';
import { closeTcp } from '../../sys/tcp-socket.ts';
import { sourceOf } from '../link/rate-limiter.ts';
import type { Opened } from './connection.ts';
import { HandshakeGate } from './handshake-gate.ts';
import { secureServer } from './secure.ts';
import { plainStream, type Stream, socketForTls, tlsStream } from './stream.ts';
import type { TlsFiles } from './tls-files.ts';

const HANDSHAKE_MS = 5000;
/** What speaks TLS begins at once, and shows that it does. */
const BELIEVE_MS = 200;
const HANDSHAKES_MOST = 16;
const HANDSHAKES_OF_SOURCE = 4;
const BACKLOG = 16;
/** Connections that are taken before others get their turn. */
const ROUND = 16;
/** Before the next try when there is no room for a connection. */
const REST_MS = 500;
const EAGAIN = 11;
const EINVAL = 22;
const TRANSIENT = new Set([4, 71, 103]);

export interface AcceptorNeeds {
  /** A TCP socket that is bound, to `address`, and not listening yet; it belongs to the acceptor. Throws SysError. */
  openSocket(): { fd: number; address: string };
  tls: { spec: TlsSpec; files: TlsFiles } | undefined;
  /** Address that connections must come from; undefined: any. */
  allowed: string | undefined;
  connected(opened: Opened): void;
  /** A connection was refused. */
  refused(reason: Drop): void;
  /** Monotonic milliseconds. */
  now(): number;
}

export class Acceptor {
  readonly #needs: AcceptorNeeds;
  /** Negative while there is none. */
  #fd = -1;
  /** Kept, or it would be collected. */
  #poll: libc.Poll | undefined;
  #rest: NodeJS.Timeout | undefined;
  #closed = false;
  /** They have not shown yet who they are; the source of each, the oldest first. */
  readonly #unproven = new Map<Socket, string>();
  readonly #gate = new HandshakeGate();
  /** What it is bound to. */
  listen = '';
  allowed: string | undefined;
  /** Of the last connection that was refused, for people. */
  #refusal = '';

  /** Throws SysError when there is no socket to be had, or another listens there. */
  constructor(needs: AcceptorNeeds) {
    this.#needs = needs;
    this.allowed = needs.allowed;
    this.#listen();
  }

  /** Why nobody is connected, for people. */
  get reason(): string {
    const whom = this.allowed === undefined ? 'a connection' : `${this.allowed} to connect`;
    return `waiting for ${whom}${this.#refusal === '' ? '' : `; refused ${this.#refusal}`}`;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#rest);
    this.#poll?.close();
    if (this.#fd >= 0) closeTcp(this.#fd);
    for (const socket of this.#unproven.keys()) socket.destroy();
    this.#unproven.clear();
  }

  #listen(): void {
    const { fd, address } = this.#needs.openSocket();
    try {
      listenTcp(fd, BACKLOG);
      this.#fd = fd;
      this.#wait();
    } catch (error) {
      this.#fd = -1;
      closeTcp(fd);
      throw error;
    }
    this.listen = address;
  }

  #wait(): void {
    this.#poll = libc.pollReadable(this.#fd, (status) => this.#accept(status));
  }

  /** One that somebody has closed from outside (SOCK_DESTROY) is of no use any more: what it accepted would be closed too. */
  #again(isDeaf: boolean): void {
    if (!isDeaf) {
      this.#wait();
      return;
    }
    if (this.#fd >= 0) closeTcp(this.#fd);
    this.#fd = -1;
    try {
      this.#listen();
      this.#refusal = '';
    } catch (error) {
      this.#rest = setTimeout(() => this.#again(true), REST_MS);
      this.#refuse(undefined, `all for now: ${error instanceof Error ? error.message : 'no socket'}`);
    }
  }

  #accept(status: number): void {
    for (let count = 0; count < ROUND && !this.#closed; count++) {
      const accepted = acceptTcp(this.#fd);
      if (typeof accepted !== 'number') this.#take(accepted.fd, accepted.from);
      else if (TRANSIENT.has(accepted)) continue;
      else if (accepted === EAGAIN && status >= 0) return;
      else {
        // No room, or it listens no more: it would be told of again and again.
        this.#poll?.close();
        this.#rest = setTimeout(() => this.#again(accepted === EINVAL), REST_MS);
        this.#refuse(undefined, `all for now: accept: ${errnoName(accepted)}`);
        return;
      }
    }
  }

  #take(fd: number, from: SocketAddress): void {
    const remote = formatSocketAddress(from);
    if (!this.#isAllowed(remote) || !this.#mayBegin(from, remote)) {
      closeTcp(fd);
      return;
    }
    const { tls } = this.#needs;
    try {
      if (tls === undefined) this.#connected(plainStream(fd), remote, BELIEVE_MS);
      else this.#prove(fd, from, remote, tls);
    } catch (error) {
      this.#refuse(undefined, `${remote}: ${error instanceof Error ? error.message : 'no socket'}`);
    }
  }

  #prove(fd: number, from: SocketAddress, remote: string, { spec, files }: { spec: TlsSpec; files: TlsFiles }): void {
    const socket: Socket = socketForTls(fd);
    socket.on('error', () => socket.destroy());
    const source = sourceOf(from);
    this.#makeRoom(source);
    this.#unproven.set(socket, source);
    const timer = setTimeout(() => done(undefined, `not done within ${HANDSHAKE_MS} ms`), HANDSHAKE_MS);
    timer.unref();
    const done = (encrypted: TLSSocket | undefined, reason: string): void => {
      clearTimeout(timer);
      if (!this.#unproven.delete(socket)) return;
      if (encrypted !== undefined) {
        this.#gate.know(from);
        this.#connected(tlsStream(encrypted), remote, 0);
      } else {
        socket.destroy();
        this.#refuse(Drop.UNAUTHENTICATED, `${remote}: TLS: ${reason}`);
      }
    };
    try {
      secureServer(socket, files.read(), spec, done);
    } catch (error) {
      done(undefined, error instanceof Error ? error.message : 'not to be had');
    }
  }

  /** Whether one more may begin to show who it is; if not it is counted. */
  #mayBegin(from: SocketAddress, remote: string): boolean {
    if (this.#needs.tls === undefined || this.#gate.admits(from, this.#needs.now())) return true;
    this.#refuse(Drop.RATE_LIMITED, `${remote}: one of too many in a short time`);
    return false;
  }

  /** The oldest of too many goes, of one source or of all: who says nothing must not keep others out. */
  #makeRoom(source: string): void {
    const ofSource = [...this.#unproven].flatMap(([socket, other]) => (other === source ? socket : []));
    const isFull = this.#unproven.size >= HANDSHAKES_MOST;
    const [oldest] = ofSource.length >= HANDSHAKES_OF_SOURCE ? ofSource : isFull ? this.#unproven.keys() : [];
    if (oldest === undefined) return;
    this.#unproven.delete(oldest);
    oldest.destroy();
    this.#refuse(Drop.RATE_LIMITED, 'one of too many at once');
  }

  /** Whether it comes from where connections must come from now; if not it is counted. */
  #isAllowed(remote: string): boolean {
    if (this.allowed === undefined || hostOf(remote) === this.allowed) return true;
    this.#refuse(Drop.STRANGER, `${remote}: comes from another address`);
    return false;
  }

  #connected(stream: Stream, remote: string, believeAfterMs: number): void {
    // It may have been told of another address while this one showed who it is.
    if (!this.#isAllowed(remote)) {
      stream.socket.destroy();
      return;
    }
    this.#refusal = '';
    this.#needs.connected({ stream, remote, believeAfterMs });
  }

  /** The connection that was given away is over, for this reason, in words for people. */
  ended(remote: string, why: string): void {
    this.#refusal = `${remote}: ${why}`;
  }

  #refuse(drop: Drop | undefined, refusal: string): void {
    this.#refusal = refusal;
    if (drop !== undefined) this.#needs.refused(drop);
  }
}

/** `192.0.2.1` of `192.0.2.1:40000`, and an IPv6 address without brackets. */
export function hostOf(remote: string): string {
  return remote.slice(0, remote.lastIndexOf(':')).replace(/^\[|\]$/g, '');
}
