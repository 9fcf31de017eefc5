// What watch does: until Ctrl-C or an explicit --timeout, both of which are how a watch ends well. A lost connection is resumed
// where it broke.

import { setTimeout as sleep } from 'node:timers/promises';
import { WatchInterfacesRequest, WatchInterfacesResponse } from '../gen/taplane/v1/interface_service.ts';
import type { ClientError, TaplaneClient } from '../rpc/client.ts';
import { eventLines } from './event-line.ts';
import { idOf, resourceName } from './interface-view.ts';
import { message, print } from './output.ts';
import { type Settings, withClient } from './settings.ts';
import { printable } from './table.ts';

const RESUME_DELAY_MS = 500;
const RESUME_TRIES = 20;

export interface WatchOptions {
  links?: boolean;
  resumeToken?: string;
  /** Undefined for a watch that does not end by itself. */
  endAfterMs?: number;
}

export async function watch(name: string | undefined, options: WatchOptions, settings: Settings): Promise<void> {
  const stop = new AbortController();
  const end = () => stop.abort();
  process.once('SIGINT', end);
  let late = false;
  const expire = () => {
    late = true;
    end();
  };
  const timer = options.endAfterMs === undefined ? undefined : setTimeout(expire, options.endAfterMs);
  const request = WatchInterfacesRequest.fromPartial({
    name: name ? resourceName(name) : '',
    includeLinks: options.links === true,
    resumeToken: options.resumeToken ?? '',
  });
  const write = await writer(settings);
  const tell = name ? absence(idOf(name)) : () => {};
  let heard = request.resumeToken !== '';
  const handle = (event: WatchInterfacesResponse) => {
    heard = true;
    write(event);
    tell(event);
  };
  try {
    await withClient(settings, async (client) => {
      for (let tries = 0; !stop.signal.aborted; tries += 1) {
        const before = request.resumeToken;
        const error = await follow(client, request, stop.signal, handle);
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
  if (!heard && late) throw await noAnswer(settings);
}

/** A watch begins with a snapshot at once: without one it has not been a watch. */
async function noAnswer({ server, timeout }: Settings): Promise<ClientError> {
  const { ClientError } = await import('../rpc/client.ts');
  const nothing = { reason: '', fields: [], preconditions: [], metadata: {}, retryAfterMs: undefined };
  return new ClientError(
    { code: 'DEADLINE_EXCEEDED', message: `watch interfaces: no answer from ${server} within ${timeout} ms`, ...nothing },
    server,
  );
}

/** Says once, after the snapshot, that there is nothing of this name: it may come, or the name may be misspelt. */
function absence(name: string): (event: WatchInterfacesResponse) => void {
  let present = false;
  let told = false;
  return ({ event }) => {
    if (event?.$case === 'added' || event?.$case === 'modified') present = true;
    if (event?.$case !== 'synced' || present || told) return;
    told = true;
    message(`${printable(name)} does not exist yet; waiting for it`);
  };
}

/** Keeps the token of the last event in `request`. */
async function follow(
  client: TaplaneClient,
  request: WatchInterfacesRequest,
  signal: AbortSignal,
  write: (event: WatchInterfacesResponse) => void,
): Promise<ClientError | undefined> {
  try {
    for await (const event of client.interfaces.watch(request, signal)) {
      write(event);
      if (event.resumeToken !== '') request.resumeToken = event.resumeToken;
    }
    return undefined;
  } catch (error) {
    return error as ClientError;
  }
}

/** Agents close connections now and then on purpose, and restart; a token too old means to start over. */
function mayResume({ code }: ClientError, request: WatchInterfacesRequest): boolean {
  if (request.resumeToken === '') return false;
  if (code === 'OUT_OF_RANGE') request.resumeToken = '';
  return code === 'OUT_OF_RANGE' || code === 'UNAVAILABLE' || code === 'CANCELLED';
}

async function writer({ output }: Settings): Promise<(event: WatchInterfacesResponse) => void> {
  if (output === 'json') return (event) => print(`${JSON.stringify(WatchInterfacesResponse.toJSON(event))}\n`);
  if (output === 'name') return (event) => print(nameLine(event));
  if (output !== 'yaml') {
    const line = eventLines();
    return (event) => print(`${printable(line(event))}\n`);
  }
  const { stringify } = await import('yaml');
  return (event) => print(`---\n${stringify(WatchInterfacesResponse.toJSON(event))}`);
}

function nameLine({ event }: WatchInterfacesResponse): string {
  if (event === undefined || event.$case === 'synced' || event.$case === 'linkEvent') return '';
  return `${event.value.name}\n`;
}
