// One agent with NATS, a link with keys, metrics and an SDK for traces: what it tells of itself, and what it never tells.

import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { expect, it } from 'vitest';
import { InterfaceServiceService as methods } from '../../src/gen/taplane/v1/interface_service.ts';
import { LinkSpec_Protocol as Protocol } from '../../src/gen/taplane/v1/link.ts';
import { CreateLinkRequest } from '../../src/gen/taplane/v1/link_service.ts';
import { CapturePacketsRequest } from '../../src/gen/taplane/v1/packet_service.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { SOON, whenStrict } from '../harness/bound.ts';
import { lanesOf } from '../harness/lanes.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { readStream, startServer } from '../harness/raw-nats.ts';
import { type ReadFamily, readExposition } from '../metrics/exposition-reader.ts';
import { hasPromtool, promtool } from '../metrics/promtool.ts';
import { natsBinary } from '../nats/real-nats.ts';
import { creation, TUN } from './specs.ts';

const TRACE = randomBytes(16).toString('hex');
const LOGIN = { user: 'agent', password: `mark${randomBytes(12).toString('hex')}` };
const PRIVATE_KEY = clamped(randomBytes(32));
const PRESHARED_KEY = randomBytes(32);

function clamped(key: Buffer): Buffer {
  key.writeUInt8(key.readUInt8(0) & 248, 0);
  key.writeUInt8((key.readUInt8(31) & 127) | 64, 31);
  return key;
}

/** What must stand nowhere, in all the forms in which somebody might write it. */
const SECRETS = [
  LOGIN.password,
  ...[PRIVATE_KEY, PRESHARED_KEY].flatMap((key) => [
    key.toString('base64'),
    key.toString('base64url'),
    key.toString('hex'),
    [...key].join(','),
    [...key].join(', '),
    key.toString('latin1'),
  ]),
];

function secretsIn(place: string, bytes: Buffer | string): string[] {
  const text = typeof bytes === 'string' ? bytes : bytes.toString('latin1');
  return SECRETS.flatMap((secret, index) => (text.includes(secret) ? [`${place}: secret ${index}`] : []));
}

/** An HTTP answer from inside of the namespace. */
async function get(ns: Namespace, path: string): Promise<{ status: number; body: string }> {
  const { stdout } = await ns.exec(['curl', '-s', '-w', '\n%{http_code}', `http://127.0.0.1:9464${path}`]);
  const end = stdout.lastIndexOf('\n');
  return { status: Number(stdout.slice(end + 1)), body: stdout.slice(0, end) };
}

function value(families: ReadFamily[], name: string, labels: Record<string, string> = {}): number | undefined {
  const family = families.find((one) => one.name === `taplane_${name}`);
  return family?.samples.find((sample) => Object.entries(labels).every(([key, text]) => sample.labels[key] === text))?.value;
}

/** Creates an interface within a trace. */
async function createTraced(agent: Agent, name: string): Promise<void> {
  const client = new Client(agent.server, credentials.createInsecure());
  const metadata = new Metadata();
  metadata.set('traceparent', `00-${TRACE}-${'1'.repeat(16)}-01`);
  const { path, requestSerialize, responseDeserialize } = methods.createInterface;
  const request = creation(name, { mode: TUN, up: true, addresses: [{ cidr: '10.97.0.1/24' }], sysctls: { 'ipv6/disable_ipv6': '1' } });
  await new Promise<void>((resolve, reject) => {
    client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, (error) => (error ? reject(error) : resolve()));
  });
  client.close();
}

it.skipIf(natsBinary === undefined)(
  'tells how it is over HTTP, in a bundle and in traces, and never a secret',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tpl-observe-'));
    await using _folder = { [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true, force: true }) };
    await using ns = createNamespace();
    await using server = await startServer(ns, {
      binary: natsBinary as string,
      store: join(folder, 'store'),
      more: ['--user', LOGIN.user, '--pass', LOGIN.password],
    });
    const config = join(folder, 'agent.yaml');
    writeFileSync(
      config,
      `nats: nats://${LOGIN.user}:${LOGIN.password}@127.0.0.1:4222\nmetrics: { listen: 127.0.0.1:9464 }\nlogLevel: debug\n`,
      { mode: 0o600 },
    );
    const provider = pathToFileURL(join(import.meta.dirname, '../tracing/loaded-provider.ts')).href;
    await using agent = await startAgent({
      namespace: ns,
      args: ['--config', config, '--metrics-listen', '127.0.0.1:9464'],
      env: { NODE_OPTIONS: `--import=${provider}` },
    });
    await createTraced(agent, 't0');
    const { links } = agent.client();
    await links.create(
      CreateLinkRequest.fromPartial({
        linkId: 'wg0',
        link: {
          spec: {
            interface: 'interfaces/t0',
            protocol: Protocol.WIREGUARD,
            listen: '127.0.0.1:51820',
            wireguard: { privateKey: PRIVATE_KEY },
            peers: [
              { publicKey: randomBytes(32), presharedKey: PRESHARED_KEY, endpoint: '127.0.0.1:51821', allowedPrefixes: ['10.98.0.0/24'] },
            ],
          },
        },
      }),
    );

    // Health and metrics.
    await expect.poll(async () => (await get(ns, '/readyz')).status, SOON).toBe(200);
    expect(await get(ns, '/readyz?verbose')).toMatchObject({
      body: '[+] stores: open\n[+] lane: 1 answer\n[+] serving: calls are answered\nready\n',
    });
    const scraped = async () => readExposition((await get(ns, '/metrics')).body);
    await expect.poll(async () => value(await scraped(), 'nats_published_messages_total') ?? 0, SOON).toBeGreaterThan(0);
    const text = (await get(ns, '/metrics')).body;
    const families = readExposition(text);
    expect(value(families, 'interface_ready', { interface: 't0' })).toBe(1);
    expect(value(families, 'interfaces', { mode: 'tun', state: 'ready' })).toBe(1);
    expect(value(families, 'grpc_calls_total', { method: 'taplane.v1.InterfaceService/CreateInterface', code: 'OK' })).toBe(1);
    expect(value(families, 'lane_up', { lane: 'lane-0' })).toBe(1);
    expect(value(families, 'nats_connected')).toBe(1);
    expect(value(families, 'node_condition', { type: 'FlowSpool' })).toBe(1);
    // There before the first loss, or Prometheus would not see that one as an increase.
    for (const reason of ['lane_full', 'spool_full', 'spool_failed', 'server_lost', 'too_large'])
      expect(value(families, 'spool_lost_records_total', { reason })).toBe(0);
    expect(value(families, 'link_peers', { protocol: 'wireguard', state: 'down' })).toBe(1);
    expect(value(families, 'process_resident_memory_bytes')).toBeGreaterThan(1e7);
    if (hasPromtool) expect(promtool(['check', 'metrics'], text)).toBe('');
    // What is told by nobody but in a list is no series. Here are neither certificates nor a policy, and no peer has answered.
    const silent = families.filter(({ samples }) => samples.length === 0).map(({ name }) => name.replace('taplane_', ''));
    // A link may have dropped something by now.
    expect(silent.filter((name) => name !== 'link_dropped_packets_total')).toEqual([
      'tls_certificate_not_before_timestamp_seconds',
      'tls_certificate_not_after_timestamp_seconds',
      'reload_ok',
      'reload_failures_total',
      'reload_last_success_timestamp_seconds',
      'link_peer_round_trip_seconds',
    ]);

    // Streams and captures are counted by the lane, also when they are over.
    for await (const _ of agent
      .client()
      .packets.capture(CapturePacketsRequest.fromPartial({ interface: 'interfaces/t0' }), AbortSignal.timeout(20_000)))
      break;
    await expect.poll(async () => value(await scraped(), 'lane_streams_opened_total', { lane: 'lane-0' }), SOON).toBe(1);
    await expect
      .poll(async () => value(await scraped(), 'grpc_calls_in_progress', { method: 'taplane.v1.PacketService/CapturePackets' }), SOON)
      .toBe(0);

    // The trace of the call goes on in the event on NATS.
    const stream = await readStream(ns, 'TAPLANE_EVENTS', LOGIN);
    const created = stream.find(({ subject }) => subject.endsWith('.interface-created'));
    expect(created?.headerText).toMatch(new RegExp(`^traceparent: ?00-${TRACE}-(?!1{16})[0-9a-f]{16}-01\\r?$`, 'm'));

    // The bundle, from the command line.
    const bundle = join(folder, 'bundle.tar.gz');
    expect(await agent.cli(['support-bundle', '-w', bundle, '--timeout', '60s'])).toMatchObject({ code: 0 });
    expect(statSync(bundle).mode & 0o777).toBe(0o600);
    expect((await agent.cli(['support-bundle', '-w', bundle])).code).toBe(2);
    const listed = (await ns.exec(['tar', 'tzf', bundle])).stdout.split('\n');
    for (const name of [
      'about.json',
      'config.yaml',
      'interfaces.jsonl',
      'links.jsonl',
      'log.jsonl',
      'events.jsonl',
      'metrics.txt',
      'doctor.txt',
      'netlink/links.json',
    ])
      expect(listed).toContain(`taplane/${name}`);
    const archive = gunzipSync(readFileSync(bundle));
    const about = JSON.parse((await ns.exec(['tar', 'xzOf', bundle, 'taplane/about.json'])).stdout) as {
      parts: { name: string; error?: string }[];
    };
    expect(about.parts.filter(({ error }) => error !== undefined)).toEqual([]);
    expect(archive.includes('interfaces/t0') && archive.includes('links/wg0')).toBe(true);

    // The level of the log, from the command line.
    const quiet = await agent.cli(['node', 'log-level', 'error', '--for', '1h']);
    expect(quiet.stdout).toMatch(/^log level error, until 20\d\d-.* \(configured: debug\)\n$/);
    const back = await agent.cli(['node', 'log-level', 'default', '-o', 'json']);
    expect(JSON.parse(back.stdout)).toEqual({ level: 'LOG_LEVEL_DEBUG', configuredLevel: 'LOG_LEVEL_DEBUG' });

    // The lane follows, from what is configured on.
    const laneSaid = () =>
      [...readFileSync(join(agent.runtimeDir, 'lane-0.log'), 'utf8').matchAll(/"log_level":"(\w+)"/g)].map(([, to]) => to);
    for (const level of ['debug', 'warn', 'debug']) {
      expect((await agent.cli(['node', 'log-level', level])).code).toBe(0);
      await expect.poll(() => laneSaid().at(-1), SOON).toBe(level);
    }

    // NATS that goes away makes it neither dead nor unready.
    server.kill('SIGKILL');
    await server.ended;
    await expect.poll(async () => value(await scraped(), 'nats_connected'), SOON).toBe(0);
    expect([(await get(ns, '/livez')).status, (await get(ns, '/readyz')).status]).toEqual([200, 200]);

    // No secret anywhere, and the search finds what is there.
    const places: [string, Buffer | string][] = [
      ['bundle', archive],
      ['log', agent.log],
      ['metrics', text],
      ...readdirSync(agent.runtimeDir)
        .filter((name) => name.endsWith('.log'))
        .map((name): [string, Buffer] => [name, readFileSync(join(agent.runtimeDir, name))]),
      ...[agent.pid, ...(await lanesOf(agent))].flatMap((pid) =>
        ['cmdline', 'environ', 'comm'].map((name): [string, Buffer] => [`/proc/${pid}/${name}`, readFileSync(`/proc/${pid}/${name}`)]),
      ),
    ];
    // Nor would a core dump have the memory with the keys.
    for (const pid of [agent.pid, ...(await lanesOf(agent))])
      expect(readFileSync(`/proc/${pid}/coredump_filter`, 'utf8')).toBe('00000000\n');
    expect(places.length).toBeGreaterThanOrEqual(10);
    expect(places.flatMap(([place, bytes]) => secretsIn(place, bytes))).toEqual([]);
    expect(secretsIn('config', readFileSync(config))).toEqual(['config: secret 0']);
    // A known thing that is no secret is found the same way, so that an empty answer means something.
    expect(agent.log).toContain('127.0.0.1:4222');
  },
  120_000,
);

whenStrict(
  'a scrape with 1,000 interfaces takes less than 200 ms, and no other caller waits 20 ms for it',
  async () => {
    await using ns = createNamespace();
    await using agent = await startAgent({ namespace: ns, args: ['--metrics-listen', '127.0.0.1:9464', '--no-flows'] });
    const { interfaces, node } = agent.client();
    for (let at = 0; at < 1000; at += 50)
      await Promise.all(Array.from({ length: 50 }, (_, index) => interfaces.create(creation(`m${at + index}`, { mode: TUN }))));
    await get(ns, '/metrics');
    const tookMs: number[] = [];
    for (let round = 0; round < 5; round++) {
      await new Promise((resolve) => setTimeout(resolve, 1500));
      const { stdout } = await ns.exec(['curl', '-s', '-o', '/dev/null', '-w', '%{time_total}', 'http://127.0.0.1:9464/metrics']);
      tookMs.push(Number(stdout) * 1000);
    }
    const { body } = await get(ns, '/metrics');
    const late = value(readExposition(body), 'event_loop_delay_seconds', { statistic: 'max' }) ?? 0;
    await node.getNode();
    process.stdout.write(
      `scrape of 1,000 interfaces: ${tookMs.map((ms) => ms.toFixed(0)).join(', ')} ms; event loop at most ${(late * 1000).toFixed(1)} ms late\n`,
    );
    expect(Math.max(...tookMs)).toBeLessThan(200);
    expect(late).toBeLessThan(0.02);
  },
  300_000,
);
