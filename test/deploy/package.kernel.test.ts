// The package as npm makes it, installed into an empty folder as on a machine that has nothing else of it, and started from there.

import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { expect } from 'vitest';
import { connect } from '../../src/rpc/client.ts';
import { whenStrict } from '../harness/bound.ts';
import { createNamespace } from '../harness/namespace.ts';
import { Child, run } from '../harness/process.ts';

const ROOT = join(import.meta.dirname, '..', '..');
// npm and Node, but nothing of this checkout.
const PATH = (process.env['PATH'] ?? '')
  .split(delimiter)
  .filter((folder) => !folder.startsWith(ROOT))
  .join(delimiter);

whenStrict('npm pack, npm install into an empty folder, version, agent', async () => {
  const folder = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-`));
  const env = { PATH: [dirname(process.execPath), PATH].join(delimiter), NODE_PATH: '' };
  try {
    const packed = await run(['npm', 'pack', ROOT, '--pack-destination', folder], { env, timeoutMs: 180_000 });
    expect(packed).toMatchObject({ code: 0 });
    const [archive = ''] = readdirSync(folder);
    const installed = await run(['npm', 'install', '--prefix', folder, '--no-audit', join(folder, archive)], { env, timeoutMs: 180_000 });
    expect(installed).toMatchObject({ code: 0 });
    const taplane = join(folder, 'node_modules', '.bin', 'taplane');
    expect(await run([taplane, '--version'], { env })).toMatchObject({ code: 0, stderr: '' });
    const home = join(folder, 'node_modules', 'taplane');
    for (const part of ['deploy/systemd', 'deploy/seccomp', 'docs', 'dist'])
      expect(readdirSync(join(home, part)).length).toBeGreaterThan(0);

    await using ns = createNamespace();
    for (const name of ['state', 'run']) mkdirSync(join(folder, name));
    const places = ['--state-dir', join(folder, 'state'), '--runtime-dir', join(folder, 'run'), '--listen', `unix:${folder}/agent.sock`];
    await using agent = new Child(['ip', 'netns', 'exec', ns.name, taplane, 'agent', ...places], { env });
    await agent.until(({ stderr }) => stderr.includes('"msg":"ready"'), 'the agent', 60_000);
    const client = connect(`unix:${folder}/agent.sock`, { timeoutMs: 10_000 });
    expect((await client.node.getNode()).pid).toBeGreaterThan(0);
    client.close();
    agent.kill('SIGTERM');
    expect((await agent.ended).code).toBe(0);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
