// The VXLAN header (RFC 7348, section 5), which stands before an Ethernet frame in a UDP datagram. Pure, no allocation.
//
//   | flags 1: only I, 0x08, says something | reserved 3 | VNI 3 | reserved 1 |

export const VXLAN_HEADER_BYTES = 8;
export const VNI_MOST = 0xff_ffff;

const FLAG_VNI = 0x08;
const ETHERNET_BYTES = 14;

/** Why a datagram is not for us: shorter than header and an Ethernet header, without a VNI that counts, or of another VNI. */
export type VxlanRefusal = 'short' | 'no-vni' | 'other-vni';

/**
 * Reads the header of the datagram `bytes[start, start + length)`, which lies within `bytes`; undefined when it carries a frame of `vni`, which then
 * starts `VXLAN_HEADER_BYTES` further. Reserved bits are ignored, as the RFC says.
 */
export function readVxlanHeader(bytes: Uint8Array, start: number, length: number, vni: number): VxlanRefusal | undefined {
  if (length < VXLAN_HEADER_BYTES + ETHERNET_BYTES) return 'short';
  if (((bytes[start] as number) & FLAG_VNI) === 0) return 'no-vni';
  const theirs = ((bytes[start + 4] as number) << 16) | ((bytes[start + 5] as number) << 8) | (bytes[start + 6] as number);
  return theirs === vni ? undefined : 'other-vni';
}

/** Writes the header of `vni`, 0 to 2^24 - 1, to the 8 bytes at `at`; nothing when they are not there. */
export function writeVxlanHeader(bytes: Uint8Array, at: number, vni: number): void {
  if (at < 0 || at + VXLAN_HEADER_BYTES > bytes.length) return;
  bytes[at] = FLAG_VNI;
  bytes[at + 1] = 0;
  bytes[at + 2] = 0;
  bytes[at + 3] = 0;
  bytes[at + 4] = vni >>> 16;
  bytes[at + 5] = vni >>> 8;
  bytes[at + 6] = vni;
  bytes[at + 7] = 0;
}
