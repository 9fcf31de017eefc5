// A snapshot of a busy agent, for tests of series: something of everything, in the number that is asked for.

import { CallMeter } from '../../src/metrics/call-counts.ts';
import type { InterfaceFacts, LinkFacts, NodeSnapshot } from '../../src/metrics/snapshot.ts';

const TRAFFIC = { receivedPackets: 1, receivedBytes: 1400, sentPackets: 2, sentBytes: 2800 };

export function sampleSnapshot({ interfaces = 3, links = 2, peers = 2, perInterface = 1000 } = {}): NodeSnapshot {
  const meter = new CallMeter(['/taplane.v1.NodeService/GetNode', '/taplane.v1.InterfaceService/WatchInterfaces']);
  meter.begin('/taplane.v1.NodeService/GetNode', true)('OK');
  meter.begin('/taplane.v1.NodeService/GetNode', true)('PERMISSION_DENIED');
  meter.begin('/taplane.v1.InterfaceService/WatchInterfaces', false);
  return {
    build: { version: '0.1.0', nodeVersion: '24.21.0' },
    process: {
      startTimeMs: 1_700_000_000_000,
      userCpuSeconds: 1.5,
      systemCpuSeconds: 0.5,
      residentBytes: 9e7,
      heapUsedBytes: 2e7,
      heapTotalBytes: 3e7,
      externalBytes: 1e6,
      openFds: 40,
      maxFds: 1024,
      loopDelay: { mean: 0.001, p99: 0.01, max: 0.02 },
      loopUtilization: 0.1,
      gc: { minor: { count: 3, seconds: 0.01 }, major: { count: 1, seconds: 0.04 } },
    },
    calls: meter.counts(),
    connections: {
      open: { unix: 2, tls: 1, loopback: 0 },
      accepted: { unix: 9, tls: 1, loopback: 0 },
      refused: { too_many: 1 },
      handshaking: 0,
    },
    interfaces: Array.from({ length: interfaces }, (_, index) => interfaceFacts(index)),
    limits: { interfaces: 4096, links: 1024 },
    conditions: { Ready: true, StateIntact: true },
    reconcile: { repairs: 4, failures: 1, lastSuccessMs: 1_700_000_100_000 },
    netlink: { requests: 100, notifications: 50, overruns: 1, interruptedDumps: 2, errors: 3 },
    links: Array.from({ length: links }, (_, index) => linkFacts(index, peers)),
    lanes: [
      {
        name: 'lane-0',
        up: true,
        restarts: 1,
        attachments: 3,
        streams: 2,
        meters: 3,
        streamsOpened: 5,
        deliveredFrames: 1000,
        droppedFrames: { queue_full: 7, kernel: 0, malformed: 0, in_transit: 1 },
      },
    ],
    flows: { records: 100, lostRecords: 2, ringRecords: 50, ringBytes: 5000, tableEntries: 1000, tableEntriesTotal: 4000 },
    spool: {
      messages: 3,
      bytes: 3000,
      limitBytes: 10_000,
      retainedBytes: 100,
      oldestSeconds: 12,
      publishedMessages: 30,
      publishedRecords: 90,
      retriedMessages: 1,
      republishedMessages: 0,
      lost: { spool_full: 8 },
      blocked: false,
    },
    nats: { wanted: true, connected: true, disconnects: 2 },
    events: { stored: 20, waiting: 0, lost: 0, failures: 0 },
    audit: { records: { allowed: 10, denied: 1 }, failures: 0, bytes: 4096 },
    certificate: { notBefore: 1_700_000_000, notAfter: 1_707_776_000 },
    reloads: { policy: { ok: true, failures: 0, lastSuccessMs: 1_700_000_000_000 } },
    logLines: { debug: 0, info: 10, warn: 1, error: 0 },
    checks: { stores: true, lane: true, serving: true },
    perInterface,
  };
}

function interfaceFacts(index: number): InterfaceFacts {
  return {
    name: `tap${String(index).padStart(5, '0')}`,
    mode: index % 2 === 0 ? 'tap' : 'tun',
    state: index % 10 === 9 ? 'degraded' : 'ready',
    contended: false,
    repairs: index,
    meter: { active: true, packets: 10, bytes: 1000, droppedFrames: 0, activeFlows: 4, records: 2 },
  };
}

function linkFacts(index: number, peers: number): LinkFacts {
  return {
    name: `wg${String(index).padStart(5, '0')}`,
    protocol: 'wireguard',
    state: 'up',
    traffic: TRAFFIC,
    drops: { unauthenticated: 1, too_big: 2 },
    peers: Array.from({ length: peers }, () => ({
      // Names are the operator's: they may be the same, and hold anything.
      name: 'site "a"\\\n',
      up: true,
      traffic: TRAFFIC,
      handshakes: 3,
      lastHandshakeSeconds: 1_700_000_000,
      roundTripSeconds: 0.02,
      loss: 0,
    })),
  };
}
