// The client of frames over TCP: keeps one connection to the endpoint.
//
//   waiting --back-off over--> connecting --connected (and TLS done)--> open --closed--> waiting
//      ^--refused, or not within CONNECT_MS-'
//
// A connection that ended before anything came was maybe none that the other end wanted: the next one has to last twice as long to be believed.
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
import type { Opened } from './connection.ts';
import type { Endpoint } from './frames-setup.ts';
import { secureClient, tlsReason } from './secure.ts';
import { plainStream, type Stream, socketForTls, tlsStream } from './stream.ts';
import type { TlsFiles } from './tls-files.ts';

const CONNECT_MS = 5000;
const LASTED_MS = 1000;
const CLOSED = 'the other end closed the connection';
/** With TLS, at once. */
const UNWANTED = 'TLS: the other end closed the connection as soon as it had seen our certificate; it knows why';
/** Without it. */
const UNHEARD = `${CLOSED} before anything had come from it: does it want TLS?`;
/** More than a way there and back. */
const BELIEVE_MS = 500;
const BELIEVE_MOST_MS = 30_000;

export interface ConnectorNeeds {
  endpoint: Endpoint;
  tls: { spec: TlsSpec; files: TlsFiles } | undefined;
  /** A TCP socket that connects, as `openTcpConnection` makes it; `careful`: with small segments. Throws SysError. */
  openSocket(endpoint: Endpoint, careful: boolean): number;
  /** A connection is open; the stream belongs to whoever it is given to. */
  connected(opened: Opened): { readonly hasHeard: boolean };
  now(): number;
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
  #open: { since: number; connection: { readonly hasHeard: boolean } } | undefined;
  #believeAfterMs = BELIEVE_MS;
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
    this.#believeAfterMs = BELIEVE_MS;
    this.#letGo();
    this.#try();
  }

  close(): void {
    this.#closed = true;
    this.#letGo();
  }

  #letGo(): void {
    clearTimeout(this.#timer);
    this.#open = undefined;
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
      // Without files that can be used nobody is troubled.
      this.#needs.tls?.files.read();
    } catch (error) {
      this.#end(`TLS: ${error instanceof Error ? error.message : 'no files'}`);
      return;
    }
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
        this.#opened(stream.socket, stream);
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

  #secure(plain: Socket, { spec, files }: { spec: TlsSpec; files: TlsFiles }): void {
    this.#watch(plain);
    try {
      const encrypted = secureClient(plain, files.read(), spec, (socket, reason) => {
        if (socket === undefined) this.#endOf(plain, `TLS: ${reason}`);
        else this.#opened(plain, tlsStream(socket));
      });
      encrypted.on('error', (error) => this.#endOf(plain, `TLS: ${tlsReason(error)}`));
      encrypted.on('close', () => this.#endOf(plain, CLOSED));
      this.#encrypted = encrypted;
    } catch (error) {
      this.#endOf(plain, `TLS: ${error instanceof Error ? error.message : 'not to be had'}`);
    }
  }

  #opened(plain: Socket, stream: Stream): void {
    if (plain !== this.#plain) return;
    clearTimeout(this.#timer);
    const remote = this.#endpoint.text;
    this.reason = `connected to ${remote}, and nothing has come from there yet`;
    const since = this.#needs.now();
    this.#open = { since, connection: this.#needs.connected({ stream, remote, believeAfterMs: this.#believeAfterMs }) };
  }

  /** Of sockets that were let go of before nothing is to be said. */
  #endOf(plain: Socket, reason: string): void {
    if (plain === this.#plain) this.#end(reason);
  }

  #end(reason: string): void {
    const open = this.#open;
    const lasted = open === undefined ? 0 : this.#needs.now() - open.since;
    let why = reason;
    if (open !== undefined) {
      this.#careful = reason !== CLOSED;
      const { hasHeard } = open.connection;
      if (!hasHeard && this.#needs.tls === undefined && reason === CLOSED) why = UNHEARD;
      if (!hasHeard && this.#needs.tls !== undefined && lasted < BELIEVE_MS) why = UNWANTED;
      this.#believeAfterMs = hasHeard ? BELIEVE_MS : Math.min(BELIEVE_MOST_MS, Math.max(BELIEVE_MS, 2 * lasted));
    }
    this.#letGo();
    if (this.#closed) return;
    this.#failures = lasted >= LASTED_MS ? 1 : this.#failures + 1;
    const delayMs = backOffMs(this.#failures, Math.random());
    this.reason = `connecting to ${this.#endpoint.text}: ${why}, next try in ${delayMs} ms`;
    this.#timer = setTimeout(() => this.#try(), delayMs);
  }
}
