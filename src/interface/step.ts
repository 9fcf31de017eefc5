// The steps that a plan is made of, and how each reads as a line of iproute2 or sysctl. Pure.

import { type PlanStep, PlanStep_Action } from '../gen/taplane/v1/interface.ts';
import { formatIp, formatMac, formatPrefix } from '../resource/inet.ts';
import type { LinkAddress } from '../sys/netlink/address.ts';
import { AF_INET } from '../sys/netlink/address.ts';
import type { LinkChange } from '../sys/netlink/link.ts';
import { RT_TABLE_MAIN } from '../sys/netlink/route.ts';
import type { TunDevice } from '../sys/tun.ts';
import { type DesiredAddress, type DesiredNeighbour, type DesiredRoute, FOREVER, TAPLANE_PROTOCOL } from './desired.ts';

/** One operation on the kernel. `device` is the name of the link at the time of the step. */
export type Step =
  | { kind: 'create-link'; device: TunDevice; alias: string }
  | { kind: 'delete-link'; name: string }
  | { kind: 'set-owner'; device: TunDevice; owner: number | undefined; group: number | undefined }
  | { kind: 'set-link'; name: string; change: Exclude<LinkChange, 'controller'>; controller?: string }
  | { kind: 'add-address'; name: string; address: DesiredAddress; replace: boolean }
  | { kind: 'delete-address'; name: string; address: DesiredAddress | LinkAddress }
  | { kind: 'add-route'; name: string; route: DesiredRoute }
  | { kind: 'delete-route'; name: string; route: DesiredRoute }
  | { kind: 'set-neighbour'; name: string; neighbour: DesiredNeighbour; existing: boolean }
  | { kind: 'delete-neighbour'; name: string; neighbour: DesiredNeighbour }
  | { kind: 'set-sysctl'; name: string; key: string; value: string; before: string | undefined };

const { ADD, CHANGE, DELETE } = PlanStep_Action;

/** A step as the API tells it. */
export function planStep(step: Step): PlanStep {
  const command = commandLine(step);
  switch (step.kind) {
    case 'create-link':
      return { action: ADD, object: 'link', command };
    case 'delete-link':
      return { action: DELETE, object: 'link', command };
    case 'set-owner':
    case 'set-link':
      return { action: CHANGE, object: 'link', command };
    case 'add-address':
      return { action: step.replace ? CHANGE : ADD, object: 'address', command };
    case 'delete-address':
      return { action: DELETE, object: 'address', command };
    case 'add-route':
      return { action: ADD, object: 'route', command };
    case 'delete-route':
      return { action: DELETE, object: 'route', command };
    case 'set-neighbour':
      return { action: step.existing ? CHANGE : ADD, object: 'neighbour', command };
    case 'delete-neighbour':
      return { action: DELETE, object: 'neighbour', command };
    case 'set-sysctl':
      return { action: CHANGE, object: 'sysctl', command };
  }
}

/** A step as a command that a person could type. */
export function commandLine(step: Step): string {
  switch (step.kind) {
    case 'create-link':
      return `${tuntap(step.device)} # alias ${step.alias}`;
    case 'delete-link':
      return `ip link del dev ${step.name}`;
    case 'set-owner':
      return `tunctl -t ${step.device.name}${step.owner === undefined ? '' : ` -u ${step.owner}`}${step.group === undefined ? '' : ` -g ${step.group}`}`;
    case 'set-link':
      return `ip link set dev ${step.name} ${linkChange(step.change, step.controller)}`;
    case 'add-address':
      return `ip addr ${step.replace ? 'change' : 'add'} ${address(step.address)} dev ${step.name}`;
    case 'delete-address':
      return `ip addr del ${address(step.address)} dev ${step.name}`;
    case 'add-route':
      return `ip${step.route.family === AF_INET ? '' : ' -6'} route add ${route(step.route, step.name)}`;
    case 'delete-route':
      return `ip${step.route.family === AF_INET ? '' : ' -6'} route del ${route(step.route, step.name)}`;
    case 'set-neighbour':
      return `ip neigh replace ${formatIp(step.neighbour.address)} lladdr ${formatMac(step.neighbour.hardwareAddress)} dev ${step.name} nud permanent protocol ${TAPLANE_PROTOCOL}`;
    case 'delete-neighbour':
      return `ip neigh del ${formatIp(step.neighbour.address)} dev ${step.name}`;
    case 'set-sysctl':
      // A dot in the name of the interface is written as a slash, as sysctl(8) wants it.
      return `sysctl -w net.${step.key.split('/')[0]}.conf.${step.name.replaceAll('.', '/')}.${step.key.split('/')[1]}=${step.value}`;
  }
}

function tuntap(device: TunDevice): string {
  const words = [`ip tuntap add dev ${device.name} mode ${device.mode}`];
  if (device.owner !== undefined) words.push(`user ${device.owner}`);
  if (device.group !== undefined) words.push(`group ${device.group}`);
  if (device.packetInfo) words.push('pi');
  if (device.vnetHeader) words.push('vnet_hdr');
  if (device.multiQueue) words.push('multi_queue');
  return words.join(' ');
}

function linkChange(change: LinkChange, controller: string | undefined): string {
  const words: string[] = [];
  if (change.name !== undefined) words.push(`name ${change.name}`);
  if (change.alias !== undefined) words.push(`alias ${change.alias}`);
  if (change.mtu !== undefined) words.push(`mtu ${change.mtu}`);
  if (change.txQueueLength !== undefined) words.push(`txqueuelen ${change.txQueueLength}`);
  if (change.address !== undefined) words.push(`address ${formatMac(change.address)}`);
  if (controller !== undefined) words.push(controller === '' ? 'nomaster' : `master ${controller}`);
  if (change.up !== undefined) words.push(change.up ? 'up' : 'down');
  return words.join(' ');
}

function scopeWord(scope: number): string {
  return { 0: 'global', 253: 'link', 254: 'host' }[scope] ?? String(scope);
}

function address(item: DesiredAddress | LinkAddress): string {
  const words =
    item.peer === undefined
      ? [formatPrefix(item.local, item.prefixLength)]
      : [formatIp(item.local), 'peer', formatPrefix(item.peer, item.prefixLength)];
  if (item.family === AF_INET && item.scope !== 0) words.push(`scope ${scopeWord(item.scope)}`);
  if (item.validLifetime !== FOREVER) words.push(`valid_lft ${item.validLifetime} preferred_lft ${item.validLifetime}`);
  return words.join(' ');
}

function route(item: DesiredRoute, name: string): string {
  const words = [item.prefixLength === 0 ? 'default' : formatPrefix(item.destination, item.prefixLength)];
  if (item.gateway !== undefined) words.push(`via ${formatIp(item.gateway)}`);
  words.push(`dev ${name}`, `proto ${item.protocol}`);
  if (item.family === AF_INET && item.gateway === undefined && item.scope !== 0) words.push(`scope ${scopeWord(item.scope)}`);
  if (item.source !== undefined) words.push(`src ${formatIp(item.source)}`);
  if (item.metric !== 0) words.push(`metric ${item.metric}`);
  if (item.table !== RT_TABLE_MAIN) words.push(`table ${item.table}`);
  if (item.mtu !== 0) words.push(`mtu ${item.mtu}`);
  if (item.onlink) words.push('onlink');
  return words.join(' ');
}
