// Real datagrams with bits flipped, lengths set to what hurts, cut, doubled and spliced: no reader throws, none runs away.

import { expect, it } from 'vitest';
import { readAddress } from '../../../src/sys/netlink/address.ts';
import { describe as line } from '../../../src/sys/netlink/describe.ts';
import { readLink } from '../../../src/sys/netlink/link.ts';
import { decode, readAck } from '../../../src/sys/netlink/message.ts';
import { readNeighbour } from '../../../src/sys/netlink/neighbour.ts';
import { readRoute } from '../../../src/sys/netlink/route.ts';
import { bound } from '../../harness/bound.ts';
import { random, seed } from '../../harness/random.ts';
import { captured } from './captured.ts';

const COUNT = 200_000;
const SLOWEST_MS = bound(100, 2_000);
const painful = [0, 1, 3, 4, 15, 16, 0x7f, 0x80, 0xff];

function readAll(datagram: Buffer): void {
  for (const message of decode(datagram)) {
    readAck(message);
    // Every reader gets every message: a type may be flipped too.
    readLink(message.payload);
    readAddress(message.payload);
    readRoute(message.payload);
    readNeighbour(message.payload);
    line('<', message);
  }
}

it(`${COUNT} mutations of real datagrams are read without a throw, each in less than ${SLOWEST_MS} ms`, { timeout: 180_000 }, () => {
  console.log(`TAPLANE_SEED=${seed}`);
  const { integer, pick, next } = random('netlink mutations');
  const originals = Object.values(captured);
  let messages = 0;
  let slowestMs = 0;
  for (let count = 0; count < COUNT; count++) {
    let bytes = Buffer.from(pick(originals));
    for (let edits = integer(1, 4); edits > 0; edits--) {
      const at = integer(0, bytes.length - 1);
      const kind = next();
      if (kind < 0.4) bytes[at] = (bytes[at] ?? 0) ^ (1 << integer(0, 7));
      else if (kind < 0.8) bytes[at] = pick(painful);
      else if (kind < 0.9) bytes = Buffer.from(bytes.subarray(0, Math.max(1, at)));
      else bytes = Buffer.concat([bytes.subarray(0, at), pick(originals).subarray(integer(0, 64))]);
    }
    const begun = performance.now();
    try {
      readAll(bytes);
    } catch (error) {
      throw new Error(`mutation ${count} of seed ${seed}: ${bytes.toString('hex')}`, { cause: error });
    }
    slowestMs = Math.max(slowestMs, performance.now() - begun);
    messages += decode(bytes).length;
  }
  // Void unless most of them get past the message header.
  expect(messages).toBeGreaterThan(COUNT);
  expect(slowestMs).toBeLessThan(SLOWEST_MS);
});
