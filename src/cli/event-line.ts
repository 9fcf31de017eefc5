// An event of a watch as one line. What an event tells beside the state is what was run for it: `ran:` for a change that somebody
// asked for, `repaired:` when the agent put back what others had changed, which its count of repairs tells apart.

import type { Interface } from '../gen/taplane/v1/interface.ts';
import { linkEvent_KindToJSON, type WatchInterfacesResponse } from '../gen/taplane/v1/interface_service.ts';
import { addresses, human, idOf, mode, state } from './interface-view.ts';

/** A function that remembers the repairs of each interface from event to event. */
export function eventLines(): (event: WatchInterfacesResponse) => string {
  const repairs = new Map<string, bigint>();
  return ({ event }) => {
    if (event === undefined) return 'unknown';
    if (event.$case === 'synced') return 'synced';
    if (event.$case === 'linkEvent') {
      const { kind, link, driver, up, carrier, mtu } = event.value;
      return words(['link', human(linkEvent_KindToJSON(kind), 'KIND'), link, driver, ...flags(up, carrier, mtu)]);
    }
    const one = event.value;
    const before = repairs.get(one.uid);
    const now = one.status?.repairs ?? 0n;
    if (event.$case === 'deleted') repairs.delete(one.uid);
    else repairs.set(one.uid, now);
    return words([
      event.$case,
      idOf(one.name),
      ...(event.$case === 'deleted' ? [] : seen(one)),
      done(one, before !== undefined && now > before),
    ]);
  };
}

function seen(one: Interface): string[] {
  const { status } = one;
  const device = status ? [state(one), ...flags(status.up, status.carrier, status.effectiveMtu)] : [];
  return [mode(one), ...device, addresses(one)];
}

function done({ plan }: Interface, repaired: boolean): string {
  const commands = plan.map(({ command }) => command).join('; ');
  if (commands === '') return repaired ? 'repaired' : '';
  return `${repaired ? 'repaired' : 'ran'}: ${commands}`;
}

function flags(up: boolean, carrier: boolean, mtu: number): string[] {
  return [up ? 'up' : 'down', carrier ? 'carrier' : 'no-carrier', `mtu=${mtu}`];
}

function words(parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join(' ');
}
