// Rules for what a client may ask of an interface. Every violation is told at once, with its path. Pure.

import type { FieldViolation } from '../errors.ts';
import { type InterfaceSpec, InterfaceSpec_Carrier, InterfaceSpec_Drift, InterfaceSpec_Mode } from '../gen/taplane/v1/interface.ts';
import { known, list, Report } from '../resource/report.ts';
import { addressKey, canonicalIp, routeKey } from './canonical.ts';
import { nameProblem } from './name.ts';
import { addressRule, macRule, neighbourRule, type Policy, routeRule } from './object-rules.ts';
import { mirrorRule, responderRules } from './responder-rules.ts';
import { sysctlProblem } from './sysctls.ts';

const limits = { addresses: 256, routes: 1024, neighbours: 1024, queues: 256, txQueueLength: 1_000_000 };
const MTU_MIN = 68;
const MTU_MIN_IPV6 = 1280;
const MTU_MAX_TUN = 65_535;
const MTU_MAX_TAP = 65_521;

/** Violations of a spec; `path` is where it stands in the request. `before` is the spec in force: what it has already is not judged by policy again. */
export function specProblems(spec: InterfaceSpec, policy: Policy, path = 'interface.spec', before?: InterfaceSpec): FieldViolation[] {
  const report = new Report(path);
  const tap = spec.mode === InterfaceSpec_Mode.TAP;
  if (spec.mode === InterfaceSpec_Mode.UNSPECIFIED || !known(InterfaceSpec_Mode, spec.mode))
    report.at('mode').say('must be MODE_TUN or MODE_TAP');
  if (!known(InterfaceSpec_Carrier, spec.carrier)) report.at('carrier').say('must be CARRIER_FOLLOW or CARRIER_KEEP');
  if (!known(InterfaceSpec_Drift, spec.drift)) report.at('drift').say('must be DRIFT_REPAIR, DRIFT_REPORT or DRIFT_IGNORE');
  if (spec.queues > limits.queues) report.at('queues').say(`must be 1 to ${limits.queues}, got ${spec.queues}`);
  if (spec.queues > 1 && !spec.multiQueue) report.at('queues').say('more than one queue needs multi_queue');
  identity(spec.owner, report.at('owner'));
  identity(spec.group, report.at('group'));
  mtu(spec, tap, report.at('mtu'));
  if (spec.txQueueLength !== undefined && spec.txQueueLength > limits.txQueueLength) {
    report.at('tx_queue_length').say(`must be 0 to ${limits.txQueueLength}, got ${spec.txQueueLength}`);
  }
  if (spec.macAddress !== '') {
    if (tap) macRule(spec.macAddress, report.at('mac_address'));
    else report.at('mac_address').say('a TUN has no MAC address; leave it out or use MODE_TAP');
  }
  namespace(spec.networkNamespace, report.at('network_namespace'));
  if (spec.controller !== '') {
    if (!tap) report.at('controller').say('only a TAP can be a port of a bridge');
    else if (/[\s/\0]/.test(spec.controller) || Buffer.byteLength(spec.controller) > 15)
      report.at('controller').say('must be the name of a bridge, 1 to 15 bytes');
  }
  list(spec.addresses, limits.addresses, report.at('addresses'), addressKey, addressRule);
  list(spec.routes, limits.routes, report.at('routes'), routeKey, (item, at) => routeRule(item, at, policy, before));
  list(
    spec.neighbours,
    limits.neighbours,
    report.at('neighbours'),
    (item) => canonicalIp(item.address),
    (item, at) => neighbourRule(item, tap, at),
  );
  for (const [key, value] of Object.entries(spec.sysctls)) {
    const problem = sysctlProblem(key, value);
    if (problem !== undefined) report.at(`sysctls[${JSON.stringify(key.slice(0, 64))}]`).say(problem);
  }
  if (spec.sysctls['ipv6/disable_ipv6'] === '1' && spec.addresses.some((item) => item.cidr.includes(':'))) {
    report.at('sysctls["ipv6/disable_ipv6"]').say('IPv6 addresses are asked for, which this setting forbids');
  }
  const metering = spec.flowMetering;
  if (metering !== undefined) {
    if (metering.activeTimeout > 86_400) report.at('flow_metering.active_timeout').say('must be 1 to 86400 seconds');
    if (metering.idleTimeout > 86_400) report.at('flow_metering.idle_timeout').say('must be 1 to 86400 seconds');
  }
  responderRules(spec.responders, tap, report.at('responders'));
  if (spec.packetMirror !== undefined) mirrorRule(spec.packetMirror, report.at('packet_mirror'));
  return report.violations;
}

/** Fields that a device cannot change while it lives. */
export function immutableProblems(before: InterfaceSpec, after: InterfaceSpec, path = 'interface.spec'): FieldViolation[] {
  const fixed: [keyof InterfaceSpec, string][] = [
    ['mode', 'mode'],
    ['multiQueue', 'multi_queue'],
    ['packetInfo', 'packet_info'],
    ['vnetHeader', 'vnet_header'],
    ['ephemeral', 'ephemeral'],
    ['networkNamespace', 'network_namespace'],
  ];
  const found = fixed
    .filter(([key]) => before[key] !== after[key])
    .map(([, field]) => ({ field: `${path}.${field}`, description: 'cannot be changed; delete the interface and create it anew' }));
  for (const key of ['owner', 'group'] as const) {
    if (before[key] !== '' && after[key] === '') {
      found.push({
        field: `${path}.${key}`,
        description: 'the kernel cannot take it back; name another, or delete the interface and create it anew',
      });
    }
  }
  // What the device has none of could not be taken back when the change fails. With neither it belongs to root (see plan.ts).
  const cure = 'the kernel cannot take it back once it is set; delete the interface and create it anew';
  if (before.owner === '' && before.group !== '' && after.owner !== '') found.push({ field: `${path}.owner`, description: cure });
  if (before.group === '' && after.group !== '') found.push({ field: `${path}.group`, description: cure });
  return found;
}

function identity(name: string, report: Report): void {
  if (name !== '' && !/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/.test(name)) report.say('must be a name or a decimal id');
}

function mtu(spec: InterfaceSpec, tap: boolean, report: Report): void {
  if (spec.mtu === undefined) return;
  const most = tap ? MTU_MAX_TAP : MTU_MAX_TUN;
  if (spec.mtu < MTU_MIN || spec.mtu > most) report.say(`must be ${MTU_MIN} to ${most}, got ${spec.mtu}`);
  else if (
    spec.mtu < MTU_MIN_IPV6 &&
    (spec.addresses.some((item) => item.cidr.includes(':')) || Object.keys(spec.sysctls).some((key) => key.startsWith('ipv6/')))
  ) {
    // Below it the kernel takes IPv6 off the device, settings and all.
    report.say(`IPv6 needs at least ${MTU_MIN_IPV6} bytes, got ${spec.mtu}; raise it or leave out the IPv6 addresses and settings`);
  }
}

function namespace(text: string, report: Report): void {
  if (text === '') return;
  const problem = text.startsWith('/')
    ? /(^|\/)\.\.?(\/|$)|\0/.test(text) || text.length > 255
      ? 'must be an absolute path without . and ..'
      : undefined
    : undefined;
  if (problem !== undefined) report.say(problem);
  else if (!text.startsWith('/') && (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(text) || text.length > 255)) {
    report.say('must be a name under /run/netns or an absolute path');
  }
}

/** Violations of an interface id given by a client. */
export function idProblems(id: string, pattern: boolean, field = 'interface_id'): FieldViolation[] {
  const problem = nameProblem(id, pattern);
  return problem === undefined ? [] : [{ field, description: problem }];
}
