// TLS of a client: credentials from files, and what to say when an agent and a client do not come together. grpc-js has one line of OpenSSL for that;
// here it becomes a cause with a cure. Verification is always on.

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity, createSecureContext } from 'node:tls';
import { type ChannelCredentials, credentials } from '@grpc/grpc-js';
import { TaplaneError } from '../errors.ts';
import { readNames } from './tls-identity.ts';

export interface ClientTls {
  /** PEM of those who may have signed the certificate of the agent; the authorities of the system without it. */
  caFile?: string | undefined;
  /** PEM of our certificate, with its chain, and of its key. */
  certFile?: string | undefined;
  keyFile?: string | undefined;
  /** The name that the certificate of the agent must have; that of the address without it. */
  serverName?: string | undefined;
}

/** Anything of TLS is given. */
export function wantsTls(tls: ClientTls | undefined): boolean {
  return Boolean(tls?.caFile || tls?.certFile || tls?.keyFile || tls?.serverName);
}

/**
 * Reads the files, for a server at `host`, a name or an address. Throws TaplaneError TLS_FILE_UNUSABLE. The name that is announced (SNI, which may not be
 * an address) is the channel option `nameOption`; the one that is checked is here.
 */
export function clientCredentials({ caFile, certFile, keyFile, serverName }: ClientTls, host: string): ChannelCredentials {
  if (Boolean(certFile) !== Boolean(keyFile)) {
    const [given, missing] = certFile ? ['--client-cert', '--client-key'] : ['--client-key', '--client-cert'];
    throw unusable('', `${given} is of no use alone`, `give ${missing} too`);
  }
  const ca = caFile && read(caFile);
  const cert = certFile && read(certFile);
  const key = keyFile && read(keyFile);
  for (const [path, pem] of [[caFile, ca] as const, [certFile, cert] as const]) if (path && pem) certificateOf(path, pem);
  if (keyFile && certFile && key && cert) checkKey(keyFile, key, certFile, certificateOf(certFile, cert));
  try {
    const context = createSecureContext({ minVersion: 'TLSv1.3', ...(ca && { ca }), ...(cert && key && { cert, key }) });
    const expected = serverName || host;
    return credentials.createFromSecureContext(context, { checkServerIdentity: (_, peer) => checkServerIdentity(expected, peer) });
  } catch {
    throw unusable(caFile ?? certFile ?? '', 'OpenSSL does not take it', 'give whole PEM files');
  }
}

/** Channel option with the name that is announced (SNI); an address is never announced (RFC 6066, section 3). */
export function nameOption({ serverName }: ClientTls, host: string): Record<string, string> {
  const expected = serverName || host;
  return { 'grpc.ssl_target_name_override': isIP(expected) ? 'taplane' : expected };
}

interface Failure {
  cause: string;
  cure: string;
}

/** OpenSSL's words and codes, as Node passes them on, to ours; in this order. */
const FAILURES: [RegExp, (tls: ClientTls | undefined) => Failure][] = [
  [
    /certificate has expired|CERT_HAS_EXPIRED/,
    () => ({ cause: 'its certificate has expired', cure: 'have the certificate of the agent renewed; look at the clock of this machine' }),
  ],
  [
    /certificate is not yet valid|CERT_NOT_YET_VALID/,
    () => ({ cause: 'its certificate is not valid yet', cure: 'look at the clocks of this machine and of the agent' }),
  ],
  [
    /does not match certificate's altnames|ALTNAME_INVALID/,
    () => ({ cause: 'its certificate is for another name', cure: 'use a name that is in it as address, or say which: --server-name NAME' }),
  ],
  [
    /self-signed certificate|unable to (?:verify|get)|UNABLE_TO_|SELF_SIGNED|unsuitable certificate purpose/,
    () => ({ cause: 'its certificate is not signed by whom we trust', cure: 'give the authority that signed it: --server-ca FILE' }),
  ],
  [
    /wrong version number|WRONG_VERSION_NUMBER|packet length too long/i,
    () => ({
      cause: 'it does not speak TLS',
      cure: 'on loopback it may be plaintext: leave out --server-ca, --client-cert, --client-key and --server-name; or look at the address',
    }),
  ],
  [
    /alert protocol version|unsupported protocol|PROTOCOL_VERSION/i,
    () => ({ cause: 'it does not speak TLS 1.3', cure: 'look at the address; an agent speaks TLS 1.3 only' }),
  ],
  [
    /certificate required|CERTIFICATE_REQUIRED|bad certificate|alert certificate|unknown ca|handshake failure/i,
    (tls) => refusedClient(tls),
  ],
];

/** What a connection that did not come about means; undefined when these words say nothing of TLS. */
export function explainTls(message: string, tls: ClientTls | undefined): Failure | undefined {
  for (const [words, failure] of FAILURES) if (words.test(message)) return failure(tls);
  if (!GONE.test(message)) return undefined;
  if (wantsTls(tls)) return refusedClient(tls);
  return {
    cause: 'it closed the connection at once; it may want TLS',
    cure: 'give --server-ca, --client-cert and --client-key; or look into the log of the agent',
  };
}

/** After a handshake of TLS 1.3 the agent can only hang up. */
const GONE = /ECONNRESET|EPIPE|socket hang up|closed|Failed to connect|dropped/i;

function refusedClient(tls: ClientTls | undefined): Failure {
  if (!tls?.certFile) return { cause: 'it wants a certificate of the client', cure: 'give yours: --client-cert FILE --client-key FILE' };
  const cause = `it does not accept the client certificate ${tls.certFile}`;
  try {
    const leaf = certificateOf(tls.certFile, readFileSync(tls.certFile));
    if (leaf.validToDate.getTime() < Date.now())
      return { cause: `${cause}, which has expired at ${leaf.validToDate.toISOString()}`, cure: 'have it renewed' };
    if (leaf.validFromDate.getTime() > Date.now())
      return {
        cause: `${cause}, which is not valid before ${leaf.validFromDate.toISOString()}`,
        cure: 'look at the clock of this machine',
      };
    const names = readNames(leaf.subjectAltName ?? '');
    if (typeof names === 'string') return { cause: `${cause}: ${names}`, cure: 'have one issued with one SPIFFE ID, or a DNS name' };
  } catch {
    // It could be read a moment ago; then it is said without its content.
  }
  return { cause, cure: "have one issued by an authority that the agent's --tls-client-ca names; the log of the agent says why" };
}

function checkKey(keyFile: string, pem: Buffer, certFile: string, leaf: X509Certificate): void {
  let matches: boolean;
  try {
    matches = leaf.checkPrivateKey(createPrivateKey(pem));
  } catch {
    throw unusable(keyFile, 'it holds no private key in PEM without a passphrase', 'give the key of the certificate');
  }
  if (!matches) throw unusable(keyFile, `it is not the key of ${certFile}`, 'give both from one request');
}

function certificateOf(path: string, pem: Buffer): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch {
    throw unusable(path, 'it holds no certificate in PEM', 'give the right file');
  }
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw unusable(path, (cause as NodeJS.ErrnoException).code ?? 'unreadable', 'give an existing, readable file');
  }
}

function unusable(path: string, cause: string, cure: string): TaplaneError {
  return new TaplaneError('FAILED_PRECONDITION', 'TLS_FILE_UNUSABLE', `read TLS files${path && ` ${path}`}: ${cause}`, {
    ...(path && { metadata: { path } }),
    preconditions: [{ type: 'STATE', subject: path || 'TLS', description: cure }],
  });
}
