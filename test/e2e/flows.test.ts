// Flow records of real devices, against what the kernel counts on them, what tcpdump sees beside, and what tshark calls it.

import { describe, expect, it } from 'vitest';
import { Flow_EndReason as Reason } from '../../src/gen/taplane/v1/flow.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { counted, FlowDriver, together, watched } from '../harness/flow-driver.ts';
import { type Amount, FlowObserver, msOf, type Seen, type Sums } from '../harness/flow-observer.ts';
import { everything } from '../harness/flow-traffic.ts';
import { TAP_WIRE, TUN_WIRE, VLAN_WIRE, type Wire } from '../harness/frame-layers.ts';
import { stopLanes } from '../harness/lanes.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { type DevicePartial, OwnLane } from '../harness/own-lane.ts';
import { untilAnswers } from '../harness/ping.ts';
import { noRouterSolicitations, quiet, sendSegmented } from '../harness/traffic.ts';
import { amounts, communities } from '../harness/tshark-flows.ts';
import { Wiretap } from '../harness/wiretap.ts';
import { creation, deletion, type PartialSpec, TAP, TUN, updating } from './specs.ts';

const [FIN, RST] = [1, 4] as const;
const [TCP, UDP] = [6, 17] as const;
const BYTES = 64 * 1024 * 1024;
/** With timestamps; and what a SYN has beside. */
const TCP_BYTES = 32;
const SYN_MORE = 8;

interface Transfer {
  segmentsOut: number;
  segmentsIn: number;
  bytesSent: number;
  received: number;
}

/** Echoes by UDP and TCP on port 7. */
const SERVER = `
import selectors, socket
ready = selectors.DefaultSelector()
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    s = socket.socket(socket.AF_INET6, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('::', 7))
    if kind == socket.SOCK_STREAM: s.listen()
    ready.register(s, selectors.EVENT_READ)
print('listening', flush=True)
while True:
    for key, _ in ready.select():
        s = key.fileobj
        if s.type == socket.SOCK_DGRAM:
            data, source = s.recvfrom(65536)
            s.sendto(data, source)
        else:
            c, _ = s.accept()
            try:
                while data := c.recv(65536): c.sendall(data)
            except ConnectionResetError: pass
            c.close()
`;

/** Datagrams, one of them in fragments; a connection that ends by FIN, one that is refused, one that is reset in the middle. */
const CLIENT = `
import socket, struct, sys
socket.setdefaulttimeout(10)
address = sys.argv[1]
family = socket.AF_INET6 if ':' in address else socket.AF_INET
u = socket.socket(family, socket.SOCK_DGRAM)
for size in (1, 100, 1400, 5000):
    u.sendto(b'u' * size, (address, 7))
    assert len(u.recv(65536)) == size
def connected():
    t = socket.socket(family, socket.SOCK_STREAM)
    t.connect((address, 7))
    # One after the other: nothing is put together to a super-frame, which tcpdump would see as one.
    for n in range(3):
        t.sendall(b't' * 1000)
        assert len(t.recv(1000, socket.MSG_WAITALL)) == 1000
    return t
t = connected()
t.shutdown(socket.SHUT_WR)
assert t.recv(1) == b''
t.close()
try: socket.socket(family, socket.SOCK_STREAM).connect((address, 9))
except ConnectionRefusedError: refused = 'refused'
t = connected()
t.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
t.close()
print('echoed', refused, 'reset')
`;

const packetsOf = ({ inbound, outbound }: Sums): number => inbound.packets + outbound.packets;

/** The kernel has nothing to say on it by itself. */
const silent: PartialSpec = { up: false, sysctls: { 'ipv6/disable_ipv6': '1' }, flowMetering: { idleTimeout: 1, activeTimeout: 2 } };

/** Interfaces with their meters in place, but down: nothing passes unseen. */
async function withAgent(
  specs: Record<string, Pick<PartialSpec, 'mode'>>,
  work: (agent: Agent, ns: Namespace) => Promise<void>,
): Promise<void> {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  try {
    for (const [name, { mode }] of Object.entries(specs)) await agent.client().interfaces.create(creation(name, { ...silent, mode }));
    for (const name of Object.keys(specs)) await watched(ns, name);
    await work(agent, ns);
  } finally {
    await stopLanes(agent);
  }
}

async function putUp(agent: Agent, name: string): Promise<void> {
  await agent.client().interfaces.update(updating(name, { up: true }, ['spec.up']));
}

/** The records tell of the same packets, flow for flow, as a capture. Where tshark has no ID, all of these together. */
async function sameFlows(records: readonly Seen[], frames: readonly Buffer[], ethernet: boolean): Promise<string> {
  const named = await communities(frames, ethernet);
  const known = new Set(named.map(({ id }) => id));
  const seen = amounts(frames.map((frame, index) => [named[index]?.id || 'none', 1, frame.length]));
  const told = amounts(
    records.map(({ communityId, forward, reverse }) => [
      communityId !== '' && known.has(communityId) ? communityId : 'none',
      Number((forward?.packets ?? 0n) + (reverse?.packets ?? 0n)),
      Number((forward?.bytes ?? 0n) + (reverse?.bytes ?? 0n)),
    ]),
  );
  expect(told).toEqual(seen);
  const without = new Set(named.filter(({ id }) => id === '').map(({ protocols }) => protocols));
  return `${Object.keys(seen).length} IDs; tshark has none for ${[...without].join(' ')}`;
}

describe('what the records tell is what the device counts, and what tcpdump and tshark see', () => {
  it('of everything on a TUN, a TAP, and a TAP with two VLAN tags, that another program holds', async () => {
    const devices = { f0: { mode: TUN, wire: TUN_WIRE }, f1: { mode: TAP, wire: TAP_WIRE }, f2: { mode: TAP, wire: VLAN_WIRE } };
    await withAgent(devices, async (agent, ns) => {
      await using observer = await FlowObserver.follow(agent);
      const judge = async (name: string, mode: number, wire: Wire): Promise<void> => {
        await using driver = await FlowDriver.hold(ns, name, mode === TUN ? 'tun' : 'tap');
        await putUp(agent, name);
        await using wiretap = await Wiretap.listen(ns, name);
        const sent = [...everything(wire), ...everything(wire, 'outbound')];
        await driver.send(sent);
        // A second time, within the same flows.
        await driver.send(sent);
        await wiretap.stop(sent.length * 2);
        const total = (): number => packetsOf(observer.sums(name));
        const device = counted(ns, name);
        // Ended by time, and by the end of the interface.
        if (mode === TUN) await agent.client().interfaces.delete(deletion(name));
        await observer.until(() => total() >= sent.length * 2 && observer.open(name).length === 0, 'all flows to end');
        expect(observer.sums(name)).toEqual(device);
        expect(wiretap.packets().length).toBe(total());
        console.log(name, await sameFlows(observer.of(name), wiretap.packets(), mode === TAP));
      };
      await together(Object.entries(devices).map(([name, { mode, wire }]) => judge(name, mode, wire)));
      expect([observer.problems, observer.missed, observer.lost]).toEqual([[], 0, 0]);
    });
  });

  it("of real programs over joined TAPs in namespaces of their own, the kernel's own words included", async () => {
    await using a = createNamespace();
    await using b = createNamespace();
    for (const ns of [a, b]) noRouterSolicitations(ns);
    await withAgent({}, async (agent, home) => {
      await using observer = await FlowObserver.follow(agent);
      await using lane = await OwnLane.start(agent, home);
      const ends = { a0: a, b0: b };
      const made: DevicePartial[] = [];
      for (const [name, ns] of Object.entries(ends)) {
        const here = name === 'a0' ? '1' : '2';
        const addresses = [{ cidr: `10.97.0.${here}/24` }, { cidr: `fd97::${here}/64` }];
        const { flowMetering } = silent;
        const spec = { mode: TAP, up: false, vnetHeader: true, networkNamespace: ns.path, addresses, flowMetering };
        const { uid } = await agent.client().interfaces.create(creation(name, spec));
        made.push({ uid, interface: name, networkNamespace: ns.path, tap: true, vnetHeader: true });
        await watched(ns, name);
      }
      await lane.hold({ device: made[0] as DevicePartial, peer: made[1] as DevicePartial });
      for (const name of Object.keys(ends)) await putUp(agent, name);
      const server = b.spawn(['/usr/bin/python3', '-c', SERVER]);
      await using _server = server;
      await server.until(({ stdout }) => stdout.includes('listening'), 'the server', 20_000);
      for (const address of ['10.97.0.2', 'fd97::2']) await untilAnswers(a, address);
      await Promise.all(Object.entries(ends).map(([name, ns]) => quiet(ns, name)));
      const before = Date.now();
      const earlier = { a0: counted(a, 'a0'), b0: counted(b, 'b0') };
      await using wireA = await Wiretap.listen(a, 'a0');
      await using wireB = await Wiretap.listen(b, 'b0');
      for (const address of ['10.97.0.2', 'fd97::2']) {
        expect((await a.exec(['ping', '-n', '-c', '5', '-i', '0.02', address])).stdout).toContain(' 5 received');
        expect((await a.exec(['ping', '-n', '-c', '2', '-i', '0.02', '-s', '4000', address])).stdout).toContain(' 2 received');
        const client = await a.exec(['/usr/bin/python3', '-c', CLIENT, address]);
        expect([client.code, client.stdout, client.stderr]).toEqual([0, 'echoed refused reset\n', '']);
      }
      await Promise.all(Object.entries(ends).map(([name, ns]) => quiet(ns, name, 700)));
      for (const [name, ns, wiretap] of [
        ['a0', a, wireA],
        ['b0', b, wireB],
      ] as const) {
        const device = counted(ns, name);
        const passed = packetsOf(device) - packetsOf(earlier[name]);
        await wiretap.stop(passed);
        await observer.until(() => packetsOf(observer.sums(name)) >= packetsOf(device), 'all packets to be told');
        expect(observer.sums(name)).toEqual(device);
        expect(wiretap.packets().length).toBe(passed);
        const later = observer.of(name).filter(({ endTime }) => msOf(endTime) >= before);
        console.log(name, await sameFlows(later, wiretap.packets(), true));
        const reasons = (flags: number) =>
          new Set(
            later.filter((flow) => (flow.tcpFlags & flags) !== 0 || (flow.reverseTcpFlags & flags) !== 0).map((flow) => flow.endReason),
          );
        expect([reasons(FIN), reasons(RST)]).toEqual([new Set([Reason.END_OF_FLOW]), new Set([Reason.END_OF_FLOW])]);
      }
      expect([observer.problems, observer.missed, observer.lost]).toEqual([[], 0, 0]);
    });
  });
});

/** Sends and receives a number of bytes, and says what the kernel knows of the connection when it is over (struct tcp_info). */
const TRANSFER = `
import json, socket, struct, sys
address, count = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ':' in address else socket.AF_INET
if count < 0:
    s = socket.socket(family, socket.SOCK_STREAM)
    s.bind((address, 5001)); s.listen(); print('listening', flush=True)
    t, _ = s.accept()
    got = 0
    while data := t.recv(1 << 20): got += len(data)
    t.shutdown(socket.SHUT_WR)
else:
    t = socket.socket(family, socket.SOCK_STREAM)
    t.connect((address, 5001))
    part, got = bytes(1 << 20), 0
    for n in range(count >> 20): t.sendall(part)
    t.shutdown(socket.SHUT_WR)
    assert t.recv(1) == b''
info = t.getsockopt(socket.IPPROTO_TCP, 11, 256)
out, came = struct.unpack_from('II', info, 136)
sent, = struct.unpack_from('Q', info, 200)
print(json.dumps({'segmentsOut': out, 'segmentsIn': came, 'bytesSent': sent, 'received': got}))
`;

it('packets and bytes of super-frames are those of the segments, as the kernel counts them in its sockets', async () => {
  await using a = createNamespace();
  await using b = createNamespace();
  // On a busy machine an answer would now and then be longer by what it says of a segment that came twice.
  for (const ns of [a, b]) ns.run('sysctl', '-qw', 'net.ipv4.tcp_sack=0', 'net.ipv4.tcp_dsack=0');
  await withAgent({}, async (agent, home) => {
    await using observer = await FlowObserver.follow(agent);
    await using lane = await OwnLane.start(agent, home);
    const pairs = {
      u: { mode: TUN, address: '10.96.0.', prefix: 24, link: 0, ip: 20, size: 4 },
      e: { mode: TAP, address: 'fd96::', prefix: 64, link: 14, ip: 40, size: 16 },
    };
    const patches = [];
    for (const [kind, { mode, address, prefix }] of Object.entries(pairs)) {
      const made: DevicePartial[] = [];
      for (const [index, ns] of [a, b].entries()) {
        const name = `${kind}${index}`;
        const addresses = [{ cidr: `${address}${index + 1}/${prefix}` }];
        const spec = { mode, up: true, vnetHeader: true, networkNamespace: ns.path, addresses, flowMetering: silent.flowMetering };
        const { uid } = await agent.client().interfaces.create(creation(name, spec));
        await watched(ns, name);
        made.push({ uid, interface: name, networkNamespace: ns.path, tap: mode === TAP, vnetHeader: true });
      }
      patches.push({ device: made[0] as DevicePartial, peer: made[1] as DevicePartial });
    }
    await lane.hold(...patches);
    for (const [kind, pair] of Object.entries(pairs)) {
      const { link, ip, size } = pair;
      const address = `${pair.address}2`;
      await untilAnswers(a, address);
      const before = counted(a, `${kind}0`);
      await using server = b.spawn(['/usr/bin/python3', '-c', TRANSFER, address, '-1']);
      await server.until(({ stdout }) => stdout.includes('listening'), 'the server', 20_000);
      const client = await a.exec(['/usr/bin/python3', '-c', TRANSFER, address, String(BYTES)]);
      expect([client.code, client.stderr]).toEqual([0, '']);
      const { stdout } = await server.ended;
      const sender = JSON.parse(client.stdout) as Transfer;
      const receiver = JSON.parse(stdout.split('\n')[1] as string) as Transfer;
      expect(receiver.received).toBe(BYTES);
      const superFrames = counted(a, `${kind}0`).outbound.packets - before.outbound.packets;
      console.log(kind, address, `${sender.segmentsOut} segments in ${superFrames} frames`);
      expect(superFrames).toBeLessThan(sender.segmentsOut / 4);
      // What opens a connection is not yet of the socket that accept() gives. What comes from a TUN the kernel does not count in segments.
      expect(receiver.segmentsOut).toBe(sender.segmentsIn - 1);
      const header = link + ip + TCP_BYTES;
      const told = (name: string): Sums => {
        const wanted = ({ protocol, sourceAddress, destinationPort }: Seen) =>
          protocol === TCP && sourceAddress.length === size && destinationPort === 5001;
        return observer.sums(name, observer.of(name).filter(wanted));
      };
      for (const [name, forward] of [
        [`${kind}0`, 'outbound'],
        [`${kind}1`, 'inbound'],
      ] as const) {
        await observer.until(() => told(name)[forward].packets >= sender.segmentsOut, `the packets of ${name}`);
        // The first one has options of its own.
        const bytes = sender.bytesSent + sender.segmentsOut * header + SYN_MORE;
        const back = forward === 'outbound' ? 'inbound' : 'outbound';
        await observer.until(() => told(name)[back].packets >= sender.segmentsIn, `the answers of ${name}`);
        expect(told(name)).toEqual({
          [forward]: { packets: sender.segmentsOut, bytes },
          [back]: { packets: sender.segmentsIn, bytes: sender.segmentsIn * header + SYN_MORE },
        });
      }
      await sendSegmented(a, address, { count: 10, bytes: 60_000, segment: 1200 });
      const datagrams = (): Amount => {
        const wanted = ({ protocol, sourceAddress }: Seen) => protocol === UDP && sourceAddress.length === size;
        return observer.sums(`${kind}1`, observer.of(`${kind}1`).filter(wanted)).inbound;
      };
      await observer.until(() => datagrams().packets >= 500, 'the datagrams');
      expect(datagrams()).toEqual({ packets: 500, bytes: 500 * (link + ip + 8 + 1200) });
    }
    expect([observer.problems, observer.missed, observer.lost]).toEqual([[], 0, 0]);
  });
});
