// What get and list do.

import { Interface } from '../gen/taplane/v1/interface.ts';
import { ListInterfacesRequest_View as View } from '../gen/taplane/v1/interface_service.ts';
import { interfaceColumns, resourceName } from './interface-view.ts';
import { printAnswer } from './output.ts';
import { type Settings, withClient } from './settings.ts';

/** As many as the server gives at once. */
const PAGE_SIZE = 1000;

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
