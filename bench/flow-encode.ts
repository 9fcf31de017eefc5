// Flow records encoded in a second on one core: as IPFIX, as goflow2's FlowMessage, and, to compare, as Taplane's own FlowBatch.

import { encodeGoflow } from '../src/flow/goflow.ts';
import { ipfixEncoder } from '../src/flow/ipfix.ts';
import { FlowBatch } from '../src/gen/taplane/v1/flow.ts';
import { randomBatches } from '../test/flow/flow-records.ts';
import { random } from '../test/harness/random.ts';

const RECORDS = 20_000;
const ROUNDS = 5;

/** One line for each encoding; the best round of each, since the first ones are compiled while they run. */
export async function flowEncodeBench(): Promise<string[]> {
  const batches = randomBatches(random('bench', 1), RECORDS);
  const uniflow = ipfixEncoder({ observationDomainId: 1, interfaceIndex: () => 1 });
  const biflow = ipfixEncoder({ observationDomainId: 1, interfaceIndex: () => 1, biflow: true });
  const bytesOf = (messages: { bytes: Uint8Array }[]) => messages.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const encodings: Record<string, (batch: FlowBatch) => number> = {
    FlowBatch: (batch) => FlowBatch.encode(batch).finish().length,
    IPFIX: (batch) => bytesOf(uniflow.encode(batch, 0, false)),
    'IPFIX, biflow': (batch) => bytesOf(biflow.encode(batch, 0, false)),
    goflow2: (batch) => encodeGoflow(batch).length,
  };
  const lines: string[] = [];
  let own = 0;
  for (const [name, encode] of Object.entries(encodings)) {
    let bestMs = Number.POSITIVE_INFINITY;
    let bytes = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const startedAt = performance.now();
      bytes = batches.reduce((sum, batch) => sum + encode(batch), 0);
      bestMs = Math.min(bestMs, performance.now() - startedAt);
    }
    const rate = (RECORDS / bestMs) * 1000;
    own ||= rate;
    const perRecord = (bytes / RECORDS).toFixed(0);
    lines.push(`${name.padEnd(13)} ${Math.round(rate / 1000)}k records/s, ${perRecord} bytes each, ${(rate / own).toFixed(2)} x FlowBatch`);
  }
  return lines;
}
