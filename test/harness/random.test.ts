import { describe, expect, it } from 'vitest';
import { percentile, summary } from './percentile.ts';
import { random } from './random.ts';

describe('random', () => {
  it('repeats itself from the same seed, and only then', () => {
    const take = (stream: string, seed: number) => Array.from({ length: 20 }, random(stream, seed).next);
    expect(take('', 7)).toEqual(take('', 7));
    expect(take('', 7)).not.toEqual(take('', 8));
    expect(take('a', 7)).not.toEqual(take('b', 7));
  });

  it('stays inside its bounds, reaches both ends of a whole range and keeps every item of a shuffle', () => {
    const { uniform, integer, pick, shuffled, bytes } = random('bounds', 1);
    const values = Array.from({ length: 1000 }, () => uniform(10, 20));
    expect(Math.min(...values)).toBeGreaterThanOrEqual(10);
    expect(Math.max(...values)).toBeLessThan(20);
    expect(new Set(Array.from({ length: 200 }, () => integer(1, 3)))).toEqual(new Set([1, 2, 3]));
    expect(['x', 'y']).toContain(pick(['x', 'y']));
    expect(() => pick([])).toThrow('nothing to pick from');
    expect(shuffled([1, 2, 3, 4, 5]).sort()).toEqual([1, 2, 3, 4, 5]);
    expect(bytes(64)).toHaveLength(64);
  });
});

describe('percentile', () => {
  it('answers with a measured value, by the nearest rank', () => {
    const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
    expect(percentile(hundred, 50)).toBe(50);
    expect(percentile(hundred, 99)).toBe(99);
    expect(percentile(hundred, 100)).toBe(100);
    expect(percentile([5], 1)).toBe(5);
    expect(percentile([1, 2, 3], 50)).toBe(2);
  });

  it('refuses no values, and ranks that do not exist', () => {
    expect(() => percentile([], 50)).toThrow('no values');
    expect(() => percentile([1], 0)).toThrow('not above 0');
    expect(() => percentile([1], 101)).toThrow('at most 100');
  });

  it('sums up in one line', () => {
    expect(summary([3, 1, 2])).toBe('n=3 p50=2.0 p90=3.0 p99=3.0 max=3.0 ms');
  });
});
