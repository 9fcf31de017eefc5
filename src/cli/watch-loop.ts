// How a watch is followed: until Ctrl-C or an explicit --timeout, both of which are how a watch ends well. A lost connection is resumed
// where it broke.

import { setTimeout as sleep } from 'node:timers/promises';
import type { ClientError, TaplaneClient } from '../rpc/client.ts';
import { message } from './output.ts';
import { type Settings, withClient } from './settings.ts';

const RESUME_DELAY_MS = 500;
const RESUME_TRIES = 20;

export interface Watch<Request extends { resumeToken: string }, Event extends { resumeToken: string }> {
  /** In the words of an error: `watch interfaces`. */
  what: string;
  /** Its token is kept at that of the last event. */
  request: Request;
  open(client: TaplaneClient, request: Request, signal: AbortSignal): AsyncIterable<Event>;
  handle(event: Event): void;
  /** Undefined for a watch that does not end by itself. */
  endAfterMs: number | undefined;
}

export async function followWatch<Request extends { resumeToken: string }, Event extends { resumeToken: string }>(
  watch: Watch<Request, Event>,
  settings: Settings,
): Promise<void> {
  const { request, endAfterMs } = watch;
  const stop = new AbortController();
  const end = () => stop.abort();
  process.once('SIGINT', end);
  let late = false;
  const expire = () => {
    late = true;
    end();
  };
  const timer = endAfterMs === undefined ? undefined : setTimeout(expire, endAfterMs);
  let heard = request.resumeToken !== '';
  const handle = (event: Event) => {
    heard = true;
    watch.handle(event);
  };
  try {
    await withClient(settings, async (client) => {
      for (let tries = 0; !stop.signal.aborted; tries += 1) {
        const before = request.resumeToken;
        const error = await follow(watch.open(client, request, stop.signal), request, handle);
        if (stop.signal.aborted) return;
        if (request.resumeToken !== before) tries = 0;
        if (!error || !mayResume(error, request) || tries >= RESUME_TRIES) throw error ?? new Error('the agent ended the watch');
        if (tries === 0) message('connection to the agent lost, resuming');
        await sleep(RESUME_DELAY_MS, undefined, { signal: stop.signal }).catch(() => {});
      }
    });
  } finally {
    clearTimeout(timer);
    process.off('SIGINT', end);
  }
  if (!heard && late) throw await noAnswer(watch.what, settings);
}

/** A watch begins with a snapshot at once: without one it has not been a watch. */
async function noAnswer(what: string, { server, timeout }: Settings): Promise<ClientError> {
  const { ClientError } = await import('../rpc/client.ts');
  const nothing = { reason: '', fields: [], preconditions: [], metadata: {}, retryAfterMs: undefined };
  return new ClientError(
    { code: 'DEADLINE_EXCEEDED', message: `${what}: no answer from ${server} within ${timeout} ms`, ...nothing },
    server,
  );
}

async function follow<Event extends { resumeToken: string }>(
  events: AsyncIterable<Event>,
  request: { resumeToken: string },
  handle: (event: Event) => void,
): Promise<ClientError | undefined> {
  try {
    for await (const event of events) {
      handle(event);
      if (event.resumeToken !== '') request.resumeToken = event.resumeToken;
    }
    return undefined;
  } catch (error) {
    return error as ClientError;
  }
}

/** Agents close connections now and then on purpose, and restart; a token too old means to start over. */
function mayResume({ code }: ClientError, request: { resumeToken: string }): boolean {
  if (request.resumeToken === '') return false;
  if (code === 'OUT_OF_RANGE') request.resumeToken = '';
  return code === 'OUT_OF_RANGE' || code === 'UNAVAILABLE' || code === 'CANCELLED';
}
