// A device that somebody else made, as a spec: what a managed interface would have to ask for to look like it. Pure.

import { Address_Scope, InterfaceSpec, InterfaceSpec_Mode } from '../gen/taplane/v1/interface.ts';
import { formatIp, formatMac } from '../resource/inet.ts';
import { AF_INET6 } from '../sys/netlink/address.ts';
import { NUD_PERMANENT } from '../sys/netlink/neighbour.ts';
import { RTPROT_KERNEL } from '../sys/netlink/route.ts';
import { MARK } from './desired.ts';
import type { Actual } from './plan.ts';
import { statusAddress, statusRoute } from './status.ts';

const IFA_F_PERMANENT = 0x80;
const RTPROT_RA = 9;
const IFAPROT_KERNEL_LL = 3;
const SCOPE_LINK = 253;

/** Why a device cannot be taken over; undefined when it can. `marked` also lets through one with the mark of another agent. */
export function adoptionProblem({ link }: Actual, marked = false): string | undefined {
  if (link?.tun === undefined) return `is no TUN or TAP${link?.kind ? ` but ${link.kind}` : ''}`;
  if (!marked && link.alias.startsWith(MARK))
    return `carries the mark of another agent or of lost state (${link.alias}); make sure that no other agent manages it, then set take_over`;
  if (!link.tun.persistent)
    return 'is not persistent: it ends with the program that holds it; make it persistent first (ip tuntap add, or TUNSETPERSIST)';
  return undefined;
}

/** The spec that describes a device. Link-local addresses and routes that the kernel makes by itself are not part of it. */
export function adoptedSpec(actual: Actual, networkNamespace: string): InterfaceSpec {
  const { link } = actual;
  const tap = link?.tun?.mode === 'tap';
  const spec: InterfaceSpec = InterfaceSpec.fromPartial({
    mode: tap ? InterfaceSpec_Mode.TAP : InterfaceSpec_Mode.TUN,
    multiQueue: link?.tun?.multiQueue ?? false,
    packetInfo: link?.tun?.packetInfo ?? false,
    vnetHeader: link?.tun?.vnetHeader ?? false,
    owner: link?.tun?.owner === undefined ? '' : String(link.tun.owner),
    group: link?.tun?.group === undefined ? '' : String(link.tun.group),
    up: link?.up ?? false,
    macAddress: tap && link !== undefined ? formatMac(link.address) : '',
    controller: actual.controller,
    networkNamespace,
  });
  spec.mtu = link?.mtu;
  spec.txQueueLength = link?.txQueueLength;
  spec.addresses = actual.addresses
    .filter(
      (address) =>
        !(
          address.family === AF_INET6 &&
          (address.protocol === IFAPROT_KERNEL_LL || address.scope === SCOPE_LINK || (address.flags & IFA_F_PERMANENT) === 0)
        ),
    )
    .map(statusAddress)
    // Global is what a spec means by itself, except for link-local addresses.
    .map((address) => ({
      ...address,
      scope: address.scope === Address_Scope.GLOBAL && !address.cidr.startsWith('169.254.') ? Address_Scope.UNSPECIFIED : address.scope,
    }));
  spec.routes = actual.routes.filter((route) => route.protocol !== RTPROT_KERNEL && route.protocol !== RTPROT_RA).map(statusRoute);
  spec.neighbours = actual.neighbours
    .filter((item) => (item.state & NUD_PERMANENT) !== 0 && item.hardwareAddress.length === 6)
    .map((item) => ({ address: formatIp(item.address), macAddress: formatMac(item.hardwareAddress) }));
  return spec;
}
