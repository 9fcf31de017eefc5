// Versions of what is asked of a resource, for optimistic locking (AIP-154). Pure.

import { createHash } from 'node:crypto';
import { TaplaneError } from '../errors.ts';

/** Version of spec (in its bytes) and labels, with the quotes of RFC 9110. */
export function digestOf(uid: string, spec: Uint8Array, labels: Readonly<Record<string, string>>): string {
  const sorted = JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
  const digest = createHash('sha256').update(uid).update(spec).update(sorted).digest('hex');
  return `"${digest.slice(0, 16)}"`;
}

/** ABORTED when the client knows another version; '' fits any. */
export function checkEtag(etag: string, asked: string, verb: string): void {
  if (asked === '' || asked === etag) return;
  throw new TaplaneError('ABORTED', 'ETAG_MISMATCH', `${verb}: it has changed since you read it; read it again`, { metadata: { etag } });
}
