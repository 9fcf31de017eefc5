// Batches are written by hand; the generated code is the witness that they say what was put in.

import { expect, it } from 'vitest';
import { PacketBatch } from '../../src/gen/taplane/v1/packet.ts';
import { Batch, type FrameClock, INBOUND, OUTBOUND } from '../../src/lane/batch.ts';
import { HEAD_BYTES } from '../../src/lane/framing.ts';

const clock = (seconds: number, nanos: number): FrameClock => ({ seconds, nanos, monotonicOffsetNs: -1_700_000_000_000_000_000n + 5n });
const decode = (batch: Batch): PacketBatch => PacketBatch.decode(batch.bytes.subarray(HEAD_BYTES, batch.length));

it('says what was put in, in the words of the API', () => {
  const batch = new Batch('frames', Batch.capacityFor(4096));
  const bytes = Buffer.from('..frame one and two');
  batch.add(2 ** 40 + 7, bytes, 2, 9, 9, OUTBOUND, clock(1_700_000_000, 999_999_000));
  batch.add(2 ** 40 + 8, bytes, 2, 5, 1400, INBOUND, clock(1_700_000_001, 250));
  batch.seal();
  expect(decode(batch)).toEqual(
    PacketBatch.fromPartial({
      firstSequence: BigInt(2 ** 40 + 7),
      time: { seconds: 1_700_000_000n, nanos: 999_999_000 },
      monotonicNs: 999_999_005n,
      frames: [
        { direction: OUTBOUND, data: Buffer.from('frame one') },
        { direction: INBOUND, data: Buffer.from('frame'), originalLength: 1400, timeOffsetNs: 1250n },
      ],
    }),
  );
});

it('has room for what it says it has room for, at every length around the bounds of varints', () => {
  for (const length of [0, 1, 126, 127, 128, 129, 16_382, 16_383, 16_384, 65_535, 65_559]) {
    const batch = new Batch('frames', Batch.capacityFor(length));
    const frame = Buffer.alloc(length, 0x5a);
    expect(batch.hasRoom(length), `${length}`).toBe(true);
    batch.add(1, frame, 0, length, length, OUTBOUND, clock(1, 0));
    expect(batch.length).toBeLessThanOrEqual(batch.bytes.length);
    expect(decode(batch).frames[0]?.data).toEqual(frame);
    expect(batch.hasRoom(64)).toBe(false);
  }
});

it('holds pieces of pcapng whole', () => {
  const batch = new Batch('pcapng', Batch.capacityFor(4096));
  batch.addPiece(Buffer.from('head'));
  expect(Buffer.from(decode(batch).pcapng).toString()).toBe('head');
  batch.clear();
  batch.add(3, Buffer.from('abcdef'), 1, 4, 99, OUTBOUND, clock(1_700_000_000, 5));
  batch.seal();
  const { pcapng, firstSequence, frames } = decode(batch);
  expect(firstSequence).toBe(3n);
  expect(frames).toEqual([]);
  // Enhanced packet block: type 6, length 48, interface 0, time in two halves, 4 of 99 bytes kept.
  const time = 1_700_000_000_000_000_005n;
  expect(Buffer.from(pcapng).readUInt32LE(0)).toBe(6);
  expect(Buffer.from(pcapng).length).toBe(48);
  expect((BigInt(Buffer.from(pcapng).readUInt32LE(12)) << 32n) | BigInt(Buffer.from(pcapng).readUInt32LE(16))).toBe(time);
  expect(Buffer.from(pcapng).readUInt32LE(20)).toBe(4);
  expect(Buffer.from(pcapng).readUInt32LE(24)).toBe(99);
  expect(Buffer.from(pcapng).subarray(28, 32).toString()).toBe('bcde');
});
