// Records as they follow each other: the first, the next, and what to go back to when the next does not come to be. Pure but for the uid.

import { randomUUID } from 'node:crypto';
import type { Interface, InterfaceSpec } from '../gen/taplane/v1/interface.ts';
import { formatMac } from '../resource/inet.ts';
import type { Actual } from './plan.ts';
import { type Record, sameSpec } from './record.ts';

type Labels = Interface['labels'];

/** The first record of an interface. */
export function newRecord(name: string, spec: InterfaceSpec, labels: Labels, nowMs: number): Record {
  const addressSinceMs = Object.fromEntries(spec.addresses.filter((item) => item.validLifetime > 0).map((item) => [item.cidr, nowMs]));
  return { name, uid: randomUUID(), phase: 'ready', labels, spec, generation: 1, createTimeMs: nowMs, updateTimeMs: nowMs, addressSinceMs };
}

/** The record after an update. An address that keeps its lifetime keeps its age. */
export function nextRecord(before: Record, spec: InterfaceSpec, labels: Labels, nowMs: number): Record {
  const addressSinceMs: { [cidr: string]: number } = {};
  for (const { cidr, validLifetime } of spec.addresses) {
    if (validLifetime === 0) continue;
    const same = before.spec.addresses.some((old) => old.cidr === cidr && old.validLifetime === validLifetime);
    addressSinceMs[cidr] = (same ? before.addressSinceMs[cidr] : undefined) ?? nowMs;
  }
  const generation = before.generation + (sameSpec(before.spec, spec) ? 0 : 1);
  return { ...before, phase: 'ready', spec, labels, generation, updateTimeMs: nowMs, addressSinceMs };
}

/** The spec before an update, with the kernel's values of what it left alone and the update will change. */
export function restoreSpec(before: InterfaceSpec, after: InterfaceSpec, actual: Actual): InterfaceSpec {
  const restore: InterfaceSpec = { ...before, sysctls: { ...before.sysctls } };
  if (before.mtu === undefined && after.mtu !== undefined) restore.mtu = actual.link?.mtu;
  if (before.txQueueLength === undefined && after.txQueueLength !== undefined) restore.txQueueLength = actual.link?.txQueueLength;
  if (before.macAddress === '' && after.macAddress !== '' && actual.link !== undefined) restore.macAddress = formatMac(actual.link.address);
  const tun = actual.link?.tun;
  if (before.owner === '' && after.owner !== '' && tun?.owner !== undefined) restore.owner = String(tun.owner);
  if (before.group === '' && after.group !== '' && tun?.group !== undefined) restore.group = String(tun.group);
  for (const key of Object.keys(after.sysctls)) {
    const was = actual.sysctls.get(key);
    if (restore.sysctls[key] === undefined && was !== undefined) restore.sysctls[key] = was;
  }
  return restore;
}
