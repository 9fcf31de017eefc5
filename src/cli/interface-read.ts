// What get, list and watch do.

import { setTimeout as sleep } from 'node:timers/promises';
import { Interface } from '../gen/taplane/v1/interface.ts';
import {
  ListInterfacesRequest_View as View,
  WatchInterfacesRequest,
  WatchInterfacesResponse,
} from '../gen/taplane/v1/interface_service.ts';
import type { ClientError, TaplaneClient } from '../rpc/client.ts';
import { eventLine, interfaceColumns, resourceName } from './interface-view.ts';
import { message, print, printAnswer } from './output.ts';
import { type Settings, withClient } from './settings.ts';
import { printable } from './table.ts';

/** As many as the server gives at once. */
const PAGE_SIZE = 1000;
const RESUME_DELAY_MS = 500;
const RESUME_TRIES = 20;

export async function get(names: string[], settings: Settings): Promise<void> {
  await withClient(settings, async ({ interfaces }) => {
    const found: Interface[] = [];
    for (const name of names) found.push(await interfaces.get({ name: resourceName(name) }));
    const documents = found.map((one) => Interface.toJSON(one));
    await printInterfaces(found, settings, documents.length === 1 ? documents[0] : { interfaces: documents });
  });
}

export async function list(options: { selector?: [string, string][]; full?: boolean }, settings: Settings): Promise<void> {
  await withClient(settings, async ({ interfaces }) => {
    const view = options.full || settings.output === 'wide' ? View.FULL : View.BASIC;
    const found: Interface[] = [];
    let pageToken = '';
    do {
      const page = await interfaces.list({
        pageSize: PAGE_SIZE,
        pageToken,
        labelSelector: Object.fromEntries(options.selector ?? []),
        view,
      });
      found.push(...page.interfaces);
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    await printInterfaces(found, settings, { interfaces: found.map((one) => Interface.toJSON(one)) });
  });
}

export async function printInterfaces(rows: Interface[], settings: Settings, json: unknown): Promise<void> {
  await printAnswer(settings.output, { columns: interfaceColumns(Date.now()), rows, json, name: (one) => one.name });
}

/** Until Ctrl-C, which is how a watch ends well. A lost connection is resumed where it broke. */
export async function watch(
  name: string | undefined,
  options: { links?: boolean; resumeToken?: string },
  settings: Settings,
): Promise<void> {
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  process.once('SIGINT', onSignal);
  const request = WatchInterfacesRequest.fromPartial({
    name: name ? resourceName(name) : '',
    includeLinks: options.links === true,
    resumeToken: options.resumeToken ?? '',
  });
  const write = await writer(settings);
  try {
    await withClient(settings, async (client) => {
      for (let tries = 0; !stop.signal.aborted; tries += 1) {
        const before = request.resumeToken;
        const error = await follow(client, request, stop.signal, write);
        if (stop.signal.aborted) return;
        if (request.resumeToken !== before) tries = 0;
        if (!error || !mayResume(error, request) || tries >= RESUME_TRIES) throw error ?? new Error('the agent ended the watch');
        if (tries === 0) message('connection to the agent lost, resuming');
        await sleep(RESUME_DELAY_MS, undefined, { signal: stop.signal }).catch(() => {});
      }
    });
  } finally {
    process.off('SIGINT', onSignal);
  }
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
  if (output !== 'yaml') return (event) => print(`${printable(eventLine(event))}\n`);
  const { stringify } = await import('yaml');
  return (event) => print(`---\n${stringify(WatchInterfacesResponse.toJSON(event))}`);
}

function nameLine({ event }: WatchInterfacesResponse): string {
  if (event === undefined || event.$case === 'synced' || event.$case === 'linkEvent') return '';
  return `${event.value.name}\n`;
}
