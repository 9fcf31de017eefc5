// One probe of a peer that somebody has asked for: round trips, then the size of the path, then throughput both ways. Messages as they become known.

import { TaplaneError } from '../../errors.ts';
import type { Duration } from '../../gen/google/protobuf/duration.ts';
import { type ProbeLinkRequest, type ProbeLinkResponse, ProbeResult } from '../../gen/taplane/v1/link_service.ts';
import { PROBE_LEAST_BYTES } from '../../packet/probe-packet.ts';
import type { OnAnswer, PeerProbe } from './probes.ts';

const COUNT = 10;
const INTERVAL_MS = 100;
const SEARCH_MS = 5000;
const STEP_MS = 50;

type Answer = Parameters<OnAnswer>[0];

/** Runs it. Throws TaplaneError FAILED_PRECONDITION (`NO_PROBE_ADDRESS`; `LINK_NOT_READY` when the peer goes) and what `signal` is aborted with. */
export async function* runProbe(
  probe: PeerProbe,
  peer: string,
  request: ProbeLinkRequest,
  signal: AbortSignal,
): AsyncGenerator<ProbeLinkResponse> {
  if (!probe.canProbe)
    throw new TaplaneError(
      'FAILED_PRECONDITION',
      'NO_PROBE_ADDRESS',
      `probe ${request.name}: no address to probe is known of ${peer}; give the interface an address, and the peer \`probe_address\` or an allowed prefix of one address`,
    );
  const result = ProbeResult.fromPartial({ name: request.name, peer });
  const trips: number[] = [];
  let before: number | undefined;
  probe.isCounting = true;
  try {
    for (let sequence = 1; sequence <= (request.count || COUNT); sequence++) {
      signal.throwIfAborted();
      const answer = await pinged(probe, signal);
      checkOpen(probe, request, peer);
      result.sent++;
      if (!answer.lost) {
        result.received++;
        trips.push(answer.roundTripMs);
        // The other end counts since the link began, background and all.
        before ??= Math.max(0, answer.received - 1);
        result.peerReceived = Math.max(0, answer.received - before);
      }
      const { lost, bytes } = answer;
      yield { progress: { $case: 'reply', value: { sequence, lost, bytes, roundTrip: lost ? undefined : duration(answer.roundTripMs) } } };
      if (sequence < (request.count || COUNT)) await pause(request.intervalMs || INTERVAL_MS, signal);
    }
  } finally {
    probe.isCounting = false;
  }
  result.twoEnded = probe.isKnown;
  trips.sort((a, b) => a - b);
  if (trips.length > 0) {
    result.roundTripMin = duration(trips[0] as number);
    result.roundTripMedian = duration(trips[Math.floor((trips.length - 1) / 2)] as number);
    result.roundTripP99 = duration(trips[Math.ceil(trips.length * 0.99) - 1] as number);
  }
  if (request.pathMtu && trips.length > 0) {
    probe.searchMtu();
    for (let waited = 0; probe.mtu.searching && waited < SEARCH_MS; waited += STEP_MS) {
      await pause(STEP_MS, signal);
      checkOpen(probe, request, peer);
    }
    result.pathMtu = probe.mtu.known;
  }
  if (request.throughputSeconds > 0 && probe.isKnown) {
    const out = await probe.train(request.throughputSeconds, signal);
    checkOpen(probe, request, peer);
    result.throughputOut = out.bitsPerSecond;
    result.lossOut = out.loss;
    const back = await probe.trainBack(request.throughputSeconds, signal);
    checkOpen(probe, request, peer);
    result.throughputIn = back.bitsPerSecond;
    result.lossIn = back.loss;
  }
  yield { progress: { $case: 'result', value: result } };
}

function checkOpen({ isClosed }: PeerProbe, { name }: ProbeLinkRequest, peer: string): void {
  if (!isClosed) return;
  const description = `${peer} is gone, or its link was made anew meanwhile`;
  throw new TaplaneError('FAILED_PRECONDITION', 'LINK_NOT_READY', `probe ${name}: ${description}`, {
    preconditions: [{ type: 'LINK', subject: name, description }],
  });
}

function pinged(probe: PeerProbe, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => reject(signal.reason);
    signal.addEventListener('abort', aborted, { once: true });
    probe.ping(PROBE_LEAST_BYTES, (answer) => {
      signal.removeEventListener('abort', aborted);
      resolve(answer);
    });
  });
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', aborted);
      resolve();
    }, ms);
    signal.addEventListener('abort', aborted, { once: true });
  });
}

function duration(ms: number): Duration {
  const nanos = Math.round(ms * 1e6);
  return { seconds: BigInt(Math.floor(nanos / 1e9)), nanos: nanos % 1e9 };
}
