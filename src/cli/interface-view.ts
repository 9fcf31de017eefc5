// An interface and its plan as people read them. Pure.

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
export const mode = ({ spec }: Interface) => (spec ? human(interfaceSpec_ModeToJSON(spec.mode), 'MODE') : '');
export const state = ({ status }: Interface) => (status ? human(interfaceStatus_StateToJSON(status.state), 'STATE') : '');
/** What the device has, without what IPv6 gives every device by itself (fe80::/10, RFC 4291 section 2.4). */
export const addresses = ({ status }: Interface) =>
  (status?.addresses ?? [])
    .map(({ cidr }) => cidr)
    .filter((cidr) => !/^fe[89ab]/i.test(cidr))
    .join(',');
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
    { head: 'CARRIER-RULE', wide: true, cell: ({ spec }) => (spec ? human(interfaceSpec_CarrierToJSON(spec.carrier), 'CARRIER') : '') },
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

export function age({ seconds }: Timestamp, nowMs: number): string {
  const passed = Math.max(0, Math.floor(nowMs / 1000) - Number(seconds));
  if (passed < 120) return `${passed}s`;
  if (passed < 2 * 3600) return `${Math.floor(passed / 60)}m`;
  if (passed < 2 * 86_400) return `${Math.floor(passed / 3600)}h`;
  return `${Math.floor(passed / 86_400)}d`;
}
