// What responder get and list do, and responders as people read them.

import { responderSpec_KindToJSON } from '../gen/taplane/v1/interface.ts';
import { Responder } from '../gen/taplane/v1/responder_service.ts';
import { human, idOf, resourceName } from './interface-view.ts';
import { printAnswer } from './output.ts';
import { type Settings, withClient } from './settings.ts';
import type { Column } from './table.ts';

/** As many as the server gives at once. */
const PAGE_SIZE = 1000;

const columns: Column<Responder>[] = [
  { head: 'INTERFACE', cell: ({ name }) => idOf(name).split('/')[0] ?? '' },
  { head: 'ID', cell: ({ spec }) => spec?.id ?? '' },
  { head: 'KIND', cell: ({ spec }) => (spec ? human(responderSpec_KindToJSON(spec.kind), 'KIND') : '') },
  { head: 'ADDRESSES', cell: ({ spec }) => spec?.addresses.join(',') ?? '' },
  { head: 'ATTACHED', cell: ({ status }) => (status ? (status.attached ? 'yes' : 'no') : '') },
  { head: 'RECEIVED', cell: ({ status }) => String(status?.received ?? '') },
  { head: 'ANSWERED', cell: ({ status }) => String(status?.answered ?? '') },
  { head: 'FAILED', wide: true, cell: ({ status }) => String(status?.failed ?? '') },
  { head: 'MAC', wide: true, cell: ({ spec }) => spec?.macAddress ?? '' },
  { head: 'REASON', wide: true, cell: ({ status }) => status?.reason ?? '' },
];

/** Name of a responder in the API. */
export function responderName(interfaceName: string, id: string): string {
  return `${resourceName(interfaceName)}/responders/${id}`;
}

export async function get(name: string, ids: string[], settings: Settings): Promise<void> {
  await withClient(settings, async ({ responders }) => {
    const found: Responder[] = [];
    for (const id of ids) found.push(await responders.get({ name: responderName(name, id) }));
    const documents = found.map((one) => Responder.toJSON(one));
    await printResponders(found, settings, documents.length === 1 ? documents[0] : { responders: documents });
  });
}

export async function list(name: string | undefined, settings: Settings): Promise<void> {
  await withClient(settings, async ({ responders }) => {
    const parent = resourceName(name ?? '-');
    const found: Responder[] = [];
    let pageToken = '';
    do {
      const page = await responders.list({ parent, pageSize: PAGE_SIZE, pageToken });
      found.push(...page.responders);
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
    await printResponders(found, settings, { responders: found.map((one) => Responder.toJSON(one)) });
  });
}

export async function printResponders(rows: Responder[], settings: Settings, json: unknown): Promise<void> {
  await printAnswer(settings.output, { columns, rows, json, name: (one) => one.name });
}
