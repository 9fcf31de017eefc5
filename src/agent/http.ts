// A small HTTP server for probes and scrapes. Only GET and HEAD of paths that are known; bodies are not read; connections, headers and time are
// bounded; every other answer is typed JSON. An address that cannot be had is tried again: an agent is not worth less than its metrics.
//
//   start --> trying --bound--> serving --> stop
//               '-- again every RETRY_MS

import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { formatAddress, parseListenAddress } from '../rpc/listen-address.ts';
import type { Log } from './log.ts';

const CONNECTIONS_MOST = 32;
const HEADER_BYTES_MOST = 8192;
/** For the head of a request to come. */
const REQUEST_MS = 5_000;
/** For a kept connection to ask again: longer than the pause between two scrapes is not needed. */
const KEEP_MS = 65_000;
/** For a reader that does not read. */
const SILENCE_MS = 70_000;
const REQUESTS_OF_CONNECTION_MOST = 1_000;
const RETRY_MS = 5_000;

export interface HttpAnswer {
  status: number;
  contentType: string;
  body: string | Buffer;
}

/** Answers a path. What it rejects with is logged, and the client is told 500. */
export type HttpRoute = (query: URLSearchParams) => HttpAnswer | Promise<HttpAnswer>;

export interface HttpOptions {
  /** HOST:PORT; port 0 takes a free one. */
  listen: string;
  routes: Readonly<Record<string, HttpRoute>>;
  log: Log;
  /** Called with the address once it is bound. */
  bound?: (address: string) => void;
}

export interface HttpListener {
  /** `HOST:PORT`, or undefined while it cannot be had. */
  readonly address: string | undefined;
  stop(): Promise<void>;
}

/** Starts and returns once the first attempt to bind is over. Throws for an address that does not read. */
export async function startHttp({ listen, routes, log, bound }: HttpOptions): Promise<HttpListener> {
  const wanted = parseListenAddress(listen);
  if (wanted.kind !== 'tcp') throw new Error(`listen on ${listen}: HTTP needs HOST:PORT`);
  const { host, port } = wanted;
  let address: string | undefined;
  let again: NodeJS.Timeout | undefined;
  let stopped = false;
  let complained = false;
  let server: Server | undefined;

  async function attempt(): Promise<void> {
    const made = makeServer(routes, log);
    server = made;
    try {
      await listening(made, host, port);
      const { port: taken } = made.address() as AddressInfo;
      address = formatAddress({ ...wanted, port: taken } as typeof wanted);
      // One that fails later, such as for want of descriptors, is no reason to end.
      made.on('error', (error) => log.warn({ address, err: error.message }, 'http listener'));
      log.info({ address }, 'http listening');
      bound?.(address);
    } catch (error) {
      if (!complained)
        log.warn(
          {
            address: listen,
            err: (error as Error).message,
            cure: cureOf((error as NodeJS.ErrnoException).code),
            retry_ms: RETRY_MS,
          },
          'no metrics and probes: address cannot be had',
        );
      complained = true;
      if (stopped) return;
      again = setTimeout(() => void attempt(), RETRY_MS);
      again.unref();
    }
  }

  await attempt();
  return {
    get address() {
      return address;
    },
    async stop() {
      stopped = true;
      clearTimeout(again);
      server?.closeAllConnections();
      await new Promise<void>((resolve) => (server === undefined ? resolve() : server.close(() => resolve())));
    },
  };
}

function cureOf(code: string | undefined): string {
  const other = 'give another address with --metrics-listen, or off';
  // Also of 127.0.0.1, in a network namespace that is new.
  return code === 'EADDRNOTAVAIL'
    ? `see whether the device of this address is up, in a new network namespace: ip link set lo up; or ${other}`
    : other;
}

function listening(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog: CONNECTIONS_MOST }, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

function makeServer(routes: HttpOptions['routes'], log: Log): Server {
  const server = createServer(
    {
      maxHeaderSize: HEADER_BYTES_MOST,
      headersTimeout: REQUEST_MS,
      requestTimeout: REQUEST_MS,
      keepAliveTimeout: KEEP_MS,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => void answer(request, response, routes, log),
  );
  keepTheNewest(server);
  server.maxRequestsPerSocket = REQUESTS_OF_CONNECTION_MOST;
  server.timeout = SILENCE_MS;
  const refuse = (request: IncomingMessage, response: ServerResponse) =>
    send(request, response, problem(417, 'EXPECTATION_FAILED', 'Expect: is not taken'));
  server.on('checkContinue', refuse);
  server.on('checkExpectation', refuse);
  server.on('clientError', badRequest);
  return server;
}

/**
 * At the bound the oldest connection makes room, one that waits for nothing before one that is being answered: whoever holds all of them open, a
 * probe still comes through.
 */
function keepTheNewest(server: Server): void {
  const idle = new Set<Socket>();
  const busy = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    if (idle.size + busy.size >= CONNECTIONS_MOST) {
      const oldest = idle.values().next().value ?? busy.values().next().value;
      if (oldest !== undefined) {
        idle.delete(oldest);
        busy.delete(oldest);
        oldest.destroy();
      }
    }
    idle.add(socket);
    socket.once('close', () => {
      idle.delete(socket);
      busy.delete(socket);
    });
  });
  server.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    if (idle.delete(socket)) busy.add(socket);
    response.once('close', () => {
      if (busy.delete(socket) && !socket.destroyed) idle.add(socket);
    });
  });
}

async function answer(request: IncomingMessage, response: ServerResponse, routes: HttpOptions['routes'], log: Log): Promise<void> {
  // A client that goes away in the middle of an answer is none of our business.
  response.on('error', () => {});
  const [path = '/', query = ''] = (request.url ?? '/').split('?', 2);
  const route = Object.hasOwn(routes, path) ? routes[path] : undefined;
  if (hasBody(request)) return send(request, response, problem(413, 'BODY_NOT_TAKEN', 'a body is not read here'));
  if (route === undefined) return send(request, response, problem(404, 'NO_SUCH_PATH', `known are ${Object.keys(routes).join(', ')}`));
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    return send(request, response, problem(405, 'METHOD_NOT_ALLOWED', 'GET and HEAD are taken'));
  }
  try {
    send(request, response, await route(new URLSearchParams(query)));
  } catch (error) {
    log.error({ error, path }, 'http answer failed');
    if (!response.headersSent) send(request, response, problem(500, 'INTERNAL', 'the log of the agent tells more'));
  }
}

function send(request: IncomingMessage, response: ServerResponse, { status, contentType, body }: HttpAnswer): void {
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': bytes.length,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    // What comes behind a body that is not read cannot be told from it.
    ...(hasBody(request) ? { connection: 'close' } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : bytes);
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0;
}

function problem(status: number, reason: string, message: string): HttpAnswer {
  return { status, contentType: 'application/json', body: `${JSON.stringify({ error: { status, reason, message } })}\n` };
}

const STATUS_OF: Record<string, number> = { HPE_HEADER_OVERFLOW: 431, ERR_HTTP_REQUEST_TIMEOUT: 408 };

/** Bytes that are no request. */
function badRequest(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const status = STATUS_OF[error.code ?? ''] ?? 400;
  const { body } = problem(status, 'BAD_REQUEST', STATUS_CODES[status] ?? '');
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}
