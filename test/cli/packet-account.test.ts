// What became of packets, in words; amounts of bytes; packets as hex.

import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { parseFrame, parseFrameLine, parseFrames } from '../../src/cli/frame-text.ts';
import { lossTeller } from '../../src/cli/loss-teller.ts';
import { rejections, Totals, totalsLines } from '../../src/cli/packet-account.ts';
import { byteSize, parseBytes } from '../../src/cli/size.ts';
import { InjectRejection_Reason, Loss_Reason, PacketBatch, StreamTotals } from '../../src/gen/taplane/v1/packet.ts';

const totals = (offered: bigint, delivered: bigint, lost = 0n) =>
  StreamTotals.fromPartial({
    offered,
    delivered,
    filtered: offered - delivered - lost,
    dropped: lost === 0n ? [] : [{ reason: Loss_Reason.QUEUE_FULL, count: lost }],
  });

test('the summary names what there was, and always the drops', () => {
  expect(totalsLines(totals(1n, 1n))).toEqual(['1 packet captured', '1 packet passed the interface', '0 packets dropped']);
  expect(totalsLines(StreamTotals.fromPartial({ ...totals(10n, 5n, 3n), sampledOut: 4n }), 2n)).toEqual([
    '2 packets captured',
    '10 packets passed the interface',
    '2 packets left out by the filter',
    '4 packets left out by sampling',
    '3 packets dropped: this reader was too slow (queue-full)',
  ]);
});

test('several subscriptions add up to one account', () => {
  const all = new Totals();
  all.take(PacketBatch.fromPartial({ totals: totals(4n, 4n) }));
  all.take(PacketBatch.fromPartial({ totals: totals(10n, 5n, 3n) }));
  all.take(PacketBatch.create());
  all.begin();
  all.take(PacketBatch.fromPartial({ totals: totals(7n, 5n, 2n) }));
  expect(all.all).toEqual({
    offered: 17n,
    delivered: 10n,
    filtered: 2n,
    sampledOut: 0n,
    dropped: [{ reason: Loss_Reason.QUEUE_FULL, count: 5n }],
  });
});

test('losses are told at once, then once a second at most, and none is forgotten', async () => {
  const said: string[] = [];
  const losses = lossTeller((line) => said.push(line));
  for (const count of [1n, 2n, 3n]) losses.take([{ reason: Loss_Reason.KERNEL, count }]);
  expect(said).toEqual(['lost 1 packet: the agent was too slow (kernel)']);
  await sleep(1100);
  expect(said.at(-1)).toBe('lost 5 packets: the agent was too slow (kernel)');
  losses.take([{ reason: Loss_Reason.IN_TRANSIT, count: 1n }]);
  losses[Symbol.dispose]();
  expect(said.slice(2)).toEqual(['lost 1 packet: the connection broke on their way (in-transit)']);
});

test('rejections have the names of the API', () => {
  const rejected = [
    { reason: InjectRejection_Reason.TOO_SHORT, count: 2n },
    { reason: InjectRejection_Reason.EMPTY, count: 0n },
  ];
  expect(rejections({ rejected })).toEqual([{ reason: 'too-short', count: 2n }]);
});

test('amounts of bytes', () => {
  expect(['0', '1500', '64K', '10M', '1GiB', '2kb'].map(parseBytes)).toEqual([0, 1500, 65_536, 10_485_760, 1_073_741_824, 2048]);
  for (const bad of ['', 'K', '-1', '1.5M', '10X', '99999999999T']) expect(() => parseBytes(bad), bad).toThrow();
  expect([0, 812, 1024, 1_258_291, 52_428_800, 2 ** 41].map(byteSize)).toEqual(['0 B', '812 B', '1.0 KiB', '1.2 MiB', '50 MiB', '2.0 TiB']);
});

describe('packets as hex', () => {
  test('blanks, colons and 0x are passed over', () => {
    expect(parseFrames(['0x45 00:00\t1c', ''])).toEqual([Buffer.from([0x45, 0, 0, 0x1c]), Buffer.alloc(0)]);
    expect(parseFrameLine(' 4500 # a comment', 'f', 1)).toEqual(Buffer.from([0x45, 0]));
    expect(parseFrameLine('  # nothing', 'f', 1)).toBeUndefined();
  });

  test('what is none is refused, with its place', () => {
    expect(() => parseFrame('45x0', 'packet 2')).toThrow('packet 2: "x" is no hex digit');
    expect(() => parseFrameLine('450', 'frames.txt', 7)).toThrow('frames.txt, line 7: 3 hex digits');
    expect(() => parseFrames(['45', '00'])).toThrow('quote one that has blanks');
  });
});
