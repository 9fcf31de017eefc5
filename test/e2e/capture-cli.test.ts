// The packet commands as a user types them, judged by tcpdump, tshark and capinfos.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { expect, it } from 'vitest';
import { InterfaceSpec_Carrier, type InterfaceSpec_Mode } from '../../src/gen/taplane/v1/interface.ts';
import type { Agent } from '../harness/agent.ts';
import type { Namespace } from '../harness/namespace.ts';
import { Child, type Result, run, runSync } from '../harness/process.ts';
import { shareAgent } from '../harness/shared-agent.ts';
import { creation, TAP, TUN } from './specs.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const TAPLANE = join(ROOT, 'bin', 'taplane');
const PATH = [join(ROOT, 'node_modules', '.bin'), process.env['PATH'] ?? ''].join(delimiter);
const SOON = { timeout: 10_000 };
const ECHO = '4500001c00000000400166d10a0700020a0700010800f7f800070000';

async function setUp() {
  const shared = await shareAgent();
  const { agent, ns } = shared;
  const folder = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-`));
  const env = { PATH, TAPLANE_SERVER: agent.server, NO_COLOR: '1', HOME: folder };
  await create(agent, ns, 'tun0', TUN, '10.7.0.1/24');
  return {
    ns,
    agent,
    env,
    path: (name: string) => join(folder, name),
    start: (...words: string[]) => new Child([TAPLANE, ...words], { env }),
    async [Symbol.asyncDispose]() {
      await shared[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Resolves once the lane has attached: before it there is no carrier, and nothing passes. */
async function create(agent: Agent, ns: Namespace, name: string, mode: InterfaceSpec_Mode, address: string): Promise<void> {
  await agent
    .client()
    .interfaces.create(creation(name, { mode, up: true, carrier: InterfaceSpec_Carrier.KEEP, addresses: [{ cidr: address }] }));
  const flags = () => (ns.ip(`-j link show dev ${name}`) as { flags: string[] }[])[0]?.flags;
  await expect.poll(flags, SOON).toContain('LOWER_UP');
}

/** tcpdump as a witness: writes to `file` what passes `device`, from the moment this resolves. With its usual -s its ring holds 8 packets. */
async function witness(ns: Namespace, device: string, file: string, ...filter: string[]): Promise<Child> {
  const tcpdump = ns.spawn(['tcpdump', '-i', device, '--immediate-mode', '-s', '2000', '-U', '-n', '-w', file, ...filter]);
  await tcpdump.until(({ stderr }) => stderr.includes('listening on'), 'tcpdump');
  return tcpdump;
}

async function end(child: Child, signal: NodeJS.Signals = 'SIGINT'): Promise<Result> {
  child.kill(signal);
  return child.ended;
}

/** The packets of a file in hex, without their times. */
function packetsOf(file: string): string[] {
  return runSync('tcpdump', '-n', '-t', '-xx', '-r', file)
    .split(/\n(?=\S)/)
    .map((packet) => packet.replace(/^.*\n/, '').trim());
}

it.each([
  ['tun0', 'tun', '10.7.0.2'],
  ['tap0', 'tap', '10.8.0.2'],
])('captures %s to a file with the packets that tcpdump sees, and drop counts, until Ctrl-C', async (device, mode, address) => {
  await using all = await setUp();
  if (mode === 'tap') {
    await create(all.agent, all.ns, device, TAP, '10.8.0.1/24');
    all.ns.ip(`neighbour add ${address} lladdr 02:00:00:00:00:02 dev ${device}`);
  }
  const [file, seen] = [all.path('ours.pcapng'), all.path('seen.pcap')];
  await using tcpdump = await witness(all.ns, device, seen, 'icmp');
  await using capture = all.start('capture', device, '-w', file, '--filter', 'icmp');
  await capture.until(({ stderr }) => stderr.includes('capturing'), 'the capture');
  await all.ns.exec(['ping', '-c', '5', '-i', '0.05', '-W', '1', address]);
  for (const each of [file, seen]) await expect.poll(() => packetsOf(each).length, SOON).toBe(5);
  const ended = await end(capture);
  await end(tcpdump);
  expect(ended).toMatchObject({ code: 0, stdout: '' });
  expect(packetsOf(file)).toEqual(packetsOf(seen));
  expect(ended.stderr).toContain('5 packets captured\n');
  expect(ended.stderr).toContain('0 packets dropped\n');
  const facts = runSync('capinfos', '-M', file);
  expect(facts).toMatch(new RegExp(`Name = ${device}\n`));
  expect(facts).toContain('Number of stat entries = 1');
  const read = await run(['tshark', '-r', file, '-T', 'fields', '-e', 'frame.protocols', '-e', 'frame.packet_flags_direction']);
  expect(read.code).toBe(0);
  expect(read.stderr.replace(/^Running as user .*\n/, '')).toBe('');
  expect(new Set(read.stdout.trim().split('\n'))).toEqual(
    new Set([mode === 'tun' ? 'raw:ip:icmp:data\t0x00000002' : 'eth:ethertype:ip:icmp:data\t0x00000002']),
  );
});

it('ends at its limits by itself, and lines tell what passed', async () => {
  await using all = await setUp();
  const ping = all.ns.spawn(['ping', '-i', '0.05', '10.7.0.2']);
  await using _ping = ping;
  const lines = await all.agent.cli(['capture', 'tun0', '--count', '3', '--filter', 'icmp']);
  expect(lines).toMatchObject({ code: 0, stderr: expect.stringContaining('3 packets captured\n') });
  expect(lines.stdout).toMatch(/^(\d\d:\d\d:\d\d\.\d{6} out 84 ICMP 10\.7\.0\.1 > 10\.7\.0\.2 echo request id \d+ seq \d+\n){3}$/);
  const begun = performance.now();
  const file = all.path('a.pcapng');
  expect(await all.agent.cli(['capture', 'tun0', '--duration', '500ms', '-w', file])).toMatchObject({ code: 0 });
  expect(performance.now() - begun).toBeGreaterThan(500);
  expect(packetsOf(file).length).toBeGreaterThan(3);
  expect(runSync('capinfos', '-M', file)).toContain('Number of stat entries = 1');
  const unknown = await all.agent.cli(['capture', 'none', '-w', all.path('none')]);
  expect(unknown).toMatchObject({ code: 3, stderr: expect.stringContaining('next: see what there is: taplane interface list') });
  expect(existsSync(all.path('none'))).toBe(false);
});

it('feeds a pipe until its reader has seen enough', async () => {
  await using all = await setUp();
  await using _ping = all.ns.spawn(['ping', '-i', '0.05', '10.7.0.2']);
  const pipe = `set -o pipefail; ${TAPLANE} capture tun0 -w - --filter icmp | tshark -i - -c 3`;
  const ran = await run(['bash', '-c', pipe], { env: all.env });
  expect(ran.stdout.trim().split('\n')).toHaveLength(3);
  expect(ran.stdout).toContain('Echo (ping) request');
  expect(ran).toMatchObject({ code: 0, stderr: expect.stringContaining('packets passed the interface') });
});

it('a capture goes on after a crash of the agent, in a file and in a pipe', async () => {
  await using all = await setUp();
  await using _ping = all.ns.spawn(['ping', '-i', '0.05', '10.7.0.2']);
  const [file, fifo] = [all.path('a.pcapng'), all.path('fifo')];
  runSync('mkfifo', fifo);
  await using capture = all.start('capture', 'tun0', '-w', file, '--filter', 'icmp');
  await using piped = all.start('capture', 'tun0', '-w', fifo, '--filter', 'icmp');
  await using tshark = new Child(['tshark', '-l', '-i', fifo]);
  await tshark.until(({ stdout }) => stdout.split('\n').length > 5, 'packets');
  await all.agent.kill9();
  for (const child of [capture, piped]) await child.until(({ stderr }) => stderr.includes('agent lost'), 'the loss');
  const before = packetsOf(file).length;
  const shown = tshark.stdout.length;
  await all.agent.start();
  await expect.poll(() => packetsOf(file).length, SOON).toBeGreaterThan(before + 5);
  await tshark.until(({ stdout }) => stdout.length > shown + 500, 'more packets');
  expect(await end(capture)).toMatchObject({ code: 0 });
  expect(runSync('capinfos', '-M', file)).toContain('Number of stat entries = 1');
  expect(runSync('tshark', '-r', file, '-T', 'fields', '-e', 'icmp.seq').trim().split('\n')).toHaveLength(packetsOf(file).length);
  await end(tshark);
  expect(await piped.ended).toMatchObject({ code: 0 });
});

it('an interface that is deleted meanwhile leaves a whole file', async () => {
  await using all = await setUp();
  const file = all.path('a.pcapng');
  await using capture = all.start('capture', 'tun0', '-w', file);
  await capture.until(({ stderr }) => stderr.includes('capturing'), 'the capture');
  expect(await all.agent.cli(['interface', 'delete', 'tun0'])).toMatchObject({ code: 0 });
  expect(await capture.ended).toMatchObject({ code: 3, stderr: expect.stringContaining('INTERFACE_DELETED') });
  expect(runSync('capinfos', '-M', file)).toContain('Number of stat entries = 1');
});

it('replays what tcpdump has captured, packet for packet, and refuses what does not fit', async () => {
  await using all = await setUp();
  await create(all.agent, all.ns, 'tun1', TUN, '10.9.0.1/24');
  await create(all.agent, all.ns, 'tap0', TAP, '10.8.0.1/24');
  const [recorded, seen] = [all.path('recorded.pcap'), all.path('seen.pcap')];
  await using recording = await witness(all.ns, 'tun0', recorded, 'icmp');
  await all.ns.exec(['ping', '-c', '20', '-i', '0.02', '-s', '1200', '-W', '1', '10.7.0.2']);
  await expect.poll(() => packetsOf(recorded).length, SOON).toBe(20);
  await end(recording);

  await using watching = await witness(all.ns, 'tun1', seen, 'icmp');
  const begun = performance.now();
  const replayed = await all.agent.cli(['packet', 'replay', 'tun1', recorded]);
  expect(performance.now() - begun).toBeGreaterThan(19 * 20 * 0.9);
  expect(replayed).toMatchObject({ code: 0, stdout: '', stderr: expect.stringMatching(/^20 packets sent in .*\n20 packets accepted\n$/) });
  const piped = await run(['sh', '-c', `${TAPLANE} packet replay tun1 - --top-speed < ${recorded}`], { env: all.env });
  expect(piped.stderr).toContain('20 packets accepted');
  await expect.poll(() => packetsOf(seen).length, SOON).toBe(40);
  await end(watching);
  expect(packetsOf(seen)).toEqual([...packetsOf(recorded), ...packetsOf(recorded)]);

  expect(await all.agent.cli(['packet', 'replay', 'tap0', recorded])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/holds IP packets \(link type 101\), the interface carries Ethernet frames \(link type 1\)/),
  });
});

it('sends packets that the node answers, and tells which were not taken', async () => {
  await using all = await setUp();
  await using stream = all.start('packet', 'stream', 'tun0', '--filter', 'icmp', '-o', 'json');
  await stream.until(({ stderr }) => stderr.includes('streaming'), 'the stream');
  const sent = await all.agent.cli(['packet', 'send', 'tun0', ECHO, '00', '4500']);
  expect(sent).toMatchObject({ code: 1, stderr: '' });
  expect(sent.stdout).toMatch(/^OUTCOME +REASON +PACKETS\naccepted +- +1\n(rejected +(bad-version|too-short) +\d\n)+$/);
  const answer = await stream.until(({ stdout }) => stdout.includes('\n') && JSON.parse(stdout.split('\n')[0] ?? ''), 'the answer');
  expect(answer).toMatchObject({
    direction: 'out',
    protocol: 'ICMP',
    source: '10.7.0.1',
    destination: '10.7.0.2',
    info: 'echo reply id 7 seq 0',
  });
  expect(await end(stream)).toMatchObject({ code: 0, stderr: expect.stringContaining('1 packet captured\n') });
});

it('a stream goes on over a crash of the agent, and nothing is lost', async () => {
  await using all = await setUp();
  await using stream = all.start('packet', 'stream', 'tun0', '--filter', 'icmp', '-o', 'json');
  await stream.until(({ stderr }) => stderr.includes('streaming'), 'the stream');
  await using ping = all.ns.spawn(['ping', '-c', '60', '-i', '0.05', '-W', '1', '10.7.0.2']);
  await stream.until(({ stdout }) => stdout.split('\n').length > 10, 'packets');
  await all.agent.kill9();
  await stream.until(({ stderr }) => stderr.includes('connection to the agent lost'), 'the loss');
  await all.agent.start();
  await stream.until(({ stderr }) => stderr.includes('resumed'), 'the resumption');
  await ping.ended;
  await stream.until(({ stdout }) => stdout.split('\n').length > 60, 'all packets');
  const ended = await end(stream);
  const numbers = ended.stdout
    .trim()
    .split('\n')
    .map((line) => Number(/seq (\d+)/.exec((JSON.parse(line) as { info: string }).info)?.[1]));
  expect(numbers).toEqual(Array.from({ length: 60 }, (_, index) => index + 1));
  expect(ended).toMatchObject({ code: 0, stderr: expect.stringContaining('60 packets captured\n') });
});

it('tshark lists the interfaces of the agent and captures from one, through the script that was installed', async () => {
  await using all = await setUp();
  await using _ping = all.ns.spawn(['ping', '-i', '0.05', '10.7.0.2']);
  mkdirSync(all.path('.config'));
  const installed = await run([TAPLANE, 'extcap', 'install'], { env: all.env });
  expect(installed).toMatchObject({ code: 0, stdout: expect.stringContaining(all.path('')) });
  const script = installed.stdout.trim();
  expect(readFileSync(script, 'utf8')).toContain(TAPLANE);
  expect((await run(['tshark', '-D'], { env: all.env })).stdout).toContain('taplane-tun0 (Taplane tun0 (10.7.0.1/24))');
  const captured = await run(['tshark', '-i', 'taplane-tun0', '-f', 'icmp', '-c', '3'], { env: all.env });
  expect(captured.code).toBe(0);
  expect(captured.stdout.trim().split('\n')).toHaveLength(3);
  expect(captured.stdout).toContain('Echo (ping) request');
  const refused = await run(['tshark', '-i', 'taplane-tun0', '-f', 'nonsense and', '-c', '3'], { env: all.env, timeoutMs: 20_000 });
  expect(refused.stderr).toContain('FILTER_INVALID');
  await all.agent.stop();
  expect((await run(['tshark', '-D'], { env: all.env })).stdout).not.toContain('taplane');
  expect(await run([TAPLANE, 'extcap', 'uninstall'], { env: all.env })).toMatchObject({ code: 0 });
  expect(existsSync(script)).toBe(false);
});
