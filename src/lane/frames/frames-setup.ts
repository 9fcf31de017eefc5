// What the tunnels of frames read in their setup: MTU, endpoint, sources of "too big", and what cannot be changed in place. Pure.

import type { LinkSetup } from '../../gen/taplane/lane/v1/lane_service.ts';
import { type LinkSpec, LinkSpec_Transport as Transport } from '../../gen/taplane/v1/link.ts';
import { defaultMtu } from '../../packet/link-overhead.ts';
import { formatSocketAddress, parseSocketAddress, type SocketAddress } from '../../sys/socket-address.ts';
import { SysError } from '../../sys/sys-error.ts';

const EINVAL = 22;
/** A frame has at most 65535 bytes behind its length, less in a datagram: Ethernet and two VLAN tags, IPv6 and UDP are set off. */
const MTU_MOST = 65_535 - 22 - 48;

/** Bytes of the largest inner IP packet: as asked for, or what a path of 1500 bytes takes. */
export function linkMtu({ mtu, transport }: LinkSpec, ethernet: boolean, overIpv6: boolean): number {
  if (mtu > 0) return Math.min(mtu, MTU_MOST);
  return defaultMtu(transport === Transport.TCP ? 'frames-tcp' : 'frames-udp', overIpv6 ? 6 : 4, ethernet);
}

export interface Endpoint {
  address: SocketAddress;
  /** As `formatSocketAddress` writes it. */
  text: string;
  /** Without port and brackets. */
  host: string;
  port: number;
  ipv6: boolean;
}

/** Throws SysError for what is no address and port. */
export function readEndpoint(text: string): Endpoint {
  const address = parseSocketAddress(text);
  if (address === undefined) throw new SysError('open link', EINVAL, `${text} is no address and port`);
  const canonical = formatSocketAddress(address);
  const colon = canonical.lastIndexOf(':');
  const host = canonical.slice(0, colon).replace(/^\[|\]$/g, '');
  return { address, text: canonical, host, port: Number(canonical.slice(colon + 1)), ipv6: host.includes(':') };
}

/** What a tunnel is made anew for, as text that is equal when it may go on. */
export function fixedPart({ uid, spec }: LinkSetup): string {
  const { transport, listen, socketMark, bindDevice, tls } = spec as LinkSpec;
  return JSON.stringify([uid, spec?.interface, transport, listen, socketMark, bindDevice, tls]);
}
