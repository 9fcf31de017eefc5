// What responder create and delete do.

import { CreateResponderRequest, DeleteResponderRequest, DeleteResponderResponse, Responder } from '../gen/taplane/v1/responder_service.ts';
import { UsageError } from './exit-code.ts';
import { type ChangeOptions, control, isDryRun } from './interface-change.ts';
import { idOf, resourceName } from './interface-view.ts';
import { responderKind } from './literals.ts';
import { message, print, printDocument } from './output.ts';
import { printResponders, responderName } from './responder-read.ts';
import { type Settings, withClient } from './settings.ts';

export async function create(
  name: string,
  options: ChangeOptions & { kind: string; id?: string; address?: string[]; mac?: string },
  settings: Settings,
): Promise<void> {
  const spec = { kind: responderKind(options.kind), addresses: options.address ?? [], macAddress: options.mac ?? '' };
  await withClient(settings, async ({ responders }) => {
    const request = { parent: resourceName(name), responderId: options.id ?? '', responder: Responder.fromJSON({ spec }) };
    const made = await responders.create(CreateResponderRequest.fromPartial({ ...request, ...control(options) }));
    if (!isDryRun(options) || settings.output === 'json' || settings.output === 'yaml')
      return printResponders([made], settings, Responder.toJSON(made));
    message(`would add ${made.spec?.id} to ${idOf(name)}`);
  });
}

export async function remove(
  name: string,
  ids: string[],
  options: ChangeOptions & { missingOk?: boolean },
  settings: Settings,
): Promise<void> {
  if (ids.length > 1 && options.requestId) throw new UsageError('--request-id names one call: delete one responder at a time');
  await withClient(settings, async ({ responders }) => {
    for (const id of ids) {
      const resource = responderName(name, id);
      const allowMissing = options.missingOk === true;
      const answer = await responders.delete(DeleteResponderRequest.fromPartial({ name: resource, allowMissing, ...control(options) }));
      if (settings.output === 'json' || settings.output === 'yaml')
        await printDocument(settings.output, DeleteResponderResponse.toJSON(answer));
      else if (isDryRun(options)) message(`would delete ${id} of ${idOf(name)}`);
      else if (settings.output === 'name') print(`${resource}\n`);
      else message(`deleted ${id} of ${idOf(name)}`);
    }
  });
}
