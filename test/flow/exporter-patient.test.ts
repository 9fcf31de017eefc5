// A spool that cannot be opened at the start: nobody is kept waiting, what is handed over is refused, and it is opened when it can be.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openExporter } from '../../src/flow/exporter.ts';
import { patientExporter } from '../../src/flow/exporter-patient.ts';
import { SOON } from '../harness/bound.ts';
import { meter } from './batches.ts';

test('is opened when it can be, with nothing taken before that', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tpl-patient-'));
  const said: string[] = [];
  const say = (_: object, message: string): void => void said.push(message);
  const log = { debug: say, info: say, warn: say };
  // A file in the place of its folder.
  writeFileSync(join(folder, 'spool'), '');
  const limits = { name: 'X', maxBytes: 0, maxAgeMs: 0 };
  const open = () =>
    openExporter({
      file: join(folder, 'spool', 'flows.db'),
      cluster: 'c',
      node: 'n',
      limits: { spoolBytes: 1e6, retainedBytes: 0 },
      mode: 'jetstream',
      streams: { create: false, replicas: 1, flows: limits, events: limits },
      connection: () => undefined,
      log,
    });
  const exporter = patientExporter(open, 1e6, log);
  const batch = meter('t0', '0123456789abcdef', 5).batch(0);
  expect(exporter.failure()).toMatchObject({ code: 'UNAVAILABLE', reason: 'SPOOL_UNAVAILABLE' });
  expect(() => exporter.put([batch])).toThrow(exporter.failure());
  expect(exporter.stats()).toMatchObject({
    spooledMessages: 0n,
    spoolLimitBytes: 1_000_000n,
    reason: expect.stringMatching(/^open the flow spool: /),
  });
  rmSync(join(folder, 'spool'));
  await expect.poll(() => exporter.failure(), SOON).toBeUndefined();
  exporter.put([batch]);
  expect(exporter.stats()).toMatchObject({ spooledMessages: 1n, reason: 'not connected to NATS' });
  expect(said).toEqual(['flow spool cannot be opened: nothing is exported until it can', 'flow spool opened']);
  await exporter.close(0);
  rmSync(folder, { recursive: true });
});
