// Flow records of real devices, against what the kernel counts on them, what tcpdump sees beside, and what tshark calls it.

import { describe, expect, it } from 'vitest';
import { Flow_EndReason as Reason } from '../../src/gen/taplane/v1/flow.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { counted, FlowDriver, watched } from '../harness/flow-driver.ts';
import { FlowObserver, msOf, type Seen, type Sums } from '../harness/flow-observer.ts';
import { everything } from '../harness/flow-traffic.ts';
import { TAP_WIRE, TUN_WIRE, VLAN_WIRE } from '../harness/frame-layers.ts';
import { stopLanes } from '../harness/lanes.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { type DevicePartial, OwnLane } from '../harness/own-lane.ts';
import { untilAnswers } from '../harness/ping.ts';
import { noRouterSolicitations, quiet } from '../harness/traffic.ts';
import { amounts, communities } from '../harness/tshark-flows.ts';
import { Wiretap } from '../harness/wiretap.ts';
import { creation, deletion, type PartialSpec, TAP, TUN, updating } from './specs.ts';

const [FIN, RST] = [1, 4] as const;

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
async function withAgent(specs: Record<string, PartialSpec>, work: (agent: Agent, ns: Namespace) => Promise<void>): Promise<void> {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  try {
    for (const [name, spec] of Object.entries(specs)) await agent.client().interfaces.create(creation(name, { ...silent, ...spec }));
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
  it.each([
    ['TUN', TUN, TUN_WIRE],
    ['TAP', TAP, TAP_WIRE],
    ['TAP with two VLAN tags', TAP, VLAN_WIRE],
  ] as const)('of everything on a %s that another program holds', async (_, mode, wire) => {
    await withAgent({ f0: { mode } }, async (agent, ns) => {
      await using observer = await FlowObserver.follow(agent);
      await using driver = await FlowDriver.hold(ns, 'f0', mode === TUN ? 'tun' : 'tap');
      await putUp(agent, 'f0');
      await using wiretap = await Wiretap.listen(ns, 'f0');
      const sent = [...everything(wire), ...everything(wire, 'outbound')];
      await driver.send(sent);
      // A second time, within the same flows.
      await driver.send(sent);
      await wiretap.stop(sent.length * 2);
      const total = (): number => packetsOf(observer.sums('f0'));
      const device = counted(ns, 'f0');
      // Ended by time, and by the end of the interface.
      if (mode === TUN) await agent.client().interfaces.delete(deletion('f0'));
      await observer.until(() => total() >= sent.length * 2 && observer.open('f0').length === 0, 'all flows to end');
      expect(observer.sums('f0')).toEqual(device);
      expect(wiretap.packets().length).toBe(total());
      console.log(await sameFlows(observer.of('f0'), wiretap.packets(), mode === TAP));
      expect([observer.problems, observer.missed, observer.lost]).toEqual([[], 0, 0]);
    });
  });

  it('of real programs over joined TAPs in namespaces of their own, the kernel\'s own words included', async () => {
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
          new Set(later.filter((flow) => (flow.tcpFlags & flags) !== 0 || (flow.reverseTcpFlags & flags) !== 0).map((flow) => flow.endReason));
        expect([reasons(FIN), reasons(RST)]).toEqual([new Set([Reason.END_OF_FLOW]), new Set([Reason.END_OF_FLOW])]);
      }
      expect([observer.problems, observer.missed, observer.lost]).toEqual([[], 0, 0]);
    });
  });
});
