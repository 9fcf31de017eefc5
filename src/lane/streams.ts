// All streams and captures of a lane: opens them, lets them wait for a client that lost its connection, and takes those up again by token.
// Bounded in number, and in the memory that they may take together.

import { randomBytes } from 'node:crypto';
import { invalidFields, TaplaneError } from '../errors.ts';
import type { Device, StreamSetup, StreamState, StreamTotals } from '../gen/taplane/lane/v1/lane_service.ts';
import { type BpfProgram, loadBpf } from '../packet/bpf.ts';
import { compileFilter } from '../sys/pcap.ts';
import { frameClock } from './clock.ts';
import type { Outlet } from './delivery.ts';
import { deviceKey } from './device.ts';
import type { Devices } from './devices.ts';
import { explain } from './failure.ts';
import { PacketStream, type Source } from './packet-stream.ts';
import { FILTER_MOST, planCapture, planStream, type StreamPlan } from './stream-rules.ts';
import { Subscription, type SubscriptionOptions } from './subscription.ts';
import { RING_BYTES } from './tap.ts';

const STREAMS_MOST = 256;
const MEMORY_MOST = 512 * 1024 * 1024;
const LINKTYPE_ETHERNET = 1;
const LINKTYPE_RAW = 101;

interface Waiting {
  device: Device;
  /** Ends the wait for a client. */
  timer: NodeJS.Timeout | undefined;
  /** Ends the connection that the stream has, when another takes its place. */
  displace: () => void;
}

export class Streams {
  readonly #devices: Devices;
  readonly #streams = new Map<PacketStream, Waiting>();
  readonly #ended = { opened: 0, delivered: 0, queueFull: 0, kernel: 0, malformed: 0, inTransit: 0 };

  constructor(devices: Devices) {
    this.#devices = devices;
  }

  get size(): number {
    return this.#streams.size;
  }

  /** What became of the frames of all streams since the start, of those that are over too. */
  totals(): StreamTotals {
    const sum = { ...this.#ended };
    for (const stream of this.#streams.keys()) add(sum, stream);
    const { opened, delivered, queueFull, kernel, malformed, inTransit } = sum;
    return {
      opened: BigInt(opened),
      deliveredFrames: BigInt(delivered),
      queueFullFrames: BigInt(queueFull),
      kernelFrames: BigInt(kernel),
      malformedFrames: BigInt(malformed),
      inTransitFrames: BigInt(inTransit),
    };
  }

  states(): StreamState[] {
    return [...this.#streams.keys()].map(({ state }) => state);
  }

  /** Opens or resumes a stream on a connection. `displace` is called when another connection takes it over. Throws TaplaneError. */
  open({ device, ask }: StreamSetup, outlet: Outlet, displace: () => void): PacketStream {
    if (device === undefined || ask === undefined) throw new TaplaneError('INTERNAL', 'INTERNAL', 'open stream: nothing is asked for');
    const { plan, filter } = this.#plan(device, ask);
    if (plan.resumeToken !== '') return this.#resume(plan, device, outlet, displace);
    this.#admit(plan);
    const { source, subscription } = this.#attach({ ...plan, filter }, plan, device);
    const token = plan.resumeTimeoutMs > 0 ? randomBytes(16).toString('base64url') : '';
    const stream = new PacketStream(token, plan, subscription, source);
    this.#ended.opened++;
    this.#streams.set(stream, { device, timer: undefined, displace });
    stream.attach(outlet, false);
    return stream;
  }

  /** The connection of a stream has broken: the stream waits for its client, or ends. */
  lost(stream: PacketStream): void {
    const waiting = this.#streams.get(stream);
    if (waiting === undefined) return;
    stream.delivery.detach();
    if (stream.plan.resumeTimeoutMs === 0 || stream.finishing) {
      this.end(stream);
      return;
    }
    clearTimeout(waiting.timer);
    waiting.displace = () => {};
    waiting.timer = setTimeout(() => this.end(stream), stream.plan.resumeTimeoutMs);
    waiting.timer.unref();
  }

  end(stream: PacketStream): void {
    clearTimeout(this.#streams.get(stream)?.timer);
    if (this.#streams.delete(stream)) add(this.#ended, stream);
    stream.close();
  }

  close(): void {
    for (const stream of [...this.#streams.keys()]) this.end(stream);
  }

  #resume(plan: StreamPlan, device: Device, outlet: Outlet, displace: () => void): PacketStream {
    const found = [...this.#streams].find(([{ token }]) => token !== '' && token === plan.resumeToken);
    if (found === undefined || deviceKey(found[1].device) !== deviceKey(device)) {
      throw new TaplaneError(
        'OUT_OF_RANGE',
        'RESUME_TOKEN_UNKNOWN',
        `resume stream of ${device.interface}: no subscription waits for this token; it waited too long, or the data-plane process was restarted: open without it`,
      );
    }
    const [stream, waiting] = found;
    // What a client may do was decided by the mode that it asked for.
    if (plan.mode !== stream.plan.mode)
      throw invalidFields([{ field: 'open.mode', description: `must be that of the stream which is resumed, to ${stream.plan.mode}` }]);
    const { delivery } = stream;
    if (!delivery.canResume(plan.resumeSequence)) {
      throw new TaplaneError(
        'OUT_OF_RANGE',
        'RESUME_SEQUENCE_UNKNOWN',
        `resume stream of ${device.interface}: number ${plan.resumeSequence} was not sent, or too long ago`,
        {
          fields: [{ field: 'open.resume_sequence', description: 'must be one past the last frame that was received, or 0' }],
        },
      );
    }
    clearTimeout(waiting.timer);
    waiting.timer = undefined;
    // The old connection may not have noticed yet that its client is gone.
    const displaced = waiting.displace;
    waiting.displace = displace;
    delivery.detach();
    displaced();
    delivery.resumeAt(plan.resumeSequence);
    stream.attach(outlet, true);
    return stream;
  }

  #admit(plan: StreamPlan): void {
    let bytes = plan.queueBytes + plan.windowBytes + this.#devices.taps * RING_BYTES;
    for (const { plan: other } of this.#streams.keys()) bytes += other.queueBytes + other.windowBytes;
    if (this.#streams.size < STREAMS_MOST && bytes <= MEMORY_MOST) return;
    const what = this.#streams.size >= STREAMS_MOST ? `${STREAMS_MOST} streams` : `${MEMORY_MOST} bytes for streams`;
    throw new TaplaneError(
      'RESOURCE_EXHAUSTED',
      'TOO_MANY_STREAMS',
      `open stream: the limit of ${what} in a data-plane process is reached`,
      {
        metadata: { subject: 'streams', limit: String(this.#streams.size >= STREAMS_MOST ? STREAMS_MOST : MEMORY_MOST) },
        retryAfterMs: 1000,
      },
    );
  }

  /** Checks all that is asked for, and compiles its filter. Throws TaplaneError with everything that is wrong. */
  #plan(device: Device, ask: NonNullable<StreamSetup['ask']>): { plan: StreamPlan; filter: BpfProgram | undefined } {
    const stream = ask.$case === 'stream';
    const plan = outcome(() => (stream ? planStream(ask.value, device) : planCapture(ask.value)));
    const text = ask.value.filter.trim();
    const compiles = text !== '' && Buffer.byteLength(text) <= FILTER_MOST;
    const filter = outcome(() => (compiles ? this.#compile(text, device, stream ? 'open.filter' : 'filter') : undefined));
    if (plan.error === undefined && filter.error === undefined) return { plan: plan.value, filter: filter.value };
    if (plan.error !== undefined && filter.error !== undefined && filter.error.fields.length > 0)
      throw invalidFields([...plan.error.fields, ...filter.error.fields]);
    throw plan.error ?? filter.error;
  }

  #compile(filter: string, device: Device, field: string): BpfProgram {
    try {
      return loadBpf(compileFilter(filter, device.tap ? LINKTYPE_ETHERNET : LINKTYPE_RAW, 262_144));
    } catch (error) {
      throw explain(error, 'compile filter', device, field);
    }
  }

  /** Makes a subscription that sees the frames of the device. Throws TaplaneError. */
  #attach(options: SubscriptionOptions, plan: StreamPlan, device: Device): { source: Source; subscription: Subscription } {
    try {
      return plan.mode === 'observe' ? this.#observe(options, device) : this.#hold(options, plan, device);
    } catch (error) {
      throw explain(error, `attach to ${device.interface}`, device);
    }
  }

  #observe(options: SubscriptionOptions, device: Device): { source: Source; subscription: Subscription } {
    const subscription = new Subscription(options, frameClock());
    const tap = this.#devices.tap(device);
    try {
      tap.add(subscription);
    } catch (error) {
      this.#devices.dropTap(device, tap);
      throw error;
    }
    const release = once(() => tap.remove(subscription));
    return { subscription, source: { ...factsOf(device), release, write: undefined, settle: () => tap.settle() } };
  }

  #hold(options: SubscriptionOptions, plan: StreamPlan, device: Device): { source: Source; subscription: Subscription } {
    const port = plan.ownQueue ? this.#devices.ownPort(device) : this.#devices.port(device);
    const subscription = new Subscription(options, port.clock);
    const consumes = plan.mode === 'consume';
    try {
      if (consumes) port.addConsumer(subscription);
      else port.addInjector();
    } catch (error) {
      this.#devices.drop(port);
      throw error;
    }
    const release = once(() => {
      if (consumes) port.removeConsumer(subscription);
      else port.removeInjector();
      this.#devices.drop(port);
    });
    const write = plan.superFrames ? port.writeSuper : port.write;
    return { subscription, source: { ...factsOf(device), release, write, settle: async () => {} } };
  }
}

type Sum = Record<'delivered' | 'queueFull' | 'kernel' | 'malformed' | 'inTransit', number>;

function add(sum: Sum, { subscription: { account } }: PacketStream): void {
  sum.delivered += account.sent - account.inTransit;
  sum.queueFull += account.queueFull;
  sum.kernel += account.kernel;
  sum.malformed += account.malformed;
  sum.inTransit += account.inTransit;
}

function factsOf({ tap, interface: name, uid }: Device): Pick<Source, 'tap' | 'interface' | 'uid'> {
  return { tap, interface: name, uid };
}

/** What `run` answers, or its TaplaneError. */
function outcome<T>(run: () => T): { value: T; error?: undefined } | { error: TaplaneError } {
  try {
    return { value: run() };
  } catch (error) {
    if (error instanceof TaplaneError) return { error };
    throw error;
  }
}

function once(run: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    run();
  };
}
