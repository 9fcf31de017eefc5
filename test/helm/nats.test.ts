// The bundled NATS: a real nats-server runs with the configuration and the certificates that the chart makes, and agents may do what they need
// and no more.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { inboxPrefix } from '../../src/nats/login.ts';
import { freePort, natsBinary } from '../nats/real-nats.ts';
import { hasHelm, type Rendered, render, renderAnew } from './chart.ts';

const NAME = 'demo-taplane-nats';
const folder = mkdtempSync(join(tmpdir(), 'taplane-chart-nats-'));

/** The files of a Secret, as they are mounted. */
function mount({ one }: Rendered, secret: string, at: string): string {
  const path = join(folder, at);
  mkdirSync(path, { recursive: true });
  for (const [key, value] of Object.entries(one('Secret', secret).data ?? {}))
    writeFileSync(join(path, key), Buffer.from(value, 'base64'), { mode: 0o600 });
  return path;
}

/** The configuration of the server, where everything in it is at hand here. */
function configuration({ one }: Rendered, tls: string, ports: { nats: number; monitor: number }): string {
  let text = one('ConfigMap', NAME).data?.['nats.conf'] ?? '';
  const put = (from: string, to: string): void => {
    expect(text).toContain(from);
    text = text.replaceAll(from, to);
  };
  // Servers before 2.10 do not know the word.
  put('sync_interval: always', '');
  put('/etc/nats-tls/', `${tls}/`);
  put('/data/', `${folder}/data/`);
  put('/var/run/nats/', `${folder}/`);
  put('0.0.0.0:4222', `127.0.0.1:${ports.nats}`);
  put('0.0.0.0:8222', `127.0.0.1:${ports.monitor}`);
  const path = join(folder, 'nats.conf');
  writeFileSync(path, text);
  return path;
}

describe.skipIf(!hasHelm || natsBinary === undefined)('bundled NATS (needs helm, and nats-server in the PATH)', () => {
  let server: ChildProcess;
  let port: number;
  let monitor: number;
  let tls: Record<'server' | 'agent' | 'reader', string>;
  const open: NatsConnection[] = [];

  beforeAll(async () => {
    const chart = render({ nats: { mode: 'bundled' } });
    tls = {
      server: mount(chart, `${NAME}-server`, 'server'),
      agent: mount(chart, `${NAME}-agent`, 'agent'),
      reader: mount(chart, `${NAME}-reader`, 'reader'),
    };
    [port, monitor] = [await freePort(), await freePort()];
    const config = configuration(chart, tls.server, { nats: port, monitor });
    server = spawn(natsBinary as string, ['--config', config], { stdio: ['ignore', 'ignore', 'pipe'], env: { POD_NAME: `${NAME}-0` } });
    const said: string[] = [];
    await new Promise<void>((resolve, reject) => {
      server.once('exit', () => reject(new Error(`nats-server ended:\n${said.join('\n')}`)));
      createInterface({ input: server.stderr as NodeJS.ReadableStream }).on('line', (line) => {
        said.push(line);
        if (line.includes('Server is ready')) resolve();
      });
    });
  });

  afterAll(async () => {
    for (const connection of open) await connection.close();
    if (server !== undefined && server.exitCode === null) {
      server.kill('SIGKILL');
      await once(server, 'exit');
    }
    rmSync(folder, { recursive: true, force: true });
  });

  async function login(who: 'agent' | 'reader', more: object = {}, inbox = inboxPrefix('node7')): Promise<NatsConnection> {
    const tlsOptions = {
      caFile: join(tls[who], 'ca.crt'),
      certFile: join(tls[who], 'tls.crt'),
      keyFile: join(tls[who], 'tls.key'),
      // The name in the address that the agents get.
      servername: `${NAME}.net.svc`,
      ...more,
    };
    const connection = await connect({ servers: `127.0.0.1:${port}`, tls: tlsOptions, inboxPrefix: inbox, reconnect: false });
    open.push(connection);
    return connection;
  }

  /** What the server says against a subscription. */
  async function refused(connection: NatsConnection, subject: string): Promise<boolean> {
    const error = await new Promise<Error | null>((resolve) => {
      connection.subscribe(subject, { callback: (problem) => resolve(problem) });
      connection.flush().then(() => setTimeout(() => resolve(null), 20));
    });
    return /permissions violation/i.test(String(error?.message ?? ''));
  }

  test('an agent makes its streams, and publishes to them in order', async () => {
    const agent = await login('agent');
    const manager = await jetstreamManager(agent);
    await manager.streams.add({ name: 'TAPLANE_FLOWS', subjects: ['taplane.v1.*.*.flow.>'] });
    await manager.streams.add({ name: 'TAPLANE_EVENTS', subjects: ['taplane.v1.*.*.event.>'] });
    const ack = await jetstream(agent).publish('taplane.v1.default.node7.flow.tun0', 'x', { expect: { lastSubjectSequence: 0 } });
    expect(ack).toMatchObject({ stream: 'TAPLANE_FLOWS', seq: 1 });
    expect((await manager.streams.getMessage('TAPLANE_FLOWS', { last_by_subj: 'taplane.v1.default.node7.flow.tun0' }))?.seq).toBe(1);
  });

  test('and may no more', async () => {
    const agent = await login('agent');
    expect(await refused(agent, 'taplane.v1.>')).toBe(true);
    expect(await refused(agent, 'taplane.v1.default.node8.flow.>')).toBe(true);
    expect(await refused(agent, '_INBOX_node7.x')).toBe(false);
    await expect(agent.request('$JS.API.STREAM.DELETE.TAPLANE_FLOWS', '', { timeout: 300 })).rejects.toThrow();
    await expect(agent.request('$JS.API.STREAM.PURGE.TAPLANE_FLOWS', '', { timeout: 300 })).rejects.toThrow();
    await expect(jetstream(agent).publish('taplane.v1.other.node7.flow.tun0', 'x', { timeout: 300 })).rejects.toThrow();
  });

  test('a reader reads, and changes nothing', async () => {
    const reader = await login('reader', {}, '_INBOX_reader');
    const manager = await jetstreamManager(reader);
    expect((await manager.streams.info('TAPLANE_FLOWS')).state.messages).toBe(1);
    await manager.consumers.add('TAPLANE_FLOWS', { name: 'one', ack_policy: 'none' });
    const message = await (await jetstream(reader).consumers.get('TAPLANE_FLOWS', 'one')).next({ expires: 2000 });
    expect(message?.string()).toBe('x');
    await expect(manager.streams.delete('TAPLANE_FLOWS')).rejects.toThrow();
    await expect(jetstream(reader).publish('taplane.v1.default.node7.flow.tun0', 'y', { timeout: 300 })).rejects.toThrow();
  });

  test('nobody comes in without a certificate of this authority', async () => {
    await expect(login('agent', { certFile: undefined, keyFile: undefined })).rejects.toThrow();
    const other = renderAnew({ nats: { mode: 'bundled' } });
    const strange = mount(other, `${NAME}-agent`, 'strange');
    await expect(login('agent', { certFile: join(strange, 'tls.crt'), keyFile: join(strange, 'tls.key') })).rejects.toThrow();
    await expect(login('agent', { servername: 'elsewhere.net.svc' })).rejects.toThrow(/altname|Hostname/i);
  });

  test('takes renewed certificates without a restart', async () => {
    const { command } = render({ nats: { mode: 'bundled' } }).one('StatefulSet').spec.template.spec.containers[1];
    const script = join(folder, 'reload.mjs');
    writeFileSync(script, render({ nats: { mode: 'bundled' } }).one('ConfigMap', NAME).data?.['reload.mjs'] ?? '');
    expect(command).toEqual(['/usr/local/bin/node', '/etc/nats/reload.mjs', '/etc/nats-tls', '/var/run/nats/nats.pid']);
    const reload = spawn(process.execPath, [script, tls.server, join(folder, 'nats.pid'), '20'], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      const lines = createInterface({ input: reload.stdout })[Symbol.asyncIterator]();
      expect((await lines.next()).value).toBe(`nats-server ${server.pid} reads its certificates`);
      const renewed = renewedBy(renderAnew({ nats: { mode: 'bundled' } }));
      expect((await lines.next()).value).toBe(`nats-server ${server.pid} reads its certificates`);
      await expect.poll(() => login('agent', renewed).then((one) => one.isClosed()), { timeout: 5_000 }).toBe(false);
      await expect(login('agent')).rejects.toThrow();
    } finally {
      reload.kill();
    }
  });

  /** New files for the server; answers those of an agent. */
  function renewedBy(chart: Rendered): object {
    const at = mount(chart, `${NAME}-agent`, 'renewed');
    mount(chart, `${NAME}-server`, 'server');
    return { caFile: join(at, 'ca.crt'), certFile: join(at, 'tls.crt'), keyFile: join(at, 'tls.key') };
  }

  test('answers where the probes ask', async () => {
    const probe = render({ nats: { mode: 'bundled' } }).one('StatefulSet').spec.template.spec.containers[0];
    for (const name of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
      const answer = await fetch(`http://127.0.0.1:${monitor}${probe[name].httpGet.path}`);
      expect(await answer.json(), name).toEqual({ status: 'ok' });
    }
  });
});
