// The way back from a step that ran. Pure.

import type { Actual } from './plan.ts';
import type { Step } from './step.ts';

/** The step that takes `step` back to how it was in `actual`; undefined where there is no way back. */
export function undo(step: Step, actual: Actual): Step | undefined {
  const link = actual.link;
  switch (step.kind) {
    case 'create-link':
      return { kind: 'delete-link', name: step.device.name };
    case 'delete-link':
      return undefined;
    case 'set-owner':
      return {
        kind: 'set-owner',
        device: step.device,
        owner: step.owner === undefined ? undefined : link?.tun?.owner,
        group: step.group === undefined ? undefined : link?.tun?.group,
      };
    case 'set-link': {
      if (link === undefined) return undefined; // it goes with the link
      if (step.controller !== undefined) return { kind: 'set-link', name: step.name, change: {}, controller: actual.controller };
      const { change } = step;
      return {
        kind: 'set-link',
        name: change.name ?? step.name,
        change: {
          ...(change.name === undefined ? {} : { name: step.name }),
          ...(change.alias === undefined ? {} : { alias: link.alias }),
          ...(change.mtu === undefined ? {} : { mtu: link.mtu }),
          ...(change.txQueueLength === undefined ? {} : { txQueueLength: link.txQueueLength }),
          ...(change.address === undefined ? {} : { address: link.address }),
          ...(change.up === undefined ? {} : { up: link.up }),
        },
      };
    }
    case 'add-address': {
      if (!step.replace) return { kind: 'delete-address', name: step.name, address: step.address };
      const was = actual.addresses.find((item) => item.local.equals(step.address.local) && item.prefixLength === step.address.prefixLength);
      return was === undefined ? undefined : { kind: 'add-address', name: step.name, address: was, replace: true };
    }
    case 'delete-address':
      return { kind: 'add-address', name: step.name, address: step.address, replace: false };
    case 'add-route':
      return { kind: 'delete-route', name: step.name, route: step.route };
    case 'delete-route':
      return { kind: 'add-route', name: step.name, route: step.route };
    case 'set-neighbour': {
      const was = actual.neighbours.find((item) => item.address.equals(step.neighbour.address));
      return was === undefined || was.hardwareAddress.length === 0
        ? { kind: 'delete-neighbour', name: step.name, neighbour: step.neighbour }
        : { kind: 'set-neighbour', name: step.name, neighbour: was, existing: true };
    }
    case 'delete-neighbour':
      return { kind: 'set-neighbour', name: step.name, neighbour: step.neighbour, existing: false };
    case 'set-sysctl':
      return step.before === undefined
        ? undefined
        : { kind: 'set-sysctl', name: step.name, key: step.key, value: step.before, before: step.value };
  }
}
