// Keeps the certificate of a TLS listener fresh: looks at the files every few seconds, and takes them when they have changed and are sound as a whole.
// Otherwise the last good ones stay: there is never a moment without a certificate, and connections that are there notice nothing.

import type { X509Certificate } from 'node:crypto';
import type { TaplaneError } from '../errors.ts';
import type { ListenLog } from './refusals.ts';
import { type LoadedTls, loadTls, stampOf, type TlsFiles } from './tls-files.ts';

export interface TlsState {
  /** Begin and end of the certificate that is served. */
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** What is wrong at the moment: new files that cannot be used, a certificate that ends soon or has ended; empty when nothing is. */
  readonly problem: string;
  /** Of the certificate in use, SHA-256, lower-case hexadecimal. */
  readonly fingerprint: string;
  /** How often new files were taken. */
  readonly reloads: number;
  /** How often new files could not be taken. */
  readonly failures: number;
  /** New files that cannot be used are there. */
  readonly stale: boolean;
  /** When those in use were read, milliseconds since 1970. */
  readonly takenAtMs: number;
}

export interface TlsReload {
  state(): TlsState;
  stop(): void;
}

const POLL_MS = 2_000;
/** A certificate that ends within this, or within a quarter of its life where that is shorter, is warned of, once a day: many live for a day or an hour. */
const SOON_MS = 30 * 86_400_000;
const SOON_SHARE = 0.25;
const WARN_EVERY_MS = 86_400_000;

/** `take` is given sound files only. A change that is broken at two looks in a row is warned of: files are seldom written in one moment. */
export function watchTls(
  files: TlsFiles,
  first: LoadedTls,
  take: (tls: LoadedTls) => void,
  log: ListenLog,
  { pollMs = POLL_MS, now = Date.now }: { pollMs?: number; now?: () => number } = {},
): TlsReload {
  let used = first;
  let seen = first.stamp;
  let failed = { stamp: '', looks: 0, error: '' };
  let reloads = 0;
  let failures = 0;
  let takenAtMs = now();
  let warnedAtMs = Number.NEGATIVE_INFINITY;

  const look = (): void => {
    const stamp = stampOf(files);
    if (stamp !== seen || failed.error !== '') reload(stamp);
    const ending = endingOf(used.leaf, now());
    if (ending === '' || now() - warnedAtMs < WARN_EVERY_MS) return;
    warnedAtMs = now();
    log.warn?.({ path: files.certFile, error: ending }, 'TLS certificate ends');
  };
  const reload = (stamp: string): void => {
    if (stamp === failed.stamp && failed.looks > 1) return;
    try {
      const loaded = loadTls(files);
      take(loaded);
      used = loaded;
      seen = loaded.stamp;
      failed = { stamp: '', looks: 0, error: '' };
      reloads += 1;
      takenAtMs = now();
      warnedAtMs = Number.NEGATIVE_INFINITY;
      log.info?.({ path: files.certFile, not_after: loaded.leaf.validTo }, 'TLS certificate taken');
    } catch (error) {
      const { message, preconditions = [] } = error as Partial<TaplaneError> & Error;
      failed = { stamp, looks: stamp === failed.stamp ? failed.looks + 1 : 1, error: message };
      if (failed.looks !== 2) return;
      failures += 1;
      const cure = preconditions.map(({ description }) => description).join('; ');
      log.warn?.({ error: message, cure }, 'new TLS files cannot be used; the last good ones stay');
    }
  };
  look();
  const timer = setInterval(look, pollMs);
  timer.unref();
  return {
    state: () => ({
      notBefore: used.leaf.validFromDate,
      notAfter: used.leaf.validToDate,
      problem: failed.looks > 1 ? `new TLS files cannot be used, the last good ones stay: ${failed.error}` : endingOf(used.leaf, now()),
      fingerprint: used.leaf.fingerprint256.replaceAll(':', '').toLowerCase(),
      reloads,
      failures,
      stale: failed.looks > 1,
      takenAtMs,
    }),
    stop: () => clearInterval(timer),
  };
}

/** Empty while the certificate is good for long enough. */
export function endingOf(leaf: Pick<X509Certificate, 'validFromDate' | 'validToDate'>, nowMs: number): string {
  const leftMs = leaf.validToDate.getTime() - nowMs;
  if (leftMs <= 0) return `the certificate has expired at ${leaf.validToDate.toISOString()}`;
  if (nowMs < leaf.validFromDate.getTime()) return `the certificate is not valid before ${leaf.validFromDate.toISOString()}`;
  const lifeMs = leaf.validToDate.getTime() - leaf.validFromDate.getTime();
  if (leftMs < Math.min(SOON_MS, SOON_SHARE * lifeMs)) return `the certificate expires at ${leaf.validToDate.toISOString()}`;
  return '';
}
