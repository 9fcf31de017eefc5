// How a connection to NATS is dialled: options of the client library from an address and from files with what the login needs.
//
// Files are read for each dial, so that what an operator rotates is used from the next connection on. What is in them goes to the
// library and nowhere else: errors name a file and what is amiss with it, never a part of it.

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { isIP } from 'node:net';
import { checkServerIdentity, type PeerCertificate, type ConnectionOptions as TlsConnectionOptions } from 'node:tls';
import type { ConnectionOptions } from '@nats-io/transport-node';
import { token } from './subject.ts';
import type { NatsAddress } from './url.ts';

/** Absolute paths; empty or absent: none. */
export interface NatsFiles {
  /** JWT and seed of a user between markers, as `nsc generate creds` writes it. */
  creds?: string;
  /** Seed of a user, `SU...`. */
  nkey?: string;
  /** PEM certificates of those who may have signed the certificate of the server. */
  tlsCa?: string;
  /** PEM certificate, with its chain, that the server may ask for. */
  tlsCert?: string;
  /** Its PEM key. */
  tlsKey?: string;
}

export interface NatsLogin {
  /** Client name that the server shows. */
  name: string;
  files?: NatsFiles;
  /** Answers come to subjects below `_INBOX_<node>`; absent: `_INBOX`. */
  node?: string;
  /** Called for a file with a secret that every user of the machine can read. */
  exposed?: (path: string) => void;
}

/** Credentials and PEM files are some kB. */
const MAX_BYTES = 1024 * 1024;
const DIAL_TIMEOUT_MS = 10_000;

/** Below it are the subjects of the answers to this node, so that its login may be confined to them. */
export function inboxPrefix(node: string): string {
  return `_INBOX_${token(node)}`;
}

/** TLS is required: by the address, or since there is a file for it. */
export function wantsTls(address: NatsAddress, { tlsCa, tlsCert, tlsKey }: NatsFiles = {}): boolean {
  return address.tls || Boolean(tlsCa || tlsCert || tlsKey);
}

/**
 * Options for one dial, without the library's own reconnection. Reads the files anew; rejects with an Error that names the file and the
 * cause.
 */
export async function natsConnectionOptions(address: NatsAddress, login: NatsLogin): Promise<ConnectionOptions> {
  const { files = {}, exposed = () => {} } = login;
  const options: ConnectionOptions = {
    servers: address.servers,
    user: address.user,
    pass: address.pass,
    token: address.token,
    name: login.name,
    reconnect: false,
    timeout: DIAL_TIMEOUT_MS,
    pingInterval: 20_000,
    maxPingOut: 2,
    noAsyncTraces: true,
  };
  if (login.node !== undefined) options.inboxPrefix = inboxPrefix(login.node);
  if (wantsTls(address, files)) options.tls = await tlsOptions(address, files, exposed);
  if (files.creds) {
    const creds = await read('credentials', files.creds, exposed);
    const { credsAuthenticator } = await import('@nats-io/transport-node');
    options.authenticator = credsAuthenticator(normalCreds(files.creds, creds));
  } else if (files.nkey) {
    const seed = SEED.exec(await read('nkey', files.nkey, exposed))?.[0];
    if (seed === undefined) throw new Error(`read NATS nkey ${files.nkey}: holds no seed of a user (SU...)`);
    const { nkeyAuthenticator } = await import('@nats-io/transport-node');
    options.authenticator = nkeyAuthenticator(Buffer.from(seed));
  }
  return options;
}

/** 58 characters of base32: two of kind, 32 bytes, a checksum. */
const SEED = /\bSU[A-Z2-7]{56}\b/;
const JWT = /^[\w-]+\.[\w-]+\.[\w-]+$/m;

/** The parts that count, in the form that the library reads, whatever stands around them. */
function normalCreds(path: string, text: string): Uint8Array {
  const jwt = JWT.exec(text.replaceAll('\r', ''))?.[0];
  const seed = SEED.exec(text)?.[0];
  if (jwt === undefined || seed === undefined)
    throw new Error(`read NATS credentials ${path}: holds no ${jwt === undefined ? 'JWT' : 'seed'} of a user`);
  const marked = (what: string, content: string) => `-----BEGIN ${what}-----\n${content}\n------END ${what}------\n`;
  return Buffer.from(`${marked('NATS USER JWT', jwt)}\n${marked('USER NKEY SEED', seed)}`);
}

type TlsOptions = NonNullable<ConnectionOptions['tls']>;

async function tlsOptions(address: NatsAddress, files: NatsFiles, exposed: (path: string) => void): Promise<TlsOptions> {
  const { tlsCa, tlsCert, tlsKey } = files;
  const tls: TlsOptions & Pick<TlsConnectionOptions, 'checkServerIdentity'> = { checkServerIdentity: identityCheck(address) };
  if (tlsCa) {
    tls.ca = await read('CA', tlsCa);
    certificate('CA', tlsCa, tls.ca);
  }
  if (tlsCert && tlsKey) {
    tls.cert = await read('certificate', tlsCert);
    tls.key = await read('key', tlsKey, exposed);
    const key = privateKey(tlsKey, tls.key);
    if (!certificate('certificate', tlsCert, tls.cert).checkPrivateKey(key))
      throw new Error(`read NATS key ${tlsKey}: is not the key of ${tlsCert}`);
  }
  return tls;
}

/**
 * The library names no server that it dialled by its IP address, and Node then wants a certificate for `localhost`: here one for any of the
 * IP addresses that were given.
 */
function identityCheck({ servers }: NatsAddress): (host: string, shown: PeerCertificate) => Error | undefined {
  const hosts = servers.map((server) => server.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1'));
  const numbers = hosts.filter((host) => isIP(host) !== 0);
  return (host, shown) => {
    const expected = host === 'localhost' && numbers.length > 0 ? [...numbers, ...(hosts.includes(host) ? [host] : [])] : [host];
    const errors = expected.map((one) => checkServerIdentity(one, shown));
    return errors.includes(undefined) ? undefined : errors[0];
  };
}

// OpenSSL's own errors come at the handshake and do not say which file they mean.
function certificate(what: string, path: string, pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch {
    throw new Error(`read NATS ${what} ${path}: is no PEM certificate`);
  }
}

function privateKey(path: string, pem: string) {
  try {
    return createPrivateKey(pem);
  } catch {
    // RFC 1421 and RFC 7468 both have this word in an encrypted key.
    const isLocked = pem.includes('ENCRYPTED');
    throw new Error(`read NATS key ${path}: ${isLocked ? 'has a passphrase, and nobody is here to give it' : 'is no PEM private key'}`);
  }
}

async function read(what: string, path: string, exposed?: (path: string) => void): Promise<string> {
  let file: FileHandle | undefined;
  try {
    // O_NONBLOCK, by which a pipe in the place of the file does not stop us: Linux ignores it for files.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const { size, mode } = await file.stat().then((stat) => {
      if (!stat.isFile()) throw new Error('is no regular file');
      return stat;
    });
    if (size > MAX_BYTES) throw new Error('is larger than 1 MiB');
    if ((mode & 0o004) !== 0) exposed?.(path);
    return await file.readFile('utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new Error(`read NATS ${what} ${path}: ${code ?? message}`);
  } finally {
    await file?.close().catch(() => undefined);
  }
}
