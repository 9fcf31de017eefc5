// The interface that a link joins, as the link sees it, and what of it stands in the way. Pure.

import type { Device } from '../gen/taplane/lane/v1/lane_service.ts';
import type { InterfaceSpec } from '../gen/taplane/v1/interface.ts';
import { LinkSpec_Protocol as Protocol } from '../gen/taplane/v1/link.ts';

export interface Joined {
  device: Device;
  spec: InterfaceSpec;
  /** Its device is there. */
  isThere: boolean;
  /** MTU of the device, 0 while there is none. */
  mtu: number;
}

/** Why an interface of this mode cannot carry the protocol; undefined when it can. */
export function wrongMode(protocol: Protocol, { device }: Joined): string | undefined {
  if (protocol === Protocol.VXLAN && !device.tap) return 'vxlan carries Ethernet frames: it needs a TAP, and this interface is a TUN';
  if (protocol === Protocol.WIREGUARD && device.tap) return 'wireguard carries IP packets: it needs a TUN, and this interface is a TAP';
  return undefined;
}

/** Why the link cannot run now; undefined when nothing of its interface stands in the way. */
export function obstacle(name: string, protocol: Protocol, joined: Joined | undefined): string | undefined {
  if (joined === undefined) return `${name} is not there`;
  if (!joined.isThere) return `${name} has no device at the moment; see its conditions`;
  return wrongMode(protocol, joined);
}

export function hasIpv6({ spec }: Joined): boolean {
  return spec.addresses.some(({ cidr }) => cidr.includes(':'));
}
