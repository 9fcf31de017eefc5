// An interface, its plan and its events as people read them. Pure.

import type { Timestamp } from '../gen/google/protobuf/timestamp.ts';
import {
  type Interface,
  interfaceSpec_CarrierToJSON,
  interfaceSpec_DriftToJSON,
  interfaceSpec_ModeToJSON,
  interfaceStatus_OperStateToJSON,
  interfaceStatus_StateToJSON,
  type PlanStep,
} from '../gen/taplane/v1/interface.ts';
import { linkEvent_KindToJSON, type WatchInterfacesResponse } from '../gen/taplane/v1/interface_service.ts';
import type { Column } from './table.ts';

/** `MODE_TUN` reads `tun`; what is not said reads as nothing. */
export function human(name: string, prefix: string): string {
  const word = name
    .slice(prefix.length + 1)
    .toLowerCase()
    .replaceAll('_', '-');
  return word === 'unspecified' ? '' : word;
}

export function idOf(name: string): string {
  return name.replace(/^interfaces\//, '');
}

export function resourceName(id: string): string {
  return id.startsWith('interfaces/') ? id : `interfaces/${id}`;
}

const yesNo = (value: boolean | undefined) => (value === undefined ? '' : value ? 'yes' : 'no');
const mode = ({ spec }: Interface) => (spec ? human(interfaceSpec_ModeToJSON(spec.mode), 'MODE') : '');
const state = ({ status }: Interface) => (status ? human(interfaceStatus_StateToJSON(status.state), 'STATE') : '');
const addresses = ({ spec }: Interface) => spec?.addresses.map(({ cidr }) => cidr).join(',') ?? '';
const pairs = (map: Record<string, string>) =>
  Object.entries(map)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');

export function interfaceColumns(nowMs: number): Column<Interface>[] {
  return [
    { head: 'NAME', cell: ({ name }) => idOf(name) },
    { head: 'MODE', cell: mode },
    { head: 'STATE', cell: state },
    { head: 'UP', cell: ({ status, spec }) => yesNo(status?.up ?? spec?.up) },
    { head: 'CARRIER', cell: ({ status }) => yesNo(status?.carrier) },
    { head: 'MTU', cell: ({ status }) => String(status?.effectiveMtu || '') },
    { head: 'ADDRESSES', cell: addresses },
    { head: 'AGE', cell: ({ createTime }) => (createTime ? age(createTime, nowMs) : '') },
    { head: 'IFINDEX', wide: true, cell: ({ status }) => String(status?.ifindex || '') },
    {
      head: 'OPERSTATE',
      wide: true,
      cell: ({ status }) => (status ? human(interfaceStatus_OperStateToJSON(status.operState), 'OPER_STATE') : ''),
    },
    { head: 'MAC', wide: true, cell: ({ status }) => status?.effectiveMacAddress ?? '' },
    { head: 'ROUTES', wide: true, cell: ({ spec }) => spec?.routes.map(({ destination }) => destination).join(',') ?? '' },
    { head: 'OWNER', wide: true, cell: ({ spec }) => spec?.owner ?? '' },
    { head: 'GROUP', wide: true, cell: ({ spec }) => spec?.group ?? '' },
    { head: 'BRIDGE', wide: true, cell: ({ status }) => status?.controller ?? '' },
    { head: 'NETNS', wide: true, cell: ({ spec }) => spec?.networkNamespace ?? '' },
    { head: 'KEEP', wide: true, cell: ({ spec }) => (spec ? human(interfaceSpec_CarrierToJSON(spec.carrier), 'CARRIER') : '') },
    { head: 'DRIFT', wide: true, cell: ({ spec }) => (spec ? human(interfaceSpec_DriftToJSON(spec.drift), 'DRIFT') : '') },
    { head: 'RX', wide: true, cell: ({ status }) => (status?.counters ? String(status.counters.rxPackets) : '') },
    { head: 'TX', wide: true, cell: ({ status }) => (status?.counters ? String(status.counters.txPackets) : '') },
    {
      head: 'HOLDERS',
      wide: true,
      cell: ({ status }) => status?.holders.map(({ pid, command, attachment }) => attachment || `${command}(${pid})`).join(',') ?? '',
    },
    { head: 'LABELS', wide: true, cell: ({ labels }) => pairs(labels) },
  ];
}

/** As a script that could be pasted. */
export function planLines(plan: readonly PlanStep[]): string {
  return plan.map(({ command }) => `${command}\n`).join('');
}

/** One event, one line. */
export function eventLine({ event }: WatchInterfacesResponse): string {
  if (event === undefined) return 'unknown';
  if (event.$case === 'synced') return 'synced';
  if (event.$case === 'linkEvent') {
    const { kind, link, driver, up, carrier, mtu } = event.value;
    return words([
      'link',
      human(linkEvent_KindToJSON(kind), 'KIND'),
      link,
      driver,
      up ? 'up' : 'down',
      carrier ? 'carrier' : 'no-carrier',
      `mtu=${mtu}`,
    ]);
  }
  const one = event.value;
  if (event.$case === 'deleted') return words(['deleted', idOf(one.name)]);
  const { status } = one;
  const seen = status && [state(one), status.up ? 'up' : 'down', status.carrier ? 'carrier' : 'no-carrier', `mtu=${status.effectiveMtu}`];
  return words([event.$case, idOf(one.name), mode(one), ...(seen ?? []), addresses(one)]);
}

export function age({ seconds }: Timestamp, nowMs: number): string {
  const passed = Math.max(0, Math.floor(nowMs / 1000) - Number(seconds));
  if (passed < 120) return `${passed}s`;
  if (passed < 2 * 3600) return `${Math.floor(passed / 60)}m`;
  if (passed < 2 * 86_400) return `${Math.floor(passed / 3600)}h`;
  return `${Math.floor(passed / 86_400)}d`;
}

function words(parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join(' ');
}
