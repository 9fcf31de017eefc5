// A gap: a FlowBatch without flows in the place of lost records, so that who reads knows what is missing and how much. Pure.
//
// What names the interface is kept of one lost batch (`template`), cut out of its bytes without decoding its flows; numbers are added
// when the gap is sent, since it grows until then.

import { FlowBatch, type RecordLoss_Reason as Reason } from '../gen/taplane/v1/flow.ts';

/** Fields of FlowBatch that are the same in all batches of an epoch: cluster, node, interface, interface_uid, labels, epoch. */
const LAST_NAMING_FIELD = 6;

/** Fields 1 to 6 of a FlowBatch in bytes (*copies*). What cannot be read ends the walk: it answers with what came before. */
export function gapTemplate(batch: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [];
  let at = 0;
  while (at < batch.length) {
    const start = at;
    const tag = varint(batch, at);
    if (tag === undefined) break;
    const wire = tag.value & 7;
    const value = varint(batch, tag.end);
    if (wire === 2 && value !== undefined) at = value.end + value.value;
    else if (wire === 0 && value !== undefined) at = value.end;
    else if (wire === 1) at = tag.end + 8;
    else if (wire === 5) at = tag.end + 4;
    else break;
    if (at > batch.length) break;
    if (tag.value >>> 3 <= LAST_NAMING_FIELD && wire === 2) parts.push(batch.subarray(start, at));
  }
  return Buffer.concat(parts);
}

/** The message that tells of `count` lost records of which the first has the number `first`. */
export function gapBatch(template: Uint8Array, epoch: string, first: number, count: number, reason: Reason, nowMs: number): Uint8Array {
  const named = FlowBatch.decode(template);
  return FlowBatch.encode({
    ...named,
    epoch,
    firstSequence: BigInt(first),
    flows: [],
    lost: [{ reason, count: BigInt(count) }],
    totals: undefined,
    exportTime: { seconds: BigInt(Math.floor(nowMs / 1000)), nanos: (nowMs % 1000) * 1_000_000 },
  }).finish();
}

export function gapId(epoch: string, first: number, count: number, reason: Reason): string {
  return `${epoch}:${first}:gap:${count}:${reason}`;
}

/** Epoch and first number of a message id, of a gap or not; undefined when it is none of ours. */
export function parseId(id: string): { epoch: string; first: number; isGap: boolean } | undefined {
  const match = /^([^:]+):(\d{1,16})(:gap:\d+:\d+)?$/.exec(id);
  return match?.[1] === undefined ? undefined : { epoch: match[1], first: Number(match[2]), isGap: match[3] !== undefined };
}

/** Lengths and tags only: below 2^31. */
function varint(bytes: Uint8Array, from: number): { value: number; end: number } | undefined {
  let value = 0;
  for (let at = from, shift = 0; shift < 70; at += 1, shift += 7) {
    const byte = bytes[at];
    if (byte === undefined) return undefined;
    if (shift < 28) value |= (byte & 127) << shift;
    else if (shift === 28) value += (byte & 127) * 2 ** 28;
    if (byte < 128) return { value, end: at + 1 };
  }
  return undefined;
}
