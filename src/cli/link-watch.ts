// What link watch does with the changes of links.

import { WatchLinksRequest, WatchLinksResponse } from '../gen/taplane/v1/link_service.ts';
import type { TaplaneClient } from '../rpc/client.ts';
import { absence, type WatchOptions } from './interface-watch.ts';
import { linkId, linkLine, linkName } from './link-view.ts';
import { print } from './output.ts';
import type { Settings } from './settings.ts';
import { printable } from './table.ts';
import { followWatch } from './watch-loop.ts';

export async function watch(name: string | undefined, options: WatchOptions, settings: Settings): Promise<void> {
  const request = WatchLinksRequest.fromPartial({ name: name ? linkName(name) : '', resumeToken: options.resumeToken ?? '' });
  const write = await writer(settings);
  const tell = name ? absence(linkId(name)) : () => {};
  const handle = (event: WatchLinksResponse) => {
    write(event);
    tell(event);
  };
  const open = ({ links }: TaplaneClient, asked: WatchLinksRequest, signal: AbortSignal) => links.watch(asked, signal);
  await followWatch({ what: 'watch links', request, open, handle, endAfterMs: options.endAfterMs }, settings);
}

async function writer({ output }: Settings): Promise<(event: WatchLinksResponse) => void> {
  if (output === 'json') return (event) => print(`${JSON.stringify(WatchLinksResponse.toJSON(event))}\n`);
  if (output === 'name') return ({ event }) => print(event === undefined || event.$case === 'synced' ? '' : `${event.value.name}\n`);
  if (output !== 'yaml') return lineWriter();
  const { stringify } = await import('yaml');
  return (event) => print(`---\n${stringify(WatchLinksResponse.toJSON(event))}`);
}

/** A line a change. What has changed may be in none: the same line of a link is not printed twice. */
function lineWriter(): (event: WatchLinksResponse) => void {
  const printed = new Map<string, string>();
  return (told) => {
    const { event } = told;
    const line = eventLine(told);
    if (event !== undefined && event.$case !== 'synced') {
      const { name } = event.value;
      const looks = event.$case === 'deleted' ? '' : linkLine(event.value);
      if (event.$case === 'modified' && printed.get(name) === looks) return;
      if (event.$case === 'deleted') printed.delete(name);
      else printed.set(name, looks);
    }
    print(`${printable(line)}\n`);
  };
}

function eventLine({ event }: WatchLinksResponse): string {
  if (event === undefined) return 'unknown';
  if (event.$case === 'synced') return 'synced';
  const { $case, value } = event;
  return [$case, linkId(value.name), ...($case === 'deleted' ? [] : [linkLine(value)])].join(' ');
}
