// A ledger written plainly, for tests: what the one of a meter must do, flow by flow, by a map and whole sweeps at every tick.

import type { Sent, Talk } from './flow-talk.ts';

export interface Entry {
  talk: Talk;
  /** Side that sent the first packet. */
  from: 0 | 1;
  start: bigint;
  last: bigint;
  dscp: number;
  ttl: number;
  flags: [forward: number, reverse: number];
  total: [packets: number, bytes: number, reversePackets: number, reverseBytes: number];
  told: [number, number, number, number];
  lastTick: number;
  toldTick: number;
  isStarted: boolean;
  fins: [boolean, boolean];
  isClosed: boolean;
}

/** What a record must say. */
export interface Told {
  event: 'START' | 'UPDATE' | 'END' | 'OVERFLOW';
  reason: number;
  entry: Entry | undefined;
  delta: [number, number, number, number];
  total: [number, number, number, number];
}

export interface BookSetup {
  activeTicks: number;
  idleTicks: number;
  most: number;
}

const none = (): [number, number, number, number] => [0, 0, 0, 0];

export class Book {
  readonly flows = new Map<Talk, Entry>();
  readonly told: Told[] = [];
  readonly seen = { packets: 0, bytes: 0 };
  readonly sampledOut = { packets: 0, bytes: 0 };
  readonly setup: BookSetup;
  readonly #overflow = none();
  readonly #overflowAll = none();
  #tick = 0;

  constructor(setup: BookSetup) {
    this.setup = setup;
  }

  leaveOut({ packets, wireBytes }: Sent): void {
    for (const counts of [this.seen, this.sampledOut]) {
      counts.packets += packets;
      counts.bytes += wireBytes;
    }
  }

  count(talk: Talk, from: 0 | 1, { packets, wireBytes }: Sent, flags: number, ttl: number, dscp: number, time: bigint): void {
    this.seen.packets += packets;
    this.seen.bytes += wireBytes;
    const [SYN, ACK, RST, FIN] = [2, 16, 4, 1];
    const isTcp = talk.protocol === 6;
    const before = this.flows.get(talk);
    if (before?.isClosed && isTcp && (flags & SYN) !== 0 && (flags & (ACK | RST)) === 0) this.#end(before, 3);
    let entry = this.flows.get(talk);
    if (entry === undefined && this.flows.size >= this.setup.most) {
      // Into the interface is forward.
      const at = from === talk.node ? 2 : 0;
      this.#overflow[at] = (this.#overflow[at] as number) + packets;
      this.#overflow[at + 1] = (this.#overflow[at + 1] as number) + wireBytes;
      return;
    }
    if (entry === undefined) {
      const fresh = { talk, from, start: time, last: time, dscp, ttl, lastTick: this.#tick, toldTick: this.#tick };
      entry = { ...fresh, flags: [0, 0], total: none(), told: none(), isStarted: false, fins: [false, false], isClosed: false };
      this.flows.set(talk, entry);
    }
    const way = from === entry.from ? 0 : 1;
    entry.total[way * 2] = (entry.total[way * 2] as number) + packets;
    entry.total[way * 2 + 1] = (entry.total[way * 2 + 1] as number) + wireBytes;
    entry.last = time;
    entry.lastTick = this.#tick;
    if (way === 0) entry.ttl = Math.min(entry.ttl, ttl);
    if (!isTcp) return;
    entry.flags[way] |= flags;
    if ((flags & FIN) !== 0) entry.fins[way] = true;
    if ((flags & RST) !== 0 || (entry.fins[0] && entry.fins[1])) entry.isClosed = true;
  }

  tick(): void {
    this.#tick++;
    for (const entry of [...this.flows.values()]) {
      const quiet = this.#tick - entry.lastTick;
      if (entry.isClosed && quiet >= 4) this.#end(entry, 3);
      else if (quiet > this.setup.idleTicks) this.#end(entry, 1);
      else if ((!entry.isStarted && !entry.isClosed) || this.#tick - entry.toldTick >= this.setup.activeTicks) this.#goesOn(entry);
    }
    if (this.#tick % 4 === 0) this.#tellOverflow();
  }

  tellAll(): void {
    for (const entry of this.flows.values()) this.#goesOn(entry);
    this.#tellOverflow();
  }

  endAll(): void {
    for (const entry of [...this.flows.values()]) this.#end(entry, 4);
    this.#tellOverflow();
  }

  #goesOn(entry: Entry): void {
    this.#tell(entry, entry.isStarted ? 'UPDATE' : 'START', entry.isStarted ? 2 : 0);
    entry.isStarted = true;
  }

  #end(entry: Entry, reason: number): void {
    this.#tell(entry, 'END', reason);
    this.flows.delete(entry.talk);
  }

  #tell(entry: Entry, event: Told['event'], reason: number): void {
    const delta = entry.total.map((count, at) => count - (entry.told[at] as number)) as Told['delta'];
    entry.told = [...entry.total];
    entry.toldTick = this.#tick;
    this.told.push({ event, reason, entry: { ...entry, flags: [...entry.flags] }, delta, total: [...entry.total] });
  }

  #tellOverflow(): void {
    if (this.#overflow.every((count) => count === 0)) return;
    for (const at of [0, 1, 2, 3]) this.#overflowAll[at] = (this.#overflowAll[at] as number) + (this.#overflow[at] as number);
    this.told.push({ event: 'OVERFLOW', reason: 5, entry: undefined, delta: [...this.#overflow], total: [...this.#overflowAll] });
    this.#overflow.fill(0);
  }
}
