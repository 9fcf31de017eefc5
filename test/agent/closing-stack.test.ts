import { expect, test } from 'vitest';
import { ClosingStack } from '../../src/agent/closing-stack.ts';
import { bound } from '../harness/bound.ts';

test('closes in reverse, once, past parts that fail or hang', async () => {
  const said: string[] = [];
  const log = { debug: (_: object, message: string) => said.push(message), error: (_: object, message: string) => said.push(message) };
  const order: string[] = [];
  const parts = new ClosingStack(log, 50);
  parts.add('first', async () => void order.push('first'));
  parts.add('hangs', () => {
    order.push('hangs');
    return new Promise<void>(() => {});
  });
  parts.add('fails', async () => {
    order.push('fails');
    throw new Error('x');
  });
  parts.add('throws at once', () => {
    order.push('throws');
    throw new Error('y');
  });
  parts.add('last', async () => void order.push('last'));
  expect(await Promise.all([parts.close(10_000), parts.close(10_000)])).toEqual([false, false]);
  expect(order).toEqual(['last', 'throws', 'fails', 'hangs', 'first']);
  expect(said).toEqual(['closed', 'close failed', 'close failed', 'not closed in time', 'closed']);
});

test('all together have their time; every part is still asked', async () => {
  const asked: number[] = [];
  const parts = new ClosingStack({ debug() {}, error() {} }, 10_000);
  for (let i = 0; i < 5; i++) {
    parts.add(`${i}`, () => {
      asked.push(i);
      return new Promise<void>(() => {});
    });
  }
  const startedAt = performance.now();
  expect(await parts.close(100)).toBe(false);
  expect(performance.now() - startedAt).toBeLessThan(bound(500, 4000));
  expect(asked).toEqual([4, 3, 2, 1, 0]);
});
