// Two ends of one link over the underlay, for tests of what it does there: each a lane with a device, in the namespace of a host.

import type { Device } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import {
  type LinkStatus,
  LinkSpec_Protocol as Protocol,
  type LinkDrops_Reason as Reason,
  LinkSpec_Transport as Transport,
  VxlanSpec,
} from '../../src/gen/taplane/v1/link.ts';
import { wireguardKeys } from '../harness/foreign-wireguard.ts';
import { dropped, type Linked, LinkLane, linkDevice } from '../harness/link-lane.ts';
import type { Namespace } from '../harness/namespace.ts';
import { untilAnswers } from '../harness/ping.ts';
import type { Underlay, UnderlayHost } from '../harness/underlay.ts';

export type Spec = Linked['spec'];

export interface LinkEnd extends AsyncDisposable {
  readonly namespace: Namespace;
  readonly device: string;
  /** Inner addresses, without prefix length. */
  readonly inner4: string;
  readonly inner6: string;
  /** Of the process that carries the link. */
  readonly pid: number;
  status(): Promise<LinkStatus>;
  /** What went nowhere for this reason. */
  dropped(reason: Reason): Promise<number>;
}

const DEVICE = 'l0';
const PORT = 5700;

/** MTU of the device for a path of 1500 bytes over either family. */
const MTU: Record<Kind, number> = { wireguard: 1420, 'frames-udp': 1452, 'frames-tcp': 1500, vxlan: 1430 };

export type Kind = 'wireguard' | 'frames-udp' | 'frames-tcp' | 'vxlan';

export interface PairOptions {
  /** Hosts that are joined. */
  ends?: readonly [number, number];
  /** Family of IP that the link runs over. */
  outer?: 4 | 6;
}

/** Both ends, which answer each other. Inner addresses are 10.77.0.1 and .2, fd77::1 and ::2. */
export async function openPair(
  net: Underlay,
  kind: Kind,
  { ends: [near, far] = [0, 1], outer = 4 }: PairOptions = {},
): Promise<[LinkEnd, LinkEnd]> {
  const hosts = [net.host(near), net.host(far)] as const;
  const specs = await specsOf(
    kind,
    outer === 4 ? [hosts[0].address4, hosts[1].address4] : [`[${hosts[0].address6}]`, `[${hosts[1].address6}]`],
  );
  const ends: LinkEnd[] = [];
  try {
    for (const [index, host] of hosts.entries()) ends.push(await openEnd(host, kind, specs[index] as Spec, index + 1));
    const [one, other] = ends as [LinkEnd, LinkEnd];
    for (const address of [other.inner4, other.inner6]) await untilAnswers(one.namespace, address);
    return [one, other];
  } catch (error) {
    for (const end of ends) await end[Symbol.asyncDispose]();
    throw error;
  }
}

async function openEnd({ namespace }: UnderlayHost, kind: Kind, spec: Spec, number: number): Promise<LinkEnd> {
  const inner = { inner4: `10.77.0.${number}`, inner6: `fd77::${number}` };
  const addresses = [`${inner.inner4}/24`, `${inner.inner6}/64`];
  const lane = await LinkLane.start(namespace);
  try {
    const device: Device = linkDevice(namespace, DEVICE, { tap: kind === 'vxlan', mtu: MTU[kind], addresses });
    // A sender that was not let run for a while sends much at once: what the device has no room for is not what these tests are about.
    namespace.ip(`link set dev ${DEVICE} txqueuelen 10000`);
    await lane.hold({ device, spec, setup: { handshakeEpoch: BigInt(Math.floor(Date.now() / 1000)), addresses, interfaceMtu: MTU[kind] } });
  } catch (error) {
    await lane[Symbol.asyncDispose]();
    throw error;
  }
  return {
    namespace,
    device: DEVICE,
    ...inner,
    pid: lane.pid,
    status: () => lane.status(),
    dropped: async (reason) => dropped(await lane.status(), reason),
    [Symbol.asyncDispose]: () => lane[Symbol.asyncDispose](),
  };
}

async function specsOf(kind: Kind, [near, far]: readonly [string, string]): Promise<[Spec, Spec]> {
  const facing = (common: Spec): [Spec, Spec] => {
    const spec = (address: string): Spec => ({ ...common, listen: `:${PORT}`, peers: [{ endpoint: `${address}:${PORT}` }] });
    return [spec(far), spec(near)];
  };
  if (kind === 'vxlan') return facing({ protocol: Protocol.VXLAN, vxlan: VxlanSpec.fromPartial({ vni: 7 }) });
  if (kind === 'frames-udp') return facing({ protocol: Protocol.FRAMES, transport: Transport.UDP });
  if (kind === 'frames-tcp') {
    const common = { protocol: Protocol.FRAMES, transport: Transport.TCP };
    return [
      { ...common, peers: [{ endpoint: `${far}:${PORT}` }] },
      { ...common, listen: `${far}:${PORT}` },
    ];
  }
  const [nearKeys, farKeys] = [await wireguardKeys(), await wireguardKeys()];
  const spec = (own: string, other: string, address: string, number: number): Spec => ({
    protocol: Protocol.WIREGUARD,
    listen: `:${PORT}`,
    wireguard: { privateKey: Buffer.from(own, 'base64') },
    peers: [
      {
        endpoint: `${address}:${PORT}`,
        publicKey: Buffer.from(other, 'base64'),
        allowedPrefixes: [`10.77.0.${number}/32`, `fd77::${number}/128`],
      },
    ],
  });
  return [spec(nearKeys.privateKey, farKeys.publicKey, far, 2), spec(farKeys.privateKey, nearKeys.publicKey, near, 1)];
}
