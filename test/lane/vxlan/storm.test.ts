import { expect, it } from 'vitest';
import { StormBucket } from '../../../src/lane/vxlan/storm.ts';
import { random, seed } from '../../harness/random.ts';

it(`passes no more than its limit within any time, and no less over a long one (seed ${seed})`, () => {
  const draw = random('storm');
  // Where less than one frame has room beside another, some of what could pass is not there in time.
  for (const perSecond of [1, 3, 10, 1000, 1_000_000]) {
    const bucket = new StormBucket(perSecond, 5000);
    while (bucket.take(5000));
    const passed: number[] = [];
    let nowMs = 5000;
    for (let offered = 0; offered < 20_000; offered++) {
      nowMs += (draw.uniform(0, 1) * 1000) / (perSecond * 2);
      if (bucket.take(nowMs)) passed.push(nowMs);
    }
    for (let from = 0; from < passed.length; from += 97) {
      for (const to of [from, from + 10, from + 500, passed.length - 1]) {
        const [first, last] = [passed[from], passed[to]];
        if (first === undefined || last === undefined) continue;
        const most = Math.max(1 + ((last - first) / 1000) * perSecond, perSecond * ((last - first) / 1000 + 0.25));
        expect(to - from + 1).toBeLessThanOrEqual(Math.ceil(most + 1));
      }
    }
    const seconds = (nowMs - 5000) / 1000;
    expect(passed.length / seconds).toBeGreaterThan(perSecond * (perSecond < 100 ? 0.8 : 0.95));
    expect(passed.length / seconds).toBeLessThan(perSecond * 1.05);
  }
});

it('holds a quarter of a second at once after a pause, takes a new limit, and bears a clock that goes back', () => {
  const bucket = new StormBucket(1000, 0);
  const burst = (nowMs: number) => {
    let count = 0;
    while (bucket.take(nowMs)) count++;
    return count;
  };
  expect([burst(0), burst(0), burst(100), burst(50), burst(10_000)]).toEqual([250, 0, 100, 0, 250]);
  bucket.limit(2);
  expect([burst(10_000), burst(10_500), burst(10_900), burst(60_000)]).toEqual([0, 1, 0, 1]);
});
