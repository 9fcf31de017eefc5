// Meters one device: every frame that its ring shows is counted in exactly one flow, or in the overflow record, or as sampled out. Tells of
// flows in records; see proto/taplane/v1/flow.proto for what they promise.
//
//   ring --frame--> key --> table: flow --(sweep)--> record --> batch --> outbox

import { randomBytes } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Device, MeterSetup } from '../gen/taplane/lane/v1/lane_service.ts';
import { FlowBatch } from '../gen/taplane/v1/flow.ts';
import { FlowKeyReader } from '../packet/flow-key.ts';
import type { PacketRing, RingFrame, RingShape } from '../sys/packet-ring.ts';
import { frameClock, setNow } from './clock.ts';
import { DeviceRing } from './device-ring.ts';
import { FlowBatchWriter, FORCED_END, type PeerOf } from './flow-batch.ts';
import { FlowLedger } from './flow-ledger.ts';
import type { FlowOutbox } from './flow-outbox.ts';
import type { FlowPool } from './flow-pool.ts';
import { SLICE_MS } from './sweeps.ts';

/** Headers of link, network and transport, IPv6 extension headers included. */
const SNAP_BYTES = 192;
/** Few packets a second are to be had with this delay, and wake nobody more often. */
const RETIRE_MS = 100;
const VNET_BYTES = 10;
/** A batch that is not full goes after so many ticks. */
const BATCH_TICKS = 2;

export interface MeterNeeds {
  pool: FlowPool;
  outbox: FlowOutbox;
  /** Memory for the ring of a meter that opens now, bytes. */
  ringBytes(): number;
  /** Names the peer behind the link of the interface, see `FlowBatchWriter.peerOf`. */
  peerOf?: PeerOf;
  /** Factors of the hash, see flow-table.ts; random where not given. */
  secret?: Int32Array;
}

export class Meter {
  readonly device: Device;
  readonly #needs: MeterNeeds;
  readonly #epoch = randomBytes(8).toString('hex');
  readonly #reader: FlowKeyReader;
  readonly #writer: FlowBatchWriter;
  readonly #ledger: FlowLedger;
  readonly #ring: DeviceRing;
  readonly #clock = frameClock();
  #setup: MeterSetup;
  #head: Uint8Array;
  /** Packets until the next one that is metered. */
  #skip = 0;
  #sampling: number;
  #batchAge = 0;
  #ringBytes = 0;

  constructor(device: Device, setup: MeterSetup, needs: MeterNeeds) {
    this.device = device;
    this.#needs = needs;
    this.#setup = setup;
    this.#sampling = Math.max(1, setup.sampling);
    this.#head = this.#headOf(setup);
    this.#reader = new FlowKeyReader(device.tap);
    this.#writer = new FlowBatchWriter(this.#epoch);
    this.#writer.link = setup.link;
    this.#writer.peerOf = needs.peerOf;
    this.#ledger = new FlowLedger(setup, needs, this.#writer, () => this.#flush());
    this.#ring = new DeviceRing(device, () => this.#shape(), {
      take: (frame, ring) => this.#take(frame, ring),
      lose: (count) => {
        this.#ledger.totals.droppedFrames += count;
      },
      flush: () => {},
    });
    this.#ring.openWhenever();
  }

  get isOpen(): boolean {
    return this.#ring.isOpen;
  }

  get reason(): string {
    return this.#ring.isOpen ? '' : this.#ring.reason;
  }

  /** Memory of its ring, bytes. */
  get ringBytes(): number {
    return this.#ringBytes;
  }

  /** It is declared again, maybe with other names or timeouts: goes on with the flows that are there. */
  again(setup: MeterSetup): void {
    if (setup === this.#setup) return;
    // What was recorded before is told under the names of before.
    const head = this.#headOf(setup);
    if (Buffer.compare(head, this.#head) !== 0) {
      this.#flush();
      this.#head = head;
    }
    const sampling = Math.max(1, setup.sampling);
    if (sampling !== this.#sampling) {
      // A record tells one rate: what was counted at the other one is told first.
      this.#ledger.tellAll();
      this.#sampling = sampling;
      this.#skip = 0;
    }
    this.#writer.link = setup.link;
    this.#setup = setup;
    this.#ledger.set(setup);
  }

  /** Looks whether the device is still the one that is meant. */
  verify(): void {
    this.#ring.verify();
  }

  /** To be called TICKS times a second: there are flows to end and to tell of, see `sweep`. */
  tick(): void {
    this.#ledger.tick();
  }

  /** Ends and tells of some flows, PIECE_FLOWS at most; answers whether there are more. */
  sweep(): boolean {
    if (this.#ledger.sweep()) return true;
    if (this.#writer.records === 0) this.#batchAge = 0;
    else if (++this.#batchAge >= BATCH_TICKS) this.#flush();
    return false;
  }

  /** Tells of all flows as ended, and closes. What passed until now is metered. */
  async close(): Promise<void> {
    await this.#ring.settle();
    this.#ring.close();
    for (let until = performance.now() + SLICE_MS; this.#ledger.endSome(FORCED_END); ) {
      if (performance.now() < until) continue;
      await nextTurn();
      until = performance.now() + SLICE_MS;
    }
    this.#flush();
    this.#ledger.close();
  }

  #shape(): RingShape {
    this.#ringBytes = 0;
    const bytes = this.#needs.ringBytes();
    this.#ringBytes = bytes;
    return { bytes, blockBytes: bytes >> 3, retireMs: RETIRE_MS, snapLength: SNAP_BYTES };
  }

  #take(frame: RingFrame, ring: PacketRing): void {
    const { start } = frame;
    const bytes = ring.bytes;
    const header = start - VNET_BYTES;
    const gsoType = bytes[header + 1] as number;
    const gsoSize = gsoType === 0 ? 0 : (bytes[header + 4] as number) | ((bytes[header + 5] as number) << 8);
    const reader = this.#reader;
    const isUsual = gsoType === 0 && frame.vlanTpid === 0;
    if (!isUsual || !reader.readPlain(bytes, start, frame.captured, frame.length, frame.outgoing))
      reader.read(bytes, start, frame.captured, frame.length, frame.outgoing, frame.vlanTpid, frame.vlanTci, gsoType, gsoSize);
    if (this.#sampling > 1) {
      if (this.#skip > 0) {
        this.#skip--;
        this.#ledger.leaveOut(reader.packets, reader.bytes);
        return;
      }
      // Not every n-th one: what comes in a rhythm would be seen always or never.
      this.#skip = Math.floor(Math.random() * (2 * this.#sampling - 1));
    }
    this.#ledger.count(reader, bytes, frame);
  }

  #flush(): void {
    this.#batchAge = 0;
    const writer = this.#writer;
    if (writer.records === 0) return;
    setNow(this.#clock);
    const { bytes, firstSequence, records } = writer.take(this.#head, this.#ledger.totals, this.#clock.seconds, this.#clock.nanos);
    this.#needs.outbox.put({ epoch: this.#epoch, firstSequence, records, bytes, head: this.#head, wasSent: false });
  }

  #headOf({ cluster, node, labels }: MeterSetup): Uint8Array {
    const { interface: name, uid: interfaceUid } = this.device;
    return FlowBatch.encode(FlowBatch.fromPartial({ cluster, node, interface: name, interfaceUid, labels, epoch: this.#epoch })).finish();
  }
}
