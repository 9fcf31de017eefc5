// struct virtio_net_hdr (linux/virtio_net.h), which stands before a frame when the device has IFF_VNET_HDR: what the other side has
// left undone of checksum and segmentation. Little-endian on the machines we run on. Pure.
//
//   | flags 1 | gso type 1 | header length 2 | gso size 2 | checksum start 2 | checksum offset 2 | (buffers 2) |

export const VNET_HEADER_BYTES = 10;

/** The checksum from `checksumStart` is to be put at `checksumStart + checksumOffset`; the pseudo-header's sum stands there already. */
export const NEEDS_CHECKSUM = 1;

export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
export const GSO_TCPV6 = 4;
export const GSO_UDP_L4 = 5;
/** Flag on the types above: the segment has ECN's CWR set, which belongs to the first piece only. */
export const GSO_ECN = 0x80;

export interface VnetHeader {
  flags: number;
  gsoType: number;
  /** Bytes of all headers; a hint, not to be trusted. */
  headerLength: number;
  /** Payload bytes of each piece. */
  gsoSize: number;
  checksumStart: number;
  checksumOffset: number;
}

/** Reads the header at `at` into `into`; false when the bytes end before it does. */
export function readVnetHeader(bytes: Buffer, at: number, into: VnetHeader): boolean {
  if (at + VNET_HEADER_BYTES > bytes.length) return false;
  into.flags = bytes.readUInt8(at);
  into.gsoType = bytes.readUInt8(at + 1);
  into.headerLength = bytes.readUInt16LE(at + 2);
  into.gsoSize = bytes.readUInt16LE(at + 4);
  into.checksumStart = bytes.readUInt16LE(at + 6);
  into.checksumOffset = bytes.readUInt16LE(at + 8);
  return true;
}

/** Writes the header at `at`; the rest of a longer one is zeroed up to `size`. */
export function writeVnetHeader(bytes: Buffer, at: number, header: VnetHeader, size: number = VNET_HEADER_BYTES): void {
  bytes.writeUInt8(header.flags, at);
  bytes.writeUInt8(header.gsoType, at + 1);
  bytes.writeUInt16LE(header.headerLength, at + 2);
  bytes.writeUInt16LE(header.gsoSize, at + 4);
  bytes.writeUInt16LE(header.checksumStart, at + 6);
  bytes.writeUInt16LE(header.checksumOffset, at + 8);
  bytes.fill(0, at + VNET_HEADER_BYTES, at + size);
}

/** A header that says nothing is left to do. */
export function plainVnetHeader(): VnetHeader {
  return { flags: 0, gsoType: GSO_NONE, headerLength: 0, gsoSize: 0, checksumStart: 0, checksumOffset: 0 };
}
