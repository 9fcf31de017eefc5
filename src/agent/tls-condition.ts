// The certificate of the TLS listeners as a condition of the node: whether it is good for a while yet, and whether new files could be taken.

import type { Condition } from '../gen/taplane/v1/interface.ts';
import { Conditions } from '../resource/conditions.ts';
import type { TlsState } from '../rpc/tls-reload.ts';

/** A function that judges anew at each call; empty without TLS. */
export function tlsCondition(state: () => TlsState | undefined, now: () => number = Date.now): () => Condition[] {
  const conditions = new Conditions<'TlsCertificate'>();
  return () => {
    const tls = state();
    if (tls === undefined) return [];
    const { problem, notAfter } = tls;
    const message = problem || `good until ${notAfter.toISOString()}`;
    conditions.set('TlsCertificate', problem === '', problem === '' ? 'Good' : 'NeedsAttention', message, now());
    return conditions.list();
  };
}
