// Series of interfaces and of the work of keeping them as they should be.

import { beyond, capped, OTHERS } from './cap.ts';
import { counter, gauge, type Labels, type Series, tally } from './series.ts';
import type { InterfaceFacts, MeterFacts, NodeSnapshot } from './snapshot.ts';

const MODES = ['tun', 'tap'] as const;
const STATES = ['ready', 'degraded', 'missing'] as const;
const KINDS: Labels[] = MODES.flatMap((mode) => STATES.map((state) => ({ mode, state })));

const labelsOf = ({ name }: InterfaceFacts): Labels => ({ interface: name });
const others: Labels = { interface: OTHERS };

/** A count of each interface, of those beyond the bound together. */
function each(name: string, help: string, amountOf: (facts: InterfaceFacts) => number | undefined): Series {
  return counter(name, help, ({ interfaces, perInterface }) => capped(interfaces, perInterface, labelsOf, amountOf, others), ['interface']);
}

const metered = (name: string, help: string, amountOf: (meter: MeterFacts) => number): Series =>
  each(name, help, ({ meter }) => meter && amountOf(meter));

export const INTERFACE_SERIES: readonly Series[] = [
  gauge(
    'interfaces',
    'Interfaces by mode and state: `ready`, `degraded` (not as specified), `missing` (no device).',
    ({ interfaces }) => tally(interfaces, KINDS, ({ mode, state }) => ({ mode, state })),
    ['mode', 'state'],
  ),
  gauge('interfaces_limit', 'Most interfaces that may exist.', ({ limits }) => limits.interfaces),
  gauge('interfaces_contended', 'Interfaces that another manager keeps changing.', ({ interfaces }) =>
    interfaces.reduce((sum, { contended }) => sum + Number(contended), 0),
  ),
  gauge(
    'interface_ready',
    'The interface is as specified (1) or not (0).',
    ({ interfaces, perInterface }) => capped(interfaces, perInterface, labelsOf, ({ state }) => Number(state === 'ready')),
    ['interface'],
  ),
  each('interface_repairs_total', 'Repairs of what others changed on the interface.', ({ repairs }) => repairs),
  metered('interface_packets_total', 'Packets that the meter of the interface saw, in both directions.', ({ packets }) => packets),
  metered('interface_bytes_total', 'Bytes of these packets.', ({ bytes }) => bytes),
  metered('interface_flow_records_total', 'Flow records of the interface.', ({ records }) => records),
  metered('interface_flow_dropped_frames_total', 'Frames that the meter did not read in time.', ({ droppedFrames }) => droppedFrames),
  gauge(
    'interface_flows',
    'Flows in the table of the interface.',
    ({ interfaces, perInterface }) => capped(interfaces, perInterface, labelsOf, ({ meter }) => meter?.activeFlows, others),
    ['interface'],
  ),
  gauge('interfaces_metered', 'Interfaces whose flows are metered now.', ({ interfaces }) =>
    interfaces.reduce((sum, { meter }) => sum + Number(meter?.active === true), 0),
  ),
  counter('reconcile_repairs_total', 'Repairs of drift.', ({ reconcile }) => reconcile.repairs),
  counter(
    'reconcile_failures_total',
    'Looks at an interface that found it could not be made as specified.',
    ({ reconcile }) => reconcile.failures,
  ),
  gauge(
    'reconcile_last_success_timestamp_seconds',
    'When an interface was last found or made as specified; 0: never.',
    ({ reconcile }) => reconcile.lastSuccessMs / 1000,
  ),
  counter('netlink_requests_total', 'Requests to the kernel.', ({ netlink }) => netlink.requests),
  counter('netlink_notifications_total', 'Notifications of the kernel that were read.', ({ netlink }) => netlink.notifications),
  counter('netlink_errors_total', 'Changes and tables that the kernel refused.', ({ netlink }) => netlink.errors),
  counter(
    'netlink_overruns_total',
    'Notifications lost since the queue was full, each followed by a full read.',
    ({ netlink }) => netlink.overruns,
  ),
  counter(
    'netlink_interrupted_dumps_total',
    'Tables that changed while they were read, and were read again.',
    ({ netlink }) => netlink.interruptedDumps,
  ),
  gauge(
    'series_beyond_limit',
    'Interfaces, links and peers without series of their own (`metrics.perInterface`).',
    function* (snapshot: NodeSnapshot) {
      const { interfaces, links, perInterface } = snapshot;
      yield { labels: { kind: 'interface' }, value: beyond(interfaces, perInterface) };
      yield { labels: { kind: 'link' }, value: beyond(links, perInterface) };
      const peers = links.reduce((sum, link) => sum + link.peers.length, 0);
      yield { labels: { kind: 'peer' }, value: Math.max(0, peers - perInterface) };
    },
    ['kind'],
  ),
];
