// TCP with TLS 1.3 and certificates on both sides. A byte of HTTP/2 is read only once the handshake is over, the client's certificate has been verified
// against our authorities and says who it is of. No session is ever resumed: each connection proves anew who it is, by the authorities of today.

import { constants } from 'node:crypto';
import { createServer, type Server as NetServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type Server, type TLSSocket } from 'node:tls';
import type { ConnectionTable } from './connections.ts';
import type { ListenLog, Refusal } from './refusals.ts';
import { type LoadedTls, loadTls, type TlsFiles } from './tls-files.ts';
import { type TlsIdentity, tlsIdentity } from './tls-identity.ts';
import { type TlsReload, type TlsState, watchTls } from './tls-reload.ts';

export interface TlsListenerNeeds {
  files: TlsFiles;
  table: ConnectionTable;
  inject: (socket: Socket) => void;
  /** How often the files are looked at. */
  reloadMs?: number;
  log: ListenLog;
}

export interface TlsListeners {
  /** A server that is not listening yet. */
  open(): NetServer;
  state(): TlsState;
  stop(): void;
}

/** One set of certificates for all addresses. Throws TaplaneError when the files cannot be used. */
export function tlsListeners({ files, table, inject, reloadMs, log }: TlsListenerNeeds): TlsListeners {
  const first = loadTls(files);
  // 'connection' is emitted by hand, after the limits.
  const tls: Server = createTlsServer({
    ...contextOf(first),
    requestCert: true,
    rejectUnauthorized: true,
    ALPNProtocols: ['h2'],
    // The table has the clock that counts: this one begins anew with every byte.
    handshakeTimeout: 2 * table.handshakeTimeoutMs,
  });
  // By both its ends, which no other open socket of the node shares: one client port may talk to two of ours.
  const shaking = new Map<string, Socket>();
  tls.on('secureConnection', (socket) => {
    const place = placeOf(socket);
    const raw = shaking.get(place);
    if (raw !== undefined) table.endHandshake(raw);
    const from = fromOf(socket);
    socket.on('error', () => {});
    const found = identityOn(socket);
    if (Array.isArray(found)) table.refuse(socket, found[0], from, found[1]);
    else table.admit(socket, { kind: 'tls', ...found, address: from }, inject);
  });
  tls.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
    // Only for the log: the wrapped socket still knows its address when the TLS socket has forgotten it.
    const { _parent: raw = socket } = socket as TLSSocket & { _parent?: Socket };
    const [why, text] = classify(error, socket.authorizationError as unknown);
    table.refuse(socket, why, fromOf(raw), text);
  });
  const reload: TlsReload = watchTls(
    files,
    first,
    (loaded) => tls.setSecureContext(contextOf(loaded)),
    log,
    reloadMs === undefined ? {} : { pollMs: reloadMs },
  );
  return {
    open: () =>
      createServer((socket) => {
        if (!table.beginHandshake(socket)) return;
        const place = placeOf(socket);
        shaking.set(place, socket);
        socket.once('close', () => shaking.delete(place));
        tls.emit('connection', socket);
      }),
    state: () => reload.state(),
    stop() {
      reload.stop();
      tls.close();
    },
  };
}

function contextOf({ cert, key, ca }: LoadedTls) {
  return {
    cert,
    key,
    ca,
    minVersion: 'TLSv1.3' as const,
    maxVersion: 'TLSv1.3' as const,
    // With Node, which keeps no sessions, this ends resumption: a ticket would carry a verdict of yesterday.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

/** After the handshake: who it is, or why nobody is let in. */
function identityOn(socket: TLSSocket): TlsIdentity | [Refusal, string] {
  // Neither can be, as the server is set up; but here is where it counts.
  if (!socket.authorized || socket.isSessionReused()) return ['handshake_failed', 'a session was resumed'];
  if (socket.alpnProtocol !== 'h2') return ['handshake_failed', 'the client does not ask for h2 (ALPN)'];
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return ['no_certificate', 'the client has no certificate'];
  const identity = tlsIdentity(certificate);
  return typeof identity === 'string' ? ['no_identity', `the client certificate is refused: ${identity}`] : identity;
}

const placeOf = ({ remoteAddress, remotePort, localAddress, localPort }: Socket): string =>
  `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;
const fromOf = ({ remoteAddress, remotePort }: Socket): string => (remoteAddress === undefined ? '' : `${remoteAddress}:${remotePort}`);

/** By the codes of OpenSSL (ssl/ssl_err.c, as Node spells them) and of its verification (x509_vfy.h). */
function classify({ code = '', message }: NodeJS.ErrnoException, verification: unknown): [Refusal, string] {
  if (typeof verification === 'string') {
    const why = /EXPIRED|NOT_YET_VALID/.test(verification) ? 'expired_certificate' : 'untrusted_certificate';
    return [why, `the client certificate is refused: ${verification}`];
  }
  if (code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE') return ['no_certificate', 'the client has no certificate'];
  if (/UNSUPPORTED_PROTOCOL|ALERT_PROTOCOL_VERSION/.test(code)) return ['tls_version', 'the client does not speak TLS 1.3'];
  if (/HTTP_REQUEST|WRONG_VERSION_NUMBER|PACKET_LENGTH/.test(code)) return ['not_tls', 'the client does not speak TLS'];
  if (code === 'ERR_TLS_HANDSHAKE_TIMEOUT') return ['handshake_timeout', 'the handshake takes too long'];
  if (code === 'ECONNRESET') return ['handshake_failed', 'the client went away; it may not trust our certificate, or expect another name'];
  return ['handshake_failed', code || message];
}
