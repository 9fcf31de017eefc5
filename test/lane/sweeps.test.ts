// Sweeps in slices: the event loop gets its turns, nobody waits for another's end, and nothing is done while there is no room.

import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { SLICE_MS, Sweeps } from '../../src/lane/sweeps.ts';
import { SOON } from '../harness/bound.ts';

const PIECE_MS = 1;

/** Has so many pieces of work of a millisecond each. */
function worker(pieces: number, order: string[] = [], name = '') {
  const of = { left: pieces, sweep };
  function sweep(): boolean {
    order.push(name);
    for (const until = performance.now() + PIECE_MS; performance.now() < until; );
    return --of.left > 0;
  }
  return of;
}

test('works in slices, and lets others run between them', async () => {
  const sweeps = new Sweeps(() => false);
  const one = worker(60);
  sweeps.add(one);
  sweeps.run();
  for (let before = 60; one.left > 0; before = one.left) {
    expect(before - one.left).toBeLessThanOrEqual(SLICE_MS / PIECE_MS);
    await nextTurn();
  }
  await sleep(10);
  expect(one.left).toBe(0);
});

test('takes a piece of each in turn', async () => {
  const order: string[] = [];
  const sweeps = new Sweeps(() => false);
  const [flooded, idle] = [worker(40, order, 'flooded'), worker(2, order, 'idle')];
  sweeps.add(flooded);
  sweeps.add(idle);
  sweeps.run();
  await expect.poll(() => flooded.left + idle.left, SOON).toBe(0);
  expect(order.slice(0, 5)).toEqual(['flooded', 'idle', 'flooded', 'idle', 'flooded']);
});

test('waits while there is no room, and goes on by itself', async () => {
  let pressed = true;
  const sweeps = new Sweeps(() => pressed);
  const one = worker(10);
  sweeps.add(one);
  sweeps.run();
  await sleep(30);
  expect(one.left).toBe(10);
  pressed = false;
  await expect.poll(() => one.left, SOON).toBe(0);
});

test('leaves alone who is removed, and stops', async () => {
  const sweeps = new Sweeps(() => false);
  const [gone, stays] = [worker(30), worker(30)];
  sweeps.add(gone);
  sweeps.add(stays);
  sweeps.run();
  sweeps.remove(gone);
  const { left } = gone;
  await expect.poll(() => stays.left, SOON).toBe(0);
  expect(gone.left).toBe(left);
  sweeps.add(gone);
  sweeps.run();
  sweeps.stop();
  const { left: stopped } = gone;
  await sleep(30);
  expect(gone.left).toBe(stopped);
});
