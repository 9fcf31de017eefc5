// Rules for what a client may ask of a stream or capture, and what is in force when it asks for nothing. All violations at once. Pure.

import { type FieldViolation, invalidFields } from '../errors.ts';
import type { Duration } from '../gen/google/protobuf/duration.ts';
import type { Device } from '../gen/taplane/lane/v1/lane_service.ts';
import { Direction } from '../gen/taplane/v1/packet.ts';
import {
  type CapturePacketsRequest,
  CapturePacketsRequest_Format,
  type StreamOpen,
  StreamOpen_Mode,
} from '../gen/taplane/v1/packet_service.ts';
import type { BatchFormat } from './batch.ts';

const SNAP_MOST = 65_549;
/** Longest filter, bytes. */
export const FILTER_MOST = 2048;
const QUEUE = { least: 65_536, most: 67_108_864, usual: 4_194_304 };
const WINDOW = { least: 16_384, most: 67_108_864 };
const BATCH = { least: 1024, most: 1_048_576, usual: 32_768 };
/** Seconds. */
const RESUME = { least: 1, most: 60 };
const DURATION = { least: 0, most: 86_400 };

/** What a stream is, checked and complete. */
export interface StreamPlan {
  mode: 'consume' | 'observe' | 'inject';
  filter: string;
  snapLength: number;
  sampling: number;
  windowBytes: number;
  queueBytes: number;
  batchBytes: number;
  direction: Direction;
  ownQueue: boolean;
  superFrames: boolean;
  /** 0: the subscription ends with its connection. */
  resumeTimeoutMs: number;
  resumeToken: string;
  resumeSequence: number;
  format: BatchFormat;
  /** Infinity for none. */
  maxFrames: number;
  maxBytes: number;
  durationMs: number;
}

/** Throws TaplaneError INVALID_ARGUMENT. */
export function planStream(open: StreamOpen, device: Device): StreamPlan {
  const rules = new Rules('open.');
  const { mode } = open;
  if (![0, 1, 2, 3].includes(mode)) rules.say('mode', 'must be MODE_CONSUME, MODE_OBSERVE or MODE_INJECT');
  const observes = mode === StreamOpen_Mode.OBSERVE;
  rules.common(open);
  rules.range('window_bytes', open.windowBytes, WINDOW);
  if (open.ownQueue && !device.multiQueue) rules.say('own_queue', 'needs an interface with multi_queue');
  if (open.ownQueue && observes) rules.say('own_queue', 'a stream that only observes has no queue');
  if (open.superFrames && !device.vnetHeader) rules.say('super_frames', 'needs an interface with vnet_header');
  if (open.superFrames && observes) rules.say('super_frames', 'a stream that only observes gets frames as they are on the wire');
  if (open.direction === Direction.INBOUND && !observes)
    rules.say('direction', 'what a stream consumes is outbound; use MODE_OBSERVE for inbound frames');
  const resume = rules.duration('resume_timeout', open.resumeTimeout, RESUME);
  if (open.resumeToken.length > 128) rules.say('resume_token', 'is not a token of this service');
  rules.end();
  return {
    mode: observes ? 'observe' : mode === StreamOpen_Mode.INJECT ? 'inject' : 'consume',
    ...common(open),
    windowBytes: open.windowBytes,
    ownQueue: open.ownQueue,
    superFrames: open.superFrames,
    resumeTimeoutMs: resume ?? 0,
    resumeToken: open.resumeToken,
    resumeSequence: Number(open.resumeSequence),
    format: 'frames',
    maxFrames: Number.POSITIVE_INFINITY,
    maxBytes: Number.POSITIVE_INFINITY,
    durationMs: Number.POSITIVE_INFINITY,
  };
}

/** Throws TaplaneError INVALID_ARGUMENT. */
export function planCapture(request: CapturePacketsRequest): StreamPlan {
  const rules = new Rules('');
  rules.common(request);
  if (![0, 1, 2].includes(request.format)) rules.say('format', 'must be FORMAT_FRAMES or FORMAT_PCAPNG');
  const duration = rules.duration('duration', request.duration, DURATION);
  rules.end();
  return {
    mode: 'observe',
    ...common(request),
    windowBytes: 0,
    ownQueue: false,
    superFrames: false,
    resumeTimeoutMs: 0,
    resumeToken: '',
    resumeSequence: 0,
    format: request.format === CapturePacketsRequest_Format.PCAPNG ? 'pcapng' : 'frames',
    maxFrames: Number(request.maxFrames) || Number.POSITIVE_INFINITY,
    maxBytes: Number(request.maxBytes) || Number.POSITIVE_INFINITY,
    durationMs: duration ?? Number.POSITIVE_INFINITY,
  };
}

type Common = Pick<StreamOpen, 'filter' | 'snapLength' | 'sampling' | 'queueBytes' | 'maxBatchBytes' | 'direction'>;

function common(open: Common) {
  const queueBytes = open.queueBytes || QUEUE.usual;
  return {
    filter: open.filter.trim(),
    snapLength: open.snapLength || SNAP_MOST,
    sampling: Math.max(1, open.sampling),
    queueBytes,
    // A queue that holds fewer than four batches would drop what it has just got.
    batchBytes: Math.min(open.maxBatchBytes || BATCH.usual, queueBytes >> 2),
    direction: open.direction,
  };
}

class Rules {
  readonly #prefix: string;
  readonly #violations: FieldViolation[] = [];

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  say(field: string, description: string): void {
    this.#violations.push({ field: `${this.#prefix}${field}`, description });
  }

  range(field: string, value: number, { least, most }: { least: number; most: number }): void {
    if (value !== 0 && (value < least || value > most)) this.say(field, `must be ${least} to ${most}, got ${value}`);
  }

  common({ filter, snapLength, queueBytes, maxBatchBytes, direction }: Common): void {
    if (Buffer.byteLength(filter) > FILTER_MOST) this.say('filter', `has at most ${FILTER_MOST} bytes, got ${Buffer.byteLength(filter)}`);
    this.range('snap_length', snapLength, { least: 1, most: SNAP_MOST });
    this.range('queue_bytes', queueBytes, QUEUE);
    this.range('max_batch_bytes', maxBatchBytes, BATCH);
    if (![0, 1, 2].includes(direction)) this.say('direction', 'must be DIRECTION_INBOUND or DIRECTION_OUTBOUND');
  }

  /** Milliseconds. A least of 0 is not reached. */
  duration(field: string, value: Duration | undefined, { least, most }: { least: number; most: number }): number | undefined {
    if (value === undefined) return undefined;
    const milliseconds = Number(value.seconds) * 1000 + value.nanos / 1e6;
    const wanted = least === 0 ? `more than 0 and at most ${most} seconds` : `${least} to ${most} seconds`;
    if (!(milliseconds > 0 && milliseconds >= least * 1000 && milliseconds <= most * 1000)) this.say(field, `must be ${wanted}`);
    return milliseconds;
  }

  end(): void {
    if (this.#violations.length > 0) throw invalidFields(this.#violations);
  }
}
