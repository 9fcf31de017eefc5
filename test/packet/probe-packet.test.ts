// Probes: what is written is read again, is a ping that any host answers, and nothing else is taken for one.

import { describe, expect, it } from 'vitest';
import { echoReply } from '../../src/packet/icmp-echo.ts';
import { emptyProbe, PROBE_LEAST_BYTES, ProbeKind, type ProbePath, readProbe, writeProbe } from '../../src/packet/probe-packet.ts';
import { random } from '../harness/random.ts';

const V4: ProbePath = { from: Uint8Array.of(10, 0, 0, 1), to: Uint8Array.of(10, 0, 0, 2), ttl: 1 };
const V6: ProbePath = {
  from: Uint8Array.from(Buffer.from('fd000000000000000000000000000001', 'hex')),
  to: Uint8Array.from(Buffer.from('fd000000000000000000000000000002', 'hex')),
  ttl: 64,
};
const MAC: ProbePath = { from: Uint8Array.of(2, 0, 0, 0, 0, 1), to: new Uint8Array(), ttl: 1 };
const PATHS: [string, ProbePath][] = [
  ['IPv4', V4],
  ['IPv6', V6],
  ['Ethernet', MAC],
];

const probe = (bytes: number) => ({
  kind: ProbeKind.PING,
  sequence: 4_000_000_000,
  sentAt: 2 ** 45 + 17,
  received: 99,
  bytes,
  isEcho: false,
});

describe.each(PATHS)('a probe over %s', (_, path) => {
  const ethernet = path.to.length === 0;

  it.each([PROBE_LEAST_BYTES, 1280, 1421, 65_000])('of %i bytes is read as it was written', (bytes) => {
    const out = Buffer.alloc(65_536, 0xff);
    const length = writeProbe(probe(bytes), path, out);
    expect(length).toBe(bytes + (ethernet ? 14 : 0));
    const read = emptyProbe();
    expect(readProbe(out, 0, length, ethernet, read)).toBe(true);
    expect(read).toEqual(probe(bytes));
    const moved = Buffer.concat([Buffer.alloc(7, 0x45), out.subarray(0, length)]);
    expect(readProbe(moved, 7, length, ethernet, read)).toBe(true);
  });

  it('is not written where it does not fit', () => {
    expect(writeProbe(probe(1000), path, Buffer.alloc(900))).toBe(0);
    expect(writeProbe(probe(20), path, Buffer.alloc(900))).toBe(0);
    expect(writeProbe(probe(70_000), path, Buffer.alloc(80_000))).toBe(0);
  });

  it('is not seen in what is cut off, has another mark, or is anything at all', () => {
    const out = Buffer.alloc(200);
    const length = writeProbe(probe(120), path, out);
    const read = emptyProbe();
    for (let cut = 0; cut < (ethernet ? 46 : 60); cut++) expect(readProbe(out, 0, cut, ethernet, read), `cut at ${cut}`).toBe(false);
    const mark = ethernet ? 14 : path.to.length === 4 ? 28 : 48;
    for (let bit = 0; bit < 64; bit++) {
      const wrong = Buffer.from(out);
      wrong[mark + (bit >> 3)] = (wrong[mark + (bit >> 3)] as number) ^ (1 << (bit & 7));
      expect(readProbe(wrong, 0, length, ethernet, read), `bit ${bit}`).toBe(false);
    }
    const { bytes, integer } = random('probe');
    for (let n = 0; n < 20_000; n++) {
      const noise = Buffer.from(bytes(integer(1, 120)));
      if (n % 2 === 0) noise[0] = path.to.length === 16 ? 0x60 : 0x45;
      expect(readProbe(noise, 0, noise.length, ethernet, read)).toBe(false);
    }
  });
});

describe.each(PATHS.slice(0, 2))('over %s', (_, path) => {
  it('is a ping with right checksums, whose answer by a host is told from the words of a data plane', () => {
    const out = Buffer.alloc(2000);
    const length = writeProbe(probe(1333), path, out);
    const reply = Buffer.alloc(2000);
    const replied = echoReply(out, 0, length, false, undefined, reply);
    expect(replied).toBe(1333);
    const read = emptyProbe();
    expect(readProbe(reply, 0, replied, false, read)).toBe(true);
    expect(read).toEqual({ ...probe(1333), isEcho: true });
  });
});
