// What a stream keeps, observed through NATS: with the login in a file, from a server as old as Debian's.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from '@nats-io/transport-node';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { observeNats } from '../../src/flow/nats-observer.ts';
import { ObserveFlowsRequest } from '../../src/gen/taplane/v1/flow_service.ts';
import { openJetStream } from '../../src/nats/jetstream.ts';
import { freePort, natsBinary, type RealNats, startNats } from '../nats/real-nats.ts';
import { flowMessage } from './batches.ts';

let folder: string;
let nats: RealNats;
let port: number;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'taplane-observer-'));
  port = await freePort();
  nats = await startNats(port, '-js', '-sd', folder, '--user', 'taplane', '--pass', 'secret');
});
afterEach(async () => {
  await nats?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function publish(): Promise<void> {
  const connection = await connect({ servers: [`127.0.0.1:${port}`], user: 'taplane', pass: 'secret' });
  const stream = await openJetStream(connection, 5_000);
  const limits = { name: 'TAPLANE_FLOWS', maxBytes: 0, maxAgeMs: 0, replicas: 1 };
  await stream.stream('taplane.v1.c.n.flow.>', { ...limits, subjects: ['taplane.v1.*.*.flow.>'] });
  for (const [index, name] of ['tun0', 'tun1', 'tun0'].entries()) {
    const { id, records, payload } = flowMessage(name, name.padEnd(16, '0'), index === 2 ? 4 : 1, 3);
    const sending = { subject: `taplane.v1.c.n.flow.${name}`, payload, id, records, contentType: 'application/protobuf' };
    expect(await stream.publish(sending, index === 2 ? 1 : 0)).toMatchObject({ is: 'stored' });
  }
  await connection.close();
}

async function observed(mode: string, request: object): Promise<string[]> {
  const told: string[] = [];
  const options = { nats: { mode }, timeoutMs: 5_000, say: (line: string) => told.push(line) };
  for await (const { batch } of observeNats(options, ObserveFlowsRequest.fromPartial(request), AbortSignal.timeout(20_000)))
    for (const { sequence } of batch?.flows ?? []) told.push(`${batch?.interface} ${sequence}`);
  return told;
}

describe.skipIf(!natsBinary)('with a real nats-server (needs one in the PATH)', () => {
  test('the newest, the oldest and all of what a stream keeps', async () => {
    await publish();
    const file = join(folder, 'client.url');
    writeFileSync(file, `nats://taplane:secret@127.0.0.1:${port}\n`, { mode: 0o600 });
    const all = ['tun0 1', 'tun0 2', 'tun0 3', 'tun1 1', 'tun1 2', 'tun1 3', 'tun0 4', 'tun0 5', 'tun0 6'];
    expect(await observed(file, {})).toEqual(all);
    expect(await observed(file, { first: 4n })).toEqual(all.slice(0, 4));
    expect(await observed(file, { last: 4n })).toEqual(all.slice(-4));
  }, 60_000);

  test('a file that is missing, or holds no address, is refused without a word of what is in it', async () => {
    const file = join(folder, 'client.url');
    await expect(observed(file, {})).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(`${file}: ENOENT`),
    });
    writeFileSync(file, 'secret');
    const error = await observed(file, {}).catch((caught: Error) => caught);
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(JSON.stringify([error, (error as Error).message])).not.toContain('secret');
  }, 60_000);
});
