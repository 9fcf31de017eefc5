// Remembers the ports of the first part of a fragmented datagram for the parts that follow. As small as it is it forgets: then a part has no
// ports. Pure.
//
//   | eight words of addresses, source first | id | protocol + 1 | ports | one-way |

const SLOTS = 256;
const WORDS = 12;
const PORTS = 10;
const ONE_WAY = 11;

export class FragmentPorts {
  sourcePort = 0;
  destinationPort = 0;
  oneWay = false;
  /** Made with the first fragment: most interfaces never see one. */
  #table: Int32Array | undefined;

  /** Looks for what the first part said; `addresses` are eight words, source first. Fills the fields above when it answers true. */
  find(addresses: Int32Array, protocol: number, id: number): boolean {
    const table = this.#table;
    if (table === undefined) return false;
    const at = slotOf(addresses, protocol, id);
    for (let index = 0; index < 8; index++) if (table[at + index] !== addresses[index]) return false;
    if (table[at + 8] !== id || table[at + 9] !== protocol + 1) return false;
    const ports = table[at + PORTS] as number;
    this.sourcePort = ports >>> 16;
    this.destinationPort = ports & 0xffff;
    this.oneWay = table[at + ONE_WAY] === 1;
    return true;
  }

  /** Remembers what the first part said. */
  note(addresses: Int32Array, protocol: number, id: number, sourcePort: number, destinationPort: number, oneWay: boolean): void {
    this.#table ??= new Int32Array(SLOTS * WORDS);
    const table = this.#table;
    const at = slotOf(addresses, protocol, id);
    for (let index = 0; index < 8; index++) table[at + index] = addresses[index] as number;
    table[at + 8] = id;
    table[at + 9] = protocol + 1;
    table[at + PORTS] = (sourcePort << 16) | destinationPort;
    table[at + ONE_WAY] = oneWay ? 1 : 0;
  }
}

/** Whoever makes two meet makes one of them lose its ports, no more. */
function slotOf(addresses: Int32Array, protocol: number, id: number): number {
  let hash = Math.imul(id ^ (protocol << 16), 0x9e3779b1);
  for (let index = 0; index < 8; index++) hash = Math.imul(hash ^ (addresses[index] as number), 0x85ebca6b) ^ (hash >>> 13);
  return ((hash ^ (hash >>> 16)) & (SLOTS - 1)) * WORDS;
}
