// Whatever a request is answered, it ends soon: with a result or with a SysError.

import { expect, it } from 'vitest';
import { readLink } from '../../../src/sys/netlink/link.ts';
import { Netlink } from '../../../src/sys/netlink/socket.ts';
import { SysError } from '../../../src/sys/sys-error.ts';
import { bound } from '../../harness/bound.ts';
import { random, seed } from '../../harness/random.ts';
import { captured } from './captured.ts';

const COUNT = 100_000;
const SLOWEST_MS = bound(100, 2_000);
const request = { type: 18, flags: 0x300, payload: Buffer.alloc(16) };

it(`${COUNT} random answers each end in less than ${SLOWEST_MS} ms`, { timeout: 180_000 }, () => {
  console.log(`TAPLANE_SEED=${seed}`);
  const { integer, pick, next, bytes } = random('netlink answers');
  const originals = Object.values(captured);
  let sequence = 0;
  let left = 0;
  /** A real message with its sequence number made right, then a bit or two made wrong; sometimes noise. */
  const datagram = (): Buffer => {
    if (next() < 0.1) return Buffer.from(bytes(integer(0, 64)));
    const answer = Buffer.from(pick(originals));
    for (let at = 0; at + 16 <= answer.length; ) {
      const length = answer.readUInt32LE(at);
      if (length < 16) break;
      answer.writeUInt32LE(sequence, at + 8);
      at += (length + 3) & ~3;
    }
    if (next() < 0.3) answer.writeUInt16LE(pick([1, 2, 3, 4]), 4);
    for (let flips = integer(0, 3); flips > 0; flips--) {
      const at = integer(0, answer.length - 1);
      answer[at] = (answer[at] ?? 0) ^ (1 << integer(0, 7));
    }
    return answer;
  };
  const netlink = new Netlink({
    send(sent) {
      sequence = sent.readUInt32LE(8);
      left = integer(0, 6);
    },
    receive: () => (left-- > 0 ? { datagram: datagram(), port: next() < 0.05 ? integer(1, 99) : 0 } : undefined),
    close() {},
  });
  const calls = [
    () => netlink.request('request', request),
    () => netlink.get('get', request, readLink),
    () => netlink.dump('dump', request, readLink),
  ];
  const outcomes = new Map<string, number>();
  let slowestMs = 0;
  for (let count = 0; count < COUNT; count++) {
    const begun = performance.now();
    let outcome = 'result';
    try {
      pick(calls)();
    } catch (error) {
      if (!(error instanceof SysError)) throw new Error(`answer ${count} of seed ${seed}`, { cause: error });
      outcome = 'error';
    }
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    slowestMs = Math.max(slowestMs, performance.now() - begun);
  }
  // Void unless both happen often.
  expect(outcomes.get('result')).toBeGreaterThan(COUNT / 20);
  expect(outcomes.get('error')).toBeGreaterThan(COUNT / 20);
  expect(slowestMs).toBeLessThan(SLOWEST_MS);
});
