// The other end of a vxlan link: a device of the kernel.

import type { Namespace } from '../../harness/namespace.ts';

export const PEER_MAC = '02:00:00:00:00:02';

/** `ip link add vx0 type vxlan` with more options, VNI 7, and its addresses. */
export function addKernelEnd(ns: Namespace, options: string, addresses: string[], mac = PEER_MAC): void {
  ns.ip(`link add vx0 address ${mac} type vxlan id 7 dstport 4789 ${options}`);
  for (const address of addresses) ns.ip(`address add ${address} dev vx0${address.includes(':') ? ' nodad' : ''}`);
  ns.ip('link set vx0 up');
}
