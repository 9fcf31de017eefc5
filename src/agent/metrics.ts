// From a running agent to its metrics: takes a snapshot of what the rooms count and know, in slices, and writes it down. What comes within a second
// of another scrape gets the same answer, so that no reader can make the agent work for it all the time. prom-client is loaded by the first scrape.

import { setImmediate as nextTurn } from 'node:timers/promises';
import { RecordLoss_Reason as Lost } from '../gen/taplane/v1/flow.ts';
import type { ExportStats, FlowStats, InterfaceFlowStats } from '../gen/taplane/v1/flow_service.ts';
import { type Condition, Condition_Status } from '../gen/taplane/v1/interface.ts';
import {
  type LinkPeerStatus,
  LinkStatus_State as LinkState,
  LinkSpec_Protocol as Protocol,
  LinkDrops_Reason as Reason,
} from '../gen/taplane/v1/link.ts';
import { NatsStatus_State as NatsState, type NatsStatus } from '../gen/taplane/v1/node_service.ts';
import type { InterfaceManager } from '../interface/manager.ts';
import type { LinkManager, SaidOfLink } from '../link/manager.ts';
import type { CallMeter } from '../metrics/call-counts.ts';
import type {
  AuditFacts,
  CertificateFacts,
  ConnectionFacts,
  LaneFacts,
  LinkFacts,
  MeterFacts,
  NodeSnapshot,
  PeerFacts,
  ReloadFacts,
  SpoolFacts,
} from '../metrics/snapshot.ts';
import type { TlsState } from '../rpc/tls-reload.ts';
import type { Config } from './config.ts';
import type { OutboxStats } from './event-outbox.ts';
import type { HealthCheck } from './http-health.ts';
import type { Lanes } from './lanes.ts';
import type { AgentLog } from './log.ts';
import { watchProcess } from './metrics-process.ts';
import type { NodePolicy } from './policy.ts';
import { agentVersion } from './version.ts';

/** A scrape that comes within this of another gets its answer. */
const SAME_MS = 1_000;

/** The parts of a running agent that are asked. */
export interface MetricsNeeds {
  config: Pick<Config, 'limits' | 'flows' | 'lanes' | 'metrics' | 'nats'>;
  interfaces: Pick<InterfaceManager, 'health' | 'reconciling' | 'netlinkCounters'>;
  /** All of the node, as GetNode tells them. */
  conditions(): readonly Condition[];
  links: Pick<LinkManager, 'said'>;
  lanes: Pick<Lanes, 'describe' | 'streamTotals'>;
  flows: { stats(): FlowStats };
  nats: { status(): NatsStatus };
  events: { stats(): OutboxStats };
  log: Pick<AgentLog, 'lines'>;
  calls: CallMeter;
  checks(): readonly HealthCheck[];
  /** What is there only in some agents. */
  connections?: (() => ConnectionFacts | undefined) | undefined;
  audit?: (() => AuditFacts) | undefined;
  reloads?: (() => Readonly<Record<string, ReloadFacts>>) | undefined;
  tls?: (() => TlsState | undefined) | undefined;
}

export interface Metrics {
  /** In the exposition format of Prometheus. */
  scrape(): Promise<{ contentType: string; body: Buffer }>;
  /** Past values of delays are forgotten by it. */
  snapshot(): Promise<NodeSnapshot>;
  close(): void;
}

export function agentMetrics(needs: MetricsNeeds): Metrics {
  const watch = watchProcess();
  let writing: Promise<{ contentType: string; body: Buffer }> | undefined;
  let writtenAt = Number.NEGATIVE_INFINITY;
  let loaded: ReturnType<typeof load> | undefined;

  async function snapshot(): Promise<NodeSnapshot> {
    const { config } = needs;
    const stats = needs.flows.stats();
    const meters = new Map(stats.interfaces.map((one) => [one.interface, one]));
    await nextTurn();
    const interfaces = needs.interfaces.health().map(({ name, mode, state, contended, repairs }) => {
      return { name, mode, state, contended, repairs, meter: meterOf(meters.get(`interfaces/${name}`)) };
    });
    const conditions = needs.conditions();
    await nextTurn();
    const links = needs.links.said().map(linkOf);
    await nextTurn();
    const { repairs, failures, lastSuccessMs } = needs.interfaces.reconciling();
    const netlink = needs.interfaces.netlinkCounters();
    const nats = needs.nats.status();
    return {
      build: { version: agentVersion, nodeVersion: process.versions.node },
      process: watch.facts(),
      calls: needs.calls.counts(),
      connections: needs.connections?.(),
      interfaces,
      limits: { interfaces: config.limits.interfaces, links: config.limits.links },
      conditions: conditionsOf(conditions),
      reconcile: { repairs, failures, lastSuccessMs },
      netlink: {
        requests: Number(netlink.requests),
        notifications: Number(netlink.notifications),
        overruns: Number(netlink.overruns),
        interruptedDumps: Number(netlink.interruptedDumps),
        errors: Number(netlink.errors),
      },
      links,
      lanes: lanesOf(needs.lanes),
      flows: {
        records: Number(stats.records),
        lostRecords: Number(stats.lostRecords),
        ringRecords: Number(stats.ringRecords),
        ringBytes: Number(stats.ringBytes),
        tableEntries: config.flows.tableEntries,
        tableEntriesTotal: config.flows.tableEntriesTotal * config.lanes,
      },
      spool: stats.export && spoolOf(stats.export),
      nats: { wanted: config.nats !== 'off', connected: nats.state === NatsState.CONNECTED, disconnects: Number(nats.disconnects) },
      events: needs.events.stats(),
      audit: needs.audit?.(),
      certificate: certificateOf(needs.tls?.()),
      reloads: needs.reloads?.() ?? {},
      logLines: needs.log.lines(),
      checks: Object.fromEntries(needs.checks().map(({ name, ok }) => [name, ok])),
      perInterface: config.metrics.perInterface,
    };
  }

  async function write(): Promise<{ contentType: string; body: Buffer }> {
    loaded ??= load();
    const { contentType, write: pieces } = await loaded;
    const parts: Buffer[] = [];
    for await (const piece of pieces(await snapshot())) parts.push(Buffer.from(piece));
    return { contentType, body: Buffer.concat(parts) };
  }

  return {
    snapshot,
    scrape() {
      if (writing !== undefined && performance.now() - writtenAt < SAME_MS) return writing;
      writtenAt = performance.now();
      const mine = write();
      writing = mine;
      mine.catch(() => {
        if (writing === mine) writing = undefined;
      });
      return mine;
    },
    close: () => watch.close(),
  };
}

async function load() {
  const [{ exposition }, { SERIES }] = await Promise.all([import('../metrics/exposition.ts'), import('../metrics/catalogue.ts')]);
  return exposition(SERIES);
}

/** What is read again while the agent runs. */
export function reloadsOf(policy: Pick<NodePolicy, 'status' | 'failures'>, tls: TlsState | undefined): Record<string, ReloadFacts> {
  const status = policy.status();
  const reloads: Record<string, ReloadFacts> = {};
  if (status !== undefined) {
    const { error, loadTime } = status;
    reloads['policy'] = { ok: error === '', failures: policy.failures(), lastSuccessMs: Number(loadTime?.seconds ?? 0n) * 1000 };
  }
  if (tls !== undefined) reloads['certificates'] = { ok: !tls.stale, failures: tls.failures, lastSuccessMs: tls.takenAtMs };
  return reloads;
}

function certificateOf(tls: TlsState | undefined): CertificateFacts | undefined {
  return tls && { notBefore: tls.notBefore.getTime() / 1000, notAfter: tls.notAfter.getTime() / 1000 };
}

function meterOf(said: InterfaceFlowStats | undefined): MeterFacts | undefined {
  if (said === undefined) return undefined;
  const { active, totals, records } = said;
  return {
    active,
    packets: Number(totals?.seenPackets ?? 0n),
    bytes: Number(totals?.seenBytes ?? 0n),
    droppedFrames: Number(totals?.droppedFrames ?? 0n),
    activeFlows: Number(totals?.activeFlows ?? 0n),
    records: Number(records),
  };
}

function conditionsOf(conditions: readonly Condition[]): Record<string, boolean> {
  return Object.fromEntries(conditions.map(({ type, status }) => [type, status === Condition_Status.TRUE]));
}

const PROTOCOLS: Readonly<Record<number, LinkFacts['protocol']>> = {
  [Protocol.FRAMES]: 'frames',
  [Protocol.VXLAN]: 'vxlan',
  [Protocol.WIREGUARD]: 'wireguard',
};
const STATES: Readonly<Record<number, LinkFacts['state']>> = {
  [LinkState.WAITING]: 'waiting',
  [LinkState.CONNECTING]: 'connecting',
  [LinkState.UP]: 'up',
};
const DROPS = words(Reason);
const LOSSES = words(Lost);
const NO_LOSSES = Object.fromEntries(Object.entries(LOSSES).flatMap(([number, word]) => (Number(number) > 0 ? [[word, 0]] : [])));

function linkOf({ name, protocol, status }: SaidOfLink): LinkFacts {
  return {
    name,
    protocol: PROTOCOLS[protocol] ?? 'unknown',
    state: STATES[status?.state ?? 0] ?? 'unknown',
    traffic: trafficOf(status?.traffic),
    drops: Object.fromEntries(status?.drops.map(({ reason, packets }) => [DROPS[reason] ?? 'unspecified', Number(packets)]) ?? []),
    peers: status?.peers.map(peerOf) ?? [],
  };
}

function peerOf({
  displayName,
  publicKey,
  endpoint,
  up,
  traffic,
  handshakes,
  lastHandshakeTime,
  roundTrip,
  loss,
}: LinkPeerStatus): PeerFacts {
  return {
    name: displayName || Buffer.from(publicKey).toString('base64') || endpoint,
    up,
    traffic: trafficOf(traffic),
    handshakes: Number(handshakes),
    lastHandshakeSeconds: Number(lastHandshakeTime?.seconds ?? 0n),
    roundTripSeconds: roundTrip && Number(roundTrip.seconds) + roundTrip.nanos / 1e9,
    loss,
  };
}

function trafficOf(traffic: LinkPeerStatus['traffic']): PeerFacts['traffic'] {
  return {
    receivedPackets: Number(traffic?.receivedPackets ?? 0n),
    receivedBytes: Number(traffic?.receivedBytes ?? 0n),
    sentPackets: Number(traffic?.sentPackets ?? 0n),
    sentBytes: Number(traffic?.sentBytes ?? 0n),
  };
}

function lanesOf(lanes: MetricsNeeds['lanes']): LaneFacts[] {
  const totals = new Map(lanes.streamTotals().map(({ lane, totals: sum }) => [lane, sum]));
  return lanes.describe().map(({ name, pid, restarts, attachments, streams, meters }) => {
    const sum = totals.get(name);
    return {
      name,
      up: pid > 0,
      restarts: Number(restarts),
      attachments,
      streams,
      meters,
      streamsOpened: Number(sum?.opened ?? 0n),
      deliveredFrames: Number(sum?.deliveredFrames ?? 0n),
      droppedFrames: {
        queue_full: Number(sum?.queueFullFrames ?? 0n),
        kernel: Number(sum?.kernelFrames ?? 0n),
        malformed: Number(sum?.malformedFrames ?? 0n),
        in_transit: Number(sum?.inTransitFrames ?? 0n),
      },
    };
  });
}

function spoolOf(stats: ExportStats): SpoolFacts {
  return {
    messages: Number(stats.spooledMessages),
    bytes: Number(stats.spooledBytes),
    limitBytes: Number(stats.spoolLimitBytes),
    retainedBytes: Number(stats.retainedBytes),
    oldestSeconds: Number(stats.oldestSeconds),
    publishedMessages: Number(stats.publishedMessages),
    publishedRecords: Number(stats.publishedRecords),
    retriedMessages: Number(stats.retriedMessages),
    republishedMessages: Number(stats.republishedMessages),
    // Every reason from the beginning: Prometheus sees no increase in a series that comes with its first loss.
    lost: { ...NO_LOSSES, ...Object.fromEntries(stats.lost.map(({ reason, count }) => [LOSSES[reason] ?? 'unspecified', Number(count)])) },
    blocked: stats.reason !== '',
  };
}

/** `TOO_BIG` by its number is `too_big`. */
function words(numbers: Readonly<Record<string, number | string>>): Record<number, string> {
  const pairs = Object.entries(numbers).filter((pair): pair is [string, number] => typeof pair[1] === 'number');
  return Object.fromEntries(pairs.map(([word, number]) => [number, word.toLowerCase()]));
}
