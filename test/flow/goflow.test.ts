import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { encodeGoflow, goflowMessages } from '../../src/flow/goflow.ts';
import { FlowMessage } from '../../src/gen/taplane/goflow/v1/flow_message.ts';
import { Flow_Event as Event, type Flow, type Traffic } from '../../src/gen/taplane/v1/flow.ts';
import { Direction } from '../../src/gen/taplane/v1/packet.ts';
import { run } from '../harness/process.ts';
import { random, seed } from '../harness/random.ts';
import { aBatch, aFlow, EPOCH, INTERFACES, randomBatches, TIME_S, traffic } from './flow-records.ts';

/** What a consumer knows: numbers and types of goflow2's fields, and nothing of ours. */
const THEIRS = `
  syntax = "proto3";
  package flowpb;
  message FlowMessage {
    enum FlowType { FLOWUNKNOWN = 0; SFLOW_5 = 1; NETFLOW_V5 = 2; NETFLOW_V9 = 3; IPFIX = 4; }
    FlowType type = 1;
    uint64 time_received_ns = 110;
    uint32 sequence_num = 4;
    uint64 sampling_rate = 3;
    bytes sampler_address = 11;
    uint64 time_flow_start_ns = 111;
    uint64 time_flow_end_ns = 112;
    uint64 bytes = 9;
    uint64 packets = 10;
    bytes src_addr = 6;
    bytes dst_addr = 7;
    uint32 etype = 30;
    uint32 proto = 20;
    uint32 src_port = 21;
    uint32 dst_port = 22;
    uint32 in_if = 18;
    uint32 out_if = 19;
    uint64 src_mac = 27;
    uint64 dst_mac = 28;
    uint32 vlan_id = 29;
    uint32 ip_tos = 23;
    uint32 ip_ttl = 25;
    uint32 tcp_flags = 26;
    uint32 icmp_type = 31;
    uint32 icmp_code = 32;
    uint32 observation_domain_id = 70;
  }`;

const HTTPS = aFlow({
  sequence: 0x1_0000_0005n,
  ethernet: { source: Buffer.from('020000000001', 'hex'), destination: Buffer.from('fe0000000002', 'hex'), ethertype: 0x800, vlan: 100 },
  sourceAddress: Buffer.from('0ABC'),
  destinationAddress: Buffer.from('1DEF'),
  protocol: 6,
  sourcePort: 40_000,
  destinationPort: 443,
  tcpFlags: 2,
  reverseTcpFlags: 18,
  dscp: 46,
  ttl: 63,
  event: Event.UPDATE,
  forward: traffic(10, 10_000),
  reverse: traffic(5, 5_000),
});

it.skipIf(!existsSync('/usr/bin/protoc'))('is read by a consumer that has the definitions of goflow2', async () => {
  const options = { interfaceIndex: () => 3, observationDomainId: 7, samplerAddress: Buffer.from('node') };
  const [forward, reverse] = goflowMessages(aBatch([HTTPS]), options);
  const theirs = {
    type: 'IPFIX',
    sampling_rate: '1',
    sequence_num: '5',
    src_addr: '"0ABC"',
    dst_addr: '"1DEF"',
    bytes: '9820', // 10 x (1000 - 18)
    packets: '10',
    sampler_address: '"node"',
    in_if: '3',
    proto: '6',
    src_port: '40000',
    dst_port: '443',
    ip_tos: '184',
    ip_ttl: '63',
    tcp_flags: '2',
    src_mac: String(0x020000000001),
    dst_mac: String(0xfe0000000002),
    vlan_id: '100',
    etype: '2048',
    observation_domain_id: '7',
    time_received_ns: `${TIME_S + 2}000000000`,
    time_flow_start_ns: `${TIME_S}250000000`,
    time_flow_end_ns: `${TIME_S + 1}999999999`,
  };
  expect(await decodeWithTheirs(forward)).toEqual(theirs);
  const { ip_tos: _, ip_ttl: __, in_if: ___, ...both } = theirs;
  expect(await decodeWithTheirs(reverse)).toEqual({
    ...both,
    src_addr: '"1DEF"',
    dst_addr: '"0ABC"',
    bytes: '4910',
    packets: '5',
    out_if: '3',
    src_port: '443',
    dst_port: '40000',
    tcp_flags: '18',
    src_mac: theirs.dst_mac,
    dst_mac: theirs.src_mac,
  });
});

it('keeps what goflow2 has no field for', () => {
  const [, reverse] = goflowMessages(aBatch([{ ...HTTPS, communityId: '1:x', link: 'wan', peer: 'p1', fragments: true }]));
  expect(FlowMessage.decode(reverse as Uint8Array)).toMatchObject({
    cluster: 'default',
    node: 'node-1',
    interface: 'tap0',
    interfaceUid: 'uid-1',
    labels: { tenant: 'blue' },
    epoch: EPOCH,
    sequence: 0x1_0000_0005n,
    flowId: HTTPS.flowId,
    communityId: '1:x',
    event: Event.UPDATE,
    endReason: HTTPS.endReason,
    direction: Direction.OUTBOUND,
    reverse: true,
    frameBytes: 5000n,
    fragments: true,
    link: 'wan',
    peer: 'p1',
  });
});

it('is a stream of messages behind their lengths that loses no packet and no byte', () => {
  console.log(`TAPLANE_SEED=${seed}`);
  const batches = randomBatches(random('goflow'), 2000);
  const stream = Buffer.concat(batches.map((batch) => encodeGoflow(batch, { interfaceIndex: (name) => INTERFACES[name] ?? 0 })));
  const messages = split(stream).map((bytes) => FlowMessage.decode(bytes));
  const ways = batches.flatMap(({ flows }) => flows.flatMap((flow) => [way(flow, 'forward'), way(flow, 'reverse')])).filter(hasPackets);
  expect(messages.map(({ sequence, packets, frameBytes, bytes }) => ({ sequence, packets, frameBytes, bytes }))).toEqual(ways);
  expect(encodeGoflow(aBatch([]))).toHaveLength(0);
});

function way(flow: Flow, name: 'forward' | 'reverse') {
  const { packets, bytes } = flow[name] as Traffic;
  const header = flow.ethernet ? (flow.ethernet.vlan ? 18n : 14n) : 0n;
  return { sequence: flow.sequence, packets, frameBytes: bytes, bytes: bytes - packets * header };
}

function hasPackets({ packets }: { packets: bigint }): boolean {
  return packets > 0n;
}

/** As Go's protodelim reads it: a varint, then as many bytes. */
function split(stream: Buffer): Buffer[] {
  const messages: Buffer[] = [];
  for (let at = 0; at < stream.length; ) {
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = stream.readUInt8(at++);
      length += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    expect(at + length).toBeLessThanOrEqual(stream.length);
    messages.push(stream.subarray(at, at + length));
    at += length;
  }
  return messages;
}

/** The fields as `protoc --decode` prints them, without those that it does not know: it prints these as numbers from 1000. */
async function decodeWithTheirs(message: Uint8Array | undefined): Promise<Record<string, string>> {
  const folder = mkdtempSync(join(tmpdir(), 'tpl-goflow-'));
  try {
    writeFileSync(join(folder, 'flow.proto'), THEIRS);
    writeFileSync(join(folder, 'message'), message ?? '');
    const decode = 'exec protoc --proto_path="$0" --decode=flowpb.FlowMessage flow.proto < "$0/message"';
    const { stdout, stderr, code } = await run(['sh', '-c', decode, folder]);
    expect(code, stderr).toBe(0);
    const fields: Record<string, string> = {};
    for (const line of stdout.split('\n')) {
      const match = /^(\w+): (.*)$/.exec(line);
      if (match && !/^1\d\d\d$/.test(match[1] ?? '')) fields[match[1] as string] = match[2] as string;
    }
    return fields;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
