// The connection to NATS. It comes up in the background, is tried for ever, and
// never throws or blocks: an agent without NATS is a whole agent. Now connection and status; publishing builds on `connection`.
//
// State: OFF | CONNECTING -> CONNECTED -> CONNECTING ... | FAILED (no embedded server to be had, no library).
// The loop is ours and the library's own reconnection is off: that one hides why a dial failed, cannot be cancelled before the
// first success, gives up after two refused logins, and drops what was published on every dial. One connection, one object.

import { setTimeout as sleep } from 'node:timers/promises';
import type { ConnectionOptions, MsgHdrs, NatsConnection } from '@nats-io/transport-node';
import { type NatsStatus, NatsStatus_State as State } from '../gen/taplane/v1/node_service.ts';
import { type NatsFiles, natsConnectionOptions, wantsTls } from './login.ts';
import { type NatsLog, type NatsServer, startNatsServer } from './server.ts';
import { isPath, type NatsAddress, parseNatsUrl } from './url.ts';
import { readUrlFile } from './url-file.ts';

export type { MsgHdrs, NatsLog };

export interface NatsOptions {
  /** `off`, `embedded`, an address list that `parseNatsUrl` takes, or the path of a file that holds one, read for each dial. */
  mode: string;
  /** Client name that the server shows. */
  name: string;
  /** Name of the node: answers come to subjects below `_INBOX_<node>`. */
  node?: string;
  /** What a login needs, read for each dial. Not for an embedded server. */
  files?: NatsFiles;
  /** Where an embedded server keeps its files; the caller holds its lock. */
  stateDir: string;
  log: NatsLog;
  /** Search path for the embedded server's binary. */
  path?: string;
  /** 0 to 1; spreads the dials of many agents. */
  random?: () => number;
}

export interface NatsLink {
  /** A fresh copy each time. */
  status(): NatsStatus;
  /** The open connection; another object after each reconnection, undefined while there is none. */
  connection(): NatsConnection | undefined;
  /** Closes the connection and stops an embedded server, within about 5 s. */
  close(): Promise<void>;
}

const RETRY_MIN_MS = 250;
const RETRY_MAX_MS = 15_000;
/** The embedded server is next door and ours: dialling it often costs nothing. */
const RETRY_MIN_EMBEDDED_MS = 50;
const RETRY_MAX_EMBEDDED_MS = 1_000;
/** A connection that lasted this long was a good one; a shorter one does not restart the back-off. */
const GOOD_CONNECTION_MS = 5_000;

/** Starts connecting and returns at once. */
export function connectNats(options: NatsOptions): NatsLink {
  const { mode, log, random = Math.random } = options;
  const status: NatsStatus = {
    state: State.OFF,
    server: '',
    serverVersion: '',
    embedded: mode === 'embedded',
    reason: '',
    disconnects: 0n,
    urlFile: '',
  };
  if (mode === 'off') return { status: () => ({ ...status }), connection: () => undefined, close: async () => {} };

  status.state = State.CONNECTING;
  let connection: NatsConnection | undefined;
  let server: NatsServer | undefined;
  let closing = false;
  const wake = new AbortController();
  const files = status.embedded ? {} : (options.files ?? {});
  const told = new Set<string>();
  function exposed(path: string): void {
    if (told.has(path)) return;
    told.add(path);
    log.warn({ path, cure: `chmod o-rwx ${path}` }, 'file with a secret can be read by every user');
  }

  function fail(reason: string): void {
    status.state = State.FAILED;
    status.reason = reason;
    log.warn({ reason }, 'nats not available');
  }

  async function prepare(): Promise<(() => NatsAddress) | undefined> {
    if (isPath(mode)) return () => parseNatsUrl(readUrlFile(mode));
    if (mode !== 'embedded') {
      const address = parseNatsUrl(mode);
      return () => address;
    }
    const started = await startNatsServer({ stateDir: options.stateDir, log, path: options.path });
    if ('missing' in started) {
      fail(started.missing);
      return undefined;
    }
    server = started;
    status.urlFile = started.urlFile;
    return () => {
      const { server: listen, user, pass } = started.address();
      return { servers: [listen], user, pass, tls: false, shown: `nats://${listen}` };
    };
  }

  /** One connection from dial to end; the text says why it ended, or why it never was. */
  async function serve(connect: (options: ConnectionOptions) => Promise<NatsConnection>, current: () => NatsAddress): Promise<string> {
    const address = current();
    status.server = address.shown;
    const { name, node } = options;
    const opened = await connect(await natsConnectionOptions(address, { name, node, files, exposed }));
    if (closing) {
      await opened.close();
      return '';
    }
    connection = opened;
    status.state = State.CONNECTED;
    status.reason = '';
    status.server = `${wantsTls(address, files) ? 'tls' : 'nats'}://${opened.getServer()}`;
    status.serverVersion = opened.info?.version ?? '';
    log.info({ server: status.server, version: status.serverVersion }, 'nats connected');
    try {
      const error = await opened.closed();
      return error ? `connection lost: ${text(error)}` : 'connection lost: closed by the server';
    } finally {
      connection = undefined;
      if (!closing) status.disconnects += 1n;
    }
  }

  async function run(): Promise<void> {
    const current = await prepare();
    if (!current || closing) return;
    const { connect } = await import('@nats-io/transport-node');
    const retryMinMs = status.embedded ? RETRY_MIN_EMBEDDED_MS : RETRY_MIN_MS;
    let retryMs = retryMinMs;
    while (!closing) {
      const startedAt = performance.now();
      const reason = await serve(connect, current).catch((error) => text(error));
      if (closing) return;
      const wasConnected = status.state === State.CONNECTED;
      status.state = State.CONNECTING;
      // The server's own last word tells more than "connection refused".
      const told = server?.reason() || reason;
      // The same failure again and again is one line for the operator; an embedded server that is coming up is none.
      const comingUp = server !== undefined && server.reason() === '' && !wasConnected;
      const level = !comingUp && (wasConnected || told !== status.reason) ? 'warn' : 'debug';
      status.reason = told;
      if (wasConnected && performance.now() - startedAt > GOOD_CONNECTION_MS) retryMs = retryMinMs;
      const waitMs = Math.round(retryMs * (0.5 + random()));
      log[level]({ server: status.server, reason: told, retry_ms: waitMs }, wasConnected ? 'nats connection lost' : 'nats not connected');
      await sleep(waitMs, undefined, { signal: wake.signal }).catch(() => undefined);
      retryMs = Math.min(retryMs * 2, status.embedded ? RETRY_MAX_EMBEDDED_MS : RETRY_MAX_MS);
    }
  }

  const running = run().catch((error) => fail(text(error)));

  return {
    status: () => ({ ...status }),
    connection: () => connection,
    async close() {
      if (closing) return;
      closing = true;
      wake.abort();
      await Promise.race([connection?.close().catch(() => undefined), sleep(1_000, undefined, { ref: false })]);
      // A dial into a black hole ends by itself; nobody waits for it. It only delays finding out that an embedded server exists.
      await Promise.race([running, sleep(500, undefined, { ref: false })]);
      await server?.stop();
      status.state = State.OFF;
    },
  };
}

function text(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error ?? 'unknown error');
}
