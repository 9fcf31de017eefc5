// Frames in a byte stream: read however it is cut, written in few calls, and bounded.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Deframer } from '../../src/lane/frames/deframer.ts';
import { type ByteStream, StreamSender, WAITING_MOST } from '../../src/lane/frames/stream-sender.ts';
import { TrafficCount } from '../../src/lane/link/counts.ts';
import { packetsOf } from '../../src/lane/link/super-frame.ts';
import { GSO_ECN, GSO_TCPV4, GSO_UDP_L4, NEEDS_CHECKSUM, VNET_HEADER_BYTES, writeVnetHeader } from '../../src/packet/vnet-header.ts';
import { random, seed } from '../harness/random.ts';

function framed(frames: readonly Uint8Array[]): Buffer {
  return Buffer.concat(frames.flatMap((frame) => [Buffer.of(frame.length >> 8, frame.length & 255), frame]));
}

function reader(): { frames: Buffer[]; deframer: Deframer } {
  const frames: Buffer[] = [];
  return { frames, deframer: new Deframer((bytes, start, length) => frames.push(Buffer.from(bytes.subarray(start, start + length)))) };
}

describe('a stream that is read', () => {
  it('gives the same frames wherever it is cut in two, and in three', () => {
    const frames = [0, 1, 2, 20, 0, 255, 256, 3].map((length, index) => Buffer.alloc(length, index + 1));
    const stream = framed(frames);
    for (let first = 0; first <= stream.length; first++) {
      for (const second of [first, first + 1, first + 2, first + 30, stream.length]) {
        const { frames: got, deframer } = reader();
        for (const part of [stream.subarray(0, first), stream.subarray(first, second), stream.subarray(second)]) add(deframer, part);
        if (!framed(got).equals(stream)) throw new Error(`cut at ${first} and ${second}: ${got.length} frames`);
        if (deframer.waiting !== 0) throw new Error('bytes wait');
      }
    }
  });

  it('gives the same frames whatever they are, and however they come', () => {
    const chance = random('frames');
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 3000 }), { maxLength: 30 }), fc.integer({ min: 1, max: 4000 }), (lengths, most) => {
        const frames = lengths.map((length) => Buffer.from(chance.bytes(length)));
        const stream = framed(frames);
        const { frames: got, deframer } = reader();
        for (let at = 0; at < stream.length; ) {
          const next = at + chance.integer(1, most);
          add(deframer, stream.subarray(at, next));
          at = next;
        }
        expect(framed(got).equals(stream)).toBe(true);
      }),
      { seed, numRuns: 200 },
    );
  });

  it('takes byte by byte a frame of the greatest length, and holds no more than it', () => {
    const frame = Buffer.from(random('longest').bytes(65_535));
    const stream = framed([frame, frame]);
    const { frames, deframer } = reader();
    let most = 0;
    for (let at = 0; at < stream.length; at++) {
      add(deframer, stream.subarray(at, at + 1));
      most = Math.max(most, deframer.waiting);
    }
    expect(most).toBeLessThanOrEqual(65_536);
    expect(frames.every((got) => got.equals(frame))).toBe(true);
    expect(frames).toHaveLength(2);
  });

  it('gives nothing more once it was stopped by the one that takes', () => {
    let count = 0;
    const deframer: Deframer = new Deframer(() => {
      count++;
      if (count === 2) deframer.stop();
    });
    add(deframer, framed([Buffer.alloc(9), Buffer.alloc(9), Buffer.alloc(9)]));
    add(deframer, framed([Buffer.alloc(9)]).subarray(0, 5));
    add(deframer, framed([Buffer.alloc(9)]));
    expect(count).toBe(2);
    expect(deframer.waiting).toBe(0);
  });
});

/** Behind the bytes stand others, which are not to be read. */
function add(deframer: Deframer, bytes: Uint8Array): void {
  deframer.add(Buffer.concat([bytes, Buffer.alloc(9, 0xee)]), bytes.length);
}

/** A stream whose kernel takes what it is told to. */
class SlowStream implements ByteStream {
  readonly taken: Buffer[] = [];
  readonly waiting: { bytes: Uint8Array; written: () => void; before: Buffer }[] = [];
  late: (() => void)[] = [];
  takesAll = false;
  writes = 0;

  get writableLength(): number {
    return this.waiting.reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  write(bytes: Uint8Array, written: () => void): boolean {
    this.writes++;
    if (this.takesAll && this.waiting.length === 0) {
      this.taken.push(Buffer.from(bytes));
      this.late.push(written);
    } else this.waiting.push({ bytes, written, before: Buffer.from(bytes) });
    return false;
  }

  /** Takes the first that waits; it must not have been touched. */
  takeOne(): boolean {
    const first = this.waiting[0];
    if (first === undefined) return false;
    if (!first.before.equals(first.bytes)) throw new Error('a buffer that waits has changed');
    this.taken.push(Buffer.from(first.bytes));
    this.waiting.shift();
    first.written();
    return true;
  }

  tick(): void {
    for (const written of this.late.splice(0)) written();
  }
}

function put(sender: StreamSender, frame: Uint8Array, asks = true): boolean {
  if (asks && !sender.hasRoom()) return false;
  const at = sender.place(frame.length);
  sender.buffer.set(frame, at);
  sender.put(at, frame.length);
  return true;
}

describe('a stream that is written', () => {
  it('sends what a round put in one call, each frame behind its length, and counts it', () => {
    const stream = new SlowStream();
    stream.takesAll = true;
    const counts = new TrafficCount();
    const sender = new StreamSender(stream, [counts]);
    const frames = [60, 1500, 20].map((length, index) => Buffer.alloc(length, index));
    for (const frame of frames) put(sender, frame);
    expect(stream.writes).toBe(0);
    sender.flush();
    sender.flush();
    expect(stream.writes).toBe(1);
    expect(Buffer.concat(stream.taken)).toEqual(framed(frames));
    expect(counts).toMatchObject({ sentPackets: 3, sentBytes: 1580 });
  });

  it('waits while earlier bytes wait, and then sends all at once, in order', () => {
    const stream = new SlowStream();
    const sender = new StreamSender(stream, []);
    const frames = Array.from({ length: 20 }, (_, index) => Buffer.alloc(100, index));
    for (const frame of frames) {
      put(sender, frame);
      sender.flush();
    }
    expect(stream.writes).toBe(1);
    stream.takeOne();
    expect(stream.writes).toBe(2);
    stream.takeOne();
    expect(Buffer.concat(stream.taken)).toEqual(framed(frames));
  });

  it.each([1400, 65_535])(
    'gives frames of %i bytes up when the other end takes nothing, within a bound, and goes on when it does',
    (bytes) => {
      const stream = new SlowStream();
      const sender = new StreamSender(stream, []);
      const frame = Buffer.alloc(bytes, 7);
      let accepted = 0;
      for (let count = 0; count < 5000; count++) {
        // As the pieces of a super-frame: asked once.
        if (!put(sender, frame)) continue;
        put(sender, frame, false);
        accepted += 2;
        if (count % 40 === 39) sender.flush();
      }
      const held = accepted * (bytes + 2);
      expect(held).toBeGreaterThan(WAITING_MOST);
      expect(held).toBeLessThan(WAITING_MOST + 5 * 65_536);
      while (stream.takeOne());
      expect(Buffer.concat(stream.taken).equals(framed(Array<Buffer>(accepted).fill(frame)))).toBe(true);
      expect(put(sender, frame)).toBe(true);
    },
  );

  it('never touches what waits, whenever the other end takes it', () => {
    const chance = random('sender');
    const stream = new SlowStream();
    const sender = new StreamSender(stream, []);
    const sent: Buffer[] = [];
    for (let step = 0; step < 20_000; step++) {
      stream.takesAll = chance.next() < 0.3;
      const what = chance.next();
      const frame = Buffer.alloc(chance.integer(20, 1500), step);
      if (what < 0.8) {
        if (put(sender, frame)) sent.push(frame);
      } else if (what < 0.9) sender.flush();
      else if (what < 0.95) stream.tick();
      else for (let count = chance.integer(1, 20); count > 0 && stream.late.length === 0; count--) stream.takeOne();
    }
    stream.tick();
    for (sender.flush(); stream.takeOne(); ) sender.flush();
    expect(Buffer.concat(stream.taken).equals(framed(sent))).toBe(true);
  });

  it('has no place for a frame without end, and says nothing once closed', () => {
    const stream = new SlowStream();
    const sender = new StreamSender(stream, []);
    expect(sender.place(65_536)).toBe(-1);
    expect(sender.refused).toBe(1);
    put(sender, Buffer.alloc(20));
    sender.close();
    sender.flush();
    expect(stream.writes).toBe(0);
    expect(sender.hasRoom()).toBe(false);
  });
});

it('counts a super-frame as the packets that it stands for, whatever part of it the kernel has in one piece', () => {
  const frame = Buffer.alloc(VNET_HEADER_BYTES + 52 + 3000);
  frame[VNET_HEADER_BYTES + 20 + 12] = 0x80;
  expect(packetsOf(frame, 0, frame.length)).toBe(1);
  for (const headerLength of [0, 52, 3052, 0xffff]) {
    const vnet = { flags: NEEDS_CHECKSUM, gsoType: GSO_TCPV4 | GSO_ECN, headerLength, gsoSize: 0, checksumStart: 20, checksumOffset: 16 };
    writeVnetHeader(frame, 0, vnet);
    expect(packetsOf(frame, 0, frame.length), 'without a size').toBe(1);
    writeVnetHeader(frame, 0, { ...vnet, gsoSize: 1000 });
    expect(packetsOf(frame, 0, frame.length)).toBe(3);
    expect(packetsOf(frame, 0, frame.length - 2000)).toBe(1);
    expect(packetsOf(frame, 0, frame.length - 1999)).toBe(2);
    expect(packetsOf(frame, 0, VNET_HEADER_BYTES + 39)).toBe(1);
    expect(packetsOf(frame, 0, 4)).toBe(1);
    writeVnetHeader(frame, 0, { ...vnet, gsoType: GSO_UDP_L4, gsoSize: 1522 });
    expect(packetsOf(frame, 0, frame.length)).toBe(2);
    writeVnetHeader(frame, 0, { ...vnet, gsoType: GSO_UDP_L4, gsoSize: 1511 });
    expect(packetsOf(frame, 0, frame.length)).toBe(3);
    writeVnetHeader(frame, 0, { ...vnet, checksumStart: 0xffff, gsoSize: 1000 });
    expect(packetsOf(frame, 0, frame.length)).toBe(1);
  }
});
