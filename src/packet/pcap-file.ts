// The records of a pcap file (draft-ietf-opsawg-pcap; pcap-savefile(5)): version 2.4, both byte orders, micro- and nanoseconds. Pure.
//
//   file:   | magic 4 | version 2, 2 | zone 4 | accuracy 4 | snap length 4 | FCS 4 bits, reserved, link type 16 bits | record ...
//   record: | seconds 4 | micro- or nanoseconds 4 | captured 4 | original 4 | bytes |

import { BadCapture, type CapturedPacket, type CaptureFormat, checkCaptured, u16, u32 } from './captured-packet.ts';

const MICROSECONDS = 0xa1b2c3d4;
const NANOSECONDS = 0xa1b23c4d;
const FILE_HEADER = 24;
const RECORD_HEADER = 16;
const SECOND = 1_000_000_000;

/** The format of a file with these first four bytes; undefined when it is not pcap. */
export function pcapFile(magic: Buffer): CaptureFormat | undefined {
  for (const little of [true, false]) {
    const value = u32(magic, 0, little);
    if (value === MICROSECONDS) return new PcapFile(little, 1000);
    if (value === NANOSECONDS) return new PcapFile(little, 1);
  }
  return undefined;
}

class PcapFile implements CaptureFormat {
  readonly #little: boolean;
  readonly #nanosPerUnit: number;
  /** Undefined before the file header. */
  #linkType: number | undefined;

  constructor(little: boolean, nanosPerUnit: number) {
    this.#little = little;
    this.#nanosPerUnit = nanosPerUnit;
  }

  size(buffer: Buffer, at: number, available: number, offset: number): number {
    if (this.#linkType === undefined) return FILE_HEADER;
    if (available < RECORD_HEADER) return RECORD_HEADER;
    const captured = u32(buffer, at + 8, this.#little);
    checkCaptured(captured, offset);
    return RECORD_HEADER + captured;
  }

  read(buffer: Buffer, at: number, size: number, offset: number): CapturedPacket | undefined {
    const little = this.#little;
    if (this.#linkType === undefined) {
      const [major, minor] = [u16(buffer, at + 4, little), u16(buffer, at + 6, little)];
      // Before 2.4 the two lengths of a record stood the other way round.
      if (major !== 2 || minor !== 4) throw new BadCapture(offset, `pcap of version ${major}.${minor}; only 2.4 is known`);
      this.#linkType = u32(buffer, at + 20, little) & 0xffff;
      return undefined;
    }
    const nanos = u32(buffer, at + 4, little) * this.#nanosPerUnit;
    return {
      linkType: this.#linkType,
      seconds: u32(buffer, at, little) + Math.floor(nanos / SECOND),
      nanos: nanos % SECOND,
      originalLength: u32(buffer, at + 12, little),
      bytes: Buffer.from(buffer.subarray(at + RECORD_HEADER, at + size)),
    };
  }
}
