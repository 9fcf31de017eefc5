// TLS of a link: TLS 1.3 only, both ends show a certificate.

import type { Socket } from 'node:net';
import { connect, createServer, type TLSSocket } from 'node:tls';
import type { TlsSpec } from '../../gen/taplane/v1/link.ts';
import { bearsName } from './certificate-name.ts';
import type { Pem } from './tls-files.ts';

/** Called once: with the socket that is encrypted and whose other end is who it should be, or with why there is none. */
export type Secured = (socket: TLSSocket | undefined, reason: string) => void;

/** Makes a connected socket the client's end of TLS. Throws for keys that are not usable. The caller closes the socket, and bounds the time. */
export function secureClient(socket: Socket, { cert, key, ca }: Pem, spec: TlsSpec, secured: Secured): TLSSocket {
  const once = onlyOnce(secured);
  const encrypted = connect({
    socket,
    cert,
    key,
    ca,
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    // It is not found by a host name: whom it has to be is said in the spec.
    checkServerIdentity: (_, certificate) => wrongName(certificate.subjectaltname, spec),
  });
  encrypted.on('error', (error) => once(undefined, tlsReason(error)));
  encrypted.on('secureConnect', () => once(encrypted, ''));
  encrypted.on('close', () => once(undefined, 'closed while TLS began'));
  return encrypted;
}

/** Makes a connected socket the server's end of TLS. Throws for keys that are not usable. */
export function secureServer(socket: Socket, { cert, key, ca }: Pem, spec: TlsSpec, secured: Secured): void {
  const once = onlyOnce(secured);
  const server = createServer({
    cert,
    key,
    ca,
    requestCert: true,
    // Looked at below: refused here, nobody would be told why.
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
  });
  server.on('secureConnection', (encrypted) => {
    encrypted.on('error', () => encrypted.destroy());
    const problem = strangerReason(encrypted, spec);
    if (problem === undefined) {
      once(encrypted, '');
      return;
    }
    encrypted.destroy();
    once(undefined, problem);
  });
  server.on('tlsClientError', (error, encrypted) => {
    encrypted.destroy();
    once(undefined, tlsReason(error));
  });
  socket.on('close', () => once(undefined, 'closed while TLS began'));
  // A server that does not listen, for this connection only.
  server.emit('connection', socket);
}

/** Undefined for a client whose certificate the authorities vouch for, and that has the right name. */
function strangerReason(encrypted: TLSSocket, spec: TlsSpec): string | undefined {
  const { subjectaltname } = encrypted.getPeerCertificate();
  if (encrypted.authorized) return wrongName(subjectaltname, spec)?.message;
  return encrypted.getPeerX509Certificate() === undefined ? 'showed no certificate' : String(encrypted.authorizationError);
}

function wrongName(names: string | undefined, { peerName }: TlsSpec): Error | undefined {
  if (peerName === '' || bearsName(names, peerName)) return undefined;
  return new Error(`the certificate is not of ${peerName}: ${(names ?? 'no names').slice(0, 200)}`);
}

/** What OpenSSL says, without its numbers. */
export function tlsReason(error: Error): string {
  const { code = '', reason } = error as Error & { code?: string; reason?: string };
  return reason ?? (error.message.includes('\n') || error.message.length > 300 ? code : error.message);
}

function onlyOnce(secured: Secured): Secured {
  let isSaid = false;
  return (socket, reason) => {
    if (isSaid) return;
    isSaid = true;
    secured(socket, reason);
  };
}
