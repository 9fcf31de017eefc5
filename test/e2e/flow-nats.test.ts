// Flow records and events as programs in other languages get them from NATS: a TCP socket in Python, protoc, and our own CLI.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Flow_Event, FlowBatch } from '../../src/gen/taplane/v1/flow.ts';
import { ObserveFlowsRequest } from '../../src/gen/taplane/v1/flow_service.ts';
import { TAPLANE } from '../cli/run-taplane.ts';
import type { Agent } from '../harness/agent.ts';
import { type RawMessage, readStream, type Subscriber, subscribe } from '../harness/raw-nats.ts';
import { natsBinary } from '../nats/real-nats.ts';
import { becomes, DEVICE, ECHO, type FlowNode, startFlowNode } from './flow-node.ts';
import { updating } from './specs.ts';

const ROOT = join(import.meta.dirname, '..', '..');
/** Ours, and those of Google, which protoc on a user's machine brings along. */
const PROTOS = [join(ROOT, 'proto'), join(ROOT, 'node_modules', 'google-proto-files')];
/** The point and the blank have a meaning in NATS. */
const NODE = 'n1.example';
const CLUSTER = 'prod_a';
const PREFIX = 'taplane.v1.prod_a.n1=2Eexample';
const NAMES = ['--node', NODE, '--cluster', CLUSTER];
const PINGS = 7;
/** Of each ping, beside its headers. */
const DATA = 100;

/** What the specification of the Community ID says of an echo request: type and code stand where ports do. */
function communityOfPing(source: string, destination: string): string {
  const bytes = [0, 0, ...source.split('.').map(Number), ...destination.split('.').map(Number), 1, 0, 0, 8, 0, 0];
  return `1:${createHash('sha1').update(Uint8Array.from(bytes)).digest('base64')}`;
}

function withProtoc(args: string[], input: Buffer): string {
  const { status, stdout, stderr } = spawnSync('protoc', args, { input, encoding: 'utf8' });
  expect([status, stderr]).toEqual([0, '']);
  return stdout;
}

/** The text form of a message, by protoc and the proto files alone, which know each of its fields. */
function decoded(type: string, file: string, payload: Buffer): string {
  const text = withProtoc(['--decode', type, ...PROTOS.map((folder) => `-I${folder}`), file], payload);
  expect(text).not.toMatch(/^\s*\d+[: ]/m);
  return text;
}

/** Bytes of a quoted string of the text form, as an address. */
function address(text: string, field: string): string {
  const [, quoted = ''] = new RegExp(`^\\s*${field}: "((?:[^"\\\\]|\\\\.)*)"$`, 'm').exec(text) ?? [];
  const named: Record<string, number> = { n: 10, r: 13, t: 9, '"': 34, "'": 39, '\\': 92 };
  const pieces = quoted.match(/\\[0-7]{3}|\\.|[^\\]/g) ?? [];
  return pieces
    .map((piece) => {
      if (piece.length === 4) return Number.parseInt(piece.slice(1), 8);
      return piece.length === 2 ? named[piece[1] as string] : piece.charCodeAt(0);
    })
    .join('.');
}

async function ping(node: FlowNode): Promise<void> {
  const { stdout } = await node.ns.exec(['ping', '-n', '-c', String(PINGS), '-i', '0.02', '-W', '5', '-s', String(DATA), ECHO]);
  expect(stdout).toContain(`${PINGS} packets transmitted, ${PINGS} received`);
}

const FLOWS = `${PREFIX}.flow.${DEVICE}`;

/** The message that tells of the end of the ping. */
function endOfPing(subscriber: Subscriber, isEnd: (payload: Buffer) => boolean): Promise<RawMessage> {
  return subscriber.until(
    (messages) => messages.find(({ subject, payload }) => subject === FLOWS && isEnd(payload)),
    'the end of the ping',
  );
}

const batchEnds = ({ flows }: FlowBatch): boolean => flows.some(({ event }) => event === Flow_Event.END);

/** Records that the agent itself has in memory, as JSON of protobuf, by their numbers. */
async function inMemory(agent: Agent): Promise<Map<unknown, unknown>> {
  const found = new Map<unknown, unknown>();
  for await (const { batch } of agent.client().flows.observe(ObserveFlowsRequest.create(), new AbortController().signal)) {
    for (const flow of (batch && (FlowBatch.toJSON(batch) as { flows: { sequence: string }[] }).flows) ?? [])
      found.set(flow.sequence, flow);
  }
  return found;
}

it.skipIf(!natsBinary).concurrent('a socket and protoc alone read flow records and events, and the CLI prints the same', async () => {
  await using node = await startFlowNode({ args: NAMES });
  await using subscriber = await subscribe(node.ns, 'taplane.v1.>');
  const observe = [TAPLANE, 'flow', 'observe', '--nats', 'nats://127.0.0.1:4222', '--all', '-f', '-o', 'json'];
  await using observing = node.ns.spawn(observe, { env: { NO_COLOR: '1' } });
  await node.agent.client().interfaces.update(updating(DEVICE, { mtu: 1400 }));
  await ping(node);

  const message = await endOfPing(subscriber, (payload) => batchEnds(FlowBatch.decode(payload)));
  const text = decoded('taplane.v1.FlowBatch', 'taplane/v1/flow.proto', message.payload);
  for (const line of [`cluster: "${CLUSTER}"`, `node: "${NODE}"`, `interface: "${DEVICE}"`]) expect(text).toContain(line);
  const [end = ''] = text
    .split(/^flows \{$/m)
    .slice(1)
    .filter((flow) => flow.includes('event: EVENT_END'));
  expect([address(end, 'source_address'), address(end, 'destination_address')]).toEqual(['10.96.0.1', ECHO]);
  expect(end).toContain(`community_id: "${communityOfPing('10.96.0.1', ECHO)}"`);
  for (const line of ['protocol: 1', 'end_reason: END_REASON_IDLE_TIMEOUT', 'direction: DIRECTION_OUTBOUND']) expect(end).toContain(line);
  const bytes = PINGS * (20 + 8 + DATA);
  expect(end.match(/total_packets: \d+\s+total_bytes: \d+/g)?.map((pair) => pair.replace(/\s+/g, ' '))).toEqual(
    Array(2).fill(`total_packets: ${PINGS} total_bytes: ${bytes}`),
  );

  expect(message.kind).toBe('HMSG');
  const { epoch, firstSequence, flows } = FlowBatch.decode(message.payload);
  expect(
    message.headerText
      .replace(/(Subject-Sequence): \d+/, '$1: N')
      .split('\r\n')
      .filter(Boolean)
      .sort(),
  ).toEqual(
    [
      'Content-Type: application/protobuf; messageType=taplane.v1.FlowBatch',
      'Nats-Expected-Last-Subject-Sequence: N',
      'NATS/1.0',
      `Nats-Msg-Id: ${epoch}:${firstSequence}`,
      `Taplane-Records: ${flows.length}`,
      'Taplane-Schema: v1',
    ].sort(),
  );

  const updated = await subscriber.until((all) => all.find(({ subject }) => subject.endsWith('.event.interface-updated')), 'the event');
  expect(updated.subject).toBe(`${PREFIX}.event.interface-updated`);
  const event = decoded('taplane.v1.Event', 'taplane/v1/event.proto', updated.payload);
  for (const line of [`cluster: "${CLUSTER}"`, `node: "${NODE}"`, 'kind: KIND_INTERFACE_UPDATED', `resource: "interfaces/${DEVICE}"`])
    expect(event).toContain(line);
  expect(event).toMatch(/^steps \{$/m);
  const [, run] = /^epoch: "([0-9a-f]{16})"$/m.exec(event) ?? [];
  const [, number] = /^sequence: (\d+)$/m.exec(event) ?? [];
  expect(updated.headers).toMatchObject({
    'Nats-Msg-Id': `${run}:${number}`,
    'Content-Type': 'application/protobuf; messageType=taplane.v1.Event',
  });
  // Of each event since the agent was started, one by one; records of the audit log have numbers of their own.
  const events = (await readStream(node.ns, 'TAPLANE_EVENTS')).filter(({ subject }) => !subject.endsWith('.event.call-audited'));
  expect(events.map(({ headers }) => headers['Nats-Msg-Id'])).toEqual(events.map((_, index) => `${run}:${index + 1}`));
  expect(events[0]?.subject).toBe(`${PREFIX}.event.agent-started`);

  // The command that listens to NATS has printed what the agent has in memory.
  const ofAgent = (await node.agent.cli(['flow', 'observe', '--all', '-o', 'json'])).stdout.trim();
  expect(ofAgent.split('\n').length).toBeGreaterThanOrEqual(1);
  await observing.until(({ stdout }) => stdout.trim().split('\n').length >= ofAgent.split('\n').length, 'the records');
  expect(observing.stdout.trim()).toBe(ofAgent);
  expect(ofAgent).toContain(communityOfPing('10.96.0.1', ECHO));

  const said = async (...words: string[]): Promise<string> => (await node.agent.cli(words)).stdout;
  await node.settled();
  expect(await said('node', 'status')).toMatch(
    /^NATS: +connected nats:\/\/127\.0\.0\.1:4222\nExport: +[1-9]\d* records and events in [1-9]\d* messages published, 0 spooled [^)]+\), 0 lost$/m,
  );
  expect(await said('flow', 'stats')).toMatch(/^NATS: +ok\nPublished: +[1-9]\d* records and events in [1-9]\d* messages, 0 sent again$/m);
  await node.stopNats();
  await ping(node);
  await becomes(
    async () => (await node.stats()).export?.spooledMessages ?? 0n,
    (count) => count > 0n,
  );
  expect(await said('node', 'status')).toMatch(
    /^NATS: +connecting nats:\/\/127\.0\.0\.1:4222 \(.+\)\nExport: .* [1-9]\d* spooled .*\(not connected to NATS\)$/m,
  );
  expect(await said('flow', 'stats')).toMatch(/^NATS: +not connected to NATS\n(.*\n)?Spool: +[1-9]\d* messages,.*ago$/m);
  await node.startNats();
  await node.settled();
  expect(await said('node', 'status')).toMatch(/^Export: .* 0 spooled [^)]+\), 0 lost$/m);
});

it.skipIf(!natsBinary).concurrent('flows.format json is JSON for a program that knows nothing of protobuf', async () => {
  await using node = await startFlowNode({ args: NAMES, env: { TAPLANE_FLOWS_FORMAT: 'json' } });
  await using subscriber = await subscribe(node.ns, 'taplane.v1.>');
  await ping(node);
  const { payload, headers } = await endOfPing(subscriber, (bytes) => bytes.includes('"EVENT_END"'));
  expect(headers['Content-Type']).toBe('application/json');
  const script = 'import json, sys; print(json.dumps(json.loads(sys.stdin.buffer.read())))';
  const { stdout, status } = spawnSync('/usr/bin/python3', ['-c', script], { input: payload, encoding: 'utf8' });
  expect(status).toBe(0);
  const batch = JSON.parse(stdout) as { node: string; flows: { sequence: string; communityId: string }[] };
  expect(batch.node).toBe(NODE);
  const memory = await inMemory(node.agent);
  expect(batch.flows).toEqual(batch.flows.map(({ sequence }) => memory.get(sequence)));
  expect(batch.flows.map(({ communityId }) => communityId)).toContain(communityOfPing('10.96.0.1', ECHO));
});

/** Numbers and types of fields of goflow2, and nothing of ours. */
const GOFLOW = `
syntax = "proto3";
package flowpb;
message FlowMessage {
  uint64 bytes = 9;
  uint64 packets = 10;
  bytes src_addr = 6;
  bytes dst_addr = 7;
  uint32 proto = 20;
  uint32 icmp_type = 31;
}`;

it.skipIf(!natsBinary).concurrent(
  'flows.format goflow is what consumers of goflow2 know, also from the server that the agent brings along',
  async () => {
    await using node = await startFlowNode({ args: NAMES, nats: 'embedded', env: { TAPLANE_FLOWS_FORMAT: 'goflow' } });
    const { nats } = await becomes(
      () => node.agent.client().node.getNode(),
      ({ nats }) => /:\d+$/.test(nats?.server ?? ''),
    );
    const port = Number(nats?.server.split(':').at(-1));
    const configuration = readFileSync(join(node.agent.stateDir, 'nats', 'server.conf'), 'utf8');
    const password = /password: *"?([\w-]+)"?/.exec(configuration)?.[1] ?? '';
    await expect(subscribe(node.ns, 'taplane.v1.>', { port })).rejects.toThrow('Authorization Violation');
    await using subscriber = await subscribe(node.ns, 'taplane.v1.>', { port, user: 'taplane', password });
    await ping(node);
    writeFileSync(join(node.folder, 'flow.proto'), GOFLOW);
    // A message for each way of each record, with what came since the record before.
    const packets = (): Record<string, number> => {
      const sums: Record<string, number> = {};
      for (const { headers, payload } of subscriber.messages().filter(({ subject }) => subject === FLOWS)) {
        expect(headers['Content-Type']).toBe('application/protobuf; messageType=flowpb.FlowMessage; delimited=true');
        for (const message of undelimited(payload)) {
          const text = withProtoc(['--decode', 'flowpb.FlowMessage', `-I${node.folder}`, 'flow.proto'], message);
          const [protocol, type, count] = ['proto', 'icmp_type', 'packets'].map((field) => number(text, field));
          const way = `${address(text, 'src_addr')} ${address(text, 'dst_addr')} ${protocol} ${type}`;
          sums[way] = (sums[way] ?? 0) + (count ?? 0);
        }
      }
      return sums;
    };
    await becomes(async () => packets(), { [`10.96.0.1 ${ECHO} 1 8`]: PINGS, [`${ECHO} 10.96.0.1 1 0`]: PINGS });
  },
);

/** A number of the text form, which leaves out those that are 0. */
const number = (text: string, field: string): number => Number(new RegExp(`^${field}: (\\d+)$`, 'm').exec(text)?.[1] ?? 0);

/** Messages behind their lengths, which all are below 16384. */
function undelimited(bytes: Buffer): Buffer[] {
  const messages: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const [low = 0, high = 0] = bytes.subarray(at, at + 2);
    const begins = at + (low < 128 ? 1 : 2);
    at = begins + (low < 128 ? low : (low & 127) + high * 128);
    messages.push(bytes.subarray(begins, at));
  }
  return messages;
}
