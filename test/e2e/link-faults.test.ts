// A wireguard link over a path that loses, repeats, reorders and corrupts what it carries, is parted, moves, and is attacked: what is in the link
// suffers what the path did and nothing more.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { LinkDrops_Reason as Drop } from '../../src/gen/taplane/v1/link.ts';
import { bound } from '../harness/bound.ts';
import { type Impairment, type Rules, startImpairment } from '../harness/impairment.ts';
import { type NumberedOptions, numbered, Probe, transferBothWays } from '../harness/passage.ts';
import { untilAnswers } from '../harness/ping.ts';
import { createUnderlay, type Underlay } from '../harness/underlay.ts';
import { type LinkEnd, openPair } from './link-ends.ts';

/** Packets that the link sends for itself while a test runs: handshakes, keepalives, probes. */
const OWN = 12;
const PACKETS = bound(20_000, 2000);

let net: Underlay;
let wire: Impairment;
let near: LinkEnd;
let far: LinkEnd;

beforeAll(async () => {
  net = createUnderlay({ hosts: 2, wired: [1] });
  wire = await startImpairment(net.wire(1));
  [near, far] = await openPair(net, 'wireguard');
});

afterAll(async () => {
  await near?.[Symbol.asyncDispose]();
  await far?.[Symbol.asyncDispose]();
  await wire?.[Symbol.asyncDispose]();
  await net?.[Symbol.asyncDispose]();
});

beforeEach(async () => {
  await wire.set({});
  await wire.reset();
});

const across = (count = PACKETS, more: NumberedOptions = {}) =>
  numbered(near.namespace, far.namespace, far.inner4, count, { perSecond: 10_000, ...more });

/** The last word: also on a machine that is not known to be quiet. */
const FAULTS: [string, Rules, boolean][] = [
  ['loss of 1 %', { loss: 0.01 }, false],
  ['loss of 5 %', { loss: 0.05 }, true],
  ['loss of 20 %', { loss: 0.2 }, false],
  ['duplication of 10 %', { duplicate: 0.1 }, true],
  ['reordering of 25 %', { reorder: 0.25 }, false],
  ['corruption of 5 % that no checksum tells', { corrupt: 0.05 }, true],
  ['corruption of 5 % that the kernel sees', { damage: 0.05 }, false],
  ['all of it', { loss: 0.02, duplicate: 0.05, reorder: 0.05, corrupt: 0.02, damage: 0.02, delayMs: 5 }, true],
];

describe('what the path does to packets', () => {
  it.each(bound(1, 0) === 1 ? FAULTS : FAULTS.filter(([, , always]) => always))(
    '%s: the same share is lost inside, none comes twice, none is changed',
    async (_, rules) => {
      const before = { replayed: await far.dropped(Drop.REPLAYED), unauthenticated: await far.dropped(Drop.UNAUTHENTICATED) };
      await wire.set(rules);
      const { received, duplicates, corrupted, reordered } = await across();
      const { a, b } = await wire.counts();
      await wire.set({});
      expect({ duplicates, corrupted, overflow: a.overflow + b.overflow }).toEqual({ duplicates: 0, corrupted: 0, overflow: 0 });
      // The fault was there: within five standard deviations of what was asked for.
      for (const [share = 0, count] of [
        [rules.loss, b.lost],
        [rules.duplicate, b.duplicated],
        [rules.reorder, b.reordered],
        [rules.corrupt, b.corrupted],
        [rules.damage, b.damaged],
      ] as const) {
        expect(Math.abs(count - share * PACKETS)).toBeLessThanOrEqual(5 * Math.sqrt(share * (1 - share) * PACKETS) + OWN);
      }
      const missing = PACKETS - received;
      // Both may hit one packet, and a copy may come unharmed.
      const gone = b.lost + b.corrupted + b.damaged;
      expect(missing).toBeLessThanOrEqual(gone);
      expect(missing).toBeGreaterThanOrEqual(gone * 0.9 - OWN);
      if (rules.reorder) expect(reordered).toBeGreaterThan(0);
      expect((await far.dropped(Drop.REPLAYED)) - before.replayed).toBeGreaterThanOrEqual(b.duplicated * 0.8 - OWN);
      expect((await far.dropped(Drop.UNAUTHENTICATED)) - before.unauthenticated).toBeGreaterThanOrEqual(b.corrupted * 0.8 - OWN);
    },
  );

  it('TCP gets through all of it, whole', async () => {
    await wire.set({ loss: 0.005, duplicate: 0.02, reorder: 0.02, corrupt: 0.005, damage: 0.005 });
    const { ms } = await transferBothWays(near.namespace, far.namespace, far.inner6, bound(64, 2));
    const { b } = await wire.counts();
    expect(b.lost + b.duplicated + b.reordered + b.corrupted + b.damaged).toBeGreaterThan(10);
    console.log(`${bound(64, 2)} MiB each way under faults: ${Math.round(ms)} ms`);
  });
});

describe('a path', () => {
  it('that moves is followed, and the session stays', async () => {
    const [before] = (await far.status()).peers;
    await using probe = new Probe(near.namespace, far.inner4);
    await sleep(300);
    net.roam(0);
    await sleep(1200);
    const { longestGapMs, sent, received } = await probe.stop();
    console.log(`roamed: gap ${Math.round(longestGapMs)} ms, ${sent - received} of ${sent} lost`);
    expect(longestGapMs).toBeLessThan(bound(500, 2000));
    const [after] = (await far.status()).peers;
    expect(before?.endpoint).not.toBe(after?.endpoint);
    expect(after?.endpoint).toMatch(new RegExp(`^${net.host(0).address4}:`));
    expect(after?.lastHandshakeTime).toEqual(before?.lastHandshakeTime);
    // And the other way.
    await untilAnswers(far.namespace, near.inner4);
  });

  it('that was parted is used again within 5 s', async () => {
    const partedMs = bound(60_000, 1000);
    await using probe = new Probe(near.namespace, far.inner4, 20);
    await sleep(200);
    net.partition(1);
    await sleep(partedMs);
    net.heal(1);
    const healed = performance.now();
    await untilAnswers(near.namespace, far.inner4);
    const healMs = performance.now() - healed;
    const { longestGapMs, duplicates } = await probe.stop();
    console.log(`parted for ${partedMs} ms: answers after ${Math.round(healMs)} ms`);
    expect(duplicates).toBe(0);
    expect(longestGapMs).toBeGreaterThan(partedMs * 0.95);
    expect(healMs).toBeLessThan(bound(5000, 20_000));
    await untilAnswers(far.namespace, near.inner6);
  });
});

describe('an attacker', () => {
  /** What was recorded on its way to the far end, sent `count` times more; what the far end made of it. */
  async function attack(count: number, change?: 'counter' | 'noise') {
    await wire.set({ record: 500 }, 'b');
    await across(500);
    expect((await wire.counts()).recorded.b).toBe(500);
    await wire.reset();
    const before = await far.status();
    const sent = await wire.send({ toward: 'a', count, perSecond: 40_000, change });
    await sleep(300);
    const { a, b } = await wire.counts();
    const after = await far.status();
    const drops = (reasons: Drop[]) => {
      const of = (status: typeof after) =>
        status.drops.filter(({ reason }) => reasons.includes(reason)).reduce((sum, { packets }) => sum + Number(packets), 0);
      return of(after) - of(before);
    };
    expect(a.overflow + b.overflow).toBe(0);
    const accepted = Number((after.traffic?.receivedPackets ?? 0n) - (before.traffic?.receivedPackets ?? 0n));
    return { sent, accepted, answered: a.seen, drops };
  }

  it('who sends packets once more gets none of them in', async () => {
    const count = bound(1_000_000, 20_000);
    const { sent, accepted, drops } = await attack(count);
    expect(sent).toBe(count);
    expect(accepted).toBe(0);
    const seen = drops([Drop.REPLAYED]);
    console.log(`${count} replayed packets: 0 accepted, ${seen} counted`);
    expect(seen).toBeGreaterThan(count * 0.9);
  });

  it.each(['counter', 'noise'] as const)('who makes packets up (%s) gets none of them in, and no answer', async (change) => {
    const count = bound(100_000, 5000);
    const { sent, accepted, answered, drops } = await attack(count, change);
    expect(sent).toBe(count);
    expect(accepted).toBe(0);
    expect(answered).toBeLessThanOrEqual(2);
    // Noise is of no known type, but for one in a million.
    const reasons = change === 'counter' ? [Drop.UNAUTHENTICATED] : [Drop.UNAUTHENTICATED, Drop.MALFORMED];
    expect(drops(reasons)).toBeGreaterThan(count * 0.9);
  });

  it('who is a peer and sends from an address that is not its own gets nothing in', async () => {
    const count = bound(100_000, 2000);
    near.namespace.ip(`address add 10.99.0.1/32 dev ${near.device}`);
    const before = await far.dropped(Drop.SPOOFED);
    const { received } = await across(count, { source: '10.99.0.1' });
    expect(received).toBe(0);
    expect((await far.dropped(Drop.SPOOFED)) - before).toBeGreaterThanOrEqual(count * 0.99);
    near.namespace.ip(`address del 10.99.0.1/32 dev ${near.device}`);
    expect((await across(100)).received).toBe(100);
  });
});
