// Five hundred peers on one wireguard interface: what they cost, and that each can be reached.

import { expect, it } from 'vitest';
import { InterfaceSpec_Carrier } from '../../src/gen/taplane/v1/interface.ts';
import { makePrivateKey, publicKeyOf } from '../../src/link/keys.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { bound, SOON } from '../harness/bound.ts';
import { lanesOf } from '../harness/lanes.ts';
import { type Linked, LinkLane } from '../harness/link-lane.ts';
import { memoryOf } from '../harness/memory.ts';
import type { Namespace } from '../harness/namespace.ts';
import { createUnderlay } from '../harness/underlay.ts';
import { linking, WIREGUARD } from '../link/links.ts';
import { creation, TUN } from './specs.ts';

const PEERS = 500;
/** Peers that answer. */
const ALIVE = bound(PEERS, 24);
const PORT = 20_000;
const NEAR_PORT = 5900;
const { KEEP } = InterfaceSpec_Carrier;
const PYTHON = '/usr/bin/python3';

it(`${PEERS} peers of which ${ALIVE} answer cost little`, { timeout: 240_000 }, async () => {
  await using net = createUnderlay({ hosts: 2 });
  const [near, far] = [net.host(0), net.host(1)];
  await using agent = await startAgent({ namespace: near.namespace });
  const { interfaces, links } = agent.client();
  const own = makePrivateKey();
  const keys = Array.from({ length: PEERS }, () => makePrivateKey());

  await using lane = await LinkLane.start(far.namespace);
  await lane.hold(
    ...manyDevices(far.namespace, ALIVE).map((device, index) => ({
      device,
      setup: { uid: `peer ${index}`, handshakeEpoch: 1n, interfaceMtu: 1420 },
      spec: {
        protocol: WIREGUARD,
        listen: `:${PORT + index}`,
        wireguard: { privateKey: keys[index] as Buffer },
        peers: [{ publicKey: publicKeyOf(own), allowedPrefixes: ['10.78.0.1/32'] }],
      },
    })),
  );

  await interfaces.create(
    creation('w0', { mode: TUN, up: true, vnetHeader: true, mtu: 1420, carrier: KEEP, addresses: [{ cidr: '10.78.0.1/16' }] }),
  );
  await expect.poll(async () => (await lanesOf(agent)).length, SOON).toBe(1);
  const before = await memory(agent);
  const peers = keys.map((key, index) => ({
    publicKey: publicKeyOf(key),
    endpoint: `${far.address4}:${PORT + index}`,
    allowedPrefixes: [`${inner(index)}/32`],
  }));
  await links.create(
    linking('many', { interface: 'interfaces/w0', protocol: WIREGUARD, listen: `:${NEAR_PORT}`, wireguard: { privateKey: own }, peers }),
  );
  const up = async () => {
    // A datagram to each asks for a session with it.
    await near.namespace.exec([PYTHON, '-c', SPEAK, ...Array.from({ length: ALIVE }, (_, index) => inner(index))]);
    return (await links.get({ name: 'links/many' })).status?.peers.filter((peer) => peer.up).length;
  };
  await expect.poll(up, { timeout: 60_000, interval: 200 }).toBe(ALIVE);

  const after = await memory(agent);
  const mean = (after.rss - before.rss) / PEERS;
  console.log(`without a link: ${before.text}`);
  console.log(`${PEERS} peers, ${ALIVE} up: ${after.text}; ${(mean * 1000).toFixed(0)} kB more for each`);
  expect(after.rss - before.rss).toBeLessThan(bound(64, 150));
});

const SPEAK = `
import socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for address in sys.argv[1:]: udp.sendto(b'hello', (address, 9))
`;

function inner(index: number): string {
  return `10.78.${1 + (index >> 8)}.${index & 255}`;
}

/** In one go: each `ip` of its own would take long. */
function manyDevices(ns: Namespace, count: number): Linked['device'][] {
  const names = Array.from({ length: count }, (_, index) => `p${index}`);
  const script = names
    .map((name) => `tuntap add dev ${name} mode tun vnet_hdr\nlink set dev ${name} alias taplane:uid-${name} up`)
    .join('\n');
  ns.run('sh', '-c', `printf '${script.replaceAll('\n', '\\n')}\\n' | ip -batch -`);
  return names.map((name) => ({
    uid: `uid-${name}`,
    interface: name,
    networkNamespace: '',
    tap: false,
    multiQueue: false,
    packetInfo: false,
    vnetHeader: true,
    queues: 1,
  }));
}

/** Of agent and lane; pages that processes share are counted in each, and, in brackets, once among them. */
async function memory(agent: Agent): Promise<{ rss: number; text: string }> {
  const each = [agent.pid, ...(await lanesOf(agent))].map((pid) => ({ rss: memoryOf(pid, 'Rss') / 1e6, pss: memoryOf(pid, 'Pss') / 1e6 }));
  const rss = each.reduce((sum, one) => sum + one.rss, 0);
  const pss = each.reduce((sum, one) => sum + one.pss, 0);
  const text = each.map((one) => `${one.rss.toFixed(0)} (${one.pss.toFixed(0)})`).join(' + ');
  return { rss, text: `${text} = ${rss.toFixed(0)} (${pss.toFixed(0)}) MB resident, agent + lane` };
}
