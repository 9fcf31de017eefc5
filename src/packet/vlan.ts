// VLAN tags (IEEE 802.1Q), which AF_PACKET takes off a frame and tells apart from it. Pure, no allocation.
//
//   | destination 6 | source 6 | tag protocol 2 | tag control 2: priority 3 bits, drop eligible 1, VLAN 12 | EtherType 2 | ...

const ADDRESSES = 12;
const ETHERNET_BYTES = 14;
const TAG_BYTES = 4;

/**
 * Copies the Ethernet frame `bytes[start, start + length)` (*borrows*), within `bytes` and apart from `out`, to the begin of `out` with a
 * tag after its addresses. `tpid` and `tci` are 16 bits each, such as 0x8100 and the number of the VLAN. Answers the new length, 4 more;
 * 0, with nothing written, when it is no frame or `out` has no room.
 */
export function insertVlanTag(out: Buffer, bytes: Buffer, start: number, length: number, tpid: number, tci: number): number {
  if (length < ETHERNET_BYTES || length + TAG_BYTES > out.length) return 0;
  bytes.copy(out, 0, start, start + ADDRESSES);
  out[12] = tpid >> 8;
  out[13] = tpid;
  out[14] = tci >> 8;
  out[15] = tci;
  bytes.copy(out, ADDRESSES + TAG_BYTES, start + ADDRESSES, start + length);
  return length + TAG_BYTES;
}
