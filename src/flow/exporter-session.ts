// Publishing to JetStream over one connection, from its beginning to its end; the next connection has a session of its own.
//
//   a kind (flow, event):   SEARCHING --stream found or made--> OPEN --refused, unanswered, no stream--> HELD (back-off) --> SEARCHING
//   a track (one subject):   verify what the server has --> one message in flight, then the next --> idle until `wake`
//
// Within a subject strictly in order, behind a fence; subjects side by side, bounded in number and bytes. Never throws out.

import { RecordLoss_Reason as Reason } from '../gen/taplane/v1/flow.ts';
import type { NatsLink } from '../nats/connection.ts';
import type { JetStream, StreamSeen, StreamWanted } from '../nats/jetstream.ts';
import { producerSpan } from '../tracing/span.ts';
import type { Carrying, Session } from './exporter-carrying.ts';
import { isUnproven, reconcile } from './exporter-reconcile.ts';
import type { Row, Subject } from './spool.ts';
import { rowId } from './spool-rows.ts';

const IN_FLIGHT_MOST = 64;
const BYTES_IN_FLIGHT_MOST = 8 * 1024 * 1024;
const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 15_000;
/** Fences that fail in a row without a message stored between: somebody else publishes here. */
const FENCES_MOST = 3;

/** The messages of one subject, in their order. */
interface Track {
  subject: Subject;
  path: string;
  verify: boolean;
  /** What was sent last. */
  sent: string;
  fences: number;
  busy: boolean;
}

interface Kind {
  /** All subjects of ours. */
  subjects: string;
  wanted: StreamWanted | undefined;
  stream: StreamSeen | undefined;
  searching: boolean;
  timer: NodeJS.Timeout | undefined;
  retryMs: number;
  reason: string;
  ready: Set<Track>;
}

export interface SessionOptions {
  connection: NonNullable<ReturnType<NatsLink['connection']>>;
  wanted: { flow: StreamWanted | undefined; event: StreamWanted | undefined };
  subjects: { flow: string; event: string };
  ackTimeoutMs: number;
  /** How often an idle stream is looked at. */
  checkMs: number;
}

export function jetStreamSession(carrying: Carrying, options: SessionOptions): Session {
  const { spool, counts, random, log } = carrying;
  const tracks = new Map<number, Track>();
  const kinds = { flow: kind(options, 'flow'), event: kind(options, 'event') };
  const ending = Promise.withResolvers<undefined>();
  let jetStream: JetStream | undefined;
  let ended = false;
  let inFlight = 0;
  let bytesInFlight = 0;
  let failed = '';

  async function start(): Promise<void> {
    const { openJetStream } = await import('../nats/jetstream.ts');
    const opened = await openJetStream(options.connection, options.ackTimeoutMs);
    if (ended) return;
    jetStream = opened;
    for (const subject of spool.account.subjects.values()) if (subject.waiting + subject.acked > 0) trackOf(subject);
    for (const each of Object.values(kinds)) search(each);
  }

  function trackOf(subject: Subject): Track {
    let track = tracks.get(subject.id);
    if (track === undefined) {
      track = { subject, path: carrying.path(subject), verify: subject.acked > 0, sent: '', fences: 0, busy: false };
      tracks.set(subject.id, track);
      kinds[subject.kind].ready.add(track);
    }
    return track;
  }

  /** Finds or makes the stream of a kind; another one than before has all subjects verified. */
  function search(of: Kind): void {
    if (of.searching || jetStream === undefined || ended) return;
    of.searching = true;
    const before = of.stream?.incarnation;
    jetStream
      .stream(of.subjects, of.wanted)
      .then((found) => {
        if (ended) return;
        if ('missing' in found) {
          of.stream = undefined;
          return hold(of, found.missing);
        }
        const isOlder = [...tracks.values()].some(
          ({ subject }) => kinds[subject.kind] === of && subject.incarnation === found.incarnation && subject.sequence > found.lastSequence,
        );
        of.stream = found;
        of.reason = '';
        // Anything that failed before may have been a stream deleted and made anew; what a subject has acknowledged says so.
        if (found.incarnation !== before || isOlder) verifyAll(of);
        fill();
      })
      .catch((error) => hold(of, message(error)))
      .finally(() => {
        of.searching = false;
      });
  }

  function verifyAll(of: Kind): void {
    for (const track of tracks.values()) {
      if (kinds[track.subject.kind] !== of) continue;
      track.verify ||= track.subject.acked > 0;
      if (!track.busy) of.ready.add(track);
    }
  }

  /** Waits before anything of this kind is tried again. */
  function hold(of: Kind, reason: string): void {
    if (ended) return;
    if (reason !== of.reason) log.warn({ subjects: of.subjects, reason }, 'flow export waits');
    of.reason = reason;
    if (of.timer !== undefined) return;
    const waitMs = Math.round(of.retryMs * (0.5 + random()));
    of.retryMs = Math.min(of.retryMs * 2, RETRY_MAX_MS);
    of.timer = setTimeout(() => {
      of.timer = undefined;
      if (of.stream === undefined) search(of);
      else fill();
    }, waitMs);
    of.timer.unref();
  }

  function fill(): void {
    if (ended) return;
    for (const of of Object.values(kinds)) {
      for (const track of of.ready) {
        if (of.stream === undefined || of.timer !== undefined) break;
        if (inFlight >= IN_FLIGHT_MOST || bytesInFlight >= BYTES_IN_FLIGHT_MOST) return;
        of.ready.delete(track);
        track.busy = true;
        inFlight += 1;
        step(of, of.stream, track)
          .catch((error) => {
            // Whatever it was, the stream may be gone.
            of.stream = undefined;
            hold(of, message(error));
            return true;
          })
          .then((more) => {
            inFlight -= 1;
            track.busy = false;
            if (ended) return;
            if (more || track.subject.waiting > 0 || track.verify) of.ready.add(track);
            fill();
          });
      }
    }
  }

  /** One message of a subject; answers whether there is more to do for it. */
  async function step(of: Kind, stream: StreamSeen, track: Track): Promise<boolean> {
    await breathe();
    const { subject, path } = track;
    if (track.verify || isUnproven(subject, stream)) {
      track.verify = false;
      try {
        const again = await reconcile({ spool, jetStream: jetStream as JetStream, stream, subject, path, breathe });
        counts.republished += again;
        if (again > 0) log.warn({ subject: path, messages: again }, 'nats lost what it had acknowledged: published again');
      } catch (error) {
        track.verify = true;
        throw error;
      }
    }
    await breathe();
    const next = spool.next(subject);
    const payload = next && spool.payload(next);
    if (next === undefined) return false;
    if (payload === undefined) return true;
    return send(of, stream, track, next, payload);
  }

  async function send(of: Kind, stream: StreamSeen, track: Track, next: Row, stored: Uint8Array): Promise<boolean> {
    const { subject } = track;
    const sending = { subject: track.path, ...carrying.encode(next, subject, stored) };
    if (sending.payload.length > carrying.payloadMost(options.connection)) return tooLarge(track, next);
    if (track.sent === sending.id) counts.retried += 1;
    track.sent = sending.id;
    bytesInFlight += sending.payload.length;
    const publishing = producerSpan(sending.subject, carrying.traces.of(sending.id), (trace) =>
      (jetStream as JetStream).publish({ ...sending, trace }, subject.sequence),
    );
    const published = await Promise.race([publishing, ending.promise]);
    bytesInFlight -= sending.payload.length;
    if (ended || published === undefined) return false;
    await breathe();
    switch (published.is) {
      case 'stored':
        spool.acked(next, published.sequence, stream.incarnation);
        carrying.traces.forget(sending.id);
        counts.messages += 1;
        counts.records += next.reason === 0 ? next.records : 0;
        track.sent = '';
        track.fences = 0;
        of.reason = '';
        of.retryMs = RETRY_MIN_MS;
        return subject.waiting > 0;
      case 'fenced':
        track.verify = true;
        track.fences += 1;
        if (track.fences > FENCES_MOST) hold(of, `somebody else publishes on ${track.path}`);
        return true;
      case 'too-large':
        return tooLarge(track, next);
      case 'refused':
        hold(of, published.reason);
        return true;
      default:
        of.stream = undefined;
        hold(of, published.reason);
        return true;
    }
  }

  function tooLarge(track: Track, next: Row): boolean {
    log.warn({ subject: track.path, id: rowId(next), bytes: next.bytes }, 'message is larger than nats takes: told as lost');
    spool.replace(next, Reason.TOO_LARGE);
    return true;
  }

  async function breathe(): Promise<void> {
    await carrying.breathe();
    if (ended) throw new Error('the session is over');
  }

  const check = setInterval(() => {
    for (const [id, { busy }] of tracks) if (!busy && !spool.account.subjects.has(id)) tracks.delete(id);
    for (const of of Object.values(kinds)) if (of.stream !== undefined && of.timer === undefined) search(of);
  }, options.checkMs);
  check.unref();

  start().catch((error) => {
    failed = `open JetStream: ${message(error)}`;
  });

  return {
    wake(subjects) {
      if (jetStream === undefined || ended) return;
      for (const subject of subjects) {
        const track = trackOf(subject);
        if (!track.busy) kinds[subject.kind].ready.add(track);
      }
      setImmediate(fill);
    },
    reason: () => failed || kinds.flow.reason || kinds.event.reason,
    isIdle: () => inFlight === 0,
    end() {
      ended = true;
      ending.resolve(undefined);
      clearInterval(check);
      for (const of of Object.values(kinds)) clearTimeout(of.timer);
    },
  };
}

function kind(options: SessionOptions, name: 'flow' | 'event'): Kind {
  return {
    subjects: options.subjects[name],
    wanted: options.wanted[name],
    stream: undefined,
    searching: false,
    timer: undefined,
    retryMs: RETRY_MIN_MS,
    reason: '',
    ready: new Set(),
  };
}

function message(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error);
}
