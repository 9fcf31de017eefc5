// What a client may ask of a stream or capture: each rule at its bounds, all violations at once, and what holds when nothing is asked for.

import { expect, it } from 'vitest';
import { TaplaneError } from '../../src/errors.ts';
import { Device } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { Direction } from '../../src/gen/taplane/v1/packet.ts';
import {
  CapturePacketsRequest,
  CapturePacketsRequest_Format as Format,
  StreamOpen_Mode as Mode,
  StreamOpen,
} from '../../src/gen/taplane/v1/packet_service.ts';
import { planCapture, planStream } from '../../src/lane/stream-rules.ts';

type Open = Partial<StreamOpen>;
type Capture = Partial<CapturePacketsRequest>;

const plain = Device.fromPartial({ uid: 'u', interface: 't0' });
const rich = Device.fromPartial({ uid: 'u', interface: 't0', multiQueue: true, vnetHeader: true });
const stream = (open: Open, device = rich) => planStream({ ...StreamOpen.create(), ...open }, device);
const capture = (request: Capture) => planCapture({ ...CapturePacketsRequest.create(), ...request });

/** `field: description` of everything that is wrong. */
function violations(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    if (!(error instanceof TaplaneError)) throw error;
    expect([error.code, error.reason]).toEqual(['INVALID_ARGUMENT', 'INVALID_FIELDS']);
    return error.fields.map(({ field, description }) => `${field}: ${description}`);
  }
  return [];
}

const seconds = (value: number) => ({ seconds: BigInt(Math.trunc(value)), nanos: Math.round((value % 1) * 1e9) });

it('is complete when nothing is asked for', () => {
  expect(stream({}, plain)).toEqual({
    mode: 'consume',
    filter: '',
    snapLength: 65_549,
    sampling: 1,
    windowBytes: 0,
    queueBytes: 4_194_304,
    batchBytes: 32_768,
    direction: Direction.UNSPECIFIED,
    ownQueue: false,
    superFrames: false,
    resumeTimeoutMs: 0,
    resumeToken: '',
    resumeSequence: 0,
    format: 'frames',
    maxFrames: Number.POSITIVE_INFINITY,
    maxBytes: Number.POSITIVE_INFINITY,
    durationMs: Number.POSITIVE_INFINITY,
  });
  expect(capture({})).toEqual({ ...stream({}, plain), mode: 'observe' });
});

it('takes everything over that is asked for', () => {
  const open: Open = {
    mode: Mode.OBSERVE,
    filter: ' tcp ',
    snapLength: 64,
    sampling: 7,
    windowBytes: 16_384,
    queueBytes: 65_536,
    maxBatchBytes: 1024,
    direction: Direction.INBOUND,
    resumeTimeout: seconds(2.5),
    resumeToken: 'token',
    resumeSequence: 9n,
  };
  expect(stream(open)).toMatchObject({
    mode: 'observe',
    filter: 'tcp',
    snapLength: 64,
    sampling: 7,
    windowBytes: 16_384,
    queueBytes: 65_536,
    batchBytes: 1024,
    direction: Direction.INBOUND,
    resumeTimeoutMs: 2500,
    resumeToken: 'token',
    resumeSequence: 9,
  });
  expect(stream({ ownQueue: true, superFrames: true })).toMatchObject({ mode: 'consume', ownQueue: true, superFrames: true });
  expect(stream({ mode: Mode.INJECT, superFrames: true })).toMatchObject({ mode: 'inject', superFrames: true });
  expect(capture({ format: Format.PCAPNG, maxFrames: 3n, maxBytes: 4n, duration: seconds(0.5) })).toMatchObject({
    format: 'pcapng',
    maxFrames: 3,
    maxBytes: 4,
    durationMs: 500,
  });
});

it('makes batches no longer than a quarter of the queue', () => {
  expect(stream({ queueBytes: 65_536, maxBatchBytes: 1_048_576 }).batchBytes).toBe(16_384);
  expect(stream({ queueBytes: 65_536 }).batchBytes).toBe(16_384);
  expect(stream({ queueBytes: 67_108_864, maxBatchBytes: 1_048_576 }).batchBytes).toBe(1_048_576);
});

const range = (least: number, most: number, got: number) => `must be ${least} to ${most}, got ${got}`;

const COMMON: [Open & Capture, string][] = [
  [{ filter: 'x'.repeat(2049) }, 'filter: has at most 2048 bytes, got 2049'],
  [{ filter: 'é'.repeat(1025) }, 'filter: has at most 2048 bytes, got 2050'],
  [{ snapLength: 65_550 }, `snap_length: ${range(1, 65_549, 65_550)}`],
  [{ queueBytes: 65_535 }, `queue_bytes: ${range(65_536, 67_108_864, 65_535)}`],
  [{ queueBytes: 67_108_865 }, `queue_bytes: ${range(65_536, 67_108_864, 67_108_865)}`],
  [{ maxBatchBytes: 1023 }, `max_batch_bytes: ${range(1024, 1_048_576, 1023)}`],
  [{ maxBatchBytes: 1_048_577 }, `max_batch_bytes: ${range(1024, 1_048_576, 1_048_577)}`],
  [{ direction: 3 as Direction }, 'direction: must be DIRECTION_INBOUND or DIRECTION_OUTBOUND'],
];

it.each(COMMON)('refuses %j', (bad, wanted) => {
  expect(violations(() => stream({ mode: Mode.OBSERVE, ...bad }))).toEqual([`open.${wanted}`]);
  expect(violations(() => capture(bad))).toEqual([wanted]);
});

it.each<[Open, string]>([
  [{ mode: 4 as Mode }, 'mode: must be MODE_CONSUME, MODE_OBSERVE or MODE_INJECT'],
  [{ windowBytes: 16_383 }, `window_bytes: ${range(16_384, 67_108_864, 16_383)}`],
  [{ windowBytes: 67_108_865 }, `window_bytes: ${range(16_384, 67_108_864, 67_108_865)}`],
  [{ mode: Mode.OBSERVE, ownQueue: true }, 'own_queue: a stream that only observes has no queue'],
  [{ mode: Mode.OBSERVE, superFrames: true }, 'super_frames: a stream that only observes gets frames as they are on the wire'],
  [{ direction: Direction.INBOUND }, 'direction: what a stream consumes is outbound; use MODE_OBSERVE for inbound frames'],
  [
    { mode: Mode.INJECT, direction: Direction.INBOUND },
    'direction: what a stream consumes is outbound; use MODE_OBSERVE for inbound frames',
  ],
  [{ resumeTimeout: seconds(0) }, 'resume_timeout: must be 1 to 60 seconds'],
  [{ resumeTimeout: seconds(0.999) }, 'resume_timeout: must be 1 to 60 seconds'],
  [{ resumeTimeout: seconds(-1) }, 'resume_timeout: must be 1 to 60 seconds'],
  [{ resumeTimeout: seconds(60.001) }, 'resume_timeout: must be 1 to 60 seconds'],
  [{ resumeToken: 'x'.repeat(129) }, 'resume_token: is not a token of this service'],
])('refuses a stream with %o', (bad, wanted) => expect(violations(() => stream(bad))).toEqual([`open.${wanted}`]));

it('refuses what the device does not have', () => {
  expect(violations(() => stream({ ownQueue: true, superFrames: true }, plain))).toEqual([
    'open.own_queue: needs an interface with multi_queue',
    'open.super_frames: needs an interface with vnet_header',
  ]);
});

it.each<[Capture, string]>([
  [{ format: 3 as Format }, 'format: must be FORMAT_FRAMES or FORMAT_PCAPNG'],
  [{ duration: seconds(0) }, 'duration: must be more than 0 and at most 86400 seconds'],
  [{ duration: seconds(-3) }, 'duration: must be more than 0 and at most 86400 seconds'],
  [{ duration: seconds(86_400.5) }, 'duration: must be more than 0 and at most 86400 seconds'],
])('refuses a capture with %o', (bad, wanted) => expect(violations(() => capture(bad))).toEqual([wanted]));

it('tells everything that is wrong at once', () => {
  const bad = { filter: 'x'.repeat(3000), snapLength: 70_000, queueBytes: 1, maxBatchBytes: 1, direction: 9 as Direction };
  const more: Open = {
    mode: 9 as Mode,
    windowBytes: 1,
    ownQueue: true,
    superFrames: true,
    resumeTimeout: seconds(61),
    resumeToken: 'x'.repeat(200),
  };
  const fields = (all: string[]): string[] => all.map((text) => text.slice(0, text.indexOf(':')));
  const common = ['filter', 'snap_length', 'queue_bytes', 'max_batch_bytes', 'direction'];
  expect(fields(violations(() => stream({ ...bad, ...more }, plain)))).toEqual(
    ['mode', ...common, 'window_bytes', 'own_queue', 'super_frames', 'resume_timeout', 'resume_token'].map((field) => `open.${field}`),
  );
  expect(fields(violations(() => capture({ ...bad, format: 9 as Format, duration: seconds(1e9) })))).toEqual([
    ...common,
    'format',
    'duration',
  ]);
});

it('takes what stands at the bounds', () => {
  const atBounds: Open[] = [
    { filter: 'x'.repeat(2048) },
    { snapLength: 1 },
    { snapLength: 65_549 },
    { queueBytes: 65_536 },
    { queueBytes: 67_108_864 },
    { maxBatchBytes: 1024 },
    { maxBatchBytes: 1_048_576 },
    { windowBytes: 16_384 },
    { windowBytes: 67_108_864 },
    { sampling: 4_294_967_295 },
    { direction: Direction.OUTBOUND },
    { resumeTimeout: seconds(1) },
    { resumeTimeout: seconds(60) },
    { resumeToken: 'x'.repeat(128) },
  ];
  for (const open of atBounds)
    expect(
      violations(() => stream(open)),
      JSON.stringify(open, (_, value) => String(value)),
    ).toEqual([]);
  for (const duration of [0.000001, 86_400]) expect(violations(() => capture({ duration: seconds(duration) }))).toEqual([]);
});
