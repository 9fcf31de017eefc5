// The client of frames over TCP: keeps one connection to the endpoint.
//
//   waiting --back-off over--> connecting --connected (and TLS done)--> open --closed--> waiting
//      ^--refused, or not within CONNECT_MS-'
//
// The back-off begins anew after a connection that lasted. One that broke may have met a path that takes less than it did and tells nobody, which TCP
// itself never finds out: the next one keeps both ends to segments that every path takes, until one of them ends well.

import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TlsSpec } from '../../gen/taplane/v1/link.ts';
import type { Poll } from '../../sys/libc.ts';
import { errnoName } from '../../sys/sys-error.ts';
import { awaitConnection, closeTcp } from '../../sys/tcp-socket.ts';
import { backOffMs } from './back-off.ts';
import type { Endpoint } from './frames-setup.ts';
import { plainStream, type Stream, socketForTls, tlsStream } from './stream.ts';
import { secureClient, tlsReason } from './tls-files.ts';

const CONNECT_MS = 5000;
const LASTED_MS = 1000;
const CLOSED = 'the other end closed the connection';

export interface ConnectorNeeds {
  endpoint: Endpoint;
  tls: TlsSpec | undefined;
  /** A TCP socket that connects, as `openTcpConnection` makes it; `careful`: with small segments. Throws SysError. */
  openSocket(endpoint: Endpoint, careful: boolean): number;
  /** A connection is open; the stream belongs to whoever it is given to. */
  connected(stream: Stream, remote: string): void;
  now(): number;
  /** `reason` is another. */
  changed(): void;
}

export class Connector {
  readonly #needs: ConnectorNeeds;
  #endpoint: Endpoint;
  /** While it connects; the poll is kept, or it would be collected. */
  #dialled: { fd: number; poll: Poll } | undefined;
  #plain: Socket | undefined;
  #encrypted: Duplex | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #openSince: number | undefined;
  #careful = false;
  #closed = false;
  /** Why it is not connected, for people. */
  reason = '';

  constructor(needs: ConnectorNeeds) {
    this.#needs = needs;
    this.#endpoint = needs.endpoint;
    this.#try();
  }

  readonly listen = '';

  get endpoint(): Endpoint {
    return this.#endpoint;
  }

  /** Connects to another endpoint from now on. */
  retarget(endpoint: Endpoint): void {
    if (endpoint.text === this.#endpoint.text) return;
    this.#endpoint = endpoint;
    this.#failures = 0;
    this.#careful = false;
    this.#letGo();
    this.#try();
  }

  close(): void {
    this.#closed = true;
    this.#letGo();
  }

  #letGo(): void {
    clearTimeout(this.#timer);
    this.#openSince = undefined;
    const [dialled, plain, encrypted] = [this.#dialled, this.#plain, this.#encrypted];
    this.#dialled = undefined;
    this.#plain = undefined;
    this.#encrypted = undefined;
    if (dialled !== undefined) {
      dialled.poll.close();
      closeTcp(dialled.fd);
    }
    encrypted?.destroy();
    plain?.destroy();
  }

  #try(): void {
    this.reason = `connecting to ${this.#endpoint.text}`;
    try {
      const fd = this.#needs.openSocket(this.#endpoint, this.#careful);
      this.#dialled = { fd, poll: awaitConnection(fd, (errno) => this.#dialledTo(fd, errno)) };
      this.#timer = setTimeout(() => this.#end(`no answer within ${CONNECT_MS} ms`), CONNECT_MS);
    } catch (error) {
      this.#end(error instanceof Error ? error.message : 'no socket');
    }
  }

  #dialledTo(fd: number, errno: number): void {
    this.#dialled = undefined;
    if (errno !== 0) {
      closeTcp(fd);
      this.#end(errnoName(errno));
      return;
    }
    const { tls } = this.#needs;
    try {
      if (tls === undefined) {
        const stream = plainStream(fd);
        this.#watch(stream.socket);
        this.#open(stream.socket, stream);
      } else this.#secure(socketForTls(fd), tls);
    } catch (error) {
      this.#end(error instanceof Error ? error.message : 'no socket');
    }
  }

  #watch(plain: Socket): void {
    this.#plain = plain;
    plain.on('error', (error: NodeJS.ErrnoException) => this.#endOf(plain, error.code ?? error.message));
    plain.on('close', () => this.#endOf(plain, CLOSED));
  }

  #secure(plain: Socket, tls: TlsSpec): void {
    this.#watch(plain);
    try {
      const encrypted = secureClient(plain, tls, (socket, reason) => {
        if (socket === undefined) this.#endOf(plain, `TLS: ${reason}`);
        else this.#open(plain, tlsStream(socket));
      });
      encrypted.on('error', (error) => this.#endOf(plain, `TLS: ${tlsReason(error)}`));
      encrypted.on('close', () => this.#endOf(plain, CLOSED));
      this.#encrypted = encrypted;
    } catch (error) {
      this.#endOf(plain, `TLS: ${error instanceof Error ? error.message : 'not to be had'}`);
    }
  }

  #open(plain: Socket, stream: Stream): void {
    if (plain !== this.#plain) return;
    clearTimeout(this.#timer);
    this.#openSince = this.#needs.now();
    this.reason = '';
    this.#needs.connected(stream, this.#endpoint.text);
  }

  /** Of sockets that were let go of before nothing is to be said. */
  #endOf(plain: Socket, reason: string): void {
    if (plain === this.#plain) this.#end(reason);
  }

  #end(reason: string): void {
    const lasted = this.#openSince === undefined ? 0 : this.#needs.now() - this.#openSince;
    if (this.#openSince !== undefined) this.#careful = reason !== CLOSED;
    this.#letGo();
    if (this.#closed) return;
    this.#failures = lasted >= LASTED_MS ? 1 : this.#failures + 1;
    const delayMs = backOffMs(this.#failures, Math.random());
    this.reason = `connecting to ${this.#endpoint.text}: ${reason}, next try in ${delayMs} ms`;
    this.#timer = setTimeout(() => this.#try(), delayMs);
    this.#needs.changed();
  }
}
