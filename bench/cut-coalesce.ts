// Nanoseconds that a piece of 1,400 bytes costs: cut off a super-frame, headers, checksum and all, and coalesced into one; against copying it,
// and copying it and summing its bytes, which neither can do without.

import { sumBytes } from '../src/packet/checksum.ts';
import { coalescer } from '../src/packet/coalesce.ts';
import { cut } from '../src/packet/cut.ts';
import { GSO_TCPV4, GSO_UDP_L4, NEEDS_CHECKSUM } from '../src/packet/vnet-header.ts';
import { tcpPacket, udpPacket } from '../test/packet/frames.ts';

const PIECE_BYTES = 1400;
const PIECES = 46;
/** What stands before and behind a piece in the datagram that carries it: as wireguard has it. */
const BEFORE_BYTES = 16;
const STRIDE_BYTES = 1456;
/** Short, and many: the best one was disturbed by nobody. */
const ROUNDS = 2000;
const TIMESTAMPS = Buffer.from('0101080a0000000100000002', 'hex');

/** Of one piece, the best of many rounds. */
function nsOf(run: () => void): number {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const begun = performance.now();
    run();
    run();
    best = Math.min(best, ((performance.now() - begun) * 1e6) / (2 * PIECES));
  }
  return best;
}

/** One line for TCP, one for UDP. */
export async function cutCoalesceBench(): Promise<string[]> {
  const ring = Buffer.allocUnsafeSlow(PIECES * STRIDE_BYTES + BEFORE_BYTES);
  const copyNs = nsOf(() => {
    for (let index = 0; index < PIECES; index++) ring.copy(ring, index * STRIDE_BYTES, (PIECES - 1) * STRIDE_BYTES);
  });
  const sumNs = nsOf(() => {
    for (let index = 0; index < PIECES; index++) sumBytes(ring, index * STRIDE_BYTES, PIECE_BYTES);
  });
  const floorNs = copyNs + sumNs;
  const lines = [`copy ${copyNs.toFixed(0)} ns, copy and sum ${floorNs.toFixed(0)} ns`];
  for (const isTcp of [true, false]) {
    const headerBytes = isTcp ? 52 : 28;
    const payload = Buffer.alloc((PIECE_BYTES - headerBytes) * PIECES, 7);
    const frame = isTcp ? tcpPacket({ version: 4, payload, options: TIMESTAMPS }) : udpPacket(4, payload);
    const header = {
      flags: NEEDS_CHECKSUM,
      gsoType: isTcp ? GSO_TCPV4 : GSO_UDP_L4,
      headerLength: headerBytes,
      gsoSize: PIECE_BYTES - headerBytes,
      checksumStart: 20,
      checksumOffset: isTcp ? 16 : 6,
    };
    let next = BEFORE_BYTES;
    const sink = {
      buffer: ring,
      place: () => {
        next += STRIDE_BYTES;
        return next - STRIDE_BYTES;
      },
      put: () => {},
    };
    const cutNs = nsOf(() => {
      next = BEFORE_BYTES;
      cut(frame, 0, frame.length, header, false, PIECE_BYTES, sink);
    });
    let supers = 0;
    const joined = coalescer({
      ethernet: false,
      offload: true,
      write: () => {
        supers++;
      },
    });
    const coalesceNs = nsOf(() => {
      for (let index = 0; index < PIECES; index++) joined.add(ring, BEFORE_BYTES + index * STRIDE_BYTES, PIECE_BYTES);
      joined.flush();
    });
    if (supers !== 2 * ROUNDS) throw new Error(`bench: ${supers} super-frames`);
    const ratio = (ns: number) => `${ns.toFixed(0)} ns (${(ns / floorNs).toFixed(1)} x copy and sum)`;
    lines.push(`${isTcp ? 'TCP' : 'UDP'}: cut ${ratio(cutNs)}, coalesce ${ratio(coalesceNs)} a piece of ${PIECE_BYTES} bytes`);
  }
  return lines;
}
