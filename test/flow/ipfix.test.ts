import { expect, it } from 'vitest';
import { type IpfixMessage, ipfixEncoder } from '../../src/flow/ipfix.ts';
import { templates } from '../../src/flow/ipfix-template.ts';
import {
  Flow_EndReason as EndReason,
  Flow_Event as Event,
  type Flow,
  type FlowBatch,
  type Traffic,
} from '../../src/gen/taplane/v1/flow.ts';
import { Direction } from '../../src/gen/taplane/v1/packet.ts';
import { random, seed } from '../harness/random.ts';
import { aBatch, addressText, aFlow, INTERFACES, randomBatches, TIME_S, traffic } from './flow-records.ts';
import { dissect, type Fields, hasTshark } from './tshark-ipfix.ts';

const EXPORT_MS = (TIME_S + 5) * 1000 + 999;
const hex = (text: string): string => text.replace(/#.*$/gm, '').replace(/\s/g, '');
const index = (name: string): number => INTERFACES[name] ?? 0;

const UDP = aFlow({
  sourceAddress: Buffer.from([192, 0, 2, 1]),
  destinationAddress: Buffer.from([198, 51, 100, 2]),
  protocol: 17,
  sourcePort: 4096,
  destinationPort: 53,
  dscp: 46,
  ttl: 63,
  forward: traffic(2, 300),
});

it('is a message of RFC 7011, byte for byte', () => {
  const encoder = ipfixEncoder({ observationDomainId: 7, interfaceIndex: index });
  const [message] = encoder.encode(aBatch([UDP], { interface: 'tun0' }), EXPORT_MS, false);
  expect(message?.bytes.toString('hex')).toBe(
    hex(`
      000a 0057 695735aa      # version 10, 87 bytes, exported 2026-01-02T03:04:10Z
      00000000 00000007       # sequence number 0, observation domain 7
      0100 0047               # data set of template 256, 71 bytes
      000000000000012c        # 300 octets
      0000000000000002        # 2 packets
      c0000201 c6336402       # 192.0.2.1 to 198.51.100.2
      11 b8 3f                # UDP, class of service 46 << 2, TTL at least 63
      1000 0035 0000          # ports 4096 and 53, no TCP flags
      0000000c 00000000       # received by interface 12
      00 01                   # ingress, idle timeout
      88888888 00000001       # folded epoch, flow 1
      0000019b7ca98d82        # from 2026-01-02T03:04:05.250Z
      0000019b7ca99457        # to 03:04:06.999Z, rounded down
    `),
  );
});

it('announces a template as numbers and lengths of its elements', () => {
  const [ipv4] = templates(false);
  expect(ipv4?.announcement.toString('hex')).toBe(
    hex(`
      0100 0011               # template 256, 17 elements
      0001 0008  0002 0008    # octetDeltaCount, packetDeltaCount
      0008 0004  000c 0004    # source and destination address
      0004 0001  0005 0001    # protocolIdentifier, ipClassOfService
      0034 0001               # minimumTTL
      0007 0002  000b 0002    # ports
      0006 0002               # tcpControlBits
      000a 0004  000e 0004    # interfaces
      003d 0001  0088 0001    # flowDirection, flowEndReason
      0094 0008               # flowId
      0098 0008  0099 0008    # flowStartMilliseconds, flowEndMilliseconds
    `),
  );
});

it('marks elements of reverse packets with the enterprise of RFC 5103', () => {
  const both = templates(true).find(({ id }) => id === 256 + 32);
  expect(both?.announcement.subarray(4, 28).toString('hex')).toBe(
    hex(`
      0001 0008  0002 0008
      8001 0008 00007279
      8002 0008 00007279
    `),
  );
});

it('counts data records in the sequence number, and keeps to its length', () => {
  const encoder = ipfixEncoder({ observationDomainId: 7, interfaceIndex: index, maxBytes: 600 });
  let sequence = 0;
  for (const [i, batch] of randomBatches(random('sequence'), 2000).entries()) {
    for (const { bytes, records } of encoder.encode(batch, EXPORT_MS, i % 3 === 0)) {
      expect(bytes.length).toBeLessThanOrEqual(600);
      expect(bytes.readUInt16BE(2)).toBe(bytes.length);
      expect(bytes.readUInt32BE(8)).toBe(sequence);
      sequence += records;
    }
  }
});

it('sends nothing for records and batches without packets', () => {
  const encoder = ipfixEncoder({ observationDomainId: 7, interfaceIndex: index });
  expect(encoder.encode(aBatch([]), EXPORT_MS, true)).toEqual([]);
  expect(encoder.encode(aBatch([{ ...UDP, forward: undefined, reverse: traffic(0, 0) }]), EXPORT_MS, true)).toEqual([]);
});

it.each([
  ['a start: for reporting purposes', Event.START, EndReason.UNSPECIFIED, 2],
  ['an update', Event.UPDATE, EndReason.ACTIVE_TIMEOUT, 2],
  ['an end by TCP', Event.END, EndReason.END_OF_FLOW, 3],
  ['an overflow', Event.OVERFLOW, EndReason.LACK_OF_RESOURCES, 5],
  ['what is not known: reserved', Event.END, EndReason.UNSPECIFIED, 0],
])('tells why %s', (_, event, endReason, wanted) => {
  const encoder = ipfixEncoder({ observationDomainId: 7, interfaceIndex: index });
  const [message] = encoder.encode(aBatch([{ ...UDP, event, endReason }]), EXPORT_MS, false);
  expect(message?.bytes[20 + 42]).toBe(wanted);
});

it.skipIf(!hasTshark)('tells of a ping as request and answer', () => {
  const ping = (protocol: number, length: number, type: number) =>
    aFlow({
      sourceAddress: Buffer.alloc(length, 1),
      destinationAddress: Buffer.alloc(length, 2),
      protocol,
      icmp: { type, code: 0 },
      forward: traffic(1, 84),
      reverse: traffic(1, 84),
    });
  const { records, complaints } = dissect(bytesOf(encodeAll([aBatch([ping(1, 4, 8), ping(58, 16, 128), ping(1, 4, 200)])])));
  expect(complaints).toEqual([]);
  expect(records.map((fields) => fields['cflow.icmp_type_code_ipv4'] ?? fields['cflow.icmp_ipv6_type'])).toEqual(
    ['0x0800', '0x0000', '128', '129', '0xc800', '0xc800'], // echo and its answer; 200 has none
  );
});

it.skipIf(!hasTshark).each([false, true])('is read by Wireshark as it was meant, with both directions in one record: %s', (biflow) => {
  console.log(`TAPLANE_SEED=${seed}`);
  const batches = randomBatches(random('tshark'), 400);
  const messages = encodeAll(batches, biflow);
  const { records, messages: headers, templates: announced, complaints } = dissect(bytesOf(messages));
  expect(complaints).toEqual([]);
  expect(announced).toEqual(templates(biflow).map(({ id }) => id));
  expect(headers.map(({ domain, exportTimeS }) => [domain, exportTimeS])).toEqual(headers.map(() => [7, TIME_S + 5]));
  const wanted = batches.flatMap((batch) => batch.flows.flatMap((flow) => wantedOf(flow, batch, biflow)));
  expect(records.map(comparable)).toEqual(wanted.map(comparable));
  expect(wanted.length).toBeGreaterThan(300);
});

function encodeAll(batches: FlowBatch[], biflow = false): IpfixMessage[] {
  const encoder = ipfixEncoder({ observationDomainId: 7, interfaceIndex: index, biflow });
  return batches.flatMap((batch, i) => encoder.encode(batch, EXPORT_MS, i === 0));
}

function bytesOf(messages: IpfixMessage[]): Buffer[] {
  return messages.map(({ bytes }) => bytes);
}

/** What Wireshark should show of a record, written down from the record and RFC 5102, not by way of the encoder. */
function wantedOf(flow: Flow, batch: FlowBatch, biflow: boolean): Fields[] {
  const forward = flow.forward as Traffic;
  const reverse = flow.reverse as Traffic;
  if (biflow && forward.packets > 0n && reverse.packets > 0n) return [wantedFields(flow, batch, [forward, reverse], false)];
  return [
    ...(forward.packets > 0n ? [wantedFields(flow, batch, [forward], false)] : []),
    ...(reverse.packets > 0n ? [wantedFields(flow, batch, [reverse], true)] : []),
  ];
}

function wantedFields(flow: Flow, batch: FlowBatch, counts: Traffic[], isReverse: boolean): Fields {
  const { ethernet, sourceAddress, destinationAddress } = flow;
  const header = ethernet ? (ethernet.vlan ? 18n : 14n) : 0n;
  const swap = <T>(a: T, b: T): [T, T] => (isReverse ? [b, a] : [a, b]);
  const each = (text: (traffic: Traffic) => string) => (counts.length === 1 ? text(counts[0] as Traffic) : counts.map(text));
  const isOut = (flow.direction === Direction.OUTBOUND) !== isReverse;
  const at = index(batch.interface);
  const fields: Fields = {
    octets: each(({ packets, bytes }) => String(bytes - packets * header)),
    packets: each(({ packets }) => String(packets)),
    inputint: String(isOut ? 0 : at),
    outputint: String(isOut ? at : 0),
    direction: isOut ? '1' : '0',
    flow_end_reason: String(flow.event === Event.START ? 2 : flow.endReason),
    flow_id: String(flow.flowId === '' ? 0n : (0x88888888n << 32n) | BigInt(flow.flowId.slice(17))),
    abstimestart: wiresharkTime(flow.startTime),
    abstimeend: wiresharkTime(flow.endTime),
  };
  if (sourceAddress.length > 0) {
    const v6 = sourceAddress.length === 16;
    const [source, destination] = swap(sourceAddress, destinationAddress);
    fields[v6 ? 'srcaddrv6' : 'srcaddr'] = addressText(source);
    fields[v6 ? 'dstaddrv6' : 'dstaddr'] = addressText(destination);
    fields['protocol'] = String(flow.protocol);
    if (!isReverse) fields['tos'] = `0x${(flow.dscp * 4).toString(16).padStart(2, '0')}`;
    if (!isReverse) fields['ttl_min'] = String(flow.ttl);
    // Answers of ICMP have a test of their own.
    if (flow.icmp === undefined) {
      [fields['srcport'], fields['dstport']] = swap(String(flow.sourcePort), String(flow.destinationPort));
      const flags = swap(flow.tcpFlags, flow.reverseTcpFlags).map((value) => `0x${value.toString(16).padStart(4, '0')}`);
      fields['tcpflags'] = counts.length === 1 ? flags[0] : flags;
    } else if (!isReverse) {
      const { type, code } = flow.icmp;
      // Both of its names for the same two bytes.
      if (v6) Object.assign(fields, { icmp_ipv6_type: String(type), icmp_ipv6_code: String(code) });
      else fields['icmp_type_code_ipv4'] = `0x${(type * 256 + code).toString(16).padStart(4, '0')}`;
    }
  }
  if (ethernet) {
    [fields['srcmac'], fields['dstmac']] = swap(mac(ethernet.source), mac(ethernet.destination));
    fields['vlanid'] = String(ethernet.vlan);
    fields['ethernet_type'] = String(ethernet.ethertype);
    fields['layer2_octet_delta_count'] = each(({ bytes }) => String(bytes));
  }
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [`cflow.${name}`, value]));
}

/** Without what Wireshark computes itself, with times out of their tree, and without ICMP of reverse packets. */
function comparable(fields: Fields): Fields {
  const { 'cflow.timedelta': _, 'cflow.timedelta_tree': times = {}, 'cflow.tcpflags_tree': __, ...rest } = fields;
  const all: Fields = { ...rest, ...(times as Fields) };
  if (all['cflow.tos'] === undefined) {
    delete all['cflow.icmp_type_code_ipv4'];
    delete all['cflow.icmp_ipv6_type'];
    delete all['cflow.icmp_ipv6_code'];
  }
  return all;
}

function wiresharkTime(time: Flow['startTime']): string {
  const { seconds = 0n, nanos = 0 } = time ?? {};
  const date = new Date(Number(seconds) * 1000);
  const month = date.toLocaleString('en', { month: 'short', timeZone: 'UTC' });
  const clock = date.toISOString().slice(11, 19);
  const day = String(date.getUTCDate()).padStart(2, ' ');
  return `${month} ${day}, ${date.getUTCFullYear()} ${clock}.${String(Math.floor(nanos / 1e6)).padStart(3, '0')}000000 UTC`;
}

function mac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}
