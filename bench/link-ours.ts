// Links of Taplane between two namespaces, for `links.ts`: a lane on each side, devices that take super-frames.

import { LinkSpec_Protocol as Protocol, LinkSpec_Transport as Transport, VxlanSpec } from '../src/gen/taplane/v1/link.ts';
import { wireguardKeys } from '../test/harness/foreign-wireguard.ts';
import { type Linked, LinkLane, linkDevice } from '../test/harness/link-lane.ts';
import type { Rival, Site } from './link-rivals.ts';

type PartialLinkSpec = Linked['spec'];

interface Ours {
  device: string;
  tap?: boolean;
  mtu: number;
  specs(site: Site, subnet: string): Promise<[near: PartialLinkSpec, far: PartialLinkSpec]>;
}

const LINKS: Record<string, Ours> = {
  'frames over TCP': {
    device: 'ft0',
    mtu: 1500,
    async specs({ addressB }) {
      const common = { protocol: Protocol.FRAMES, transport: Transport.TCP };
      return [
        { ...common, peers: [{ endpoint: `${addressB}:5601` }] },
        { ...common, listen: `${addressB}:5601` },
      ];
    },
  },
  'frames over UDP': {
    device: 'fu0',
    mtu: 1472,
    specs: async (site) => facing(site, 5602, { protocol: Protocol.FRAMES, transport: Transport.UDP }),
  },
  wireguard: {
    device: 'wg0',
    mtu: 1420,
    async specs({ addressA, addressB }, subnet) {
      const [near, far] = [await wireguardKeys(), await wireguardKeys()];
      const bytes = (text: string): Buffer => Buffer.from(text, 'base64');
      const spec = (own: string, other: string, endpoint: string, allowed: string): PartialLinkSpec => ({
        protocol: Protocol.WIREGUARD,
        listen: ':5603',
        wireguard: { privateKey: bytes(own) },
        peers: [{ endpoint: `${endpoint}:5603`, publicKey: bytes(other), allowedPrefixes: [allowed] }],
      });
      return [
        spec(near.privateKey, far.publicKey, addressB, `${subnet}2/32`),
        spec(far.privateKey, near.publicKey, addressA, `${subnet}1/32`),
      ];
    },
  },
  vxlan: {
    device: 'vx0',
    tap: true,
    mtu: 1450,
    specs: async (site) => facing(site, 4789, { protocol: Protocol.VXLAN, vxlan: VxlanSpec.fromPartial({ vni: 7 }) }),
  },
};

export const OURS: Record<string, (site: Site, subnet: string) => Promise<Rival>> = Object.fromEntries(
  Object.entries(LINKS).map(([name, link]) => [name, (site: Site, subnet: string) => start(name, link, site, subnet)]),
);

/** Each end tells the other's endpoint. */
function facing({ addressA, addressB }: Site, port: number, common: PartialLinkSpec): [PartialLinkSpec, PartialLinkSpec] {
  const spec = (endpoint: string): PartialLinkSpec => ({ ...common, listen: `:${port}`, peers: [{ endpoint: `${endpoint}:${port}` }] });
  return [spec(addressB), spec(addressA)];
}

async function start(name: string, { device, tap = false, mtu, specs }: Ours, site: Site, subnet: string): Promise<Rival> {
  const [near, far] = await specs(site, subnet);
  const lanes = [await LinkLane.start(site.a), await LinkLane.start(site.b)] as const;
  for (const [index, lane] of lanes.entries()) {
    const made = linkDevice(index === 0 ? site.a : site.b, device, { tap, mtu, addresses: [`${subnet}${index + 1}/24`] });
    const spec = index === 0 ? near : far;
    await lane.hold({ device: made, spec, setup: { handshakeEpoch: BigInt(Math.floor(Date.now() / 1000)), interfaceMtu: mtu } });
  }
  return {
    name,
    address: `${subnet}2`,
    pids: () => lanes.map(({ pid }) => pid),
    async [Symbol.asyncDispose]() {
      for (const lane of lanes) await lane[Symbol.asyncDispose]();
    },
  };
}
