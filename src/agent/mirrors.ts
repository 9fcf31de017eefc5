// Packet mirrors: for each interface that asks for one, a stream that only observes, whose batches go to NATS. A mirror that cannot be
// opened is tried again; what is lost on the way is counted.
//
//   asked for --> opening --> copying --(lane or interface gone)--> waiting --> opening
//                   '--(refused: a bad filter, no capability)--> waiting

import { StreamSetup } from '../gen/taplane/lane/v1/lane_service.ts';
import type { PacketMirror, PacketMirrorStatus } from '../gen/taplane/v1/interface.ts';
import { LinkType, PacketBatch } from '../gen/taplane/v1/packet.ts';
import { StreamOpen, StreamOpen_Mode } from '../gen/taplane/v1/packet_service.ts';
import type { Mirrors } from '../interface/attachments.ts';
import type { InterfaceManager } from '../interface/manager.ts';
import type { LanePipe } from '../lane/client.ts';
import type { PacketPublisher } from '../nats/packet-publisher.ts';
import { packetSubject } from '../nats/subject.ts';
import type { Lanes } from './lanes.ts';
import type { Log } from './log.ts';

const RETRY_FIRST_MS = 250;
const RETRY_MOST_MS = 10_000;
const SNAP_USUAL = 128;
const QUEUE_BYTES = 1024 * 1024;
const BATCH_BYTES = 32_768;

/** An interface that asks for a mirror. */
type Mirrored = ReturnType<InterfaceManager['mirrored']>[number];

export interface MirrorsNeeds {
  lanes: Pick<Lanes, 'open'>;
  publisher: PacketPublisher;
  cluster: string;
  node: string;
  /** NATS is not wanted. */
  off: boolean;
  log: Log;
  /** The status of the mirror of this interface has changed. */
  changed: () => void;
}

export interface RunningMirrors extends Mirrors {
  /** Makes the mirrors that are asked for, and no others. */
  set(wanted: readonly Mirrored[]): void;
  stop(): void;
}

/** None runs until `set` says which are wanted. */
export function packetMirrors(needs: MirrorsNeeds): RunningMirrors {
  const running = new Map<string, Mirror>();
  return {
    set(wanted) {
      const keys = new Map(wanted.map((one) => [keyOf(one), one]));
      for (const [key, mirror] of running) {
        if (keys.has(key)) continue;
        running.delete(key);
        mirror.stop();
      }
      for (const [key, one] of keys) if (!running.has(key)) running.set(key, new Mirror(one, needs));
    },
    status(uid) {
      for (const mirror of running.values()) if (mirror.uid === uid) return mirror.status();
      return undefined;
    },
    stop() {
      for (const mirror of running.values()) mirror.stop();
      running.clear();
    },
  };
}

function keyOf({ device, mirror }: Mirrored): string {
  return JSON.stringify([device, mirror]);
}

class Mirror {
  readonly uid: string;
  readonly #one: Mirrored;
  readonly #needs: MirrorsNeeds;
  readonly #subject: string;
  /** Told in each message, since a subscriber may come at any time. */
  readonly #opened: Uint8Array;
  #pipe: LanePipe | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #stopped = false;
  #active = false;
  #reason = '';
  #frames = 0;
  #batches = 0;
  #dropped = 0;
  /** Frames that the lane had to drop, as of its last totals. */
  #droppedBefore = 0;

  constructor(one: Mirrored, needs: MirrorsNeeds) {
    this.uid = one.device.uid;
    this.#one = one;
    this.#needs = needs;
    this.#subject = packetSubject(needs.cluster, needs.node, one.device.interface);
    const opened = { linkType: one.device.tap ? LinkType.ETHERNET : LinkType.RAW, snapLength: one.mirror.snapLength || SNAP_USUAL };
    this.#opened = PacketBatch.encode(PacketBatch.fromPartial({ opened })).finish();
    void this.#open();
  }

  status(): PacketMirrorStatus {
    return {
      publishedFrames: BigInt(this.#frames),
      publishedBatches: BigInt(this.#batches),
      droppedFrames: BigInt(this.#dropped),
      active: this.#active,
      reason: this.#reason,
    };
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#pipe?.end();
    this.#pipe?.destroy();
  }

  async #open(): Promise<void> {
    if (this.#needs.off) return this.#say(false, 'NATS is off; start the agent with --nats');
    const value = StreamOpen.fromPartial(openingOf(this.#one.mirror));
    const setup: StreamSetup = StreamSetup.fromPartial({ device: this.#one.device, ask: { $case: 'stream', value } });
    try {
      this.#pipe = await this.#needs.lanes.open(setup, {
        batch: (bytes, release) => {
          this.#publish(bytes);
          release();
        },
        end: () => this.#again('the stream ended'),
        failed: (error) => this.#again(error.message),
        room: () => {},
      });
      if (this.#stopped) this.#pipe.destroy();
    } catch (error) {
      this.#again(error instanceof Error ? error.message : String(error));
    }
  }

  #publish(bytes: Buffer): void {
    const batch = PacketBatch.decode(bytes);
    if (batch.opened !== undefined) {
      this.#failures = 0;
      this.#droppedBefore = 0;
      this.#say(true, '');
      return;
    }
    const lost = batch.totals?.dropped.reduce((sum, { count }) => sum + Number(count), 0) ?? this.#droppedBefore;
    this.#dropped += lost - this.#droppedBefore;
    this.#droppedBefore = lost;
    if (batch.frames.length === 0) return;
    // Fields of a message may be put together as bytes.
    const refusal = this.#needs.publisher.publish(this.#subject, Buffer.concat([this.#opened, bytes]));
    if (refusal === undefined) {
      this.#frames += batch.frames.length;
      this.#batches++;
      this.#say(true, '');
      return;
    }
    this.#dropped += batch.frames.length;
    const why = {
      'no-connection': 'NATS is not connected',
      'no-room': 'NATS is too slow',
      'too-large': 'NATS does not take messages of this size',
    };
    this.#say(refusal !== 'no-connection', why[refusal]);
  }

  #again(why: string): void {
    this.#pipe = undefined;
    if (this.#stopped) return;
    this.#say(false, why);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#open(), Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** this.#failures++));
    this.#timer.unref();
  }

  #say(active: boolean, reason: string): void {
    if (this.#active === active && this.#reason === reason) return;
    this.#active = active;
    this.#reason = reason;
    if (reason !== '') this.#needs.log.warn({ interface: this.#one.device.interface, reason }, 'packet mirror');
    // Never in the middle of what made it change.
    setImmediate(() => {
      if (!this.#stopped) this.#needs.changed();
    });
  }
}

function openingOf(mirror: PacketMirror) {
  return {
    mode: StreamOpen_Mode.OBSERVE,
    filter: mirror.filter,
    snapLength: mirror.snapLength || SNAP_USUAL,
    sampling: mirror.sampling,
    queueBytes: QUEUE_BYTES,
    maxBatchBytes: BATCH_BYTES,
  };
}
