// The kernel pings a program in Python that has nothing but gRPC: it makes an interface, takes its packets from a stream, and answers them
// with checksums of its own. tcpdump judges the answers.

import { expect, it } from 'vitest';
import { startAgent } from '../harness/agent.ts';
import { stopLanes } from '../harness/lanes.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { floodPings, untilAnswers } from '../harness/ping.ts';
import { pythonStubs } from '../harness/python-stubs.ts';
import { Wiretap } from '../harness/wiretap.ts';

const HOST = `
import ipaddress, queue, struct, threading, grpc
from taplane.v1 import interface_pb2, interface_service_pb2 as messages, interface_service_pb2_grpc as stubs
from taplane.v1 import packet_pb2, packet_service_pb2, packet_service_pb2_grpc

server, name, kind = sys.argv[1:]
tap = kind == 'tap'
MAC = bytes.fromhex('020000000009')
V4, V6 = ipaddress.ip_address('10.71.0.9').packed, ipaddress.ip_address('fd71::9').packed

def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total > 0xffff: total = (total & 0xffff) + (total >> 16)
    return total ^ 0xffff

def sum_v6(source, destination, message):
    return checksum(source + destination + struct.pack('!I3xB', len(message), 58) + message)

def with_sum(message, at, value):
    return message[:at] + struct.pack('!H', value) + message[at + 2:]

def answer_v4(packet):
    if packet[0] != 0x45 or packet[9] != 1 or packet[16:20] != V4 or packet[20] != 8: return None
    size = struct.unpack('!H', packet[2:4])[0]
    echo = b'\\0\\0\\0\\0' + packet[24:size]
    head = struct.pack('!BBH2sHBBH', 0x45, 0, size, packet[4:6], 0, 64, 1, 0) + packet[16:20] + packet[12:16]
    return with_sum(head, 10, checksum(head)) + with_sum(echo, 2, checksum(echo))

def packet_v6(source, destination, hops, message):
    head = struct.pack('!IHBB', 0x60000000, len(message), 58, hops)
    return head + source + destination + with_sum(message, 2, sum_v6(source, destination, message))

def answer_v6(packet):
    source, destination = packet[8:24], packet[24:40]
    if packet[6] != 58: return None
    if packet[40] == 128 and destination == V6:
        return packet_v6(V6, source, 64, b'\\x81\\0\\0\\0' + packet[44:])
    # Neighbour solicitation; without a source somebody only wants to know whether the address is free.
    if packet[40] == 135 and packet[48:64] == V6 and source != bytes(16):
        return packet_v6(V6, source, 255, struct.pack('!BBHI', 136, 0, 0, 0x60000000) + V6 + b'\\x02\\x01' + MAC)
    return None

def answer_ip(kind, packet):
    return answer_v4(packet) if kind == 0x0800 else answer_v6(packet) if kind == 0x86dd else None

def answer(frame):
    if not tap: return answer_ip(0x0800 if frame[0] >> 4 == 4 else 0x86dd, frame)
    kind = struct.unpack('!H', frame[12:14])[0]
    if kind == 0x0806:
        if frame[20:22] != b'\\0\\1' or frame[38:42] != V4: return None
        return frame[6:12] + MAC + frame[12:20] + b'\\0\\2' + MAC + V4 + frame[22:32]
    packet = answer_ip(kind, frame[14:])
    return None if packet is None else frame[6:12] + MAC + frame[12:14] + packet

channel = grpc.insecure_channel(server)
spec = interface_pb2.InterfaceSpec(
    mode=interface_pb2.InterfaceSpec.MODE_TAP if tap else interface_pb2.InterfaceSpec.MODE_TUN, up=True,
    addresses=[interface_pb2.Address(cidr='10.71.0.1/24'), interface_pb2.Address(cidr='fd71::1/64')])
interfaces = stubs.InterfaceServiceStub(channel)
interfaces.CreateInterface(messages.CreateInterfaceRequest(interface_id=name, interface=interface_pb2.Interface(spec=spec)))

requests = queue.SimpleQueue()
requests.put(packet_service_pb2.StreamPacketsRequest(open=packet_service_pb2.StreamOpen(interface='interfaces/' + name)))
batches = packet_service_pb2_grpc.PacketServiceStub(channel).StreamPackets(iter(requests.get, None))

def wait_for_end():
    sys.stdin.read()
    requests.put(None)
threading.Thread(target=wait_for_end).start()

answered, number = 0, 0
totals, injected = packet_pb2.StreamTotals(), packet_pb2.InjectTotals()
for batch in batches:
    if batch.HasField('opened'): print('opened', batch.opened.link_type, flush=True)
    if batch.HasField('totals'): totals = batch.totals
    if batch.HasField('injected'): injected = batch.injected
    answers = [reply for reply in (answer(frame.data) for frame in batch.frames) if reply is not None]
    if not answers: continue
    answered, number = answered + len(answers), number + 1
    requests.put(packet_service_pb2.StreamPacketsRequest(frames=answers, inject_id=number))
dropped = sum(loss.count for loss in totals.dropped)
print('law', totals.offered - totals.delivered - totals.filtered - totals.sampled_out - dropped, 'dropped', dropped)
print('answered', answered, 'not taken', answered - injected.accepted, 'last', number - injected.last_inject_id)
`;

async function withHost(kind: 'tun' | 'tap', work: (ns: Namespace) => Promise<void>): Promise<{ opened: string; rest: string[] }> {
  using stubs = await pythonStubs();
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  try {
    await using host = ns.spawn(stubs.program('host.py', HOST, agent.server, 'p0', kind));
    await host.until(({ stdout }) => stdout.includes('opened'), 'the stream to open', 30_000);
    await work(ns);
    host.stdin.end();
    const { stdout, stderr, code } = await host.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const [opened = '', ...rest] = stdout.trim().split('\n');
    return { opened, rest };
  } finally {
    await stopLanes(agent);
  }
}

/** Pings both families; every answer must be there, be as long as asked for, and please wire. */
async function expectAnswers(ns: Namespace, linkBytes: number): Promise<void> {
  const count = { v4: 10_000, v6: 2000 };
  await untilAnswers(ns, '10.71.0.9');
  await untilAnswers(ns, 'fd71::9');
  await using wire = await Wiretap.listen(ns, 'p0', 'icmp or icmp6');
  const v4Pings = await floodPings(ns, '10.71.0.9', count.v4);
  const v6Pings = await floodPings(ns, 'fd71::9', count.v6);
  expect(v4Pings).toMatchObject({ received: count.v4, lost: 0, more: '' });
  expect(v6Pings).toMatchObject({ received: count.v6, lost: 0, more: '' });
  const sent = { v4: v4Pings.transmitted, v6: v6Pings.transmitted };
  // Also the answers that came when ping had all it wanted.
  await wire.stop(2 * (sent.v4 + sent.v6));
  const v4 = await wire.told('icmp[0] == 0');
  expect(v4.match(/ICMP echo reply/g)?.length).toBe(sent.v4);
  expect(v4.match(/length 84\b/g)?.length).toBe(sent.v4);
  const v6 = await wire.told('icmp6 and ip6[40] == 129');
  expect(v6.match(/\[icmp6 sum ok\] ICMP6, echo reply/g)?.length).toBe(sent.v6);
  for (const text of [v4, v6, await wire.told()]) expect(text.match(/.*(bad|wrong) .*cksum.*|.*bad .*sum.*/)?.[0]).toBeUndefined();
  const lengths = wire.packets().map(({ length }) => length - linkBytes);
  expect(lengths.filter((length) => length === 84).length).toBe(2 * sent.v4);
  expect(lengths.filter((length) => length === 104).length).toBe(2 * sent.v6);
}

it('answers ping on a TUN, 10,000 times and 2,000 times over IPv6, none lost', async () => {
  const { opened, rest } = await withHost('tun', (ns) => expectAnswers(ns, 0));
  expect(opened).toBe('opened 101');
  expect(rest).toEqual(['law 0 dropped 0', expect.stringMatching(/^answered \d{5} not taken 0 last 0$/)]);
});

it('answers ping on a TAP, with ARP and neighbour discovery of its own', async () => {
  const { opened, rest } = await withHost('tap', async (ns) => {
    await expectAnswers(ns, 14);
    for (const address of ['10.71.0.9', 'fd71::9'])
      expect(ns.ip(`-j neighbour show dev p0 to ${address}`)).toMatchObject([{ lladdr: '02:00:00:00:00:09' }]);
  });
  expect(opened).toBe('opened 1');
  expect(rest).toEqual(['law 0 dropped 0', expect.stringMatching(/^answered \d{5} not taken 0 last 0$/)]);
});
