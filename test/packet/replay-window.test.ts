// The ring of bits against a set that forgets nothing.

import { describe, expect, it } from 'vitest';
import { replayWindow } from '../../src/packet/replay-window.ts';
import { random } from '../harness/random.ts';

const SIZE = 8192;

it.each([1, 31, 32, 33, 64, 1000, SIZE])('a window of %i says what a set says, over many random counters', (size) => {
  const dice = random('replay', size);
  const window = replayWindow(size);
  const seen = new Set<number>();
  let greatest = -1;
  for (let round = 0; round < 150_000; round++) {
    const throwOf = dice.next();
    let counter: number;
    if (throwOf < 0.5) counter = greatest + dice.integer(1, 3);
    else if (throwOf < 0.9) counter = greatest - dice.integer(0, size + 40);
    else if (throwOf < 0.99) counter = greatest + dice.integer(1, 3 * size + 70);
    else counter = greatest + dice.integer(0, 2 ** 30);
    const isNew = counter >= 0 && counter > greatest - size && !seen.has(counter);
    if (window.isNew(counter) !== isNew) throw new Error(`round ${round}: ${counter} behind ${greatest}, expected ${isNew}`);
    // Asking notes nothing, and not every packet that is asked for authenticates.
    if (dice.next() < 0.2) continue;
    if (window.accept(counter) !== isNew) throw new Error(`round ${round}: accept ${counter} behind ${greatest}, expected ${isNew}`);
    if (isNew) seen.add(counter);
    greatest = Math.max(greatest, isNew ? counter : -1);
  }
});

describe('at its edges', () => {
  it('the first counter is 0, once', () => {
    const window = replayWindow();
    expect(window.isNew(0)).toBe(true);
    expect(window.isNew(0)).toBe(true);
    expect(window.accept(0)).toBe(true);
    expect(window.isNew(0)).toBe(false);
    expect(window.accept(0)).toBe(false);
    expect(window.accept(1)).toBe(true);
  });

  it('the oldest that it tells apart is new once, and what is older never', () => {
    const window = replayWindow();
    const greatest = 3 * SIZE + 5;
    expect(window.accept(greatest)).toBe(true);
    expect(window.accept(greatest - SIZE)).toBe(false);
    expect(window.accept(greatest - SIZE + 1)).toBe(true);
    expect(window.accept(greatest - SIZE + 1)).toBe(false);
    expect(window.accept(0)).toBe(false);
  });

  it('a jump of any length forgets all and only what is too old', () => {
    for (const jump of [SIZE - 1, SIZE, SIZE + 1, 2 * SIZE, 16 * SIZE, 2 ** 32, 2 ** 40 + 31]) {
      const window = replayWindow();
      for (let counter = 0; counter < 100; counter++) window.accept(counter);
      expect(window.accept(99 + jump)).toBe(true);
      for (const counter of [0, 98, 99]) expect(window.isNew(counter)).toBe(false);
      for (let counter = Math.max(100, 100 + jump - SIZE); counter < 99 + jump; counter++)
        if (!window.isNew(counter)) throw new Error(`jump of ${jump}: ${counter} is new`);
    }
  });

  it('every counter of several rounds of the ring is new once', () => {
    const window = replayWindow();
    for (let counter = 0; counter < 5 * SIZE; counter++)
      if (!window.accept(counter) || window.accept(counter)) throw new Error(`${counter} is not new once`);
  });

  it('the greatest counters are told apart too', () => {
    const window = replayWindow();
    const most = Number.MAX_SAFE_INTEGER;
    expect(window.accept(most - 1)).toBe(true);
    expect(window.accept(most)).toBe(true);
    expect(window.accept(most)).toBe(false);
    expect(window.accept(most - SIZE + 1)).toBe(true);
    expect(window.accept(most - SIZE)).toBe(false);
  });

  it('what is no such number is not new, and changes nothing', () => {
    const window = replayWindow();
    window.accept(10);
    for (const counter of [-1, 0.5, 11.5, 2 ** 53, 2 ** 64, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      expect(window.isNew(counter)).toBe(false);
      expect(window.accept(counter)).toBe(false);
    }
    expect(window.accept(11)).toBe(true);
  });

  it('has a size', () => {
    for (const size of [0, -1, 1.5, Number.NaN, 2 ** 25]) expect(() => replayWindow(size)).toThrow(RangeError);
  });
});
