// What watchers of interfaces are told.

import { WatchInterfacesResponse } from '../gen/taplane/v1/interface_service.ts';
import { Broadcast, type Watched } from '../resource/broadcast.ts';

export type WatchEvent = NonNullable<WatchInterfacesResponse['event']>;

const INTERFACES: Watched<WatchEvent> = {
  noun: 'interfaces',
  encode: ({ event, resumeToken }) => WatchInterfacesResponse.encode({ event, resumeToken }),
  decode: (bytes) => WatchInterfacesResponse.decode(bytes),
  synced: { $case: 'synced', value: {} },
};

/** See `Broadcast`. */
export function interfaceBroadcast(epoch: string, mostWatchers: number, told?: (event: WatchEvent) => void): Broadcast<WatchEvent> {
  return new Broadcast(INTERFACES, epoch, mostWatchers, told);
}
