// The underlay, its bad wire and what is measured over it, without any overlay: each fault fires, and is seen as what it is.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Impairment, startImpairment } from './impairment.ts';
import { numbered, Probe, transferBothWays } from './passage.ts';
import { pings } from './ping.ts';
import { createUnderlay, type Underlay } from './underlay.ts';

let net: Underlay;
let wire: Impairment;

beforeAll(async () => {
  net = createUnderlay({ hosts: 3, wired: [1] });
  wire = await startImpairment(net.wire(1));
});

afterAll(async () => {
  await wire?.[Symbol.asyncDispose]();
  await net?.[Symbol.asyncDispose]();
});

describe('an underlay', () => {
  it('joins every host to every other in both families', async () => {
    for (const [from, to] of [
      [0, 1],
      [1, 2],
      [2, 0],
    ] as const) {
      for (const address of [net.host(to).address4, net.host(to).address6]) {
        expect(await pings(net.host(from).namespace, address, 2, '-i', '0.01')).toMatchObject({ lost: 0 });
      }
    }
  });

  it('has a path that takes less, and tells so unless it must not', async () => {
    const { namespace } = net.host(0);
    const ask = async (address: string, payload: number) =>
      (await namespace.exec(['ping', '-n', '-c', '1', '-W', '0.3', '-M', 'do', '-s', String(payload), address])).stdout;
    net.setPathMtu(1300);
    net.filterTooBig(true);
    for (const [address, headers] of [
      [net.host(2).address4, 28],
      [net.host(2).address6, 48],
    ] as const) {
      expect(await ask(address, 1300 - headers)).toContain('1 received');
      const silent = await ask(address, 1301 - headers);
      expect(silent).toContain('0 received');
      expect(silent).not.toContain('From');
    }
    net.filterTooBig(false);
    for (const [address, headers] of [
      [net.host(2).address4, 28],
      [net.host(2).address6, 48],
    ] as const) {
      expect(await ask(address, 1301 - headers)).toMatch(/mtu ?= ?1300/);
    }
    net.setPathMtu(0);
    for (const { namespace: at } of [net.host(0), net.host(1)]) for (const family of ['-4', '-6']) at.ip(`${family} route flush cache`);
    expect(await ask(net.host(2).address4, 1472)).toContain('1 received');
  });

  it('is parted without a word, and whole again', async () => {
    const { namespace } = net.host(0);
    net.partition(2);
    for (const address of [net.host(2).address4, net.host(2).address6]) {
      const { stdout } = await namespace.exec(['ping', '-n', '-c', '2', '-i', '0.05', '-W', '0.2', address]);
      expect(stdout).toContain('0 received');
      expect(stdout).not.toContain('From');
    }
    net.heal(2);
    for (const address of [net.host(2).address4, net.host(2).address6]) expect((await pings(namespace, address, 1)).lost).toBe(0);
  });

  it('lets a host roam', async () => {
    const before = net.host(2).address4;
    net.roam(2);
    expect(net.host(2).address4).not.toBe(before);
    const { namespace } = net.host(2);
    for (const address of [net.host(0).address4, net.host(0).address6]) expect((await pings(namespace, address, 1)).lost).toBe(0);
    expect(namespace.run('ip', 'route', 'get', net.host(0).address4)).toContain(`src ${net.host(2).address4}`);
    expect(namespace.run('ip', 'route', 'get', net.host(0).address6)).toContain(`src ${net.host(2).address6}`);
  });
});

describe('a wire', () => {
  const across = (count: number, more = {}) =>
    numbered(net.host(0).namespace, net.host(1).namespace, net.host(1).address4, count, { perSecond: 10_000, ...more });
  const counts = async () => {
    const { a, b } = await wire.counts();
    expect([a.overflow, b.overflow]).toEqual([0, 0]);
    return b;
  };
  const set = async (rules: Parameters<Impairment['set']>[0]) => {
    await wire.reset();
    await wire.set(rules, 'b');
  };

  it('passes everything, fast', async () => {
    await set({});
    expect(await transferBothWays(net.host(0).namespace, net.host(1).namespace, net.host(1).address6, 8)).toBeDefined();
    const begun = performance.now();
    await transferBothWays(net.host(0).namespace, net.host(1).namespace, net.host(1).address4, 32);
    const { a, b } = await wire.counts();
    console.log(`wire: ${Math.round((a.seen + b.seen) / ((performance.now() - begun) / 1000))} packets/s with their checksums made`);
    expect(await across(2000)).toEqual({ sent: 2000, received: 2000, duplicates: 0, corrupted: 0, reordered: 0 });
  });

  it('loses as many as it says', async () => {
    await set({ loss: 0.1 });
    const { received } = await across(2000);
    const { lost } = await counts();
    expect(lost).toBeGreaterThan(140);
    expect(lost).toBeLessThan(280);
    expect(2000 - received).toBe(lost);
  });

  it('repeats, reorders and delays', async () => {
    await set({ duplicate: 0.1, reorder: 0.1, delayMs: 20 });
    const result = await across(1000);
    const { duplicated, reordered } = await counts();
    expect(result).toMatchObject({ received: 1000, corrupted: 0 });
    expect(duplicated).toBeGreaterThan(60);
    expect(result.duplicates).toBe(duplicated);
    expect(result.reordered).toBeGreaterThan(60);
    expect(result.reordered).toBeLessThanOrEqual(reordered);
  });

  it('corrupts so that the program sees it, and damages so that it does not', async () => {
    await set({ corrupt: 0.1 });
    const corrupt = await across(1000);
    expect(corrupt.corrupted).toBeGreaterThan(60);
    expect(corrupt.received).toBe(1000 - corrupt.corrupted);
    await set({ damage: 0.1 });
    const damaged = await across(1000);
    const { damaged: count } = await counts();
    expect(count).toBeGreaterThan(60);
    expect(damaged.corrupted).toBe(0);
    expect(1000 - damaged.received).toBe(count);
  });

  it('swallows what is too big', async () => {
    await set({ maxBytes: 1280 });
    expect(await across(100, { bytes: 1252 })).toMatchObject({ received: 100 });
    expect(await across(100, { bytes: 1253 })).toMatchObject({ received: 0 });
    expect((await counts()).tooBig).toBe(100);
  });

  it('sends once more what was recorded, as it was or changed', async () => {
    await set({ record: 50 });
    const listening = across(100, { idleMs: 1000 });
    while ((await wire.counts()).recorded.b < 50) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(await wire.send({ toward: 'a', count: 500, perSecond: 50_000 })).toBe(500);
    expect(await wire.send({ toward: 'a', count: 500, perSecond: 20_000, change: 'bit' })).toBe(500);
    const result = await listening;
    expect(result).toMatchObject({ received: 100, duplicates: 500 });
    expect(result.corrupted).toBe(500);
  });

  it('is silent for as long as it loses everything, and a probe says how long', async () => {
    await set({});
    await using probe = new Probe(net.host(0).namespace, net.host(1).address4);
    await new Promise((resolve) => setTimeout(resolve, 300));
    net.partition(1);
    await new Promise((resolve) => setTimeout(resolve, 400));
    net.heal(1);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const probed = await probe.stop();
    expect(probed.longestGapMs).toBeGreaterThan(380);
    expect(probed.longestGapMs).toBeLessThan(2000);
    expect(probed.received).toBeLessThan(probed.sent);
    expect(probed.duplicates).toBe(0);
  });
});
