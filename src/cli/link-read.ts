// What link get and list do.

import { Link } from '../gen/taplane/v1/link.ts';
import { ListLinksRequest } from '../gen/taplane/v1/link_service.ts';
import type { TaplaneClient } from '../rpc/client.ts';
import { resourceName } from './interface-view.ts';
import { linkColumns, linkName, linkText } from './link-view.ts';
import { print, printAnswer } from './output.ts';
import { type Settings, withClient } from './settings.ts';

/** As many as the server gives at once. */
const PAGE_SIZE = 1000;

/** For people each link whole; in the other forms as `list`. */
export async function get(names: string[], settings: Settings): Promise<void> {
  await withClient(settings, async ({ links }) => {
    const found: Link[] = [];
    for (const name of names) found.push(await links.get({ name: linkName(name) }));
    const wide = settings.output === 'wide';
    if (wide || settings.output === 'table') return print(found.map((one) => linkText(one, Date.now(), wide)).join('\n'));
    const documents = found.map((one) => Link.toJSON(one));
    await printLinks(found, settings, documents.length === 1 ? documents[0] : { links: documents });
  });
}

export async function list(options: { selector?: [string, string][]; interface?: string }, settings: Settings): Promise<void> {
  await withClient(settings, async ({ links }) => {
    const found = await allLinks(links, {
      labelSelector: Object.fromEntries(options.selector ?? []),
      interface: options.interface ? resourceName(options.interface) : '',
    });
    await printLinks(found, settings, { links: found.map((one) => Link.toJSON(one)) });
  });
}

async function allLinks(links: TaplaneClient['links'], wanted: Pick<ListLinksRequest, 'labelSelector' | 'interface'>): Promise<Link[]> {
  const found: Link[] = [];
  let pageToken = '';
  do {
    const page = await links.list(ListLinksRequest.fromPartial({ pageSize: PAGE_SIZE, pageToken, ...wanted }));
    found.push(...page.links);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return found;
}

export async function printLinks(rows: Link[], settings: Settings, json: unknown): Promise<void> {
  await printAnswer(settings.output, { columns: linkColumns(Date.now()), rows, json, name: (one) => one.name });
}
