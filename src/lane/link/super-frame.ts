// How many packets of the wire a super-frame stands for, to count those that go nowhere. Pure.

import { GSO_ECN, GSO_NONE, GSO_UDP_L4, VNET_HEADER_BYTES } from '../../packet/vnet-header.ts';

const GSO_TYPE_AT = 1;
const GSO_SIZE_AT = 4;
const CHECKSUM_START_AT = 6;
const TCP_BYTES = 20;
const UDP_BYTES = 8;

/**
 * Packets of `bytes[start, start + length)`, virtio header and frame; 1 for what is not to be cut. Where the headers end is read from the frame: the
 * kernel's length of them is that of the part of its buffer that is in one piece, which may be all (include/linux/virtio_net.h).
 */
export function packetsOf(bytes: Buffer, start: number, length: number): number {
  const type = length <= VNET_HEADER_BYTES ? GSO_NONE : (bytes[start + GSO_TYPE_AT] as number) & ~GSO_ECN;
  if (type === GSO_NONE) return 1;
  const size = bytes.readUInt16LE(start + GSO_SIZE_AT);
  const end = start + length;
  const transport = start + VNET_HEADER_BYTES + bytes.readUInt16LE(start + CHECKSUM_START_AT);
  const isUdp = type === GSO_UDP_L4;
  if (size === 0 || transport + (isUdp ? UDP_BYTES : TCP_BYTES) > end) return 1;
  const headerBytes = isUdp ? UDP_BYTES : ((bytes[transport + 12] as number) >> 4) * 4;
  return Math.max(1, Math.ceil((end - transport - headerBytes) / size));
}
