// What address add|remove and route add|remove do.

import { Address, Route } from '../gen/taplane/v1/interface.ts';
import { type ChangeOptions, control, show } from './interface-change.ts';
import { resourceName } from './interface-view.ts';
import { type Settings, withClient } from './settings.ts';

export async function changeAddress(
  verb: 'add' | 'remove',
  name: string,
  address: object,
  options: ChangeOptions,
  settings: Settings,
): Promise<void> {
  await withClient(settings, async ({ interfaces }) => {
    const request = { name: resourceName(name), address: Address.fromJSON(address), ...control(options) };
    await show(await (verb === 'add' ? interfaces.addAddress(request) : interfaces.removeAddress(request)), options, settings);
  });
}

export async function changeRoute(
  verb: 'add' | 'remove',
  name: string,
  route: object,
  options: ChangeOptions,
  settings: Settings,
): Promise<void> {
  await withClient(settings, async ({ interfaces }) => {
    const request = { name: resourceName(name), route: Route.fromJSON(route), ...control(options) };
    await show(await (verb === 'add' ? interfaces.addRoute(request) : interfaces.removeRoute(request)), options, settings);
  });
}
