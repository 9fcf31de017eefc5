// Where in an Ethernet frame the payload of UDP or TCP stands, and how to change it so that its checksum still says that it is right. Pure.

import { finish, pseudoHeaderSum, sumBytes } from '../../src/packet/checksum.ts';

const ETHERNET = 14;
const TCP = 6;
const UDP = 17;

/** Reused from frame to frame. */
export interface Carried {
  ipAt: number;
  isV6: boolean;
  protocol: number;
  headerAt: number;
  payloadAt: number;
  /** Behind the last byte of the payload. */
  end: number;
}

/** Whether the frame carries UDP or TCP, whole, without options of IPv6; then it tells where. */
export function carried(bytes: Buffer, length: number, into: Carried): boolean {
  if (length < ETHERNET + 20) return false;
  const type = bytes.readUInt16BE(12);
  into.ipAt = ETHERNET;
  if (type === 0x0800) {
    // A fragment has no header of its own.
    if ((bytes.readUInt16BE(ETHERNET + 6) & 0x3fff) !== 0) return false;
    into.isV6 = false;
    into.protocol = bytes[ETHERNET + 9] as number;
    into.headerAt = ETHERNET + ((bytes[ETHERNET] as number) & 0xf) * 4;
    into.end = ETHERNET + bytes.readUInt16BE(ETHERNET + 2);
  } else if (type === 0x86dd && length >= ETHERNET + 40) {
    into.isV6 = true;
    into.protocol = bytes[ETHERNET + 6] as number;
    into.headerAt = ETHERNET + 40;
    into.end = into.headerAt + bytes.readUInt16BE(ETHERNET + 4);
  } else return false;
  if (into.end > length) return false;
  if (into.protocol === UDP) into.payloadAt = into.headerAt + 8;
  else if (into.protocol === TCP && into.headerAt + 20 <= into.end)
    into.payloadAt = into.headerAt + ((bytes[into.headerAt + 12] as number) >> 4) * 4;
  else return false;
  return into.payloadAt <= into.end;
}

/** Bit 0 is the highest of the first byte. */
export function flipBit(bytes: Buffer, start: number, bit: number): void {
  const at = start + (bit >> 3);
  bytes[at] = (bytes[at] as number) ^ (0x80 >> (bit & 7));
}

/** Makes the checksum of UDP or TCP right. */
export function setChecksum(bytes: Buffer, { ipAt, isV6, protocol, headerAt, end }: Carried): void {
  const at = headerAt + (protocol === UDP ? 6 : 16);
  bytes.writeUInt16BE(0, at);
  const length = end - headerAt;
  const pseudo = pseudoHeaderSum(bytes, ipAt + (isV6 ? 8 : 12), isV6 ? 16 : 4, protocol, length);
  const sum = finish(pseudo + sumBytes(bytes, headerAt, length));
  bytes.writeUInt16BE(sum === 0 && protocol === UDP ? 0xffff : sum, at);
}
