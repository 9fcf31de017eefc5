// One end of vxlan links in a namespace: TAPs made by hand, and a lane of its own that joins them.

import { setTimeout as sleep } from 'node:timers/promises';
import { Attachment_Kind as Kind, LinkSetup } from '../../../src/gen/taplane/lane/v1/lane_service.ts';
import {
  type LinkPeer,
  LinkSpec,
  type LinkStatus,
  LinkSpec_Protocol as Protocol,
  type LinkDrops_Reason as Reason,
  type VxlanSpec,
} from '../../../src/gen/taplane/v1/link.ts';
import { connectLane } from '../../../src/rpc/lane-client.ts';
import { Agent } from '../../harness/agent.ts';
import type { Namespace } from '../../harness/namespace.ts';
import { OwnLane } from '../../harness/own-lane.ts';

export interface EndLink {
  device: string;
  vxlan?: Partial<VxlanSpec>;
  peers: Partial<LinkPeer>[];
  listen?: string;
  mtu?: number;
}

export class VxlanEnd implements AsyncDisposable {
  readonly #ns: Namespace;
  readonly #agent: Agent;
  readonly #lane: OwnLane;
  readonly #client: ReturnType<typeof connectLane>;
  readonly #plain = new Set<string>();
  #generation = 0;

  private constructor(ns: Namespace, agent: Agent, lane: OwnLane) {
    this.#ns = ns;
    this.#agent = agent;
    this.#lane = lane;
    this.#client = connectLane(lane.socket, 5000);
  }

  static async start(ns: Namespace): Promise<VxlanEnd> {
    // Only for a folder.
    const agent = new Agent({});
    try {
      return new VxlanEnd(ns, agent, await OwnLane.start(agent, ns));
    } catch (error) {
      await agent[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** A TAP that is up; `plain`: without virtio headers. */
  addTap(device: string, { address = [] as string[], mac = '', plain = false, mtu = 1450 } = {}): void {
    this.#ns.ip(`tuntap add dev ${device} mode tap ${plain ? '' : 'vnet_hdr'}`);
    this.#ns.ip(`link set ${device} alias taplane:${device} mtu ${mtu} ${mac && `address ${mac}`}`);
    for (const one of address) this.#ns.ip(`address add ${one} dev ${device}${one.includes(':') ? ' nodad' : ''}`);
    this.#ns.ip(`link set ${device} up`);
    if (plain) this.#plain.add(device);
  }

  /** Declares the links, all of them, and waits until they are held. */
  async set(...links: EndLink[]): Promise<void> {
    this.#generation++;
    await this.#lane.hold(
      ...links.map(({ device, vxlan, peers, listen = '', mtu = 0 }) => {
        const spec = LinkSpec.fromPartial({
          interface: `interfaces/${device}`,
          protocol: Protocol.VXLAN,
          listen,
          mtu,
          peers,
          vxlan: { vni: 7, ...vxlan },
        });
        return {
          kind: Kind.LINK,
          device: { uid: device, interface: device, tap: true, vnetHeader: !this.#plain.has(device) },
          link: LinkSetup.fromPartial({ uid: `link-${device}`, generation: BigInt(this.#generation), spec, name: `links/${device}` }),
        };
      }),
    );
  }

  async status(device: string): Promise<LinkStatus> {
    const { attachments } = await this.#client.getLane();
    const found = attachments.find(({ linkUid }) => linkUid === `link-${device}`)?.link;
    if (found === undefined) throw new Error(`no link of ${device}`);
    return found;
  }

  async dropped(device: string, reason: Reason): Promise<number> {
    const { drops } = await this.status(device);
    return Number(drops.find((drop) => drop.reason === reason)?.packets ?? 0n);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.close();
    await this.#lane[Symbol.asyncDispose]();
    await this.#agent[Symbol.asyncDispose]();
    await sleep(0);
  }
}
