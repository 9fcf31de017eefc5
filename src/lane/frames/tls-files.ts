// The files of TLS of a link. They are looked at whenever it is declared and at every connection, so that a rotation needs nothing more than new files, and
// what is wrong with them shows before anybody connects. What was good last is kept: a rotation that is half done cuts nobody off.

import { X509Certificate } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import type { TlsSpec } from '../../gen/taplane/v1/link.ts';
import { secretFileProblem } from '../../sys/secret-file.ts';

/** More is no certificate or key. */
const FILE_MOST = 1024n * 1024n;
/** Of a file that was written so short ago, what is read next may differ and its times may not. */
const SETTLED_MS = 1000;

export interface Pem {
  cert: Buffer;
  key: Buffer;
  ca: Buffer;
}

export class TlsFiles {
  readonly #spec: TlsSpec;
  #good: Pem | undefined;
  #notAfterMs = Number.POSITIVE_INFINITY;
  #notBeforeMs = Number.NEGATIVE_INFINITY;
  /** Of the files that were read last; '': to be read again. */
  #identity = '';
  #unusable = '';

  constructor(spec: TlsSpec) {
    this.#spec = spec;
    this.look();
  }

  /** What keeps peers from connecting, in words that name the file, never what is in it; '' for nothing. As of the last look. */
  get problem(): string {
    const { certificateFile } = this.#spec;
    if (this.#unusable !== '') return this.#unusable;
    const nowMs = Date.now();
    if (nowMs > this.#notAfterMs) return `${certificateFile}: has expired, on ${new Date(this.#notAfterMs).toISOString()}`;
    return nowMs < this.#notBeforeMs ? `${certificateFile}: is not valid before ${new Date(this.#notBeforeMs).toISOString()}` : '';
  }

  /** The files as they are now, or, when they cannot be used now, as they were when they last could. Throws an Error that says what is wrong with which. */
  read(): Pem {
    this.look();
    if (this.#good === undefined) throw new Error(this.#unusable);
    return this.#good;
  }

  /** Reads them when they are others than before. */
  look(): void {
    const { certificateFile, privateKeyFile, caFile } = this.#spec;
    const files: OpenFile[] = [];
    try {
      for (const path of [certificateFile, privateKeyFile, caFile]) files.push(openedFile(path, path === privateKeyFile));
      const identity = files.map((file) => file.identity).join();
      if (identity === this.#identity) return;
      const [cert, key, ca] = files.map(({ fd }) => readFileSync(fd)) as [Buffer, Buffer, Buffer];
      this.#use({ cert, key, ca });
      this.#unusable = '';
      this.#identity = files.every(({ isSettled }) => isSettled) ? identity : '';
    } catch (error) {
      this.#identity = '';
      this.#unusable = error instanceof Error ? error.message : 'cannot be read';
    } finally {
      for (const { fd } of files) closeSync(fd);
    }
  }

  #use(pem: Pem): void {
    const { certificateFile, privateKeyFile, caFile } = this.#spec;
    const own = certificateOf(pem.cert, certificateFile);
    certificateOf(pem.ca, caFile);
    try {
      createSecureContext({ ...pem, minVersion: 'TLSv1.3' });
    } catch (error) {
      const { code, reason } = error as { code?: string; reason?: string };
      if (code === 'ERR_OSSL_X509_KEY_VALUES_MISMATCH') throw new Error(`${privateKeyFile}: is not the key of ${certificateFile}`);
      throw new Error(`${privateKeyFile}: holds no private key that can be used: ${reason ?? code ?? 'unreadable'}`);
    }
    this.#good = pem;
    this.#notAfterMs = Date.parse(own.validTo);
    this.#notBeforeMs = Date.parse(own.validFrom);
  }
}

/** The first certificate of a file. */
function certificateOf(bytes: Buffer, path: string): X509Certificate {
  try {
    return new X509Certificate(bytes);
  } catch {
    throw new Error(`${path}: holds no certificate`);
  }
}

interface OpenFile {
  fd: number;
  /** Another when the file is another, or was written to. */
  identity: string;
  isSettled: boolean;
}

/** Throws an Error, and nothing is open. */
function openedFile(path: string, isSecret: boolean): OpenFile {
  const fd = open(path);
  try {
    const stat = fstatSync(fd, { bigint: true });
    const { dev, ino, size, mtimeNs, ctimeNs, ctimeMs, mode, uid, gid } = stat;
    if (!stat.isFile() || size > FILE_MOST) throw new Error(`${path}: no file of at most 1 MiB`);
    const who = { mode: Number(mode), uid: Number(uid), gid: Number(gid) };
    const problem = isSecret ? secretFileProblem(path, who) : undefined;
    if (problem !== undefined) throw new Error(`${path}: ${problem.cause}: ${problem.cure}`);
    const isSettled = Math.abs(Date.now() - Number(ctimeMs)) > SETTLED_MS;
    return { fd, isSettled, identity: [dev, ino, size, mtimeNs, ctimeNs, mode].join(' ') };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function open(path: string): number {
  try {
    // O_NONBLOCK: what is no file must not hold the lane up.
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw new Error(`${path}: ${(error as NodeJS.ErrnoException).code ?? 'cannot be opened'}`);
  }
}
