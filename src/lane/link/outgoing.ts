// What every tunnel does with a frame from its device: reads the virtio header, cuts the frame into what the path takes, tells the sender of what
// is too big, counts what goes nowhere, and lets no program of the node forge probes. One for each tunnel.

import { LinkDrops_Reason as Drop } from '../../gen/taplane/v1/link.ts';
import { parsePrefix } from '../../packet/address-text.ts';
import { cut, type PieceSink } from '../../packet/cut.ts';
import { emptyProbe, mayBeProbe, readProbe } from '../../packet/probe-packet.ts';
import { tooBig } from '../../packet/too-big.ts';
import { plainVnetHeader, readVnetHeader, VNET_HEADER_BYTES } from '../../packet/vnet-header.ts';
import type { LinkCounts } from './counts.ts';
import { packetsOf } from './super-frame.ts';
import type { LinkDevice } from './tunnel.ts';

/** "Too big" answers a second. */
const ANSWERS_MOST = 100;
const ANSWER_BYTES = 1500;

export class Outgoing {
  readonly #device: LinkDevice;
  readonly #counts: LinkCounts;
  readonly #now: () => number;
  readonly #header = plainVnetHeader();
  readonly #probe = emptyProbe();
  /** An empty virtio header, and the answer. */
  readonly #answer = Buffer.alloc(VNET_HEADER_BYTES + ANSWER_BYTES);
  readonly #body = this.#answer.subarray(VNET_HEADER_BYTES);
  #source6: Uint8Array | undefined;
  #second = 0;
  #answers = 0;

  constructor(device: LinkDevice, counts: LinkCounts, now: () => number) {
    this.#device = device;
    this.#counts = counts;
    this.#now = now;
  }

  /** The addresses of the interface, as prefixes: one of them is whom "too big" comes from. */
  setAddresses(prefixes: readonly string[]): void {
    this.#source6 = source6Of(prefixes);
  }

  /**
   * Cuts `bytes[start, start + length)`, virtio header and frame, into `sink`, each piece's IP packet at most `most` bytes. Answers how many pieces
   * were put; what goes nowhere is counted.
   */
  cut(bytes: Buffer, start: number, length: number, most: number, sink: PieceSink): number {
    const at = start + VNET_HEADER_BYTES;
    const frameBytes = length - VNET_HEADER_BYTES;
    if (frameBytes <= 0 || !readVnetHeader(bytes, start, this.#header)) {
      this.#counts.drop(Drop.MALFORMED);
      return 0;
    }
    const { ethernet } = this.#device;
    // Probes are the data plane's: the other end would take this for our word, and send a train for it.
    if (mayBeProbe(bytes, at, frameBytes, ethernet) && readProbe(bytes, at, frameBytes, ethernet, this.#probe)) {
      this.#counts.drop(Drop.MALFORMED);
      return 0;
    }
    const outcome = cut(bytes, at, frameBytes, this.#header, ethernet, most, sink);
    if (typeof outcome === 'number') return outcome;
    if (outcome !== 'too-big') this.#counts.drop(Drop.MALFORMED);
    else {
      this.#counts.drop(Drop.TOO_BIG, packetsOf(bytes, start, length));
      this.#tellTooBig(bytes, at, frameBytes, most);
    }
    return 0;
  }

  #tellTooBig(bytes: Buffer, at: number, frameBytes: number, most: number): void {
    const second = Math.floor(this.#now() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#answers = 0;
    }
    if (this.#answers++ >= ANSWERS_MOST) return;
    const size = tooBig(bytes, at, frameBytes, this.#device.ethernet, most, undefined, this.#source6, this.#body);
    if (size > 0) this.#device.write(this.#answer, 0, VNET_HEADER_BYTES + size);
  }
}

/**
 * The IPv6 address of the interface that "too big" comes from, rather not a link-local one. Of IPv4 there is none: Linux drops a packet that comes in
 * from an address of its own (fib_validate_source), so that answer comes from where the packet was to go.
 */
export function source6Of(prefixes: readonly string[]): Uint8Array | undefined {
  const addresses = prefixes.flatMap((text) => parsePrefix(text)?.bytes ?? []).filter(({ length }) => length === 16);
  return addresses.find((bytes) => bytes[0] !== 0xfe || ((bytes[1] as number) & 0xc0) !== 0x80) ?? addresses[0];
}
