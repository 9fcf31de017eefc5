// The packet commands as processes, against a real server with a scripted data plane.

import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { TaplaneError } from '../../src/errors.ts';
import { Direction, InjectRejection_Reason, LinkType, Loss_Reason } from '../../src/gen/taplane/v1/packet.ts';
import { type CapturePacketsRequest, StreamOpen_Mode } from '../../src/gen/taplane/v1/packet_service.ts';
import { CaptureReader } from '../../src/packet/capture-reader.ts';
import { interfaceDescription, interfaceStatistics, packetBlockBytes, sectionHeader, writePacket } from '../../src/packet/pcapng.ts';
import { type ScriptedStream, scriptedPackets } from '../rpc/scripted-packets.ts';
import { eventually, served } from '../rpc/served.ts';
import { start, taplane } from './run-taplane.ts';

const NOWHERE = 'unix:/nonexistent/agent.sock';
const OPENED = { linkType: LinkType.RAW, snapLength: 65_549, resumeToken: 'token', nextSequence: 1n };
const PING = Buffer.from('4500001c00000000400166df0a0000010a0000020800f7f800070000', 'hex');
const frame = { direction: Direction.OUTBOUND, data: PING };
const totals = (offered: number, delivered = offered) => ({ offered: BigInt(offered), delivered: BigInt(delivered) });
const time = { seconds: 1_700_000_000n, nanos: 0 };
const HEADER = Buffer.concat([sectionHeader(), interfaceDescription({ name: 'tun0', linkType: 101, snapLength: 0 })]);

function block(timeNs: bigint, bytes: Buffer = PING, originalLength = bytes.length): Buffer<ArrayBuffer> {
  const out = Buffer.alloc(packetBlockBytes(bytes.length));
  writePacket(out, 0, 0, timeNs, bytes, 0, bytes.length, originalLength, 'outbound');
  return out;
}

async function setUp(script: (stream: ScriptedStream, index: number) => void) {
  let index = 0;
  const packets = scriptedPackets((stream) => script(stream, index++));
  const agent = await served({ packets });
  const directory = await mkdtemp(join(tmpdir(), 'taplane-cli-'));
  return {
    agent,
    packets,
    path: (name: string) => join(directory, name),
    run: (...words: string[]) => taplane(words, agent.address),
    async [Symbol.asyncDispose]() {
      await agent[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

describe.concurrent('usage', () => {
  test.each([['capture'], ['packet'], ['packet', 'stream'], ['packet', 'send'], ['packet', 'replay'], ['extcap'], ['extcap', 'install']])(
    'help of %s %s begins with examples',
    async (...words) => {
      const ran = await taplane([...words, '--help'], NOWHERE);
      expect(ran.code).toBe(0);
      expect(ran.stdout).toContain('Usage: taplane');
      if (words.join() !== 'packet') expect(ran.stdout).toMatch(/^Examples:\n/);
    },
  );

  test.each([
    [['capture']],
    [['capture', 'tun0', '--direction', 'up']],
    [['capture', 'tun0', '--bytes', 'many']],
    [['capture', 'tun0', '-o', 'name']],
    [['packet', 'send', 'tun0', 'xyz']],
    [['packet', 'send', 'tun0', '45', '-f', 'x']],
    [['packet', 'replay', 'tun0']],
    [['packet', 'replay', 'tun0', '-', '--loop', '2']],
    [['packet', 'replay', 'tun0', '/nonexistent']],
    [['packet', 'replay', 'tun0', 'x', '--rate', '5', '--top-speed']],
    [['packet', 'replay', 'tun0', 'x', '--speed', '0']],
    [['extcap']],
    [['extcap', '--capture', '--extcap-interface', 'taplane-tun0']],
    [['extcap', '--extcap-interface', 'eth0', '--extcap-dlts']],
  ])('%j exits with 2 and prints no data', async (words) => {
    expect(await taplane(words, NOWHERE)).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(/./) });
  });
});

describe('capture', () => {
  test('prints a line a packet, tells losses and a summary', async () => {
    await using all = await setUp((stream) => {
      stream.send({ opened: OPENED });
      stream.send({ firstSequence: 1n, time, frames: [frame, { ...frame, direction: Direction.INBOUND }], totals: totals(2) });
      const dropped = [{ reason: Loss_Reason.QUEUE_FULL, count: 3n }];
      stream.send({ lost: dropped, totals: { ...totals(9, 2), filtered: 4n, dropped } });
      stream.end();
    });
    const ran = await all.run(
      'capture',
      'tun0',
      '--filter',
      'icmp',
      '--direction',
      'out',
      '--snap-length',
      '96',
      '--queue',
      '64K',
      '--duration',
      '1.5s',
    );
    expect(ran.stderr.split('\n')).toEqual([
      'capturing tun0: IP packets, 65549 bytes of each at most; Ctrl-C ends',
      'lost 3 packets: this reader was too slow (queue-full)',
      '2 packets captured',
      '9 packets passed the interface',
      '4 packets left out by the filter',
      '3 packets dropped: this reader was too slow (queue-full)',
      '',
    ]);
    expect(ran.stdout).toMatch(
      /^\S+ out 28 ICMP 10.0.0.1 > 10.0.0.2 echo request id 7 seq 0\n\S+ in 28 ICMP 10.0.0.1 > 10.0.0.2 echo request id 7 seq 0\n$/,
    );
    expect(ran.code).toBe(0);
    expect(all.packets.streams[0]?.ask.value).toMatchObject({
      interface: 'interfaces/tun0',
      filter: 'icmp',
      direction: Direction.OUTBOUND,
      snapLength: 96,
      queueBytes: 65_536,
      duration: { seconds: 1n, nanos: 500_000_000 },
    });
    const json = await all.run('capture', 'tun0', '-o', 'json');
    expect(
      json.stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toMatchObject([
      { sequence: '1', direction: 'out', protocol: 'ICMP', data: PING.toString('base64') },
      { sequence: '2', direction: 'in' },
    ]);
    expect((await all.run('capture', 'tun0', '-o', 'wide')).stdout).toContain('\n  0x0000:  4500 001c');
  });

  test('writes what comes straight through, and nothing more when the agent has ended it', async () => {
    const pieces = [
      HEADER,
      Buffer.concat([block(5n), block(6n)]),
      interfaceStatistics(0, { received: 2n, dropped: 0n, startNs: 0n, endNs: 9n }),
    ];
    await using all = await setUp((stream) => {
      for (const pcapng of pieces) stream.send({ pcapng, totals: totals(2), ...(pcapng === HEADER && { opened: OPENED }) });
      stream.end();
    });
    const path = all.path('a.pcapng');
    const ran = await all.run('capture', 'tun0', '-w', path, '--count', '2', '--bytes', '1M');
    expect(ran).toMatchObject({
      code: 0,
      stdout: '',
      stderr: expect.stringContaining('2 packets captured\n2 packets passed the interface\n0 packets dropped\n'),
    });
    expect(await readFile(path)).toEqual(Buffer.concat(pieces));
    expect(all.packets.streams[0]?.ask.value).toMatchObject({ maxFrames: 2n, maxBytes: 1_048_576n, format: 2 });
    const child = start(['capture', 'tun0', '-w', '-'], all.agent.address);
    const chunks: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
    expect((await once(child, 'close'))[0]).toBe(0);
    expect(Buffer.concat(chunks)).toEqual(Buffer.concat(pieces));
  });

  test.each(['SIGINT', 'SIGTERM'] as const)('%s ends the file with drop counts, and exits with 0', async (signal) => {
    await using all = await setUp((stream) => {
      stream.send({ opened: OPENED, pcapng: HEADER });
      const dropped = [{ reason: Loss_Reason.KERNEL, count: 4n }];
      stream.send({ pcapng: block(1_700_000_000_000_000_000n), totals: { ...totals(5, 1), dropped } });
    });
    const path = all.path('a.pcapng');
    const child = start(['capture', 'tun0', '-w', path], all.agent.address);
    const said = text(child.stderr as NodeJS.ReadableStream);
    const written = HEADER.length + packetBlockBytes(PING.length);
    await expect.poll(async () => (await stat(path).catch(() => undefined))?.size, { timeout: 5000 }).toBe(written);
    // As a runner does that passes on what the terminal has sent already.
    child.kill(signal);
    child.kill(signal);
    expect((await once(child, 'close'))[0]).toBe(0);
    expect(await said).toContain('1 packet captured\n5 packets passed the interface\n4 packets dropped: the agent was too slow (kernel)\n');
    const end = (await readFile(path)).subarray(written);
    expect(end.readUInt32LE(0)).toBe(5);
    // isb_ifdrop, a number of 8 bytes (draft-ietf-opsawg-pcapng section 4.6).
    expect(end.includes(Buffer.from('05000800' + '0400000000000000', 'hex'))).toBe(true);
    await eventually(() => all.packets.streams[0]?.destroyed === true);
  });

  test('a reader that has seen enough is no failure', async () => {
    await using all = await setUp((stream) => {
      stream.send({ opened: OPENED, pcapng: HEADER });
      const timer = setInterval(() => (stream.destroyed ? clearInterval(timer) : stream.send({ pcapng: block(1n), totals: totals(1) })), 5);
    });
    const child = start(['capture', 'tun0', '-w', '-'], all.agent.address);
    const said = text(child.stderr as NodeJS.ReadableStream);
    child.stdout?.once('data', () => child.stdout?.destroy());
    expect((await once(child, 'close'))[0]).toBe(0);
    expect(await said).toMatch(/packets? passed the interface/);
    await eventually(() => all.packets.streams[0]?.destroyed === true);
  });

  test('after a lost connection the file goes on, with what is left of the limits; an agent that then refuses leaves a whole file', async () => {
    await using all = await setUp((stream, index) => {
      if (index === 2) throw new TaplaneError('NOT_FOUND', 'INTERFACE_NOT_FOUND', 'capture tun0: there is no such interface');
      stream.send({ opened: OPENED, pcapng: HEADER });
      stream.send({ pcapng: Buffer.concat([block(1n), block(2n)]), totals: totals(2) });
      setTimeout(() => stream.fail(new TaplaneError('UNAVAILABLE', 'LANE_UNAVAILABLE', 'the lane ended')), 50);
    });
    const path = all.path('a.pcapng');
    const ran = await all.run('capture', 'tun0', '-w', path, '--count', '5', '--duration', '10s', '--bytes', '1K');
    expect(ran.stderr.split('\n')).toEqual([
      'capturing tun0: IP packets, 65549 bytes of each at most; Ctrl-C ends',
      'connection to the agent lost, beginning again: what passes meanwhile is missing',
      'capturing tun0: IP packets, 65549 bytes of each at most; Ctrl-C ends',
      'connection to the agent lost, beginning again: what passes meanwhile is missing',
      '4 packets captured',
      '4 packets passed the interface',
      '0 packets dropped',
      'error: capture tun0: there is no such interface',
      'reason: INTERFACE_NOT_FOUND',
      'next: see what there is: taplane interface list',
      '',
    ]);
    expect(ran.code).toBe(3);
    const asked = all.packets.streams.map(({ ask }) => ask.value as CapturePacketsRequest);
    expect(asked.map(({ maxFrames, maxBytes }) => [maxFrames, maxBytes])).toEqual([
      [5n, 1024n],
      [3n, 1024n - 2n * BigInt(PING.length)],
      [1n, 1024n - 4n * BigInt(PING.length)],
    ]);
    expect(asked[1]?.duration?.seconds).toBe(9n);
    const types: number[] = [];
    const file = await readFile(path);
    for (let at = 0; at < file.length; at += file.readUInt32LE(at + 4)) types.push(file.readUInt32LE(at));
    expect(types).toEqual([0x0a0d0d0a, 1, 6, 6, 6, 6, 5]);
  });

  test('a lost connection just at a limit is the end', async () => {
    await using all = await setUp((stream) => {
      stream.send({ opened: OPENED });
      stream.send({ firstSequence: 1n, time, frames: [frame, frame], totals: totals(2) });
      setTimeout(() => stream.fail(new TaplaneError('UNAVAILABLE', 'LANE_UNAVAILABLE', 'the lane ended')), 50);
    });
    expect(await all.run('capture', 'tun0', '--count', '2')).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('2 packets captured'),
    });
    expect(all.packets.streams).toHaveLength(1);
  });

  test('a refusal makes no file', async () => {
    await using all = await setUp(() => {
      throw new TaplaneError('INVALID_ARGUMENT', 'FILTER_INVALID', 'filter: syntax error');
    });
    const path = all.path('a.pcapng');
    expect(await all.run('capture', 'tun0', '-w', path, '--filter', '((')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('man pcap-filter'),
    });
    await expect(stat(path)).rejects.toThrow('ENOENT');
  });

  test('no first answer in time exits with 6', async () => {
    await using all = await setUp(() => {});
    const ran = await all.run('capture', 'tun0', '--timeout', '300ms');
    expect(ran).toMatchObject({ code: 6, stderr: expect.stringContaining('capture tun0: no answer from') });
    expect(await all.run('packet', 'send', 'tun0', '4500', '--timeout', '300ms')).toMatchObject({ code: 6 });
    expect(await all.run('packet', 'stream', 'tun0', '--timeout', '300ms')).toMatchObject({ code: 6 });
  });
});

describe('packet stream', () => {
  const frames = (first: number, count: number) => ({
    firstSequence: BigInt(first),
    time,
    frames: Array.from({ length: count }, () => frame),
  });

  test('acknowledges what it has printed, ends at --count and lets go of the subscription', async () => {
    await using all = await setUp((stream) => {
      stream.send({ opened: OPENED });
      stream.send({ ...frames(1, 3), totals: totals(3) });
      stream.onRequest = () => {
        if (stream.halfClosed) {
          stream.send({ totals: totals(8, 3) });
          stream.end();
        }
      };
    });
    const ran = await all.run('packet', 'stream', 'tun0', '--count', '2', '--window', '64K', '--mode', 'observe', '--own-queue');
    expect(ran.stdout.split('\n')).toHaveLength(3);
    expect(ran).toMatchObject({ code: 0, stderr: expect.stringContaining('2 packets captured\n8 packets passed the interface\n') });
    const [stream] = all.packets.streams;
    expect(stream?.ask.value).toMatchObject({
      mode: StreamOpen_Mode.OBSERVE,
      windowBytes: 65_536,
      ownQueue: true,
      resumeTimeout: { seconds: 30n },
      resumeToken: '',
    });
    expect(stream?.requests.map(({ acknowledge }) => acknowledge)).toContain(4n);
  });

  test('goes on after a lost connection with its token, and opens anew where that is not known any more', async () => {
    await using all = await setUp((stream, index) => {
      if (index === 2) throw new TaplaneError('OUT_OF_RANGE', 'RESUME_TOKEN_UNKNOWN', 'unknown token');
      stream.send({ opened: { ...OPENED, resumeToken: `token${index}`, resumed: index === 1 } });
      stream.send({ ...frames(index === 1 ? 3 : 1, 2), totals: totals(index === 1 ? 4 : 2) });
      setTimeout(() => stream.fail(new TaplaneError(index < 2 ? 'UNAVAILABLE' : 'NOT_FOUND', 'INTERFACE_DELETED', 'gone')), 50);
    });
    const ran = await all.run('packet', 'stream', 'tun0');
    expect(ran.stdout.trim().split('\n')).toHaveLength(6);
    expect(ran.stderr).toBe(
      [
        'streaming tun0: IP packets, 65549 bytes of each at most; Ctrl-C ends',
        'connection to the agent lost, resuming',
        'resumed',
        'connection to the agent lost, resuming',
        'the agent does not know this stream any more: opened anew, what came between is unknown',
        '6 packets captured',
        '6 packets passed the interface',
        '0 packets dropped',
        'error: gone',
        'reason: INTERFACE_DELETED',
        'next: see what there is: taplane interface list',
        '',
      ].join('\n'),
    );
    expect(ran.code).toBe(3);
    const asked = all.packets.streams.map(({ ask }) => (ask.$case === 'stream' ? [ask.value.resumeToken, ask.value.resumeSequence] : []));
    expect(asked).toEqual([
      ['', 0n],
      ['token0', 3n],
      ['token1', 5n],
      ['', 0n],
    ]);
  });

  test('Ctrl-C half-closes, waits for the last account and exits with 0', async () => {
    await using all = await setUp((stream) => {
      stream.send({ opened: OPENED });
      stream.send({ ...frames(1, 1), totals: totals(1) });
    });
    const child = start(['packet', 'stream', 'tun0'], all.agent.address);
    const said = text(child.stderr as NodeJS.ReadableStream);
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    child.kill('SIGINT');
    expect((await once(child, 'close'))[0]).toBe(0);
    expect(await said).toContain('1 packet captured');
    expect(all.packets.streams[0]?.halfClosed).toBe(true);
  });
});

/** Takes everything but packets of fewer than 20 bytes. */
function injecting(stream: ScriptedStream, linkType: LinkType = LinkType.RAW): void {
  stream.send({ opened: { ...OPENED, linkType }, injected: {} });
  stream.onRequest = () => {
    const short = BigInt(stream.frames.filter(({ length }) => length < 20).length);
    const rejected = short > 0n ? [{ reason: InjectRejection_Reason.TOO_SHORT, count: short }] : [];
    stream.send({ injected: { accepted: BigInt(stream.frames.length) - short, rejected } });
    if (stream.halfClosed) stream.end();
  };
}

describe('packet send', () => {
  test('tells what was taken, and exits with 1 when something was not', async () => {
    await using all = await setUp((stream) => injecting(stream));
    expect(await all.run('packet', 'send', 'tun0', PING.toString('hex'))).toMatchObject({
      code: 0,
      stdout: 'OUTCOME    REASON   PACKETS\naccepted   -        1\n',
      stderr: '',
    });
    expect(all.packets.streams[0]?.ask.value).toMatchObject({ mode: StreamOpen_Mode.INJECT, interface: 'interfaces/tun0' });
    expect(await all.run('packet', 'send', 'tun0', PING.toString('hex'), '45:00:00')).toMatchObject({
      code: 1,
      stdout: 'OUTCOME    REASON      PACKETS\naccepted   -           1\nrejected   too-short   1\n',
    });
    const json = await all.run('packet', 'send', 'tun0', '4500', '-o', 'json');
    expect(JSON.parse(json.stdout)).toEqual({ rejected: [{ reason: 'REASON_TOO_SHORT', count: '1' }] });
  });

  test('reads packets from a file and from standard input, until a line that is wrong', async () => {
    await using all = await setUp((stream) => injecting(stream));
    const path = all.path('frames.txt');
    await writeFile(path, `# two\n${PING.toString('hex')}\n\n${PING.toString('hex')}`);
    expect((await all.run('packet', 'send', 'tun0', '-f', path)).stdout).toContain('accepted   -        2\n');
    const piped = await taplane(['packet', 'send', 'tun0'], all.agent.address, `${PING.toString('hex')}\nnonsense\n`);
    expect(piped).toMatchObject({ code: 2, stderr: expect.stringContaining('standard input, line 2: "n" is no hex digit') });
    expect(all.packets.streams[1]?.frames).toEqual([PING]);
  });
});

describe('packet replay', () => {
  const capture = (...blocks: Buffer<ArrayBuffer>[]) => Buffer.concat([HEADER, ...blocks]);
  const other = (last: number): Buffer => Buffer.concat([PING.subarray(0, 27), Buffer.from([last])]);

  test('sends the packets in order, with their pauses, and passes over those that were cut', async () => {
    await using all = await setUp((stream) => injecting(stream));
    const path = all.path('a.pcapng');
    await writeFile(path, capture(block(1_000_000_000n, other(1)), block(1_100_000_000n, other(2), 99), block(1_400_000_000n, other(3))));
    const begun = performance.now();
    const ran = await all.run('packet', 'replay', 'tun0', path, '-o', 'json');
    expect(performance.now() - begun).toBeGreaterThan(400);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(ran.stdout)).toMatchObject({ accepted: '2', skipped: 1, seconds: expect.closeTo(0.4, 0) });
    expect(all.packets.streams[0]?.frames).toEqual([other(1), other(3)]);
  });

  test('at top speed, in rounds, from standard input, and back through the reader', async () => {
    await using all = await setUp((stream) => injecting(stream));
    const path = all.path('a.pcapng');
    const blocks = Array.from({ length: 2000 }, (_, index) => block(BigInt(index) * 1_000_000_000n, other(index % 256)));
    await writeFile(path, capture(...blocks));
    const ran = await all.run('packet', 'replay', 'tun0', path, '--top-speed', '--loop', '3');
    expect(ran).toMatchObject({ code: 0, stdout: '', stderr: expect.stringMatching(/^6000 packets sent in .*\n6000 packets accepted\n$/) });
    const sent = all.packets.streams[0];
    expect(sent?.frames).toHaveLength(6000);
    expect(sent?.requests.length).toBeLessThan(30);
    expect(Math.max(...(sent?.requests ?? []).map(({ frames }) => Buffer.concat(frames).length))).toBeLessThan(17_000);
    const reader = new CaptureReader();
    expect(reader.push(await readFile(path)).map(({ bytes }) => bytes)).toEqual(sent?.frames.slice(0, 2000));
    const child = start(['packet', 'replay', 'tun0', '-', '--rate', '100000'], all.agent.address);
    child.stdin?.end(await readFile(path));
    expect((await once(child, 'close'))[0]).toBe(0);
    expect(all.packets.streams[1]?.frames).toHaveLength(2000);
  });

  test('refuses what does not fit the interface, naming both, and what is no capture', async () => {
    await using all = await setUp((stream) => injecting(stream, LinkType.ETHERNET));
    const path = all.path('a.pcapng');
    await writeFile(path, capture(block(0n)));
    expect(await all.run('packet', 'replay', 'tap0', path)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(
        'the file holds IP packets (link type 101), the interface carries Ethernet frames (link type 1); such a file needs a TUN',
      ),
    });
    await writeFile(path, 'no capture at all');
    expect(await all.run('packet', 'replay', 'tap0', path)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('neither pcap nor pcapng'),
    });
  });

  test('exits with 1 when something was not taken; Ctrl-C ends it well, also in the middle of a pause or a silent pipe', async () => {
    await using all = await setUp((stream) => injecting(stream));
    const path = all.path('a.pcapng');
    await writeFile(path, capture(block(0n, PING.subarray(0, 5)), block(3_600_000_000_000n)));
    expect(await all.run('packet', 'replay', 'tun0', path, '--top-speed')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('1 packet rejected: too-short'),
    });
    for (const [index, words] of [[path], ['-']].entries()) {
      const child = start(['packet', 'replay', 'tun0', ...words], all.agent.address);
      if (words[0] === '-') child.stdin?.write(capture(block(0n)));
      const said = text(child.stderr as NodeJS.ReadableStream);
      const wanted = index === 0 ? 1 : 0;
      await eventually(
        () => (all.packets.streams[index + 1]?.frames.length ?? -1) >= wanted && all.packets.streams.length === index + 2,
        5000,
      );
      await new Promise((resolve) => setTimeout(resolve, 100));
      child.kill('SIGINT');
      const [code] = await once(child, 'close');
      expect(code).toBe(wanted);
      expect(await said).toMatch(/packets? sent in/);
    }
  });
});
