// The files behind a TLS listener: certificate with its chain, private key, and the authorities of clients. They are taken as a whole or not at all:
// each must parse, the key must be that of the certificate, and fit for a secret as `sys/secret-file.ts` has it. Errors name a file, never its content.

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { TaplaneError } from '../errors.ts';
import { secretFileProblem } from '../sys/secret-file.ts';

/** Absolute paths of PEM files. */
export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
  readonly clientCaFile: string;
}

export interface LoadedTls {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer;
  /** The first certificate of `certFile`. */
  readonly leaf: X509Certificate;
  /** Changes when one of the files does, also by the swap of a symbolic link on the way to it. */
  readonly stamp: string;
}

const MAX_BYTES = 1024 * 1024;

/** Reads all three. Throws TaplaneError TLS_FILE_UNUSABLE with a cure. */
export function loadTls(files: TlsFiles): LoadedTls {
  const stamp = stampOf(files);
  const cert = read(files.certFile, 'certificate');
  const leaf = certificates(files.certFile, cert, 'certificate')[0] as X509Certificate;
  const key = read(files.keyFile, 'key', true);
  checkKey(files, key, leaf);
  const ca = read(files.clientCaFile, 'client CA');
  certificates(files.clientCaFile, ca, 'client CA');
  if (stampOf(files) !== stamp) throw unusable('files', files.certFile, 'they changed while they were read', 'try again');
  return { cert, key, ca, leaf, stamp };
}

/** Of the files as they are now; why one cannot be looked at is part of it. Never throws: nobody waits for what a timer does. */
export function stampOf(files: TlsFiles): string {
  return [files.certFile, files.keyFile, files.clientCaFile]
    .map((path) => {
      try {
        const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
        return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
      } catch (error) {
        return (error as NodeJS.ErrnoException).code ?? '-';
      }
    })
    .join(' ');
}

function checkKey(files: TlsFiles, pem: Buffer, leaf: X509Certificate): void {
  let key: ReturnType<typeof createPrivateKey>;
  try {
    key = createPrivateKey(pem);
  } catch {
    throw unusable('key', files.keyFile, 'it holds no private key in PEM without a passphrase', 'write one there');
  }
  if (!leaf.checkPrivateKey(key))
    throw unusable('key', files.keyFile, `it is not the key of the certificate in ${files.certFile}`, 'put both from one request there');
}

const BLOCK = /-----BEGIN (?:TRUSTED )?CERTIFICATE-----[\s\S]*?-----END (?:TRUSTED )?CERTIFICATE-----/g;

function certificates(path: string, pem: Buffer, what: string): X509Certificate[] {
  const blocks = pem.toString('latin1').match(BLOCK) ?? [];
  if (blocks.length === 0) throw unusable(what, path, 'it holds no certificate in PEM', 'write one there');
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch {
    throw unusable(what, path, 'it holds a certificate that cannot be read', 'write a whole one there');
  }
}

/** Judges the file that it reads, whatever takes its place meanwhile. */
function read(path: string, what: string, isSecret = false): Buffer {
  let fd: number | undefined;
  try {
    // O_NONBLOCK: what is no file must not hold the agent up.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw unusable(what, path, 'it is no file', 'give the right file');
    if (stat.size > MAX_BYTES) throw unusable(what, path, 'it is larger than 1 MiB', 'give the right file');
    const problem = isSecret ? secretFileProblem(path, stat) : undefined;
    if (problem !== undefined) throw unusable(what, path, problem.cause, problem.cure);
    return readFileSync(fd);
  } catch (cause) {
    if (cause instanceof TaplaneError) throw cause;
    throw unreadable(what, path, cause);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function unreadable(what: string, path: string, cause: unknown): TaplaneError {
  const code = (cause as NodeJS.ErrnoException).code ?? 'unreadable';
  return unusable(what, path, code, 'give an existing file that the user of the agent can read');
}

function unusable(what: string, path: string, cause: string, cure: string): TaplaneError {
  return new TaplaneError('FAILED_PRECONDITION', 'TLS_FILE_UNUSABLE', `read TLS ${what} ${path}: ${cause}`, {
    metadata: { path },
    preconditions: [{ type: 'STATE', subject: path, description: cure }],
  });
}
