import { describe, expect, it } from 'vitest';
import { Interface, InterfaceSpec } from '../../src/gen/taplane/v1/interface.ts';
import { CreateInterfaceRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { Once } from '../../src/resource/once.ts';
import type { Replay } from '../../src/resource/store.ts';

const ID = '6f6b1c1e-52f4-4f6e-9f0e-0f6b1c1e52f4';
const request = (fields: Partial<CreateInterfaceRequest> = {}): CreateInterfaceRequest => ({
  ...CreateInterfaceRequest.fromPartial({ interfaceId: 'tap0', requestId: ID }),
  ...fields,
});

/** Remembers what operations commit, as the store does. */
function memory() {
  const kept = new Map<string, Replay>();
  const once = new Once({ recall: (id) => kept.get(id) });
  let runs = 0;
  let gate: Promise<void> = Promise.resolve();
  const run = (asked: CreateInterfaceRequest, method = 'create', fail?: Error): Promise<Interface> =>
    once.run(method, asked, CreateInterfaceRequest, Interface, async (replay) => {
      runs += 1;
      const answer = Interface.fromPartial({ name: asked.interfaceId, uid: String(runs) });
      await gate;
      if (fail) throw fail;
      const remembered = replay(answer);
      if (remembered) kept.set(remembered.requestId, remembered);
      return answer;
    });
  return {
    run,
    kept,
    runs: () => runs,
    hold: (promise: Promise<void>) => {
      gate = promise;
    },
  };
}

describe('a request id', () => {
  it('has one effect and one answer', async () => {
    const { run, runs } = memory();
    const first = await run(request());
    expect(await run(request())).toEqual(first);
    expect(runs()).toBe(1);
    await run(request({ requestId: ID.replace('6', '7') }));
    expect(runs()).toBe(2);
  });

  it('has one effect also while the first is under way', async () => {
    const { run, runs, hold } = memory();
    const gate = Promise.withResolvers<void>();
    hold(gate.promise);
    const both = Promise.all([run(request()), run(request()), run(request())]);
    gate.resolve();
    const answers = await both;
    expect(new Set(answers.map(({ uid }) => uid)).size).toBe(1);
    expect(runs()).toBe(1);
  });

  it('of another request is refused, answered already or under way, and so is that of another method', async () => {
    const { run, runs, hold } = memory();
    const refused = { code: 'INVALID_ARGUMENT', reason: 'REQUEST_ID_REUSED', fields: [{ field: 'request_id' }] };
    const gate = Promise.withResolvers<void>();
    hold(gate.promise);
    const first = run(request());
    await expect(run(request({ interfaceId: 'tap1' }))).rejects.toMatchObject(refused);
    gate.resolve();
    await first;
    await expect(run(request({ interfaceId: 'tap1' }))).rejects.toMatchObject(refused);
    await expect(run(request(), 'update')).rejects.toMatchObject(refused);
    expect(runs()).toBe(1);
  });

  it('does not mind the order of a map', async () => {
    const { run, runs } = memory();
    const withLabels = (labels: Record<string, string>) =>
      request({ interface: Interface.fromPartial({ labels, spec: InterfaceSpec.fromPartial({ sysctls: labels }) }) });
    await run(withLabels({ a: '1', b: '2' }));
    await run(withLabels({ b: '2', a: '1' }));
    expect(runs()).toBe(1);
    await expect(run(withLabels({ a: '2', b: '1' }))).rejects.toMatchObject({ reason: 'REQUEST_ID_REUSED' });
  });

  it('of a failure is not remembered: the same request may succeed later', async () => {
    const { run, runs, kept } = memory();
    const both = await Promise.allSettled([run(request(), 'create', new Error('disk')), run(request())]);
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect([runs(), kept.size]).toEqual([1, 0]);
    await run(request());
    expect(runs()).toBe(2);
  });

  it('is a UUID; without one, and for a look ahead, every request runs', async () => {
    const { run, runs, kept } = memory();
    for (const requestId of ['1', 'x'.repeat(36), `${ID} `])
      await expect(run(request({ requestId }))).rejects.toMatchObject({ reason: 'INVALID_FIELDS' });
    expect(runs()).toBe(0);
    for (const asked of [
      request({ requestId: '' }),
      request({ requestId: '' }),
      request({ validateOnly: true }),
      request({ validateOnly: true }),
    ])
      await run(asked);
    expect([runs(), kept.size]).toEqual([4, 0]);
  });
});
