// The link header of a frame: none (TUN), or Ethernet with at most two VLAN tags (IEEE 802.3, 802.1Q, 802.1ad), and that of its answer.
// Pure, no allocation. A frame is `bytes[start, start + length)`, which lies within `bytes`.
//
//   | destination 6 | source 6 | (tag: 8100 or 88a8, control 2) ... | EtherType 2 |

const ADDRESSES = 12;
export const ETHERNET_BYTES = 14;
export const TAG_BYTES = 4;
const TAGS_MOST = 2;
const TPID_8021Q = 0x8100;
const TPID_8021AD = 0x88a8;

export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_IPV6 = 0x86dd;

/** Bytes before the network header: 0 without `ethernet`, else 14, 18 or 22; -1 for a frame that is shorter, or has more tags. */
export function linkHeaderBytes(bytes: Uint8Array, start: number, length: number, ethernet: boolean): number {
  if (!ethernet) return 0;
  for (let size = ETHERNET_BYTES; size <= length && size <= ETHERNET_BYTES + TAGS_MOST * TAG_BYTES; size += TAG_BYTES) {
    if (!isTag(etherType(bytes, start, size))) return size;
  }
  return -1;
}

/** Whether an EtherType says that a VLAN tag follows. */
export function isTag(type: number): boolean {
  return type === TPID_8021Q || type === TPID_8021AD;
}

/** The EtherType at the end of a link header of `linkBytes`. */
export function etherType(bytes: Uint8Array, start: number, linkBytes: number): number {
  return ((bytes[start + linkBytes - 2] as number) << 8) | (bytes[start + linkBytes - 1] as number);
}

/** Whether the address at `at` is of one station: its group bit is clear. */
export function isStation(bytes: Uint8Array, at: number): boolean {
  return ((bytes[at] as number) & 1) === 0;
}

/**
 * Writes the link header of an answer at the begin of `out`: to where the frame came from, with its tags and EtherType, from where it
 * went. `out` has room for `linkBytes`.
 */
export function writeLinkAnswer(bytes: Uint8Array, start: number, linkBytes: number, out: Uint8Array): void {
  if (linkBytes === 0) return;
  for (let at = 0; at < 6; at++) {
    out[at] = bytes[start + 6 + at] as number;
    out[6 + at] = bytes[start + at] as number;
  }
  for (let at = ADDRESSES; at < linkBytes; at++) out[at] = bytes[start + at] as number;
}
