// What happens on a node, as messages `taplane.v1.Event` for the exporter. Interfaces and links are heard of as watchers hear of them. Of readiness
// only changes are told, never the same twice in a row; what was there when the agent started is taken as ready until it shows otherwise.
// Nothing here throws, and without an exporter nothing happens.

import { randomBytes } from 'node:crypto';
import type { Exporter } from '../flow/contract.ts';
import { Event, Event_Kind as Kind } from '../gen/taplane/v1/event.ts';
import { Condition_Status, type Interface } from '../gen/taplane/v1/interface.ts';
import { type Link, LinkStatus_State as LinkState } from '../gen/taplane/v1/link.ts';
import type { ProbeResult } from '../gen/taplane/v1/link_service.ts';
import type { WatchEvent } from '../interface/broadcast.ts';
import type { LinkEvent } from '../link/manager.ts';
import { timestamp } from '../resource/timestamp.ts';
import { activeHeaders } from '../tracing/span.ts';
import { EventOutbox, type OutboxStats } from './event-outbox.ts';
import type { Log } from './log.ts';

/** A message of NATS has room for a megabyte, and nobody reads more steps than these. */
const STEPS_MOST = 256;
/** In characters. */
const MESSAGE_MOST = 4096;

export interface EventNeeds {
  /** Absent where events go nowhere. */
  exporter?: Pick<Exporter, 'put'> | undefined;
  cluster: string;
  node: string;
  log: Log;
  /** 16 hexadecimal digits; a new one where none is given. */
  epoch?: string;
  /** Milliseconds since 1970. */
  now?: () => number;
}

export interface NodeEvents {
  /** Hears what watchers of interfaces hear, in the same turn. */
  told(event: WatchEvent): void;
  /** Hears what watchers of links hear, in the same turn. */
  linkTold(event: LinkEvent): void;
  /** A peer of a link was probed. */
  linkProbed(probe: ProbeResult, link: Pick<Link, 'uid' | 'labels'>): void;
  agentStarted(message?: string): void;
  agentStopping(message?: string): void;
  /** A data-plane process died, for the reason `why`, and another has taken its place. */
  laneRestarted(lane: string, why: string): void;
  stats(): OutboxStats;
  /** Hands over what waits. Nothing is told after it. */
  close(): void;
}

/** What was last told of an interface or a link. */
interface Known {
  etag: string;
  ready: boolean;
}

type What = Pick<Event, 'kind'> & Partial<Event>;

export function nodeEvents({ exporter, cluster, node, log, epoch = newEpoch(), now = Date.now }: EventNeeds): NodeEvents {
  if (exporter === undefined) return silent;
  const outbox = new EventOutbox(exporter, log);
  const known = new Map<string, Known>();
  let sequence = 0n;
  let closed = false;

  function emit(what: What): void {
    if (closed) return;
    sequence += 1n;
    const time = timestamp(now());
    const payload = Event.encode(Event.fromPartial({ ...bounded(what), cluster, node, epoch, sequence, time })).finish();
    const id = `${epoch}:${sequence}`;
    outbox.put({ kind: 'event', name: nameOf(what.kind), id, epoch, firstSequence: sequence, records: 1, payload, trace: activeHeaders() });
  }

  function told(event: WatchEvent): void {
    if (event.$case !== 'added' && event.$case !== 'modified' && event.$case !== 'deleted') return;
    const { name: resource, uid, etag, labels, plan: steps, status } = event.value;
    const of = { resource, uid, labels };
    const old = known.get(uid);
    if (event.$case === 'deleted') {
      known.delete(uid);
      emit({ ...of, kind: Kind.INTERFACE_DELETED, steps });
      return;
    }
    const { isReady, message } = readiness(status);
    known.set(uid, { etag, ready: isReady });
    const isNew = event.$case === 'added';
    const isUpdate = !isNew && old !== undefined && old.etag !== etag;
    const isRepair = !isNew && !isUpdate && steps.length > 0;
    if (isNew) emit({ ...of, kind: Kind.INTERFACE_CREATED, steps });
    if (isUpdate) emit({ ...of, kind: Kind.INTERFACE_UPDATED, steps });
    if (isRepair && isReady) emit({ ...of, kind: Kind.INTERFACE_REPAIRED, steps });
    const wasReady = isNew ? false : (old?.ready ?? true);
    if (isReady && !wasReady) emit({ ...of, kind: Kind.INTERFACE_READY, message });
    // Steps of a repair that was not enough have no event of their own.
    if (!isReady && (wasReady || isNew)) emit({ ...of, kind: Kind.INTERFACE_DEGRADED, message, steps: isRepair ? steps : [] });
  }

  function linkTold(event: LinkEvent): void {
    if (event.$case === 'synced') return;
    const { name: resource, uid, etag, labels, status } = event.value;
    const of = { resource, uid, labels };
    const old = known.get(uid);
    if (event.$case === 'deleted') {
      known.delete(uid);
      emit({ ...of, kind: Kind.LINK_DELETED });
      return;
    }
    const isNew = event.$case === 'added';
    if (isNew) emit({ ...of, kind: Kind.LINK_CREATED });
    else if (old !== undefined && old.etag !== etag) emit({ ...of, kind: Kind.LINK_UPDATED });
    const wasUp = isNew ? false : (old?.ready ?? true);
    // A data plane that has not answered has not said that anything is down.
    const isUp = status?.state === LinkState.UNSPECIFIED ? wasUp : status?.state === LinkState.UP;
    known.set(uid, { etag, ready: isUp });
    if (isUp && !wasUp) emit({ ...of, kind: Kind.LINK_UP });
    if (!isUp && wasUp) emit({ ...of, kind: Kind.LINK_DOWN, message: status?.reason ?? '' });
  }

  /** Calls it; what it throws ends here. */
  const heard = (event: { $case: string }, tell: () => void): void => {
    try {
      tell();
    } catch (error) {
      log.error({ err: String(error), event: event.$case }, 'event not told');
    }
  };

  return {
    told: (event) => heard(event, () => told(event)),
    linkTold: (event) => heard(event, () => linkTold(event)),
    linkProbed: (probe, { uid, labels }) => emit({ kind: Kind.LINK_PROBED, resource: probe.name, uid, labels, probe }),
    agentStarted: (message = '') => emit({ kind: Kind.AGENT_STARTED, message }),
    agentStopping: (message = '') => emit({ kind: Kind.AGENT_STOPPING, message }),
    laneRestarted: (lane, why) => emit({ kind: Kind.LANE_RESTARTED, message: `${lane}: ${why}` }),
    stats: () => outbox.stats(),
    close() {
      outbox.close();
      closed = true;
    },
  };
}

const silent: NodeEvents = {
  told() {},
  linkTold() {},
  linkProbed() {},
  agentStarted() {},
  agentStopping() {},
  laneRestarted() {},
  stats: () => ({ stored: 0, waiting: 0, lost: 0, failures: 0 }),
  close() {},
};

/** Whether an interface is as specified, and why. */
function readiness(status: Interface['status']): { isReady: boolean; message: string } {
  const condition = status?.conditions.find(({ type }) => type === 'Ready');
  const message = [condition?.reason, condition?.message].filter(Boolean).join(': ');
  return { isReady: condition?.status === Condition_Status.TRUE, message };
}

/** `interface-created` */
export function nameOf(kind: Kind): string {
  return NAMES.get(kind) ?? 'unspecified';
}

const NAMES = new Map(Object.entries(Kind).map(([name, kind]) => [kind, name.toLowerCase().replaceAll('_', '-')]));

function bounded(what: What): What {
  const { message = '', steps = [] } = what;
  const more = steps.length > STEPS_MOST ? `${steps.length - STEPS_MOST} more steps` : '';
  const text = [message.length > MESSAGE_MOST ? `${message.slice(0, MESSAGE_MOST)}...` : message, more].filter(Boolean).join('; ');
  return { ...what, message: text, steps: steps.slice(0, STEPS_MOST) };
}

function newEpoch(): string {
  return randomBytes(8).toString('hex');
}
