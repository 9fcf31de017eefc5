import { describe, expect, it } from 'vitest';
import { Turns } from '../../src/resource/turns.ts';
import { random, seed } from '../harness/random.ts';

describe('turns', () => {
  it('run one at a time for a key, in the order of arrival, and side by side for others', async () => {
    console.log(`TAPLANE_SEED=${seed}`);
    const { integer } = random('turns');
    const turns = new Turns();
    const order = new Map<string, number[]>();
    const running = new Map<string, number>();
    let most = 0;
    const all = Array.from({ length: 300 }, (_, number) => {
      const key = `k${integer(0, 4)}`;
      return turns.run(key, async () => {
        running.set(key, (running.get(key) ?? 0) + 1);
        expect(running.get(key)).toBe(1);
        most = Math.max(
          most,
          [...running.values()].reduce((sum, count) => sum + count, 0),
        );
        for (let ticks = integer(0, 3); ticks > 0; ticks--) await new Promise((resolve) => setImmediate(resolve));
        running.set(key, 0);
        order.set(key, [...(order.get(key) ?? []), number]);
        if (number % 7 === 0) throw new Error(`turn ${number}`);
        return number;
      });
    });
    await turns.idle();
    const outcomes = await Promise.allSettled(all);
    outcomes.forEach((outcome, number) => {
      if (number % 7 === 0) expect(outcome).toMatchObject({ status: 'rejected', reason: { message: `turn ${number}` } });
      else expect(outcome).toEqual({ status: 'fulfilled', value: number });
    });
    for (const done of order.values()) expect(done).toEqual(done.toSorted((a, b) => a - b));
    expect(most).toBeGreaterThan(1);
  });

  it('that fail do not fail those behind them', async () => {
    const turns = new Turns();
    const first = turns.run('a', async () => {
      throw new Error('first');
    });
    const second = turns.run('a', async () => 2);
    await expect(first).rejects.toThrow('first');
    expect(await second).toBe(2);
  });

  it('are idle only when also those are done that came meanwhile', async () => {
    const turns = new Turns();
    let done = 0;
    void turns.run('a', async () => {
      void turns.run('b', async () => {
        await new Promise((resolve) => setImmediate(resolve));
        done += 1;
      });
      done += 1;
    });
    await turns.idle();
    expect(done).toBe(2);
  });
});
