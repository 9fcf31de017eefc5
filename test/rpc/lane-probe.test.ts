// A probe on its way between agent and lane: the socket of a lane, with measuring of the test's own behind it.

import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { TaplaneError } from '../../src/errors.ts';
import { LaneState, type ProbePeerRequest } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { ProbeLinkRequest, ProbeLinkResponse } from '../../src/gen/taplane/v1/link_service.ts';
import { connectLane, type LaneClient } from '../../src/rpc/lane-client.ts';
import { startLaneServer } from '../../src/rpc/lane-server.ts';
import { eventually } from './served.ts';

const reply = (sequence: number): ProbeLinkResponse =>
  ProbeLinkResponse.fromPartial({ progress: { $case: 'reply', value: { sequence, bytes: 100 } } });

type Measure = (request: ProbePeerRequest, signal: AbortSignal) => AsyncIterable<ProbeLinkResponse>;

async function laneThat(probePeer: Measure): Promise<{ client: LaneClient; path: string } & AsyncDisposable> {
  const folder = mkdtempSync(join(tmpdir(), 'tpl-probe-'));
  const path = join(folder, 'lane.sock');
  const state = (): LaneState => LaneState.fromPartial({});
  const server = await startLaneServer(path, { getLane: state, setAttachments: state, probePeer }, { error() {} });
  const client = connectLane(path, 5000);
  return {
    client,
    path,
    async [Symbol.asyncDispose]() {
      client.close();
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const ask = (client: LaneClient, signal = new AbortController().signal): AsyncIterable<ProbeLinkResponse> =>
  client.probePeer('uid', ProbeLinkRequest.fromPartial({ name: 'links/a', count: 3 }), signal);

it('is for its owner alone, since no policy is asked there', async () => {
  await using lane = await laneThat(async function* () {});
  expect(statSync(lane.path).mode & 0o7777).toBe(0o600);
});

it('brings every message, in order', async () => {
  await using lane = await laneThat(async function* ({ linkUid, probe }) {
    expect([linkUid, probe?.count]).toEqual(['uid', 3]);
    for (let sequence = 1; sequence <= 3; sequence++) yield reply(sequence);
  });
  const told: ProbeLinkResponse[] = [];
  for await (const message of ask(lane.client)) told.push(message);
  expect(told).toEqual([1, 2, 3].map(reply));
});

it('tells refusals in their own words, and a lane that is gone as one that may come back', async () => {
  const metadata = { peer: 'x' };
  const preconditions = [{ type: 'LINK', subject: 'links/a', description: 'why' }];
  // biome-ignore lint/correctness/useYield: it is refused before anything is measured
  await using lane = await laneThat(async function* () {
    throw new TaplaneError('FAILED_PRECONDITION', 'NO_PROBE_ADDRESS', 'probe: why', { metadata, preconditions });
  });
  const refusal = await ask(lane.client)
    [Symbol.asyncIterator]()
    .next()
    .catch((error) => error);
  expect(refusal).toBeInstanceOf(TaplaneError);
  expect(refusal).toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'NO_PROBE_ADDRESS', metadata, preconditions });
  const nobody = connectLane('/nonexistent/lane.sock', 1000);
  await expect(ask(nobody)[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'UNAVAILABLE', reason: 'LANE_UNAVAILABLE' });
  nobody.close();
});

it.each(['aborts', 'stops to read'])('ends in the lane when the asker %s', async (how) => {
  let ended = false;
  await using lane = await laneThat(async function* (_, signal) {
    try {
      for (let sequence = 1; !signal.aborted; sequence++) {
        yield reply(sequence);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    } finally {
      ended = true;
    }
  });
  const abort = new AbortController();
  const messages = ask(lane.client, abort.signal)[Symbol.asyncIterator]();
  await messages.next();
  if (how === 'aborts') {
    abort.abort();
    await expect(
      (async () => {
        while (!(await messages.next()).done);
      })(),
    ).rejects.toBeInstanceOf(TaplaneError);
  } else await messages.return?.();
  await eventually(() => ended);
});
