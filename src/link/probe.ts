// Probes of a peer: what may be asked, and the one probe that a link has at a time. The measuring is the lane's.

import { type FieldViolation, invalidFields, TaplaneError } from '../errors.ts';
import type { LinkPeer, LinkPeerStatus, LinkStatus } from '../gen/taplane/v1/link.ts';
import type { ProbeLinkRequest, ProbeLinkResponse, ProbeResult } from '../gen/taplane/v1/link_service.ts';
import type { Entry } from './entry.ts';
import { linkId, linkName } from './name.ts';
import type { Registry } from './registry.ts';

const MOST = { count: 1000, intervalMs: 10_000, throughputSeconds: 60 };

/** Asks the lane of an interface; ends after the result. */
export type AskLane = (
  interfaceUid: string,
  ask: { linkUid: string; probe: ProbeLinkRequest },
  signal: AbortSignal,
) => AsyncIterable<ProbeLinkResponse>;

export interface ProbeNeeds {
  registry: Registry;
  ask: AskLane;
  /** Hears the result. */
  probed(result: ProbeResult, entry: Entry): void;
}

/** Steps, and at last the result. Throws TaplaneError as ProbeLink says. */
export async function* probeLink(
  { registry, ask, probed }: ProbeNeeds,
  request: ProbeLinkRequest,
  signal: AbortSignal,
): AsyncGenerator<ProbeLinkResponse> {
  const id = linkId(request.name);
  const violations = problems(request);
  if (violations.length > 0) throw invalidFields(violations);
  const entry = registry.need(id);
  const { status } = registry.view(entry);
  checkPeer(request.peer, entry, status);
  const uid = registry.joined(entry)?.device.uid;
  if (uid === undefined || registry.said(entry)?.attached !== true) {
    const why = status?.reason || 'the data plane does not run it yet';
    throw refused('LINK_NOT_READY', id, `the link is not ready: ${why}`);
  }
  if (entry.isProbed)
    throw new TaplaneError('RESOURCE_EXHAUSTED', 'PROBE_UNDER_WAY', `probe link ${id}: a probe is under way`, { retryAfterMs: 1000 });
  entry.isProbed = true;
  try {
    for await (const message of ask(uid, { linkUid: entry.record.uid, probe: request }, signal)) {
      if (message.progress?.$case !== 'result') {
        yield message;
        continue;
      }
      const value: ProbeResult = { ...message.progress.value, name: linkName(id) };
      probed(value, entry);
      yield { progress: { $case: 'result', value } };
      return;
    }
  } finally {
    entry.isProbed = false;
  }
}

function problems({ count, intervalMs, throughputSeconds, peer }: ProbeLinkRequest): FieldViolation[] {
  const found: FieldViolation[] = [];
  const say = (field: string, description: string): void => void found.push({ field, description });
  if (count > MOST.count) say('count', `must be 0 or 1 to ${MOST.count}, got ${count}`);
  if (intervalMs > MOST.intervalMs) say('interval_ms', `must be 0 or 1 to ${MOST.intervalMs}, got ${intervalMs}`);
  if (throughputSeconds > MOST.throughputSeconds)
    say('throughput_seconds', `must be 0 or 1 to ${MOST.throughputSeconds}, got ${throughputSeconds}`);
  if (Buffer.byteLength(peer) > 255) say('peer', 'must be an endpoint, a display name, or a public key in base64');
  return found;
}

/** PEER_NOT_FOUND unless exactly one peer is meant. */
function checkPeer(peer: string, entry: Entry, status: LinkStatus | undefined): void {
  const { peers } = entry.record.spec;
  const known = status?.peers ?? [];
  if (peer === '') {
    const count = Math.max(peers.length, known.length);
    if (count === 1) return;
    throw refused('PEER_NOT_FOUND', entry.name, count === 0 ? 'it has no peer' : `it has ${count} peers: name one`);
  }
  const isMeant = (one: LinkPeer | LinkPeerStatus): boolean =>
    one.endpoint === peer ||
    one.displayName === peer ||
    (one.publicKey.length > 0 && Buffer.from(one.publicKey).toString('base64') === peer);
  if ([...peers, ...known].some(isMeant)) return;
  throw refused('PEER_NOT_FOUND', entry.name, `it has no peer '${peer.slice(0, 64)}'`);
}

function refused(reason: string, id: string, description: string): TaplaneError {
  return new TaplaneError('FAILED_PRECONDITION', reason, `probe link ${id}: ${description}`, {
    preconditions: [{ type: 'LINK', subject: linkName(id), description }],
    metadata: { link: id },
  });
}
