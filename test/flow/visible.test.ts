// What an observer may not see is as if it were not there: nothing of it is told, counted or lost.

import { expect, test } from 'vitest';
import { openFlows } from '../../src/flow/flows.ts';
import { FlowRing } from '../../src/flow/ring.ts';
import { InterfaceFlowStats, ObserveFlowsRequest, type ObserveFlowsResponse } from '../../src/gen/taplane/v1/flow_service.ts';
import { batch, collected, encoded } from './flow-values.ts';

const never = new AbortController().signal;
const isOwn = (id: string): boolean => id === 'own0';

/** Batches of one record, by turns of one's own interface and of another, with records that were lost behind each. */
function shared(batches = 12): FlowRing {
  const ring = new FlowRing();
  for (let number = 1; number <= batches; number++) {
    const lost = [{ reason: 1, count: 1n, firstSequence: 0n }] as never;
    ring.put(encoded({ ...batch(number, [{}]), interface: number % 2 === 0 ? 'own0' : 'other0', lost }));
  }
  return ring;
}
const stats = (id: string): InterfaceFlowStats => InterfaceFlowStats.fromPartial({ interface: `interfaces/${id}` });
const sequences = (answers: readonly ObserveFlowsResponse[]): number[] =>
  answers.flatMap((answer) => answer.batch?.flows.map(({ sequence }) => Number(sequence)) ?? []);

test('records, first and last, and losses', async () => {
  const flows = openFlows({ ring: shared(), interfaces: () => [] });
  const ask = (request: Partial<ObserveFlowsRequest>) =>
    collected(flows.observe(ObserveFlowsRequest.fromPartial(request as object), never, isOwn));
  expect(sequences(await ask({}))).toEqual([2, 4, 6, 8, 10, 12]);
  expect(sequences(await ask({ last: 2n }))).toEqual([10, 12]);
  expect(sequences(await ask({ first: 2n }))).toEqual([2, 4]);
  expect(sequences(await ask({ allow: [{ interface: ['other0', 'interfaces/other*'] }] as ObserveFlowsRequest['allow'] }))).toEqual([]);
  const [all, own] = await Promise.all([collected(flows.observe(ObserveFlowsRequest.fromPartial({}), never)), ask({})]);
  const lost = (answers: ObserveFlowsResponse[]): bigint => answers.reduce((sum, answer) => sum + answer.lost, 0n);
  expect(lost(all)).toBeGreaterThan(0n);
  expect(lost(own) * 2n).toBe(lost(all));
});

test('as it is at the moment: what is no longer one’s own is told no more', async () => {
  const ring = shared(0);
  const flows = openFlows({ ring, interfaces: () => [] });
  let visible = 'own0';
  const stream = flows.observe(ObserveFlowsRequest.fromPartial({ follow: true }), never, (id) => id === visible)[Symbol.asyncIterator]();
  expect((await stream.next()).value).toMatchObject({ following: true });
  const put = (number: number, id: string): void => {
    ring.put(encoded({ ...batch(number, [{}]), interface: id }));
  };
  put(1, 'own0');
  expect(sequences([(await stream.next()).value as ObserveFlowsResponse])).toEqual([1]);
  visible = 'other0';
  put(2, 'own0');
  put(3, 'other0');
  expect(sequences([(await stream.next()).value as ObserveFlowsResponse])).toEqual([3]);
  await stream.return?.();
});

test('statistics', () => {
  const flows = openFlows({ ring: shared(0), interfaces: () => [stats('own0'), stats('other0')] });
  expect(flows.stats(isOwn).interfaces.map(({ interface: name }) => name)).toEqual(['interfaces/own0']);
  expect(flows.stats().interfaces).toHaveLength(2);
});
