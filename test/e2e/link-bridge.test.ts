// Two LANs made one: on each of two hosts a bridge joins a LAN to a TAP, a vxlan link joins the TAPs, and it runs inside a wireguard link.
//
//   station 0 --- br0 --- x0 ===[vxlan in wireguard]=== x0 --- br0 --- station 1
//                  '------------ mover ------------------------'

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { LinkDrops_Reason as Drop, VxlanSpec } from '../../src/gen/taplane/v1/link.ts';
import { bound } from '../harness/bound.ts';
import { createCable, createNamespace, type Namespace } from '../harness/namespace.ts';
import { transferBothWays } from '../harness/passage.ts';
import { pings, untilAnswers } from '../harness/ping.ts';
import { createUnderlay, type Underlay } from '../harness/underlay.ts';
import { linking, VXLAN } from '../link/links.ts';
import { type LinkNode, openNodes } from './link-nodes.ts';
import { creation, TAP } from './specs.ts';

const STORM_LIMIT = 500;
const MTU = 1370;
const PYTHON = '/usr/bin/python3';

let net: Underlay;
let nodes: [LinkNode, LinkNode];
let stations: [Namespace, Namespace];
let mover: Namespace;

beforeAll(async () => {
  net = createUnderlay({ hosts: 2 });
  nodes = await openNodes(net, 'wireguard');
  stations = [createNamespace(), createNamespace()];
  mover = createNamespace();
  for (const [index, { agent, namespace }] of nodes.entries()) {
    const { interfaces, links } = agent.client();
    await interfaces.create(creation('x0', { mode: TAP, up: true, vnetHeader: true, mtu: MTU }));
    const other = nodes[1 - index] as LinkNode;
    const vxlan = VxlanSpec.fromPartial({ vni: 42, stormLimit: STORM_LIMIT });
    await links.create(
      linking('lan', { interface: 'interfaces/x0', protocol: VXLAN, vxlan, peers: [{ endpoint: `${other.inner4}:4789` }] }),
    );
    namespace.ip('link add br0 type bridge');
    namespace.ip('link set br0 up');
    namespace.ip('link set x0 master br0');
    for (const [station, device, address] of [
      [stations[index] as Namespace, 'lan0', `10.88.0.${index + 1}/24`],
      [mover, `port${index}`, undefined],
    ] as const) {
      const port = `p${device}`;
      createCable({ namespace: station, device, address }, { namespace, device: port });
      station.ip(`link set dev ${device} mtu ${MTU}`);
      namespace.ip(`link set dev ${port} mtu ${MTU} master br0`);
    }
    (stations[index] as Namespace).ip(`address add fd88::${index + 1}/64 dev lan0 nodad`);
  }
});

afterAll(async () => {
  for (const node of nodes ?? []) await node[Symbol.asyncDispose]();
  for (const namespace of [...(stations ?? []), mover]) namespace?.[Symbol.dispose]();
  await net?.[Symbol.asyncDispose]();
});

it('finds neighbours and carries traffic of both families', async () => {
  await untilAnswers(stations[0], '10.88.0.2');
  for (const address of ['10.88.0.2', 'fd88::2']) expect((await pings(stations[0], address, 20, '-i', '0.01')).more).toBe('');
  await transferBothWays(stations[0], stations[1], 'fd88::2', bound(64, 4));
  expect(stations[0].run('ip', 'neigh', 'show', '10.88.0.2')).toContain(macOf(stations[1], 'lan0'));
});

it('carries what a client without an address asks of everybody', async () => {
  const script = (body: string) => [PYTHON, '-c', `import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n${body}`];
  const heard = stations[1].spawn(
    script("s.bind(('', 67))\nprint('ready', flush=True)\ns.settimeout(20)\ndata, peer = s.recvfrom(1500)\nprint(data.decode(), peer[1])"),
  );
  await heard.until(({ stdout }) => stdout.includes('ready'), 'the server');
  const options = "s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\ns.setsockopt(socket.SOL_SOCKET, 25, b'lan0\\0')\n";
  await stations[0].exec(script(`${options}s.bind(('', 68))\ns.sendto(b'discover', ('255.255.255.255', 67))`));
  expect((await heard.ended).stdout).toContain('discover 68');
});

it('follows an address that moves between the LANs, each time within a second', async () => {
  for (const port of ['port0', 'port1']) {
    mover.ip(`link set dev ${port} down`);
    mover.ip(`link set dev ${port} address 02:00:00:00:88:09`);
  }
  const took: number[] = [];
  for (let move = 0; move < 10; move++) {
    const [from, to] = [`port${(move + 1) % 2}`, `port${move % 2}`];
    mover.ip(`address flush dev ${from}`);
    mover.ip(`link set dev ${from} down`);
    mover.ip(`address add 10.88.0.9/24 dev ${to}`);
    mover.ip(`link set dev ${to} up`);
    const begun = performance.now();
    // As anything that moves does: it says that it is here.
    for (const station of ['10.88.0.1', '10.88.0.2']) await untilAnswers(mover, station);
    for (const station of stations) await untilAnswers(station, '10.88.0.9');
    took.push(performance.now() - begun);
  }
  mover.ip('link set dev port1 down');
  console.log(`moves: ${took.map((ms) => Math.round(ms)).join(', ')} ms`);
  for (const ms of took) expect(ms).toBeLessThan(bound(1000, 6000));
});

it('keeps a loop under the storm limit, and is well when it is gone', async () => {
  const outer = async () => Number((await nodes[0].status()).traffic?.sentPackets ?? 0n);
  const { links } = nodes[0].agent.client();
  const drops = async () => {
    const { status } = await links.get({ name: 'links/lan' });
    return Number(status?.drops.find(({ reason }) => reason === Drop.STORM)?.packets ?? 0n);
  };
  const before = await drops();
  createCable({ namespace: nodes[0].namespace, device: 'loop' }, { namespace: nodes[1].namespace, device: 'loop' });
  for (const { namespace } of nodes) namespace.ip('link set dev loop master br0');
  // Something to go round, more and more of it: without a limit this has no end.
  await using asking = stations[0].spawn(['ping', '-n', '-b', '-i', '0.005', '10.88.0.255']);
  await sleep(500);
  const [packets, begun] = [await outer(), performance.now()];
  await sleep(2500);
  const perSecond = ((await outer()) - packets) / ((performance.now() - begun) / 1000);
  const held = (await drops()) - before;
  await asking[Symbol.asyncDispose]();
  nodes[0].namespace.ip('link del dev loop');
  console.log(`loop: ${Math.round(perSecond)} packets/s go out, limit ${STORM_LIMIT}; ${held} were held back`);
  expect(held).toBeGreaterThan(0);
  expect(perSecond).toBeLessThan(STORM_LIMIT * 1.3);
  const cut = performance.now();
  await untilAnswers(stations[0], '10.88.0.2');
  console.log(`loop: answers ${Math.round(performance.now() - cut)} ms after it was cut`);
  expect((await pings(stations[0], '10.88.0.2', 20, '-i', '0.01')).more).toBe('');
});

function macOf(ns: Namespace, device: string): string {
  const [link] = ns.ip(`-j link show dev ${device}`) as { address: string }[];
  return link?.address ?? '';
}
