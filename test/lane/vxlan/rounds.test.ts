// What goes round is told from what is only alike.

import { expect, it } from 'vitest';
import { Rounds } from '../../../src/lane/vxlan/rounds.ts';
import { StormBucket } from '../../../src/lane/vxlan/storm.ts';
import { random } from '../../harness/random.ts';

it('is a frame that comes 16 times within a second, wherever it stands', () => {
  const rounds = new Rounds();
  const frame = Buffer.alloc(300, 7);
  const seen = Array.from({ length: 20 }, (_, index) =>
    rounds.isRound(Buffer.concat([Buffer.alloc(index), frame]), index, 300, 1000 + index),
  );
  expect(seen).toEqual(Array.from({ length: 20 }, (_, index) => index >= 15));
});

it('is none when the same frame comes seldom, or each is different', () => {
  const rounds = new Rounds();
  const frame = Buffer.alloc(60, 7);
  for (let n = 0; n < 100; n++) expect(rounds.isRound(frame, 0, 60, n * 100)).toBe(false);
  const dice = random('rounds');
  let wrong = 0;
  for (let n = 0; n < 20_000; n++) {
    const other = Buffer.from(frame);
    other.writeUInt32BE(n, 40);
    if (rounds.isRound(other, 0, 60, 20_000 + n * 0.01)) wrong++;
    if (rounds.isRound(Buffer.from(dice.bytes(60)), 0, 60, 20_000 + n * 0.01)) wrong++;
  }
  expect(wrong).toBe(0);
});

it('is asked for only while frames are held back', () => {
  const storm = new StormBucket(4, 0);
  expect(storm.isPressed(0)).toBe(false);
  expect([storm.take(0), storm.take(0)]).toEqual([true, false]);
  expect([storm.isPressed(0), storm.isPressed(1999), storm.isPressed(2000)]).toEqual([true, true, false]);
});
