// Streams and captures between clients and lanes: finds the interface, opens on its lane, and ends what hangs on an interface that is
// deleted. Batches pass through undecoded.

import { TaplaneError } from '../errors.ts';
import type { Device, StreamSetup } from '../gen/taplane/lane/v1/lane_service.ts';
import type { LanePipe, PipeEvents } from '../lane/client.ts';
import type { Packets } from '../rpc/packet-service.ts';
import type { Lanes } from './lanes.ts';

export interface PacketsNeeds {
  lanes: Pick<Lanes, 'open'>;
  /** The device of an interface by its resource name; `field` is where the name stood in the request. Throws TaplaneError. */
  device(name: string, field: string): Device;
  /** Whether an interface with this uid is managed. */
  isManaged(uid: string): boolean;
}

export interface AgentPackets extends Packets {
  /** Interfaces may have gone. */
  interfacesChanged(): void;
}

interface Open {
  uid: string;
  name: string;
  pipe: LanePipe;
  events: PipeEvents;
}

export function agentPackets({ lanes, device, isManaged }: PacketsNeeds): AgentPackets {
  const all = new Set<Open>();
  const ended = (open: Open): void => {
    all.delete(open);
    open.pipe.end();
    open.pipe.destroy();
    const message = `interface ${open.name}: was deleted while its packets were streamed`;
    open.events.failed(new TaplaneError('NOT_FOUND', 'INTERFACE_DELETED', message, { metadata: { interface: open.name } }));
  };
  return {
    async open(ask, events) {
      const { interface: name } = ask.value;
      const found = device(name, ask.$case === 'stream' ? 'open.interface' : 'interface');
      const setup: StreamSetup = { device: found, ask, flows: undefined };
      let open: Open | undefined;
      let over = false;
      const forget = (): void => {
        over = true;
        if (open !== undefined) all.delete(open);
      };
      const pipe = await lanes.open(setup, {
        ...events,
        end: () => {
          forget();
          events.end();
        },
        failed: (error) => {
          forget();
          events.failed(error);
        },
        destroyed: forget,
      });
      open = { uid: found.uid, name: found.interface, pipe, events };
      if (!over) all.add(open);
      return pipe;
    },
    interfacesChanged() {
      for (const open of all) if (!isManaged(open.uid)) ended(open);
    },
  };
}
