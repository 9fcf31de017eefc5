// Probes of the peers of links, asked for by the agent: finds the tunnel that measures.

import { TaplaneError } from '../../errors.ts';
import type { ProbeLinkRequest, ProbeLinkResponse } from '../../gen/taplane/v1/link_service.ts';
import type { Link } from './link.ts';

/** Asks the tunnel of a link. Throws TaplaneError LINK_NOT_READY or PROBE_NOT_SUPPORTED, or what the tunnel says. */
export function probe(
  uid: string,
  link: Link | undefined,
  request: ProbeLinkRequest,
  signal: AbortSignal,
): AsyncIterable<ProbeLinkResponse> {
  const tunnel = link?.tunnel;
  if (tunnel === undefined) throw linkMissing(uid);
  if (tunnel.probe !== undefined) return tunnel.probe(request, signal);
  const description = 'its protocol has no probes';
  throw new TaplaneError('FAILED_PRECONDITION', 'PROBE_NOT_SUPPORTED', `probe ${request.name}: ${description}`, {
    preconditions: [{ type: 'LINK', subject: request.name, description }],
  });
}

export function linkMissing(uid: string): TaplaneError {
  const description = 'the data plane does not run it now; see its status';
  return new TaplaneError('FAILED_PRECONDITION', 'LINK_NOT_READY', `probe link: ${description}`, {
    preconditions: [{ type: 'LINK', subject: uid, description }],
  });
}
