// Remembers the ports of the first part of a fragmented datagram for the parts that follow. As small as it is it forgets: then a part has no
// ports. Pure.
//
//   | eight words of addresses, source first | id | scope | ports | protocol << 1 | one-way |        four of these for each hash

const SETS = 64;
const WAYS = 4;
const WORDS = 12;
const ID = 8;
const SCOPE = 9;
const PORTS = 10;
const PROTOCOL = 11;

export class FragmentPorts {
  /** Of what stands behind all headers: parts of IPv6 tell only what follows theirs. */
  protocol = 0;
  sourcePort = 0;
  destinationPort = 0;
  oneWay = false;
  /** Made with the first fragment: most interfaces never see one. */
  #table: Int32Array | undefined;
  /** Which of the places of a set gives way next: the oldest. */
  readonly #turns = new Uint8Array(SETS);

  /**
   * Looks for what the first part said; `addresses` are eight words, source first. `scope`, not 0, is all else that parts of a datagram have
   * in common. Fills the fields above when it answers true.
   */
  find(addresses: Int32Array, scope: number, id: number): boolean {
    const table = this.#table;
    if (table === undefined) return false;
    const at = placeOf(table, addresses, scope, id);
    if (at < 0) return false;
    const ports = table[at + PORTS] as number;
    const protocol = table[at + PROTOCOL] as number;
    this.protocol = protocol >> 1;
    this.sourcePort = ports >>> 16;
    this.destinationPort = ports & 0xffff;
    this.oneWay = (protocol & 1) !== 0;
    return true;
  }

  /** Remembers what the first part said. */
  note(
    addresses: Int32Array,
    scope: number,
    id: number,
    protocol: number,
    sourcePort: number,
    destinationPort: number,
    oneWay: boolean,
  ): void {
    this.#table ??= new Int32Array(SETS * WAYS * WORDS);
    const table = this.#table;
    let at = placeOf(table, addresses, scope, id);
    if (at < 0) {
      const set = setOf(addresses, scope, id);
      const turn = this.#turns[set] as number;
      this.#turns[set] = turn + 1;
      at = placeIn(set, turn & (WAYS - 1));
    }
    for (let index = 0; index < 8; index++) table[at + index] = addresses[index] as number;
    table[at + ID] = id;
    table[at + SCOPE] = scope;
    table[at + PORTS] = (sourcePort << 16) | destinationPort;
    table[at + PROTOCOL] = (protocol << 1) | (oneWay ? 1 : 0);
  }
}

function placeOf(table: Int32Array, addresses: Int32Array, scope: number, id: number): number {
  const set = setOf(addresses, scope, id);
  for (let way = 0; way < WAYS; way++) {
    const at = placeIn(set, way);
    if (table[at + ID] !== id || table[at + SCOPE] !== scope) continue;
    let same = 0;
    while (same < 8 && table[at + same] === addresses[same]) same++;
    if (same === 8) return at;
  }
  return -1;
}

/** Whoever makes five meet makes one of them lose its ports, no more. */
function setOf(addresses: Int32Array, scope: number, id: number): number {
  let hash = Math.imul(id ^ (scope << 16), 0x9e3779b1);
  for (let index = 0; index < 8; index++) hash = Math.imul(hash ^ (addresses[index] as number), 0x85ebca6b) ^ (hash >>> 13);
  return (hash ^ (hash >>> 16)) & (SETS - 1);
}

const placeIn = (set: number, way: number): number => (set * WAYS + way) * WORDS;
