// Hosts of the underlay with an agent each, whose interfaces one link joins, all of it asked for over gRPC.

import { type LinkStatus, VxlanSpec } from '../../src/gen/taplane/v1/link.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { wireguardKeys } from '../harness/foreign-wireguard.ts';
import { lanesOf } from '../harness/lanes.ts';
import type { Namespace } from '../harness/namespace.ts';
import { untilAnswers } from '../harness/ping.ts';
import type { Underlay } from '../harness/underlay.ts';
import { FRAMES, linking, type PartialLink, UDP, VXLAN, WIREGUARD } from '../link/links.ts';
import { creation, TAP, TUN } from './specs.ts';

export type NodeKind = 'wireguard' | 'frames' | 'vxlan';

export interface LinkNode extends AsyncDisposable {
  readonly agent: Agent;
  readonly namespace: Namespace;
  /** Name of interface and link. */
  readonly name: string;
  /** Of the link. */
  readonly spec: PartialLink;
  readonly inner4: string;
  readonly inner6: string;
  status(): Promise<LinkStatus>;
  /** Of its only lane. */
  lanePid(): Promise<number>;
}

const NAME = 'l0';
const PORT = 5800;
const MTU: Record<NodeKind, number> = { wireguard: 1420, frames: 1472, vxlan: 1450 };

/** Two nodes that answer each other inside: 10.78.0.1 and .2, fd78::1 and ::2. */
export async function openNodes(net: Underlay, kind: NodeKind): Promise<[LinkNode, LinkNode]> {
  const keys = [await wireguardKeys(), await wireguardKeys()] as const;
  const nodes: LinkNode[] = [];
  try {
    for (const index of [0, 1] as const) {
      const other = (1 - index) as 0 | 1;
      const endpoint = `${net.host(other).address4}:${PORT}`;
      const spec: PartialLink = { interface: `interfaces/${NAME}`, listen: `:${PORT}` };
      if (kind === 'frames') Object.assign(spec, { protocol: FRAMES, transport: UDP, peers: [{ endpoint }] });
      if (kind === 'vxlan') Object.assign(spec, { protocol: VXLAN, vxlan: VxlanSpec.fromPartial({ vni: 9 }), peers: [{ endpoint }] });
      if (kind === 'wireguard') {
        const publicKey = Buffer.from(keys[other].publicKey, 'base64');
        const allowedPrefixes = [`10.78.0.${other + 1}/32`, `fd78::${other + 1}/128`];
        Object.assign(spec, {
          protocol: WIREGUARD,
          wireguard: { privateKey: Buffer.from(keys[index].privateKey, 'base64') },
          peers: [{ endpoint, publicKey, allowedPrefixes }],
        });
      }
      nodes.push(await openNode(net.host(index).namespace, kind, spec, index + 1));
    }
    const [near, far] = nodes as [LinkNode, LinkNode];
    for (const address of [far.inner4, far.inner6]) await untilAnswers(near.namespace, address);
    return [near, far];
  } catch (error) {
    for (const node of nodes) await node[Symbol.asyncDispose]();
    throw error;
  }
}

async function openNode(namespace: Namespace, kind: NodeKind, spec: PartialLink, number: number): Promise<LinkNode> {
  const agent = await startAgent({ namespace });
  const inner = { inner4: `10.78.0.${number}`, inner6: `fd78::${number}` };
  const node: LinkNode = {
    agent,
    namespace,
    name: NAME,
    spec,
    ...inner,
    async status() {
      const client = agent.client();
      try {
        const { status } = await client.links.get({ name: `links/${NAME}` });
        if (status === undefined) throw new Error('the link has no status');
        return status;
      } finally {
        client.close();
      }
    },
    async lanePid() {
      const [pid] = await lanesOf(agent);
      if (pid === undefined) throw new Error(`agent: no lane runs\n${agent.log}`);
      return pid;
    },
    [Symbol.asyncDispose]: () => agent[Symbol.asyncDispose](),
  };
  try {
    const { interfaces, links } = agent.client();
    const addresses = [{ cidr: `${inner.inner4}/24` }, { cidr: `${inner.inner6}/64` }];
    const mode = kind === 'vxlan' ? TAP : TUN;
    await interfaces.create(creation(NAME, { mode, up: true, vnetHeader: true, mtu: MTU[kind], txQueueLength: 10_000, addresses }));
    await links.create(linking(NAME, spec));
    return node;
  } catch (error) {
    await agent[Symbol.asyncDispose]();
    throw error;
  }
}
