// The flows of a meter and its account: `seen = recorded + in the table + sampled out`, at every moment. Time is counted in ticks, which no
// setting of the clock disturbs; the times in records are those of the packets.
//
//   new --(first sweep)--> started --(active timeout)--> started ...
//    '---------------------'--(idle timeout)--> ended
//    '---------------------'--(FIN both ways, or RST)--> closed --(CLOSED_TICKS without a packet, or a new SYN)--> ended

import type { MeterSetup } from '../gen/taplane/lane/v1/lane_service.ts';
import type { FlowKeyReader } from '../packet/flow-key.ts';
import type { RingFrame } from '../sys/packet-ring.ts';
import {
  ACTIVE_TIMEOUT,
  END,
  END_OF_FLOW,
  type FlowBatchWriter,
  IDLE_TIMEOUT,
  START,
  type Totals,
  type TrafficCounts,
  UPDATE,
} from './flow-batch.ts';
import { type FlowPool, PIECE_FLOWS } from './flow-pool.ts';
import {
  CLOSED,
  COUNTERS,
  ETHERNET,
  FIN_FORWARD,
  FIN_REVERSE,
  FIRST_NANOS,
  FIRST_SECONDS,
  FLAGS,
  FlowTable,
  FRAGMENTS,
  FROM_B,
  LAST_NANOS,
  LAST_SECONDS,
  LAST_TICK,
  MACS,
  NUMBER,
  OUTGOING,
  SECRET_WORDS,
  STARTED,
  STATE,
  TOLD_TICK,
  TYPES,
} from './flow-table.ts';

/** Ticks a second. */
export const TICKS = 4;
/** After the end of a connection its last acknowledgements still come. */
const CLOSED_TICKS = TICKS;
const [FIN, SYN, RST, ACK] = [1, 2, 4, 16] as const;
const USUAL_ACTIVE_S = 60;
const USUAL_IDLE_S = 15;
const USUAL_ENTRIES = 65_536;

export interface LedgerNeeds {
  pool: FlowPool;
  secret?: Int32Array;
}

export class FlowLedger {
  readonly totals: Totals = {
    seenPackets: 0,
    seenBytes: 0,
    recordedPackets: 0,
    recordedBytes: 0,
    sampledOutPackets: 0,
    sampledOutBytes: 0,
    droppedFrames: 0,
    activeFlows: 0,
  };
  readonly #table: FlowTable;
  readonly #writer: FlowBatchWriter;
  readonly #full: () => void;
  readonly #overflow: [inbound: TrafficCounts, outbound: TrafficCounts] = [noTraffic(), noTraffic()];
  readonly #overflowTimes = new Int32Array(4);
  #overflowed = false;
  #overflowDue = false;
  #idleTicks = 0;
  #activeTicks = 0;
  #sampling = 1;
  #tick = 0;
  /** Where the sweep goes on. */
  #sweepAt = 0;
  /** Pieces that it has still to look through. */
  #due = 0;
  #endAt = 0;
  #flows = 0;

  /** `full` hands the batch of `writer` on. */
  constructor(setup: MeterSetup, { pool, secret = randomSecret() }: LedgerNeeds, writer: FlowBatchWriter, full: () => void) {
    this.#table = new FlowTable(pool, USUAL_ENTRIES, secret);
    this.#writer = writer;
    this.#full = full;
    this.set(setup);
  }

  set({ activeTimeout, idleTimeout, tableEntries, sampling }: MeterSetup): void {
    this.#activeTicks = (activeTimeout || USUAL_ACTIVE_S) * TICKS;
    this.#idleTicks = (idleTimeout || USUAL_IDLE_S) * TICKS;
    this.#sampling = Math.max(1, sampling);
    this.#table.limit(tableEntries || USUAL_ENTRIES);
  }

  get memoryBytes(): number {
    return this.#table.memoryBytes;
  }

  /** A packet that sampling leaves out. */
  leaveOut(packets: number, bytes: number): void {
    const { totals } = this;
    totals.seenPackets += packets;
    totals.seenBytes += bytes;
    totals.sampledOutPackets += packets;
    totals.sampledOutBytes += bytes;
  }

  /** Counts the packet that `reader` has read from `bytes`. */
  count(reader: FlowKeyReader, bytes: Uint8Array, frame: RingFrame): void {
    const { totals } = this;
    totals.seenPackets += reader.packets;
    totals.seenBytes += reader.bytes;
    const table = this.#table;
    let slot = table.find(reader.key);
    if (slot >= 0 && this.#isNewConnection(reader)) {
      this.#end(slot, END_OF_FLOW);
      // Finds nothing, and so knows where the new one goes.
      slot = table.find(reader.key);
    }
    if (slot < 0 && !this.#begin(reader, bytes, frame)) {
      this.#overflowWith(reader, frame);
      return;
    }
    const { words, at } = table;
    const state = words[at + STATE] as number;
    const forward = ((state & FROM_B) !== 0) === reader.fromB;
    const counter = (at >> 1) + COUNTERS + (forward ? 0 : 2);
    table.counters[counter] = (table.counters[counter] as number) + reader.packets;
    table.counters[counter + 1] = (table.counters[counter + 1] as number) + reader.bytes;
    words[at + LAST_SECONDS] = frame.seconds;
    words[at + LAST_NANOS] = frame.nanos;
    words[at + LAST_TICK] = this.#tick;
    if (reader.tcpFlags !== 0) this.#connection(words, at, reader.tcpFlags, forward);
    if (reader.fragment) words[at + STATE] = (words[at + STATE] as number) | FRAGMENTS;
    if (forward && reader.ttl < (words[at + FLAGS] as number) >>> 24)
      words[at + FLAGS] = ((words[at + FLAGS] as number) & 0xffffff) | (reader.ttl << 24);
  }

  /** A quarter of the table is due to be swept, with what was due before. */
  tick(): void {
    this.#tick++;
    const pieces = this.#table.slots / PIECE_FLOWS;
    // Small tables are looked through at once.
    this.#due = Math.min(pieces, this.#due + (pieces <= TICKS ? pieces : Math.ceil(pieces / TICKS)));
    this.#overflowDue ||= this.#tick % TICKS === 0;
  }

  /** Ends what is over and tells of what is due, in one piece of the table that has flows; answers whether more are due. */
  sweep(): boolean {
    const table = this.#table;
    for (let swept = false; this.#due > 0 && !swept; this.#due--) {
      if (this.#sweepAt >= table.slots) this.#sweepAt = 0;
      swept = !table.isEmptyPiece(this.#sweepAt);
      if (swept) this.#sweep(this.#sweepAt);
      this.#sweepAt += PIECE_FLOWS;
    }
    if (this.#due > 0) return true;
    if (this.#overflowed && this.#overflowDue) this.#tellOverflow();
    this.#overflowDue = false;
    return false;
  }

  /** Tells of everything that was counted so far. */
  tellAll(): void {
    for (let slot = 0; slot < this.#table.slots; slot++) if (this.#table.open(slot)) this.#tellOn();
    if (this.#overflowed) this.#tellOverflow();
  }

  /** Ends the flows of one piece of the table; answers whether there are more. When nothing is counted any more. */
  endSome(reason: number): boolean {
    const table = this.#table;
    const behind = Math.min(this.#endAt + PIECE_FLOWS, table.slots);
    for (; this.#endAt < behind; this.#endAt++) if (table.open(this.#endAt)) this.#end(this.#endAt, reason);
    if (behind < table.slots) return true;
    this.#endAt = 0;
    if (this.#overflowed) this.#tellOverflow();
    return false;
  }

  close(): void {
    this.#table.close();
  }

  #isNewConnection(reader: FlowKeyReader): boolean {
    const { words, at } = this.#table;
    return ((words[at + STATE] as number) & CLOSED) !== 0 && (reader.tcpFlags & (SYN | ACK | RST)) === SYN;
  }

  #begin(reader: FlowKeyReader, bytes: Uint8Array, frame: RingFrame): boolean {
    const table = this.#table;
    if (table.insert(reader.key) < 0) return false;
    const { words, at } = table;
    let state = words[at + STATE] as number;
    if (reader.fromB) state |= FROM_B;
    if (frame.outgoing) state |= OUTGOING;
    if (reader.ethernetAt >= 0) {
      state |= ETHERNET;
      // Source first: it stands second in the frame.
      for (let byte = 0; byte < 12; byte++) {
        const value = bytes[reader.ethernetAt + ((byte + 6) % 12)] as number;
        words[at + MACS + (byte >> 2)] = (words[at + MACS + (byte >> 2)] as number) | (value << (8 * (byte & 3)));
      }
    }
    words[at + STATE] = state;
    words[at + FIRST_SECONDS] = frame.seconds;
    words[at + FIRST_NANOS] = frame.nanos;
    words[at + TOLD_TICK] = this.#tick;
    words[at + FLAGS] = (reader.dscp << 16) | (reader.ttl << 24);
    words[at + TYPES] = reader.etherType | (reader.icmpType << 16) | (reader.icmpCode << 24);
    const number = ++this.#flows;
    words[at + NUMBER] = number;
    words[at + NUMBER + 1] = number / 2 ** 32;
    this.totals.activeFlows++;
    return true;
  }

  #connection(words: Int32Array, at: number, flags: number, forward: boolean): void {
    words[at + FLAGS] = (words[at + FLAGS] as number) | (forward ? flags : flags << 8);
    if ((flags & (FIN | RST)) === 0) return;
    let state = words[at + STATE] as number;
    if ((flags & FIN) !== 0) state |= forward ? FIN_FORWARD : FIN_REVERSE;
    if ((flags & RST) !== 0 || (state & (FIN_FORWARD | FIN_REVERSE)) === (FIN_FORWARD | FIN_REVERSE)) state |= CLOSED;
    words[at + STATE] = state;
  }

  #sweep(from: number): void {
    const table = this.#table;
    const tick = this.#tick;
    for (let slot = from; slot < from + PIECE_FLOWS; slot++) {
      if (!table.open(slot)) continue;
      const { words, at } = table;
      const state = words[at + STATE] as number;
      const quiet = tick - (words[at + LAST_TICK] as number);
      const isClosed = (state & CLOSED) !== 0;
      if (isClosed && quiet >= CLOSED_TICKS) this.#end(slot, END_OF_FLOW);
      else if (quiet > this.#idleTicks) this.#end(slot, IDLE_TIMEOUT);
      // One that is closed has soon an end to tell of, unless packets go on as if nothing had happened.
      else if (((state & STARTED) === 0 && !isClosed) || tick - (words[at + TOLD_TICK] as number) >= this.#activeTicks) this.#tellOn();
    }
  }

  /** Tells that the flow that the table points to goes on. */
  #tellOn(): void {
    const { words, at } = this.#table;
    const state = words[at + STATE] as number;
    words[at + STATE] = state | STARTED;
    if ((state & STARTED) === 0) this.#tell(START, 0);
    else this.#tell(UPDATE, ACTIVE_TIMEOUT);
  }

  /** Ends the flow in the slot that the table points to. */
  #end(slot: number, reason: number): void {
    this.totals.activeFlows--;
    this.#tell(END, reason);
    this.#table.remove(slot);
  }

  /** Tells of the flow that the table points to. */
  #tell(event: number, reason: number): void {
    const { words, counters, at } = this.#table;
    words[at + TOLD_TICK] = this.#tick;
    this.#recorded(this.#writer.add(words, counters, at, event, reason, this.#sampling));
  }

  #recorded(packets: number): void {
    this.totals.recordedPackets += packets;
    this.totals.recordedBytes += this.#writer.toldBytes;
    if (this.#writer.isFull) this.#full();
  }

  #overflowWith(reader: FlowKeyReader, frame: RingFrame): void {
    const counts = this.#overflow[frame.outgoing ? 1 : 0];
    counts.packets += reader.packets;
    counts.bytes += reader.bytes;
    const times = this.#overflowTimes;
    if (!this.#overflowed) {
      times[0] = frame.seconds;
      times[1] = frame.nanos;
    }
    times[2] = frame.seconds;
    times[3] = frame.nanos;
    this.#overflowed = true;
  }

  #tellOverflow(): void {
    const [inbound, outbound] = this.#overflow;
    for (const counts of this.#overflow) {
      counts.totalPackets += counts.packets;
      counts.totalBytes += counts.bytes;
    }
    this.#writer.addOverflow(inbound, outbound, this.#overflowTimes, this.#sampling);
    this.#recorded(inbound.packets + outbound.packets);
    for (const counts of this.#overflow) {
      counts.packets = 0;
      counts.bytes = 0;
    }
    this.#overflowed = false;
  }
}

function noTraffic(): TrafficCounts {
  return { packets: 0, bytes: 0, totalPackets: 0, totalBytes: 0 };
}

function randomSecret(): Int32Array {
  return crypto.getRandomValues(new Int32Array(SECRET_WORDS));
}
