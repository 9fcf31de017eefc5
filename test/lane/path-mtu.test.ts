// The search for the size of a path, against paths that are known: what passes, what is lost, what changes.

import { describe, expect, it } from 'vitest';
import { PathMtu } from '../../src/lane/link/path-mtu.ts';
import { random } from '../harness/random.ts';

const TICK_MS = 100;

/** A path that takes `takes` bytes and loses a share of probes; answers come after `delayMs`. */
function path({ most = 1420, least = 576, takes = 1420, loss = 0, answers = true, delayMs = 20, chance = (): number => 0.5 } = {}) {
  const state = { takes, answers, loss };
  const sent: number[] = [];
  const used: number[] = [];
  let now = 0;
  let waiting: [at: number, bytes: number][] = [];
  const mtu = new PathMtu({
    most,
    least,
    probe(bytes) {
      sent.push(bytes);
      if (state.answers && bytes <= state.takes && chance() >= state.loss) waiting.push([now + delayMs, bytes]);
      return true;
    },
    changed: (bytes) => used.push(bytes),
  });
  const run = (ms: number, isSending = true): void => {
    for (const end = now + ms; now < end; now += TICK_MS) {
      for (const [at, bytes] of waiting) if (at <= now) mtu.answered(bytes);
      waiting = waiting.filter(([at]) => at > now);
      mtu.tick(now, isSending);
    }
  };
  return { mtu, state, sent, used, run };
}

describe('the size of a path', () => {
  it('is what the link sends, and is confirmed about once a second while something is sent', () => {
    const { mtu, sent, used, run } = path();
    run(10_000);
    expect(mtu.inUse).toBe(1420);
    expect(mtu.known).toBe(1420);
    expect(used).toEqual([]);
    expect(new Set(sent)).toEqual(new Set([1420]));
    expect(sent.length).toBeGreaterThanOrEqual(8);
    expect(sent.length).toBeLessThanOrEqual(11);
  });

  it('is not asked for while nothing is sent', () => {
    const { mtu, sent, run } = path();
    run(60_000, false);
    expect(sent).toEqual([]);
    expect(mtu.known).toBe(0);
  });

  it('is found within 5 s after it has shrunk, 8 bytes near, and never above it', () => {
    for (let takes = 576; takes < 1420; takes += 7) {
      const { mtu, state, run } = path();
      run(5000);
      state.takes = takes;
      run(5000);
      expect(mtu.inUse, `takes ${takes}`).toBeLessThanOrEqual(takes);
      run(3000);
      expect(mtu.inUse, `takes ${takes}`).toBeGreaterThan(takes - 8);
      expect(mtu.searching).toBe(false);
    }
  });

  it('grows again within a minute or two when the path does', () => {
    const { mtu, state, run } = path();
    state.takes = 1280;
    run(12_000);
    expect(mtu.inUse).toBeLessThanOrEqual(1280);
    state.takes = 1420;
    run(90_000);
    expect(mtu.inUse).toBe(1420);
  });

  it('stays as it is when nobody answers at all', () => {
    const { mtu, state, used, run } = path();
    state.answers = false;
    run(60_000);
    expect(used).toEqual([]);
    expect(mtu.inUse).toBe(1420);
    expect(mtu.known).toBe(0);
    state.answers = true;
    run(10_000);
    expect(mtu.known).toBe(1420);
  });

  it('leaves a peer that never answers alone, but for a try now and then', () => {
    const { mtu, state, sent, run } = path();
    state.answers = false;
    run(300_000);
    const before = sent.length;
    run(600_000);
    expect(sent.length - before).toBeLessThanOrEqual(121);
    expect(new Set(sent.slice(before))).toEqual(new Set([576]));
    // What answered once is looked for as before.
    state.answers = true;
    run(70_000);
    expect(mtu.known).toBe(1420);
    state.answers = false;
    run(60_000);
    state.answers = true;
    state.takes = 1300;
    run(9000);
    expect(mtu.inUse).toBeLessThanOrEqual(1300);
  });

  it('survives loss: a fifth lost for ten minutes leaves the full size most of the time, and nothing stays small', () => {
    const { mtu, state, run } = path({ chance: random('path').next, loss: 0.36 });
    let full = 0;
    for (let second = 0; second < 600; second++) {
      run(1000);
      if (mtu.inUse === 1420) full++;
    }
    expect(full).toBeGreaterThan(500);
    state.loss = 0;
    run(120_000);
    expect(mtu.inUse).toBe(1420);
  });

  it('is searched anew when the link sends another most', () => {
    const { mtu, state, used, run } = path();
    run(5000);
    mtu.reset(1380);
    expect(used).toEqual([1380]);
    state.takes = 1300;
    run(9000);
    expect(mtu.inUse).toBeLessThanOrEqual(1300);
    expect(mtu.inUse).toBeGreaterThan(1292);
  });

  it('is searched at once when asked', () => {
    const { mtu, state, run } = path();
    state.takes = 1333;
    mtu.search(0);
    run(3100, false);
    expect(mtu.known).toBeLessThanOrEqual(1333);
    expect(mtu.known).toBeGreaterThan(1325);
  });
});
