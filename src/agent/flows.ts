// Everything of flows in an agent: what fetches records from lanes, the memory for queries, and the ways out: NATS, and IPFIX. Opened in
// two steps, since lanes stand between them: records that lanes tell of at the very end still find their way to disk.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Exporter, Outgoing } from '../flow/contract.ts';
import { openExporter } from '../flow/exporter.ts';
import { type PatientExporter, patientExporter } from '../flow/exporter-patient.ts';
import { type OpenFlows, openFlows } from '../flow/flows.ts';
import { encodeGoflow } from '../flow/goflow.ts';
import { type IpfixExporter, openIpfixExporter } from '../flow/ipfix-exporter.ts';
import { FlowRing } from '../flow/ring.ts';
import { Attachment_Kind, type FlowLimits } from '../gen/taplane/lane/v1/lane_service.ts';
import { Event } from '../gen/taplane/v1/event.ts';
import { FlowBatch } from '../gen/taplane/v1/flow.ts';
import type { InterfaceFlowStats } from '../gen/taplane/v1/flow_service.ts';
import type { Condition } from '../gen/taplane/v1/interface.ts';
import type { Metering } from '../interface/manager.ts';
import type { NatsLink } from '../nats/connection.ts';
import type { Conditions } from '../resource/conditions.ts';
import type { Config } from './config.ts';
import { type FlowIntake, flowIntake } from './flow-intake.ts';
import type { Lanes } from './lanes.ts';
import type { Log } from './log.ts';

const DAY_MS = 86_400_000;
const EVENT_BYTES = 64 * 1024 * 1024;
/** Events are few, and read long after. */
const EVENT_AGE_MS = 30 * DAY_MS;

/** What interfaces are asked for. */
export interface MeteredInterfaces {
  metered(): { uid: string; name: string }[];
  /** Kernel index by kernel name, 0 when not known. */
  index(name: string): number;
}

/** The way to NATS; undefined where there is none. A disk that fails does not keep the agent from starting: see `exportConditions`. */
export function nodeExporter(config: Config, nats: NatsLink, log: Log): PatientExporter | undefined {
  if (config.nats === 'off') return undefined;
  return patientExporter(() => spoolExporter(config, nats, log), config.flows.spoolBytes, log);
}

/** What the node says of the way to NATS: nothing where there is none. */
export function exportConditions(exporter: PatientExporter | undefined, conditions: Conditions<'FlowSpool'>): Condition[] {
  if (exporter === undefined) return [];
  const failure = exporter.failure();
  conditions.set('FlowSpool', failure === undefined, failure?.reason ?? 'Open', failure?.message ?? '', Date.now());
  return conditions.list();
}

/** Throws when the disk fails. */
function spoolExporter(config: Config, nats: NatsLink, log: Log): Exporter {
  const { cluster, node, flows } = config;
  const folder = join(config.stateDir, 'spool');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const { stream } = flows;
  return openExporter({
    file: join(folder, 'flows.db'),
    cluster,
    node,
    limits: { spoolBytes: flows.spoolBytes, retainedBytes: flows.retainedBytes },
    encode: ENCODINGS[flows.format],
    mode: flows.delivery,
    streams: {
      create: stream.create,
      replicas: stream.replicas,
      flows: { name: stream.flows, maxBytes: stream.maxBytes, maxAgeMs: stream.maxAgeSeconds * 1000 },
      events: { name: stream.events, maxBytes: Math.min(stream.maxBytes || EVENT_BYTES, EVENT_BYTES), maxAgeMs: EVENT_AGE_MS },
    },
    connection: () => nats.connection(),
    log,
  });
}

/** How interfaces are metered; undefined where they are not. */
export function nodeMetering({ cluster, node, flows }: Config): Metering | undefined {
  if (!flows.enabled) return undefined;
  const { activeTimeout, idleTimeout, sampling, tableEntries } = flows;
  return { cluster, node, activeTimeout, idleTimeout, sampling, tableEntries };
}

/** Room for flows in one lane: entries, and bytes that wait for the agent; 0 leaves the rings to the lane. */
export function laneFlowLimits({ flows }: Config): FlowLimits {
  return { tableEntries: flows.tableEntriesTotal, waitingBytes: flows.waitingBytes, ringBytes: 0 };
}

export interface NodeFlows {
  /** For FlowService. */
  flows: OpenFlows;
  /** Fetches what lanes still have, and closes. */
  stop(graceMs: number): Promise<void>;
}

export interface NodeFlowsNeeds {
  config: Config;
  lanes: Lanes;
  interfaces: () => MeteredInterfaces;
  exporter: Exporter | undefined;
  log: Log;
}

/** Begins to fetch. `interfaces` is asked for whenever statistics are. */
export function nodeFlows({ config, lanes, interfaces, exporter, log }: NodeFlowsNeeds): NodeFlows {
  const ring = new FlowRing({ maxBytes: config.flows.ringBytes });
  const ipfix = ipfixOf(config, interfaces, log);
  const show = ipfix === undefined ? undefined : (batch: FlowBatch) => ipfix.send(batch);
  const intake = flowIntake({ lanes, ring, exporter, show, log });
  const flows = openFlows({
    ring,
    interfaces: () => (config.flows.enabled ? statsOf(interfaces(), intake, lanes) : []),
    exported: () => exporter?.stats(),
    ipfix: () => ipfix?.stats(),
  });
  return {
    flows,
    async stop(graceMs) {
      await intake.stop(graceMs);
      await ipfix?.close();
    },
  };
}

function ipfixOf(config: Config, interfaces: () => MeteredInterfaces, log: Log): IpfixExporter | undefined {
  const { ipfix: collector } = config.flows;
  if (collector === '') return undefined;
  return openIpfixExporter({ collector, observationDomainId: 0, interfaceIndex: (name) => interfaces().index(name), log });
}

/** Of each metered interface: what its lane says, and what its meter has last told. */
function statsOf(interfaces: MeteredInterfaces, intake: FlowIntake, lanes: Lanes): InterfaceFlowStats[] {
  return interfaces.metered().map(({ uid, name }) => {
    const state = lanes.attachment(uid, Attachment_Kind.METER);
    const { epoch = '', totals, records = 0n } = intake.said(uid) ?? {};
    const reason = state === undefined ? 'the data-plane process has not answered yet' : state.reason;
    return { interface: name, active: state?.attached ?? false, reason, epoch, totals, records };
  });
}

type Encode = (message: Outgoing) => { payload: Uint8Array; contentType: string };

/** How messages are written on NATS; undefined: as they are, in protobuf. */
const ENCODINGS: Record<Config['flows']['format'], Encode | undefined> = {
  protobuf: undefined,
  json: ({ kind, payload }) => {
    const message = kind === 'flow' ? FlowBatch.toJSON(FlowBatch.decode(payload)) : Event.toJSON(Event.decode(payload));
    return { payload: Buffer.from(JSON.stringify(message)), contentType: 'application/json' };
  },
  goflow: ({ kind, payload }) => {
    if (kind === 'event') return { payload, contentType: 'application/protobuf; messageType=taplane.v1.Event' };
    const batch = encodeGoflow(FlowBatch.decode(payload));
    return { payload: batch, contentType: 'application/protobuf; messageType=flowpb.FlowMessage; delimited=true' };
  },
};
