// What watch does with the changes of interfaces.

import { WatchInterfacesRequest, WatchInterfacesResponse } from '../gen/taplane/v1/interface_service.ts';
import type { TaplaneClient } from '../rpc/client.ts';
import { eventLines } from './event-line.ts';
import { idOf, resourceName } from './interface-view.ts';
import { message, print } from './output.ts';
import type { Settings } from './settings.ts';
import { printable } from './table.ts';
import { followWatch } from './watch-loop.ts';

export interface WatchOptions {
  links?: boolean;
  resumeToken?: string;
  /** Undefined for a watch that does not end by itself. */
  endAfterMs?: number;
}

export async function watch(name: string | undefined, options: WatchOptions, settings: Settings): Promise<void> {
  const request = WatchInterfacesRequest.fromPartial({
    name: name ? resourceName(name) : '',
    includeLinks: options.links === true,
    resumeToken: options.resumeToken ?? '',
  });
  const write = await writer(settings);
  const tell = name ? absence(idOf(name)) : () => {};
  const handle = (event: WatchInterfacesResponse) => {
    write(event);
    tell(event);
  };
  const open = ({ interfaces }: TaplaneClient, asked: WatchInterfacesRequest, signal: AbortSignal) => interfaces.watch(asked, signal);
  await followWatch({ what: 'watch interfaces', request, open, handle, endAfterMs: options.endAfterMs }, settings);
}

/** Says once, after the snapshot, that there is nothing of this name: it may come, or the name may be misspelt. */
export function absence(name: string): (change: { event?: { $case: string } | undefined }) => void {
  let present = false;
  let told = false;
  return ({ event }) => {
    if (event?.$case === 'added' || event?.$case === 'modified') present = true;
    if (event?.$case !== 'synced' || present || told) return;
    told = true;
    message(`${printable(name)} does not exist yet; waiting for it`);
  };
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
