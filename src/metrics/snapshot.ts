// What a scrape looks at: plain facts of the agent at one moment, taken by `agent/metrics.ts`. Nothing of it is live, so that series can be made of
// it in slices.

import type { CallCounts } from './call-counts.ts';

export interface NodeSnapshot {
  build: { version: string; nodeVersion: string };
  process: ProcessFacts;
  /** By method and code, and how long unary calls took. */
  calls: CallCounts;
  /** Absent while the server does not count its connections. */
  connections?: ConnectionFacts | undefined;
  interfaces: readonly InterfaceFacts[];
  /** Most that may exist. */
  limits: { interfaces: number; links: number };
  /** Conditions of the node by type. */
  conditions: Readonly<Record<string, boolean>>;
  reconcile: { repairs: number; failures: number; lastSuccessMs: number };
  netlink: { requests: number; notifications: number; overruns: number; interruptedDumps: number; errors: number };
  links: readonly LinkFacts[];
  lanes: readonly LaneFacts[];
  flows: FlowFacts;
  /** Absent without NATS. */
  spool?: SpoolFacts | undefined;
  nats: { wanted: boolean; connected: boolean; disconnects: number };
  events: { stored: number; waiting: number; lost: number; failures: number };
  /** Absent without an audit log. */
  audit?: AuditFacts | undefined;
  /** Of the certificate of the TLS listeners; absent without one. */
  certificate?: CertificateFacts | undefined;
  /** What is read again while the agent runs, by name, such as `policy` and `certificates`. */
  reloads: Readonly<Record<string, ReloadFacts>>;
  /** Lines logged, by level. */
  logLines: Readonly<Record<string, number>>;
  /** Every check of readiness, by name. */
  checks: Readonly<Record<string, boolean>>;
  /** How many interfaces, links and peers have series of their own, each. */
  perInterface: number;
}

export interface ProcessFacts {
  startTimeMs: number;
  userCpuSeconds: number;
  systemCpuSeconds: number;
  residentBytes: number;
  heapUsedBytes: number;
  heapTotalBytes: number;
  externalBytes: number;
  openFds: number;
  maxFds: number;
  /** Since the last scrape, seconds. */
  loopDelay: { mean: number; p99: number; max: number };
  /** Share of the time in which the event loop was busy since the last scrape, 0 to 1. */
  loopUtilization: number;
  /** By kind: `minor`, `major`, `incremental`, `weakcb`. */
  gc: Readonly<Record<string, { count: number; seconds: number }>>;
}

/** What the server of the API counts of its connections; fits `ConnectionCounts` of the rpc room. */
export interface ConnectionFacts {
  /** By kind of caller. */
  readonly open: Readonly<Record<string, number>>;
  readonly accepted: Readonly<Record<string, number>>;
  /** By reason. */
  readonly refused: Readonly<Record<string, number>>;
  readonly handshaking: number;
}

export interface InterfaceFacts {
  name: string;
  mode: 'tun' | 'tap';
  state: 'ready' | 'degraded' | 'missing';
  contended: boolean;
  repairs: number;
  /** Absent where it is not metered, or nothing was told yet. */
  meter?: MeterFacts | undefined;
}

export interface MeterFacts {
  active: boolean;
  packets: number;
  bytes: number;
  droppedFrames: number;
  activeFlows: number;
  records: number;
}

export interface LinkFacts {
  name: string;
  protocol: 'frames' | 'vxlan' | 'wireguard' | 'unknown';
  state: 'unknown' | 'waiting' | 'connecting' | 'up';
  traffic: TrafficFacts;
  /** Packets by reason. */
  drops: Readonly<Record<string, number>>;
  peers: readonly PeerFacts[];
}

export interface TrafficFacts {
  receivedPackets: number;
  receivedBytes: number;
  sentPackets: number;
  sentBytes: number;
}

export interface PeerFacts {
  /** Its display name, else its public key, else its endpoint. */
  name: string;
  up: boolean;
  traffic: TrafficFacts;
  handshakes: number;
  /** Seconds since 1970; 0: never. */
  lastHandshakeSeconds: number;
  /** Undefined before the first answer to a probe. */
  roundTripSeconds: number | undefined;
  /** 0 to 1. */
  loss: number;
}

export interface LaneFacts {
  name: string;
  up: boolean;
  restarts: number;
  attachments: number;
  streams: number;
  meters: number;
  streamsOpened: number;
  deliveredFrames: number;
  /** By reason. */
  droppedFrames: Readonly<Record<string, number>>;
}

export interface FlowFacts {
  records: number;
  lostRecords: number;
  ringRecords: number;
  ringBytes: number;
  /** Most flows in one table, and in the tables of all lanes together. */
  tableEntries: number;
  tableEntriesTotal: number;
}

export interface SpoolFacts {
  messages: number;
  bytes: number;
  limitBytes: number;
  retainedBytes: number;
  oldestSeconds: number;
  publishedMessages: number;
  publishedRecords: number;
  retriedMessages: number;
  republishedMessages: number;
  /** Records by reason. */
  lost: Readonly<Record<string, number>>;
  /** Nothing is published now, for a reason that the node status tells. */
  blocked: boolean;
}

export interface AuditFacts {
  /** Records written since the start, by what was decided, such as `allowed` and `denied`. */
  records: Readonly<Record<string, number>>;
  /** Records that could not be written; their calls were refused. */
  failures: number;
  /** Of its files. */
  bytes: number;
}

/** Seconds since 1970. */
export interface CertificateFacts {
  notBefore: number;
  notAfter: number;
}

export interface ReloadFacts {
  /** The last attempt went well, or there was none since the start. */
  ok: boolean;
  /** Undefined where nobody counts them. */
  failures?: number | undefined;
  /** Milliseconds since 1970. */
  lastSuccessMs: number;
}
