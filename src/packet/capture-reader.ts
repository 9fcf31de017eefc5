// Reads capture files, pcap and pcapng, as they come in pieces of any size. What it keeps meanwhile is one block at most, 16 MiB; packets
// are the same however the file is cut. Pure.
//
//   push(bytes) -> packets, push(bytes) -> packets, ... end()         damage is thrown only after all packets before it were given

import { BadCapture, type CapturedPacket, type CaptureFormat } from './captured-packet.ts';
import { pcapFile } from './pcap-file.ts';
import { pcapngFile } from './pcapng-file.ts';

export { BadCapture, type CapturedPacket } from './captured-packet.ts';

/** Bytes of a piece that are looked at together: a piece may be as large as it likes, the buffer need not. */
const STEP_BYTES = 65_536;
const MAGIC_BYTES = 4;

export class CaptureReader {
  #format: CaptureFormat | undefined;
  /** What was not read yet: `buffer[start, end)`, which begins at `offset` of the file. */
  #buffer = Buffer.allocUnsafeSlow(2 * STEP_BYTES);
  #start = 0;
  #end = 0;
  #offset = 0;
  #damage: BadCapture | undefined;

  /**
   * Takes the next piece of the file (*copies*) and gives the packets that are whole with it, in order. Throws BadCapture for what is no
   * capture, or damaged: at once when there is no packet to give before, else with the next call; and with every call after.
   */
  push(chunk: Uint8Array): CapturedPacket[] {
    const packets: CapturedPacket[] = [];
    for (let at = 0; at < chunk.length && this.#damage === undefined; at += STEP_BYTES) {
      this.#append(chunk, at, Math.min(STEP_BYTES, chunk.length - at));
      this.#read(packets);
    }
    if (this.#damage !== undefined && packets.length === 0) throw this.#damage;
    return packets;
  }

  /** The file ends here. Throws BadCapture when it was damaged, is empty, or ends within a block; every packet before was given. */
  end(): void {
    if (this.#damage !== undefined) throw this.#damage;
    if (this.#format === undefined && this.#start === this.#end) throw new BadCapture(0, 'it is empty');
    const left = this.#end - this.#start;
    if (left > 0) throw new BadCapture(this.#offset, `cut off: ${left} bytes of a longer block`);
  }

  #append(chunk: Uint8Array, from: number, length: number): void {
    if (this.#end + length > this.#buffer.length) {
      const kept = this.#end - this.#start;
      const old = this.#buffer;
      // Grows with what is there, not with what a length claims.
      if (kept + length > old.length) this.#buffer = Buffer.allocUnsafeSlow(Math.max(2 * old.length, kept + length));
      old.copy(this.#buffer, 0, this.#start, this.#end);
      this.#start = 0;
      this.#end = kept;
    }
    this.#buffer.set(chunk.subarray(from, from + length), this.#end);
    this.#end += length;
  }

  #read(packets: CapturedPacket[]): void {
    try {
      for (;;) {
        const available = this.#end - this.#start;
        if (this.#format === undefined) {
          if (available < MAGIC_BYTES) return;
          this.#format = formatOf(this.#buffer.subarray(this.#start, this.#start + MAGIC_BYTES));
        }
        const size = this.#format.size(this.#buffer, this.#start, available, this.#offset);
        if (available < size) return;
        const packet = this.#format.read(this.#buffer, this.#start, size, this.#offset);
        if (packet !== undefined) packets.push(packet);
        this.#start += size;
        this.#offset += size;
      }
    } catch (error) {
      if (!(error instanceof BadCapture)) throw error;
      this.#damage = error;
    }
  }
}

function formatOf(magic: Buffer): CaptureFormat {
  const format = pcapFile(magic) ?? pcapngFile(magic);
  if (format !== undefined) return format;
  const hint = magic[0] === 0x1f && magic[1] === 0x8b ? '; unpack it first: it is of gzip' : '';
  throw new BadCapture(0, `begins with ${magic.toString('hex')}, which is neither pcap nor pcapng${hint}`);
}
