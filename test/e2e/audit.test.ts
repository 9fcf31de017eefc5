// The audit log of a real agent: kill -9 under 50 writers loses no record of what was answered, and the command line tells of it, also without an agent.

import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ListAuditRecordsRequest, ListAuditRecordsRequest_Order as Order } from '../../src/gen/taplane/v1/audit_service.ts';
import { startAgent } from '../harness/agent.ts';
import { bound, SOON } from '../harness/bound.ts';
import { createNamespace } from '../harness/namespace.ts';
import { random } from '../harness/random.ts';
import { creation, deletion, TUN } from './specs.ts';

const KILLS = bound(20, 1);
const WRITERS = 50;

it(`${KILLS} kills under ${WRITERS} writers lose no record of what was answered; verify finds nothing`, {
  timeout: 120_000 + KILLS * 20_000,
}, async () => {
  const dice = random('audit-kills');
  await using ns = createNamespace();
  // Small files: rotation is a part of it. No metering: it is not about lanes.
  await using agent = await startAgent({
    namespace: ns,
    args: ['--no-flows'],
    env: { TAPLANE_AUDIT_MAX_BYTES: '65536', TAPLANE_AUDIT_FILES: '1000' },
  });
  const answered = new Set<string>();
  for (let kill = 0; kill < KILLS; kill++) {
    const client = agent.client();
    let stop = false;
    const write = async (writer: number): Promise<void> => {
      for (let n = 0; !stop; n++) {
        // Most are refused before they touch the kernel, which is the point: an answer is a record, whatever it says.
        const name = n % 20 === 0 ? `w${writer}` : `gone${kill}-${writer}-${n}`;
        const requestId = crypto.randomUUID();
        const call =
          n % 20 === 0
            ? client.interfaces.create(creation(name, { mode: TUN }, { requestId }))
            : client.interfaces.delete({ ...deletion(name), requestId });
        const cut = await call.then(
          () => false,
          ({ code }: { code: string }) => code === 'UNAVAILABLE' || code === 'CANCELLED',
        );
        if (cut) return;
        answered.add(requestId);
      }
    };
    const writers = Array.from({ length: WRITERS }, (_, writer) => write(writer));
    const enough = answered.size + WRITERS * 2;
    await expect.poll(() => answered.size, SOON).toBeGreaterThan(enough);
    await new Promise((resolve) => setTimeout(resolve, dice.uniform(0, 50)));
    const death = agent.kill9();
    stop = true;
    await Promise.all([death, ...writers]);
    await agent.restart();
  }
  const { audit } = agent.client();
  const recorded = new Set<string>();
  let [pageToken, count] = ['', 0n];
  do {
    const page = await audit.list(ListAuditRecordsRequest.fromPartial({ pageSize: 1000, pageToken, order: Order.OLDEST_FIRST }));
    for (const { request, sequence } of page.records) {
      expect(sequence).toBe(++count);
      const { requestId } = JSON.parse(request) as { requestId: string };
      expect(recorded.has(requestId), 'a record that is there twice').toBe(false);
      recorded.add(requestId);
    }
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  console.log(
    `${KILLS} kills, ${answered.size} answers, ${recorded.size} records, ${readdirSync(join(agent.stateDir, 'audit')).length} files`,
  );
  expect(answered.size).toBeGreaterThan(KILLS * WRITERS);
  expect([...answered].filter((id) => !recorded.has(id))).toEqual([]);
  expect(await audit.verify()).toMatchObject({ intact: true, firstSequence: 1n });
  expect((await agent.client().node.getNode()).conditions.filter(({ type }) => type.startsWith('Audit'))).toMatchObject([
    { status: 1 },
    { status: 1 },
  ]);

  const listed = await agent.cli(['audit', 'list', '--limit', '2', '--outcome', 'not_found']);
  expect(listed.stdout).toMatch(
    /^SEQUENCE +TIME +CALLER +METHOD +RESOURCE +OUTCOME +REASON\n\d+ +\S+Z +\S+ +DeleteInterface +interfaces\/gone\S+ +NOT_FOUND +INTERFACE_NOT_FOUND\n/,
  );
  expect(JSON.parse((await agent.cli(['audit', 'list', '--limit', '3', '--oldest-first', '-o', 'json'])).stdout).records).toHaveLength(3);
  expect(await agent.cli(['audit', 'list', '--since', 'yesterday'])).toMatchObject({ code: 2 });
  const online = await agent.cli(['audit', 'verify', '-o', 'json']);
  expect(online).toMatchObject({ code: 0, stderr: '' });
  await agent.stop();
  const folder = join(agent.stateDir, 'audit');
  const offline = await agent.cli(['audit', 'verify', '--file', folder]);
  expect(offline).toMatchObject({ code: 0, stderr: '' });
  expect(offline.stdout).toContain(JSON.parse(online.stdout).lastHash);
  const copy = join(agent.folder, 'copy');
  cpSync(folder, copy, { recursive: true });
  const [first = ''] = readdirSync(copy).sort();
  const lines = readFileSync(join(copy, first), 'utf8').split('\n');
  writeFileSync(join(copy, first), lines.toSpliced(3, 1).join('\n'));
  const broken = await agent.cli(['audit', 'verify', '--file', copy]);
  expect(broken).toMatchObject({
    code: 1,
    stderr: `error: the log is not as it was written: record 4 (${first}, line 4): the record has sequence 5: records are missing, or were moved\n`,
  });
  const one = join(agent.folder, 'one.jsonl');
  copyFileSync(join(folder, first), one);
  expect(await agent.cli(['audit', 'verify', '--file', one])).toMatchObject({ code: 0 });
  mkdirSync(join(agent.folder, 'empty'));
  expect(await agent.cli(['audit', 'verify', '--file', join(agent.folder, 'absent')])).toMatchObject({ code: 2 });
});
