// The blocks of a pcapng file (draft-ietf-opsawg-pcapng): sections of both byte orders, interfaces with their resolution and offset of
// time, and packets of all three kinds. Other blocks are skipped, as are the options of packets. Pure. What we write ourselves: pcapng.ts.
//
//   | block type 4 | total length 4 | body, padded to 4 | total length 4 |       options: | code 2 | length 2 | value, padded to 4 |

import { BadCapture, type CapturedPacket, type CaptureFormat, checkCaptured, u16, u32 } from './captured-packet.ts';

const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE_DESCRIPTION = 1;
const OLD_PACKET = 2;
const SIMPLE_PACKET = 3;
const ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const [IF_TSRESOL, IF_TSOFFSET] = [9, 14] as const;

const BLOCK_MOST = 16 * 1024 * 1024;
/** Type and both lengths: the least that a block has, and what is needed to know its size. */
const BLOCK_FRAME = 12;
/** As many as the numbers of the old packet block can name. */
const INTERFACES_MOST = 65_536;
const NANOS = 1_000_000_000n;

interface CaptureInterface {
  linkType: number;
  /** 0 for no limit. */
  snapLength: number;
  ticksPerSecond: bigint;
  offsetSeconds: bigint;
}

/** The format of a file with these first four bytes; undefined when it is not pcapng. */
export function pcapngFile(magic: Buffer): CaptureFormat | undefined {
  return u32(magic, 0, false) === SECTION_HEADER ? new PcapngFile() : undefined;
}

class PcapngFile implements CaptureFormat {
  /** Of the section. */
  #little = true;
  #interfaces: CaptureInterface[] = [];
  /** Of the packet before: a simple packet has no time. */
  #seconds = 0;
  #nanos = 0;

  size(buffer: Buffer, at: number, available: number, offset: number): number {
    if (available < BLOCK_FRAME) return BLOCK_FRAME;
    // The type of a section header is the same in both orders; what is in order comes after it.
    if (u32(buffer, at, true) === SECTION_HEADER) this.#little = isLittle(buffer, at + 8, offset);
    const total = u32(buffer, at + 4, this.#little);
    if (total < BLOCK_FRAME || total % 4 !== 0) throw new BadCapture(offset, `a block of ${total} bytes`);
    if (total > BLOCK_MOST) throw new BadCapture(offset, `a block of ${total} bytes, at most ${BLOCK_MOST}`);
    return total;
  }

  read(buffer: Buffer, at: number, size: number, offset: number): CapturedPacket | undefined {
    const type = u32(buffer, at, this.#little);
    const trailer = u32(buffer, at + size - 4, this.#little);
    if (trailer !== size) throw new BadCapture(offset, `a block of ${size} bytes that ends as one of ${trailer}`);
    const body = buffer.subarray(at + 8, at + size - 4);
    const needs = (least: number): void => {
      if (body.length < least) throw new BadCapture(offset, `a block of type ${type} with ${size} bytes`);
    };
    switch (type) {
      case SECTION_HEADER:
        needs(16);
        return this.#section(body, offset);
      case INTERFACE_DESCRIPTION:
        needs(8);
        return this.#describe(body, offset);
      case ENHANCED_PACKET:
        needs(20);
        return this.#packet(body, u32(body, 0, this.#little), offset);
      case OLD_PACKET:
        needs(20);
        return this.#packet(body, u16(body, 0, this.#little), offset);
      case SIMPLE_PACKET:
        needs(4);
        return this.#simplePacket(body, offset);
      default:
        return undefined;
    }
  }

  #section(body: Buffer, offset: number): undefined {
    const [major, minor] = [u16(body, 4, this.#little), u16(body, 6, this.#little)];
    // 1.2 was written by mistake and is the same.
    if (major !== 1 || (minor !== 0 && minor !== 2)) throw new BadCapture(offset, `pcapng of version ${major}.${minor}; only 1.0 is known`);
    this.#interfaces = [];
  }

  #describe(body: Buffer, offset: number): undefined {
    if (this.#interfaces.length === INTERFACES_MOST) throw new BadCapture(offset, `more than ${INTERFACES_MOST} interfaces`);
    const little = this.#little;
    const described = { linkType: u16(body, 0, little), snapLength: u32(body, 4, little), ticksPerSecond: 1_000_000n, offsetSeconds: 0n };
    for (let at = 8; at + 4 <= body.length; ) {
      const code = u16(body, at, little);
      const length = u16(body, at + 2, little);
      const value = at + 4;
      if (code === 0) break;
      if (value + length > body.length) throw new BadCapture(offset, `option ${code} of an interface is cut off`);
      if (code === IF_TSRESOL && length === 1) described.ticksPerSecond = resolution(body[value] as number);
      if (code === IF_TSOFFSET && length === 8) described.offsetSeconds = little ? body.readBigInt64LE(value) : body.readBigInt64BE(value);
      at = value + ((length + 3) & ~3);
    }
    this.#interfaces.push(described);
  }

  /** Both kinds with a time have the same layout after the number of their interface. */
  #packet(body: Buffer, number: number, offset: number): CapturedPacket {
    const little = this.#little;
    const { linkType, ticksPerSecond, offsetSeconds } = this.#interface(number, offset);
    const ticks = (BigInt(u32(body, 4, little)) << 32n) | BigInt(u32(body, 8, little));
    const seconds = Number(ticks / ticksPerSecond + offsetSeconds);
    if (!Number.isSafeInteger(seconds)) throw new BadCapture(offset, `a time of ${seconds} seconds`);
    this.#seconds = seconds;
    this.#nanos = Number(((ticks % ticksPerSecond) * NANOS) / ticksPerSecond);
    return this.#captured(linkType, u32(body, 16, little), body, 20, u32(body, 12, little), offset);
  }

  #simplePacket(body: Buffer, offset: number): CapturedPacket {
    const { linkType, snapLength } = this.#interface(0, offset);
    const originalLength = u32(body, 0, this.#little);
    const captured = snapLength === 0 ? originalLength : Math.min(originalLength, snapLength);
    return this.#captured(linkType, originalLength, body, 4, captured, offset);
  }

  #interface(number: number, offset: number): CaptureInterface {
    const found = this.#interfaces[number];
    if (found === undefined) throw new BadCapture(offset, `a packet of interface ${number}, of ${this.#interfaces.length}`);
    return found;
  }

  #captured(linkType: number, originalLength: number, body: Buffer, at: number, captured: number, offset: number): CapturedPacket {
    checkCaptured(captured, offset);
    if (at + captured > body.length) throw new BadCapture(offset, `a packet of ${captured} bytes in a block with ${body.length - at}`);
    const bytes = Buffer.from(body.subarray(at, at + captured));
    return { linkType, seconds: this.#seconds, nanos: this.#nanos, originalLength, bytes };
  }
}

function isLittle(buffer: Buffer, at: number, offset: number): boolean {
  if (u32(buffer, at, true) === BYTE_ORDER_MAGIC) return true;
  if (u32(buffer, at, false) === BYTE_ORDER_MAGIC) return false;
  throw new BadCapture(offset, 'a section of no known byte order');
}

/** if_tsresol: a negative power of 10, or of 2 with the highest bit set. */
function resolution(value: number): bigint {
  return (value & 0x80) === 0 ? 10n ** BigInt(value) : 2n ** BigInt(value & 0x7f);
}
