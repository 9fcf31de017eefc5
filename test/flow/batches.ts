// Flow batches of a meter that never ends: the same number gives the same batch, so that a feeder that was killed goes on where it was.

import type { Outgoing } from '../../src/flow/contract.ts';
import type { ExporterOptions } from '../../src/flow/exporter.ts';
import { FlowBatch } from '../../src/gen/taplane/v1/flow.ts';

export interface Meter {
  interfaceName: string;
  epoch: string;
  /** Batch number `index`, from 0, with its place among the records. */
  batch(index: number): Outgoing;
}

/** Batches of 1 to `mostRecords` records of about 150 bytes each. */
export function meter(interfaceName: string, epoch: string, mostRecords: number): Meter {
  const firsts = [1];
  const size = (index: number) => 1 + ((index * 7919) % mostRecords);
  const first = (index: number): number => {
    for (let known = firsts.length; known <= index; known += 1) firsts.push((firsts[known - 1] as number) + size(known - 1));
    return firsts[index] as number;
  };
  return {
    interfaceName,
    epoch,
    batch(index) {
      const from = first(index);
      const records = size(index);
      return flowMessage(interfaceName, epoch, from, records);
    },
  };
}

export function flowMessage(interfaceName: string, epoch: string, from: number, records: number): Outgoing {
  const flows = Array.from({ length: records }, (_, index) => ({
    sequence: BigInt(from + index),
    flowId: `${epoch}-${from + index}`,
    communityId: '1:LQU9qZlK+B5F3KDmev6m5PMibrg=',
    sourceAddress: Buffer.from([10, 0, 0, 1]),
    destinationAddress: Buffer.from([10, 0, 0, 2]),
    protocol: 6,
    sourcePort: 40000,
    destinationPort: 443,
    startTime: { seconds: 1_700_000_000n, nanos: 5 },
    endTime: { seconds: 1_700_000_001n, nanos: 5 },
    forward: { packets: 10n, bytes: 1000n, totalPackets: 10n, totalBytes: 1000n },
    reverse: { packets: 10n, bytes: 1000n, totalPackets: 10n, totalBytes: 1000n },
  }));
  const naming = { cluster: 'c', node: 'n', interface: interfaceName, interfaceUid: `uid-${interfaceName}`, labels: { app: 'test' } };
  const batch = FlowBatch.fromPartial({ ...naming, epoch, firstSequence: BigInt(from), flows });
  const payload = FlowBatch.encode(batch).finish();
  return { kind: 'flow', name: interfaceName, id: `${epoch}:${from}`, epoch, firstSequence: BigInt(from), records, payload };
}

export function eventMessage(kind: string, epoch: string, sequence: number): Outgoing {
  const payload = Buffer.from(`event ${sequence}`);
  return { kind: 'event', name: kind, id: `${epoch}:${sequence}`, epoch, firstSequence: BigInt(sequence), records: 1, payload };
}

const MIB = 1024 * 1024;
/** Room enough, and the streams that an agent makes, for an exporter under test. */
export const EXPORTING: Pick<ExporterOptions, 'limits' | 'streams'> = {
  limits: { spoolBytes: 256 * MIB, retainedBytes: 64 * MIB },
  streams: {
    create: true,
    replicas: 1,
    flows: { name: 'TAPLANE_FLOWS', maxBytes: 512 * MIB, maxAgeMs: 24 * 3_600_000 },
    events: { name: 'TAPLANE_EVENTS', maxBytes: 64 * MIB, maxAgeMs: 30 * 24 * 3_600_000 },
  },
};
