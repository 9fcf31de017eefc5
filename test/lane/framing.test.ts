// Messages come out as they went in, however the socket cuts them.

import { expect, it } from 'vitest';
import { StreamPacketsRequest } from '../../src/gen/taplane/v1/packet_service.ts';
import { BadFraming, Framer, KIND_BATCH, KIND_END, KIND_REQUEST, message } from '../../src/lane/framing.ts';
import { RequestReader } from '../../src/lane/request-reader.ts';
import { random, seed } from '../harness/random.ts';

it('puts messages together from pieces of every size', () => {
  const wanted = [
    message(KIND_REQUEST, Buffer.from('first')),
    message(KIND_END),
    message(KIND_BATCH, Buffer.alloc(300, 7)),
    message(KIND_END),
  ];
  const whole = Buffer.concat(wanted);
  for (let size = 1; size <= whole.length; size++) {
    const got: string[] = [];
    const framer = new Framer((kind, payload) => got.push(`${kind} ${payload.toString('hex')}`));
    for (let at = 0; at < whole.length; at += size) framer.push(Buffer.from(whole.subarray(at, at + size)));
    expect(got, `pieces of ${size}`).toEqual(wanted.map((bytes) => `${bytes[4]} ${bytes.subarray(5).toString('hex')}`));
  }
});

it('refuses a message that claims too much before it takes memory for it', () => {
  const framer = new Framer(() => {}, 1000);
  expect(() => framer.push(Buffer.from([0xff, 0xff, 0xff, 0xff, 2, 1]))).toThrow(BadFraming);
});

const frames = (bytes: Buffer): { outcome: string; frames: string[]; reader: RequestReader } => {
  const reader = new RequestReader(bytes);
  const found: string[] = [];
  for (;;) {
    const outcome = reader.next();
    if (outcome !== 'frame') return { outcome, frames: found, reader };
    found.push(bytes.subarray(reader.start, reader.start + reader.length).toString('hex'));
  }
};

it('reads requests as the generated code writes them', () => {
  const request = StreamPacketsRequest.fromPartial({
    open: { interface: 'interfaces/tun0', filter: 'icmp' },
    frames: [Buffer.from('one'), Buffer.alloc(0), Buffer.alloc(70_000, 3)],
    injectId: 2n ** 52n,
    acknowledge: 129n,
  });
  const read = frames(Buffer.from(StreamPacketsRequest.encode(request).finish()));
  expect(read.outcome).toBe('end');
  expect(read.frames).toEqual(request.frames.map((frame) => Buffer.from(frame).toString('hex')));
  expect([read.reader.injectId, read.reader.acknowledge]).toEqual([2 ** 52, 129]);
});

it('passes over unknown fields, and takes no bytes that are no message', () => {
  // Field 15: varint 1; field 15: two bytes; field 15: fixed32; field 15: fixed64; frames: one byte.
  const unknown = Buffer.from('7801 7a020102 7d01020304 790102030405060708 1201ff'.replaceAll(' ', ''), 'hex');
  expect(frames(unknown)).toMatchObject({ outcome: 'end', frames: ['ff'] });
  for (const bad of ['12', '1205ff', '00', '13', '18', '18ffffffffffffffffffff', '12ffffffff0f', '7b', '7f'])
    expect(frames(Buffer.from(bad, 'hex')).outcome, bad).toBe('bad');
});

it('passes over what a newer client may say: great numbers and groups in unknown fields, and fields in groups', () => {
  // Field 15: -1; field 15: a group with a frame inside and a group; then a frame.
  const newer = Buffer.from('78ffffffffffffffffff01 7b 1201ee 73 74 7c 1201ff'.replaceAll(' ', ''), 'hex');
  expect(frames(newer)).toMatchObject({ outcome: 'end', frames: ['ff'] });
  for (const bad of ['7c', '7b7b7c', '7b'.repeat(101)]) expect(frames(Buffer.from(bad, 'hex')).outcome, bad).toBe('bad');
  const great = StreamPacketsRequest.encode(StreamPacketsRequest.fromPartial({ injectId: 2n ** 60n })).finish();
  expect(frames(Buffer.from(great)).outcome).toBe('great');
});

it('never throws and never reads outside, whatever comes', () => {
  console.log(`TAPLANE_SEED=${seed}`);
  const next = random('request reader');
  for (let round = 0; round < 20_000; round++) {
    const bytes = Buffer.from(Array.from({ length: next.integer(0, 40) }, () => (next.next() < 0.4 ? 0x12 : next.integer(0, 255))));
    const reader = new RequestReader(bytes);
    for (let count = 0; reader.next() === 'frame'; count++) {
      expect(count).toBeLessThan(50);
      expect(reader.start + reader.length).toBeLessThanOrEqual(bytes.length);
    }
  }
});
