// Series of the agent itself: its process, calls, data plane, flows, and what goes out.

import { bucketSamples } from './call-counts.ts';
import { byKey, counter, gauge, histogram, type Sample, type Series } from './series.ts';
import type { LaneFacts, NodeSnapshot, ReloadFacts, SpoolFacts } from './snapshot.ts';

const LEVELS = ['debug', 'info', 'warn', 'error'] as const;

function lane(make: typeof gauge, name: string, help: string, amountOf: (lane: LaneFacts) => number): Series {
  return make(name, help, ({ lanes }) => lanes.map((one) => ({ labels: { lane: one.name }, value: amountOf(one) })), ['lane']);
}

const spool = (make: typeof gauge, name: string, help: string, amountOf: (spool: SpoolFacts) => number): Series =>
  make(name, help, ({ spool: facts }) => facts && amountOf(facts));

const PROCESS: readonly Series[] = [
  gauge(
    'build_info',
    'Version of the agent and of Node.js; always 1.',
    ({ build }) => [{ labels: { version: build.version, node_version: build.nodeVersion }, value: 1 }],
    ['version', 'node_version'],
  ),
  gauge('process_start_time_seconds', 'When the agent started, since 1970.', ({ process }) => process.startTimeMs / 1000),
  counter(
    'process_cpu_seconds_total',
    'Processor time of the agent, by mode.',
    ({ process }) => byKey('mode', { user: process.userCpuSeconds, system: process.systemCpuSeconds }),
    ['mode'],
  ),
  gauge('process_resident_memory_bytes', 'Resident memory of the agent.', ({ process }) => process.residentBytes),
  gauge('process_open_fds', 'Open file descriptors of the agent.', ({ process }) => process.openFds),
  gauge('process_max_fds', 'Most file descriptors that the agent may have.', ({ process }) => process.maxFds),
  gauge(
    'process_heap_bytes',
    'JavaScript heap: in use, taken from the system, and outside of the heap.',
    ({ process }) => byKey('kind', { used: process.heapUsedBytes, total: process.heapTotalBytes, external: process.externalBytes }),
    ['kind'],
  ),
  gauge(
    'event_loop_delay_seconds',
    'How late the event loop was since the last scrape: mean, 99th percentile, most.',
    ({ process }) => byKey('statistic', process.loopDelay),
    ['statistic'],
  ),
  gauge(
    'event_loop_utilization_ratio',
    'Share of the time since the last scrape in which the event loop worked.',
    ({ process }) => process.loopUtilization,
  ),
  counter(
    'gc_runs_total',
    'Garbage collections by kind.',
    ({ process }) => Object.entries(process.gc).map(([kind, { count }]) => ({ labels: { kind }, value: count })),
    ['kind'],
  ),
  counter(
    'gc_seconds_total',
    'Time of garbage collections by kind.',
    ({ process }) => Object.entries(process.gc).map(([kind, { seconds }]) => ({ labels: { kind }, value: seconds })),
    ['kind'],
  ),
  counter(
    'log_lines_total',
    'Lines logged by level.',
    ({ logLines }) => LEVELS.map((level) => ({ labels: { level }, value: logLines[level] ?? 0 })),
    ['level'],
  ),
  gauge(
    'ready',
    'Checks of readiness, see /readyz: 1 passes, 0 fails.',
    ({ checks }) => Object.entries(checks).map(([check, passes]) => ({ labels: { check }, value: Number(passes) })),
    ['check'],
  ),
  gauge(
    'node_condition',
    'Conditions of the node, see `taplane node status`: 1 true, 0 false or not known.',
    ({ conditions }) => Object.entries(conditions).map(([type, truth]) => ({ labels: { type }, value: Number(truth) })),
    ['type'],
  ),
];

const CALLS: readonly Series[] = [
  counter('grpc_calls_total', 'Calls that are over, by method and gRPC code.', ({ calls }) => callSamples(calls.ended), ['method', 'code']),
  gauge(
    'grpc_calls_in_progress',
    'Calls in progress, streams included.',
    ({ calls }) => [...calls.inProgress].map(([method, value]) => ({ labels: { method }, value })),
    ['method'],
  ),
  histogram('grpc_call_duration_seconds', 'How long unary calls took.', ({ calls }) => bucketSamples(calls.durations), ['method', 'le']),
  gauge(
    'connections',
    'Open connections to the API, by kind of caller.',
    ({ connections }) => connections && byKey('caller', connections.open),
    ['caller'],
  ),
  counter(
    'connections_accepted_total',
    'Connections to the API that were accepted.',
    ({ connections }) => connections && byKey('caller', connections.accepted),
    ['caller'],
  ),
  counter(
    'connections_refused_total',
    'Connections to the API that were closed before they could call, by reason.',
    ({ connections }) => connections && byKey('reason', connections.refused),
    ['reason'],
  ),
  gauge('tls_handshakes_in_progress', 'Connections in the middle of their TLS handshake.', ({ connections }) => connections?.handshaking),
  gauge(
    'tls_certificate_not_before_timestamp_seconds',
    'Begin of the certificate that is served, since 1970.',
    ({ certificate }) => certificate?.notBefore,
  ),
  gauge('tls_certificate_not_after_timestamp_seconds', 'Its end.', ({ certificate }) => certificate?.notAfter),
];

const DATA_PLANE: readonly Series[] = [
  lane(gauge, 'lane_up', 'The lane is needed and answers (1) or not (0).', ({ up }) => Number(up)),
  lane(counter, 'lane_restarts_total', 'How often this agent had to start the lane again.', ({ restarts }) => restarts),
  lane(gauge, 'lane_attachments', 'What the lane holds: parked queues, responders, links.', ({ attachments }) => attachments),
  lane(gauge, 'lane_meters', 'Interfaces that the lane meters.', ({ meters }) => meters),
  lane(gauge, 'lane_streams', 'Streams and captures in progress, those that wait for their client included.', ({ streams }) => streams),
  lane(counter, 'lane_streams_opened_total', 'Streams and captures that were opened.', ({ streamsOpened }) => streamsOpened),
  lane(counter, 'lane_stream_frames_total', 'Frames delivered to streams and captures.', ({ deliveredFrames }) => deliveredFrames),
  counter(
    'lane_stream_dropped_frames_total',
    'Frames that streams and captures lost, by reason: `queue_full` (slow client), `kernel` (slow lane), `malformed`, `in_transit`.',
    ({ lanes }) =>
      lanes.flatMap(({ name, droppedFrames }) =>
        Object.entries(droppedFrames).map(([reason, value]) => ({ labels: { lane: name, reason }, value })),
      ),
    ['lane', 'reason'],
  ),
  counter('flow_records_total', 'Flow records that came from lanes.', ({ flows }) => flows.records),
  counter('flow_records_lost_total', 'Flow records that lanes lost.', ({ flows }) => flows.lostRecords),
  gauge('flow_ring_records', 'Flow records in memory for queries.', ({ flows }) => flows.ringRecords),
  gauge('flow_ring_bytes', 'Bytes of these.', ({ flows }) => flows.ringBytes),
  gauge('flow_table_flows', 'Flows in the tables of all interfaces.', ({ interfaces }) =>
    interfaces.reduce((sum, { meter }) => sum + (meter?.activeFlows ?? 0), 0),
  ),
  gauge('flow_table_limit', 'Most flows in the tables of all lanes together.', ({ flows }) => flows.tableEntriesTotal),
  gauge('flow_table_fill_ratio', 'How full the fullest table of an interface is, 0 to 1.', ({ interfaces, flows }) =>
    interfaces.reduce((most, { meter }) => Math.max(most, (meter?.activeFlows ?? 0) / flows.tableEntries), 0),
  ),
];

const WAYS_OUT: readonly Series[] = [
  gauge('nats_wanted', 'NATS is configured (1) or off (0).', ({ nats }) => Number(nats.wanted)),
  gauge('nats_connected', 'The agent is connected to NATS (1) or not (0).', ({ nats }) => Number(nats.connected)),
  counter(
    'nats_disconnects_total',
    'How often the connection to NATS was lost; each was followed by a reconnection, or is being tried.',
    ({ nats }) => nats.disconnects,
  ),
  spool(counter, 'nats_published_messages_total', 'Messages that NATS acknowledged.', ({ publishedMessages }) => publishedMessages),
  spool(counter, 'nats_published_records_total', 'Flow records and events in these messages.', ({ publishedRecords }) => publishedRecords),
  spool(
    counter,
    'nats_retried_messages_total',
    'Messages sent again, since no acknowledgement came.',
    ({ retriedMessages }) => retriedMessages,
  ),
  spool(
    counter,
    'nats_republished_messages_total',
    'Messages sent again after the server had lost them.',
    ({ republishedMessages }) => republishedMessages,
  ),
  spool(gauge, 'nats_publish_blocked', 'Nothing is published now (1); `taplane node status` says why.', ({ blocked }) => Number(blocked)),
  spool(gauge, 'spool_messages', 'Messages that wait on disk for NATS.', ({ messages }) => messages),
  spool(gauge, 'spool_bytes', 'Bytes of these.', ({ bytes }) => bytes),
  spool(gauge, 'spool_limit_bytes', 'Most bytes that may wait.', ({ limitBytes }) => limitBytes),
  spool(gauge, 'spool_retained_bytes', 'Bytes of acknowledged messages that are kept for a while.', ({ retainedBytes }) => retainedBytes),
  spool(gauge, 'spool_oldest_seconds', 'Age of the oldest message that waits; 0: none does.', ({ oldestSeconds }) => oldestSeconds),
  counter(
    'spool_lost_records_total',
    'Records lost on their way to NATS, by reason (`RecordLoss.Reason`).',
    ({ spool: facts }) => facts && byKey('reason', facts.lost),
    ['reason'],
  ),
  counter('events_total', 'Events handed over to the spool.', ({ events }) => events.stored),
  gauge('events_waiting', 'Events that the spool did not take yet.', ({ events }) => events.waiting),
  counter('events_lost_total', 'Events dropped for want of room.', ({ events }) => events.lost),
  counter('events_failures_total', 'How often the spool did not take events.', ({ events }) => events.failures),
  counter('audit_records_total', 'Audit records written, by what was decided.', ({ audit }) => audit && byKey('outcome', audit.records), [
    'outcome',
  ]),
  counter('audit_failures_total', 'Audit records that could not be written; their calls were refused.', ({ audit }) => audit?.failures),
  gauge('audit_bytes', 'Bytes of the audit log.', ({ audit }) => audit?.bytes),
  gauge(
    'reload_ok',
    'The last reading of what is read again at run time went well (1) or not (0).',
    (snapshot) => reloads(snapshot, ({ ok }) => Number(ok)),
    ['what'],
  ),
  counter(
    'reload_failures_total',
    'Readings that failed; what was good before stays in force.',
    (snapshot) => reloads(snapshot, ({ failures }) => failures),
    ['what'],
  ),
  gauge(
    'reload_last_success_timestamp_seconds',
    'When it was last read well, since 1970.',
    (snapshot) => reloads(snapshot, ({ lastSuccessMs }) => lastSuccessMs / 1000),
    ['what'],
  ),
];

export const NODE_SERIES: readonly Series[] = [...PROCESS, ...CALLS, ...DATA_PLANE, ...WAYS_OUT];

function* callSamples(ended: ReadonlyMap<string, ReadonlyMap<string, number>>): Generator<Sample> {
  for (const [method, codes] of ended) for (const [code, value] of codes) yield { labels: { method, code }, value };
}

function reloads({ reloads: all }: NodeSnapshot, amountOf: (facts: ReloadFacts) => number | undefined): Sample[] {
  return Object.entries(all).flatMap(([what, facts]) => {
    const value = amountOf(facts);
    return value === undefined ? [] : [{ labels: { what }, value }];
  });
}
