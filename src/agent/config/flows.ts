// The section `flows` of the configuration: its schema, defaults and cures, and what must hold between its fields.

import { z } from 'zod';
import { parseCollector } from '../../flow/collector-address.ts';
import type { ConfigProblem } from './error.ts';
import { checked, count } from './fields.ts';

export interface FlowsConfig {
  /** Packets of interfaces are metered. */
  enabled: boolean;
  /** A flow that goes on is told of each so many seconds. */
  activeTimeout: number;
  /** A flow ends when no packet came for so many seconds. */
  idleTimeout: number;
  /** One packet in so many is metered; 1: all. */
  sampling: number;
  /** Most flows of an interface at a time. */
  tableEntries: number;
  /** Most flows of all interfaces of a lane at a time. */
  tableEntriesTotal: number;
  /** Memory of the agent for queries. */
  ringBytes: number;
  /** Disk for messages that NATS has not acknowledged. */
  spoolBytes: number;
  /** Disk for acknowledged messages, in case the server loses them. */
  retainedBytes: number;
  /** Memory of a lane for records that the agent has not taken. */
  waitingBytes: number;
  /** Payload of messages on NATS. */
  format: 'protobuf' | 'json' | 'goflow';
  /** `core` publishes without acknowledgement. */
  delivery: 'jetstream' | 'core';
  stream: {
    /** The agent makes streams that are missing. */
    create: boolean;
    /** Name of the stream of flows. */
    flows: string;
    /** Name of the stream of events. */
    events: string;
    /** Of each stream that the agent makes; 0: no limit. */
    maxBytes: number;
    /** Of messages in streams that the agent makes; 0: no limit. */
    maxAgeSeconds: number;
    /** Of each stream that the agent makes. */
    replicas: number;
  };
  /** `host:port` of an IPFIX collector, or empty. */
  ipfix: string;
}

interface Count {
  preset: number;
  min: number;
  max: number;
  unit?: string;
}

const GIB = 1024 ** 3;

const counts = {
  activeTimeout: { preset: 60, min: 1, max: 86_400, unit: 'seconds' },
  idleTimeout: { preset: 15, min: 1, max: 86_400, unit: 'seconds' },
  sampling: { preset: 1, min: 1, max: 1_000_000 },
  tableEntries: { preset: 65_536, min: 64, max: 4_194_304 },
  tableEntriesTotal: { preset: 262_144, min: 64, max: 16_777_216 },
  ringBytes: { preset: 16_777_216, min: 65_536, max: 4 * GIB, unit: 'bytes' },
  spoolBytes: { preset: 268_435_456, min: 65_536, max: 1024 * GIB, unit: 'bytes' },
  retainedBytes: { preset: 67_108_864, min: 0, max: 1024 * GIB, unit: 'bytes' },
  waitingBytes: { preset: 16_777_216, min: 65_536, max: GIB, unit: 'bytes' },
} satisfies Record<string, Count>;

const streamCounts = {
  maxBytes: { preset: 268_435_456, min: 0, max: 1024 * 1024 * GIB, unit: 'bytes' },
  maxAgeSeconds: { preset: 604_800, min: 0, max: 315_360_000, unit: 'seconds' },
  replicas: { preset: 1, min: 1, max: 5 },
} satisfies Record<string, Count>;

// What NATS refuses in the name of a stream (blanks, dots, wildcards, separators of paths), and more.
const streamName = z.string().refine((text) => /^[A-Za-z0-9_-]{1,128}$/.test(text), 'must be 1 to 128 letters, digits, - and _');

export const flowsSchema = z.strictObject({
  enabled: z.boolean().optional(),
  ...fieldsOf(counts),
  format: z.enum(['protobuf', 'json', 'goflow']).optional(),
  delivery: z.enum(['jetstream', 'core']).optional(),
  stream: z
    .strictObject({
      create: z.boolean().optional(),
      flows: streamName.optional(),
      events: streamName.optional(),
      ...fieldsOf(streamCounts),
    })
    .optional(),
  ipfix: checked(collectorProblem).optional(),
});

export type FlowsLayer = z.infer<typeof flowsSchema>;

export const flowsCures: Record<string, string> = {
  flows: 'write a mapping, such as `sampling: 10`',
  'flows.enabled': 'write true or false',
  ...curesOf('flows', counts),
  'flows.format': 'write protobuf, json or goflow',
  'flows.delivery': 'write jetstream or core',
  'flows.stream': 'write a mapping, such as `replicas: 3`',
  'flows.stream.create': 'write true or false',
  'flows.stream.flows': 'write the name of a stream, such as TAPLANE_FLOWS',
  'flows.stream.events': 'write the name of a stream, such as TAPLANE_EVENTS',
  ...curesOf('flows.stream', streamCounts),
  'flows.ipfix': "write HOST:PORT or [IPv6]:PORT, such as collector:4739, or '' for none",
};

/** The layers over the defaults, the last one wins field by field. */
export function mergeFlows(layers: (FlowsLayer | undefined)[]): FlowsConfig {
  const all: FlowsLayer = Object.assign({}, ...layers);
  const presets = presetsOf(counts);
  return {
    enabled: true,
    ...presets,
    // Whoever asks for larger tables alone is not to be told of a field that he never wrote.
    tableEntriesTotal: Math.max(presets.tableEntriesTotal, all.tableEntries ?? 0),
    format: 'protobuf',
    delivery: 'jetstream',
    ipfix: '',
    ...all,
    stream: Object.assign(
      { create: true, flows: 'TAPLANE_FLOWS', events: 'TAPLANE_EVENTS', ...presetsOf(streamCounts) },
      ...layers.map((layer) => layer?.stream),
    ),
  };
}

/** What no single field shows. */
export function checkFlows({ tableEntries, tableEntriesTotal, stream }: FlowsConfig): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const say = (field: string, cause: string, cure: string) => problems.push({ source: 'effective configuration', field, cause, cure });
  if (tableEntriesTotal < tableEntries)
    say('flows.tableEntriesTotal', `is below flows.tableEntries (${tableEntries})`, 'raise it, or lower flows.tableEntries');
  if (stream.flows === stream.events)
    say('flows.stream.events', 'is the stream of the flows too', 'give each a stream of its own: limits would drop events for flows');
  return problems;
}

function collectorProblem(text: string): string | undefined {
  if (text === '') return undefined;
  try {
    parseCollector(text);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

function fieldsOf<T extends Record<string, Count>>(table: T): { [K in keyof T]: z.ZodOptional<z.ZodInt> } {
  const fields = Object.entries(table).map(([key, { min, max }]) => [key, count(min, max).optional()]);
  return Object.fromEntries(fields) as { [K in keyof T]: z.ZodOptional<z.ZodInt> };
}

function presetsOf<T extends Record<string, Count>>(table: T): { [K in keyof T]: number } {
  return Object.fromEntries(Object.entries(table).map(([key, { preset }]) => [key, preset])) as { [K in keyof T]: number };
}

function curesOf(path: string, table: Record<string, Count>): Record<string, string> {
  const cure = ({ min, max, unit }: Count) => `write a whole number${unit === undefined ? '' : ` of ${unit}`} from ${min} to ${max}`;
  return Object.fromEntries(Object.entries(table).map(([key, row]) => [`${path}.${key}`, cure(row)]));
}
