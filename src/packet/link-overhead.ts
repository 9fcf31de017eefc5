// What a link adds to each packet on its path, and the MTU that its interface should have for that. Pure.

/** What a link carries frames in. */
export type Carriage = 'frames-udp' | 'frames-tcp' | 'vxlan' | 'wireguard';

const IP_BYTES = { 4: 20, 6: 40 } as const;
const UDP_BYTES = 8;
const ETHERNET_BYTES = 14;
const VXLAN_BYTES = 8;
/** Type and reserved 4, receiver 4, counter 8, authentication tag 16. */
const WIREGUARD_BYTES = 32;
/** A length before each frame. */
const STREAM_BYTES = 2;

const PATH_MTU = 1500;
/** What users of WireGuard know, whatever the outer family is: it fits both. */
const WIREGUARD_MTU = 1420;

/**
 * Bytes between an IP packet inside and the IP packet outside that carries it; `outer` is the family of the latter, `ethernet` says that Ethernet
 * headers go along (TAP). Over TCP, only what is added to the stream: where its segments end has nothing to do with frames.
 */
export function linkOverhead(carriage: Carriage, outer: 4 | 6, ethernet: boolean): number {
  const datagram = IP_BYTES[outer] + UDP_BYTES;
  const link = ethernet ? ETHERNET_BYTES : 0;
  if (carriage === 'frames-tcp') return STREAM_BYTES + link;
  if (carriage === 'frames-udp') return datagram + link;
  if (carriage === 'vxlan') return datagram + VXLAN_BYTES + ETHERNET_BYTES;
  return datagram + WIREGUARD_BYTES;
}

/** The greatest inner MTU that fits a path of `pathMtu` in one outer packet, the default being Ethernet's; over TCP that of the path itself. */
export function largestMtu(carriage: Carriage, outer: 4 | 6, ethernet: boolean, pathMtu: number = PATH_MTU): number {
  // A stream takes frames of any size. 1500 is what hosts on other networks send anyway, so that nothing needs to be told what is too big.
  if (carriage === 'frames-tcp') return pathMtu;
  return pathMtu - linkOverhead(carriage, outer, ethernet);
}

/** The MTU of an interface when nothing is said of it and the path is Ethernet's 1500. */
export function defaultMtu(carriage: Carriage, outer: 4 | 6, ethernet: boolean): number {
  return carriage === 'wireguard' ? WIREGUARD_MTU : largestMtu(carriage, outer, ethernet);
}
