// Observes the flow records of a whole cluster on NATS, with the same requests and answers as an agent.
//
//   connect -> subscribe -> (what a stream keeps, up to where it ends, by JetStream) -> following: what the subscription brings
//
// The subscription begins before the stream is read, so that nothing falls between; what comes by both ways is told once. What waits for a
// slow reader is bounded in bytes: the oldest goes. That, and whatever the network or the server lost, shows in the numbers of the records
// and is told as `missed`. Messages are hostile: what is no batch is passed over and counted in a word to `say`.

import { invalidFields, TaplaneError } from '../errors.ts';
import { FlowBatch } from '../gen/taplane/v1/flow.ts';
import type { ObserveFlowsRequest, ObserveFlowsResponse } from '../gen/taplane/v1/flow_service.ts';
import { connectNats, type MsgHdrs, type NatsOptions } from '../nats/connection.ts';
import { Feed, unavailable } from '../nats/feed.ts';
import { type JetStreamReader, openJetStreamReader } from '../nats/jetstream-reader.ts';
import { natsConnectionOptions } from '../nats/login.ts';
import { token } from '../nats/subject.ts';
import { isPath, type NatsAddress, parseNatsUrl } from '../nats/url.ts';
import { readUrlFile } from '../nats/url-file.ts';
import { BatchGaps } from './batch-gaps.ts';
import { recordPlaces } from './batch-head.ts';
import { endingAt } from './ending.ts';
import { type Observation, observation } from './observation.ts';

export interface NatsObserverOptions {
  /** Address and credentials, as `connectNats` takes them. */
  nats: Omit<NatsOptions, 'name' | 'stateDir' | 'log'>;
  /** How long the first connection may take, and each question to JetStream. */
  timeoutMs: number;
  /** Told of what is no record: a lost connection, messages that are no batches. */
  say(line: string): void;
  /** Most bytes of messages that wait for a slow reader. */
  maxWaitingBytes?: number;
}

const MAX_WAITING_BYTES = 32 * 1024 * 1024;
/** Messages of the stream that are looked at for the newest records at first, and how many times more each time these do not do. */
const LOOK_BACK = 256;
const LOOK_BACK_FACTOR = 8;
/** Records that are kept at most while the newest are looked for. */
const MAX_LAST = 200_000n;
/** As a request asks for all: then nothing is kept. */
const ALL = 2n ** 64n - 1n;
/** Lanes put a thousand into a batch at most. Records without a field take two bytes of a message, and hundreds of memory. */
const RECORDS_MOST = 16_384;
const NO_BATCH = 'no batch of flow records';
/** Clocks of nodes and of the server may differ by this. */
const SKEW_MS = 10_000;

/** Throws TaplaneError for a bad request, and when NATS is not to be reached or keeps no records that were asked for. Ends as an agent's does. */
export async function* observeNats(
  options: NatsObserverOptions,
  request: ObserveFlowsRequest,
  signal: AbortSignal,
): AsyncGenerator<ObserveFlowsResponse> {
  const wanted = observation(request);
  await checkLogin(options.nats);
  if (wanted.last > MAX_LAST && wanted.last < ALL)
    throw invalidFields([{ field: 'last', description: `at most ${MAX_LAST} through NATS` }]);
  using ending = endingAt(wanted.follow ? wanted.untilMs : undefined, signal, Date.now);
  const subject = subjectOf(request);
  const feed = new Feed(subject, options.maxWaitingBytes ?? MAX_WAITING_BYTES, options.say);
  const link = connectNats({ ...options.nats, name: 'taplane flow', stateDir: '', log: feed.log(() => link) });
  const wake = (): void => feed.wake();
  ending.signal.addEventListener('abort', wake, { once: true });
  try {
    const connection = await feed.connected(link, options.timeoutMs, ending.signal);
    if (connection === undefined) return;
    const teller = new Teller(wanted, options.say);
    if (!wanted.follow || wanted.last > 0n) {
      const reader = await openJetStreamReader(connection, subject, options.timeoutMs);
      if (reader !== undefined) yield* explained(stored(reader, wanted, request, teller, ending.signal));
      else if (!wanted.follow) throw streamMissing(subject);
      else options.say('no stream on this server keeps flow records: only new ones are told of');
    }
    if (!wanted.follow || ending.signal.aborted) return;
    yield { batch: undefined, missed: 0n, lost: 0n, following: true };
    while (!ending.signal.aborted) {
      const message = feed.take();
      if (message === undefined) await feed.more();
      else yield* teller.tell(message.data, message.headers);
    }
  } finally {
    ending.signal.removeEventListener('abort', wake);
    await link.close();
  }
}

/** What the client library throws, in our words. */
async function* explained<Item>(items: AsyncIterable<Item>): AsyncGenerator<Item> {
  try {
    yield* items;
  } catch (error) {
    throw error instanceof TaplaneError ? error : unavailable(`read flow records from JetStream: ${(error as Error).message}`);
  }
}

/** What the stream keeps: from `since` on, or the end of it that holds the newest records. */
async function* stored(
  reader: JetStreamReader,
  wanted: Observation,
  { since }: ObserveFlowsRequest,
  teller: Teller,
  signal: AbortSignal,
): AsyncGenerator<ObserveFlowsResponse> {
  const from = since && { timeMs: Math.max(0, Number(since.seconds) * 1000 + Math.floor(since.nanos / 1e6) - SKEW_MS) };
  if (wanted.last > 0n && wanted.last < ALL) return yield* last(reader, Number(wanted.last), from?.timeMs, wanted, teller, signal);
  let left = wanted.first > 0n ? Number(wanted.first) : Number.POSITIVE_INFINITY;
  for await (const { data, headers } of reader.read(from ?? { sequence: reader.first }, signal)) {
    for (const answer of teller.tell(data, headers)) {
      if (answer.batch && answer.batch.flows.length > left) answer.batch.flows.length = left;
      left -= answer.batch?.flows.length ?? 0;
      yield answer;
      if (left <= 0) return;
    }
  }
}

/** Reads a piece of the end of the stream, and a longer one while that holds too few records. Keeps no more than `most` of them. */
async function* last(
  reader: JetStreamReader,
  most: number,
  sinceMs: number | undefined,
  wanted: Observation,
  teller: Teller,
  signal: AbortSignal,
): AsyncGenerator<ObserveFlowsResponse> {
  for (let back = LOOK_BACK; ; back *= LOOK_BACK_FACTOR) {
    const sequence = Math.max(reader.first, reader.last - back + 1);
    // A teller of its own: the numbers begin anew with each try.
    const trial = new Teller(wanted, () => undefined);
    let kept: ObserveFlowsResponse[] = [];
    let records = 0;
    for await (const { data, headers } of reader.read({ sequence }, signal)) {
      for (const answer of trial.tell(data, headers)) {
        kept.push(answer);
        records += answer.batch?.flows.length ?? 0;
        while (records - (kept[0]?.batch?.flows.length ?? 0) >= most) records -= kept.shift()?.batch?.flows.length ?? 0;
      }
    }
    const isAll = sequence === reader.first || (sinceMs !== undefined && trial.oldestMs < sinceMs);
    if (records < most && !isAll && !signal.aborted) continue;
    teller.goOnFrom(trial);
    const first = kept[0]?.batch;
    if (first && records > most) first.flows.splice(0, records - most);
    kept = signal.aborted ? [] : kept;
    yield* kept;
    return;
  }
}

/** From messages to answers: decodes, finds gaps, filters. */
class Teller {
  /** When the oldest batch so far was made, milliseconds. */
  oldestMs = Number.POSITIVE_INFINITY;
  readonly #wanted: Observation;
  readonly #say: (line: string) => void;
  #gaps = new BatchGaps();
  #malformed = 0;

  constructor(wanted: Observation, say: (line: string) => void) {
    this.#wanted = wanted;
    this.#say = say;
  }

  /** Knows from now on what `other` knows. */
  goOnFrom(other: Teller): void {
    this.#gaps = other.#gaps;
  }

  *tell(data: Uint8Array, headers: MsgHdrs | undefined): Generator<ObserveFlowsResponse> {
    const batch = decoded(data, headers);
    if (batch === undefined) {
      this.#malformed++;
      // The first, the tenth, the hundredth: a flood of them is no flood of lines.
      if (/^10*$/.test(String(this.#malformed)))
        this.#say(
          this.#malformed === 1 ? `passed over 1 message that is ${NO_BATCH}` : `passed over ${this.#malformed} messages, each ${NO_BATCH}`,
        );
      return;
    }
    if (batch.exportTime) this.oldestMs = Math.min(this.oldestMs, Number(batch.exportTime.seconds) * 1000);
    const { flows, gap, lost } = this.#gaps.take(batch);
    const test = this.#wanted.test(batch);
    if (test === undefined) return;
    const told = flows.filter(test).map(this.#wanted.mask);
    if (told.length === 0 && gap === 0n && lost === 0n) return;
    const about = { ...batch, firstSequence: 0n, lost: [], totals: undefined, flows: told };
    yield { batch: told.length > 0 ? about : undefined, missed: gap, lost, following: false };
  }
}

function decoded(data: Uint8Array, headers: MsgHdrs | undefined): FlowBatch | undefined {
  try {
    const isJson = /\bjson\b/i.test(headers?.get('Content-Type') ?? '');
    const document: unknown = isJson ? JSON.parse(Buffer.from(data).toString('utf8')) : undefined;
    const records = isJson ? (document as { flows?: unknown[] }).flows?.length : recordPlaces(data).length / 2;
    if (Number(records) > RECORDS_MOST) return undefined;
    return isJson ? FlowBatch.fromJSON(document) : FlowBatch.decode(data);
  } catch {
    return undefined;
  }
}

/** Narrower where only one node is wanted, and it is known to be one. */
function subjectOf({ allow }: ObserveFlowsRequest): string {
  const [only] = allow.length === 1 ? (allow[0]?.node ?? []) : [];
  return `taplane.v1.*.${only !== undefined && allow[0]?.node.length === 1 ? token(only) : '*'}.flow.>`;
}

/** What is wrong here does not mend itself while somebody waits. */
async function checkLogin({ mode, files }: NatsObserverOptions['nats']): Promise<void> {
  try {
    await natsConnectionOptions(addressOf(mode), { name: '', files });
  } catch (error) {
    throw invalidFields([{ field: 'nats', description: (error as Error).message }]);
  }
}

function addressOf(mode: string): NatsAddress {
  if (!isPath(mode)) {
    if (!mode.includes('://')) throw new Error('neither begins with nats:// or tls:// nor is the path of a file (/DIR/FILE, ./FILE)');
    return parseNatsUrl(mode);
  }
  const text = readUrlFile(mode);
  try {
    return parseNatsUrl(text);
  } catch (error) {
    throw new Error(`read NATS address ${mode}: ${(error as Error).message}`);
  }
}

function streamMissing(subject: string): TaplaneError {
  return new TaplaneError('FAILED_PRECONDITION', 'STREAM_MISSING', `read flow records from NATS: no stream keeps ${subject}`);
}
