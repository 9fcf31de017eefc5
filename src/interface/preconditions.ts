// What must be true of the node before an interface is changed, beyond the form of the request.

import { type FieldViolation, invalidFields, TaplaneError } from '../errors.ts';
import type { InterfaceSpec } from '../gen/taplane/v1/interface.ts';
import { resolveId } from '../sys/identity.ts';
import { queueHolders } from '../sys/queue-holders.ts';
import { addressIdentity, type Desired } from './desired.ts';
import type { Engine } from './engine.ts';
import type { Entry } from './entry.ts';
import type { Kernel } from './kernel.ts';
import type { Actual } from './plan.ts';

/** INVALID_ARGUMENT unless the node knows the owner and the group. */
export function checkIds(spec: InterfaceSpec, path = 'interface.spec'): void {
  const violations: FieldViolation[] = [];
  if (spec.owner !== '' && resolveId('user', spec.owner) === undefined) {
    violations.push({
      field: `${path}.owner`,
      description: `the node has no user '${spec.owner}'; give a name of /etc/passwd or a number`,
    });
  }
  if (spec.group !== '' && resolveId('group', spec.group) === undefined) {
    violations.push({
      field: `${path}.group`,
      description: `the node has no group '${spec.group}'; give a name of /etc/group or a number`,
    });
  }
  if (violations.length > 0) throw invalidFields(violations);
}

/** FAILED_PRECONDITION when another device of the namespace has one of the new addresses: it would lose its traffic. */
export function checkAddressesFree(kernel: Kernel, name: string, desired: Desired, actual: Actual | undefined): void {
  const have = new Set(actual?.addresses.map(addressIdentity));
  desired.addresses.forEach((address, index) => {
    if (have.has(addressIdentity(address))) return;
    const holder = kernel.addressHolder(address.local);
    if (holder === undefined || holder === name) return;
    const field = `interface.spec.addresses[${index}].cidr`;
    throw new TaplaneError(
      'FAILED_PRECONDITION',
      'ADDRESS_IN_USE',
      `${field}: ${holder} has this address already; remove it there or choose another`,
      {
        fields: [{ field, description: `${holder} has this address already` }],
        metadata: { holder },
      },
    );
  });
}

/** FAILED_PRECONDITION unless the bridge is there. A change would hear the same from the kernel; `validate_only` asks here. */
export function checkBridge(kernel: Kernel, desired: Desired): void {
  if (desired.controller === '') return;
  const link = kernel.link(desired.controller);
  if (link?.kind === 'bridge') return;
  const description =
    link === undefined
      ? 'does not exist in the namespace of the interface; create it first'
      : `is no bridge but ${link.kind || 'a plain device'}`;
  throw new TaplaneError('FAILED_PRECONDITION', 'BRIDGE_MISSING', `bridge ${desired.controller} ${description}`, {
    preconditions: [{ type: 'BRIDGE', subject: desired.controller, description }],
  });
}

/** FAILED_PRECONDITION while an interface has no device of its own. */
export function checkDevice(engine: Engine, entry: Entry): void {
  let why = 'it has no device at the moment';
  try {
    if (engine.find(entry) !== undefined) return;
  } catch (error) {
    why = `it has no device: ${error instanceof Error ? error.message : String(error)}`;
  }
  throw new TaplaneError('FAILED_PRECONDITION', 'DEVICE_MISSING', `interface ${entry.name}: ${why}`, {
    preconditions: [
      { type: 'DEVICE', subject: entry.name, description: 'see the conditions of the interface, and try again once it is there' },
    ],
    metadata: { interface: entry.name },
  });
}

/** FAILED_PRECONDITION while a link joins the interface. */
export function checkNoLink(name: string, link: string | undefined, verb: string): void {
  if (link === undefined) return;
  throw new TaplaneError('FAILED_PRECONDITION', 'INTERFACE_HAS_LINK', `${verb}: ${link} joins it; delete the link first`, {
    preconditions: [{ type: 'LINK', subject: link, description: 'delete the link first' }],
    metadata: { interface: name, link },
  });
}

/** The same error with who holds the device, where somebody does. */
export function withHolder(failure: TaplaneError, name: string): TaplaneError {
  const holders = queueHolders().get(name) ?? [];
  if (holders.length === 0) return failure;
  const holder = holders.map(({ pid, command }) => `pid ${pid} (${command})`).join(', ');
  return new TaplaneError(failure.code, failure.reason, `${failure.message}; held by ${holder}`, {
    cause: failure.cause,
    fields: [...failure.fields],
    preconditions: [...failure.preconditions],
    metadata: { ...failure.metadata, holder },
  });
}
