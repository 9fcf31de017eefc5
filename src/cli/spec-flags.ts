// The flags that describe an interface, one table for create, update and plan: how each is read, and which field it sets.
// What was given becomes the JSON form of the spec plus the paths of an update mask, so that a flag not given changes nothing.

import { type Command, Option } from 'commander';
import { UsageError } from './exit-code.ts';
import { collect, type Json, parseAddress, parseCount, parseNeighbour, parsePair, parseResponder, parseRoute } from './literals.ts';

interface SpecFlag {
  option: Option;
  /** Field of InterfaceSpec in JSON; its snake_case name is the path in the mask. */
  field: string;
  /** From the value of the option to the value of the field; undefined unsets it. */
  value?(given: never): unknown;
}

const enumeration = (prefix: string) => (given: string) => `${prefix}_${given.toUpperCase()}`;
const DEFAULT = 'default';
const countOrDefault = (text: string) => (text === DEFAULT ? DEFAULT : parseCount(text));
const unsetDefault = (given: number | string) => (given === DEFAULT ? undefined : given);
const asMap = (given: [string, string][]) => Object.fromEntries(given);

const MODE = 'TUN carries IP packets, TAP Ethernet frames';
const REQUIRED_MODE = new Option('--mode <mode>', `required without -f: ${MODE}`).choices(['tun', 'tap']);

const SPEC_FLAGS: SpecFlag[] = [
  {
    option: new Option('--mode <mode>', MODE).choices(['tun', 'tap']),
    field: 'mode',
    value: enumeration('MODE'),
  },
  { option: new Option('--up', 'administratively up'), field: 'up' },
  { option: new Option('--no-up', 'administratively down'), field: 'up' },
  { option: new Option('--mtu <bytes>', 'MTU, or "default"').argParser(countOrDefault), field: 'mtu', value: unsetDefault },
  { option: new Option('--mac <address>', 'MAC address of a TAP'), field: 'macAddress' },
  {
    option: new Option('--txqueuelen <packets>', 'length of the transmit queue, or "default"').argParser(countOrDefault),
    field: 'txQueueLength',
    value: unsetDefault,
  },
  {
    option: new Option('--address <cidr[,...]>', 'address; also ,peer=IP ,scope=S ,lifetime=SECONDS; repeatable').argParser(
      collect(parseAddress),
    ),
    field: 'addresses',
  },
  {
    option: new Option(
      '--route <cidr[,...]>',
      'route; also ,via=IP ,metric=N ,table=N ,src=IP ,scope=S ,mtu=N ,onlink; repeatable',
    ).argParser(collect(parseRoute)),
    field: 'routes',
  },
  {
    option: new Option('--neighbour <ip=mac>', 'permanent neighbour entry of a TAP; repeatable').argParser(collect(parseNeighbour)),
    field: 'neighbours',
  },
  {
    option: new Option('--sysctl <key=value>', 'kernel setting, such as ipv4/forwarding=1; repeatable').argParser(collect(parsePair)),
    field: 'sysctls',
    value: asMap,
  },
  { option: new Option('--owner <user>', 'user that may attach'), field: 'owner' },
  { option: new Option('--group <group>', 'group that may attach'), field: 'group' },
  { option: new Option('--bridge <bridge>', 'bridge that a TAP joins'), field: 'controller' },
  { option: new Option('--netns <namespace>', 'network namespace: a name or a path'), field: 'networkNamespace' },
  {
    option: new Option('--carrier <rule>', 'carrier while nothing is attached').choices(['follow', 'keep']),
    field: 'carrier',
    value: enumeration('CARRIER'),
  },
  {
    option: new Option('--drift <rule>', 'when somebody else changes the device').choices(['repair', 'report', 'ignore']),
    field: 'drift',
    value: enumeration('DRIFT'),
  },
  { option: new Option('--ephemeral', 'ends with the agent'), field: 'ephemeral' },
  { option: new Option('--multi-queue', 'several queues may be attached'), field: 'multiQueue' },
  {
    option: new Option('--queues <number>', 'queues of the data plane; more than 1 implies --multi-queue').argParser(parseCount),
    field: 'queues',
  },
  { option: new Option('--pi', 'frames carry the packet information header'), field: 'packetInfo' },
  { option: new Option('--vnet-hdr', 'frames carry a virtio network header'), field: 'vnetHeader' },
  { option: new Option('--one-queue', 'accepted for ip tuntap; does nothing'), field: 'oneQueue' },
  {
    option: new Option(
      '--responder <kind[,...]>',
      'icmp-echo, arp, nd, sink or reflect; also ,id=ID ,address=IP|CIDR (several) ,mac=MAC; repeatable',
    ).argParser(collect(parseResponder)),
    field: 'responders',
  },
];

/** Together one field: the mirror is given as a whole, so that what it copies does not rest on what was there before. */
const MIRROR_FLAGS = [
  new Option('--mirror [filter]', 'copy packets to NATS, only those that match, in the language of pcap-filter(7)'),
  new Option('--no-mirror', 'copy none'),
  new Option('--mirror-snap-length <bytes>', 'bytes of a frame that are copied').argParser(parseCount),
  new Option('--mirror-sampling <number>', 'copy one matching frame in this many').argParser(parseCount),
];

/** `needsMode`: without a file there is nothing else that could say it. */
export function addSpecFlags(command: Command, { needsMode = false } = {}): Command {
  command.optionsGroup('Interface:');
  for (const { option } of SPEC_FLAGS) command.addOption(needsMode && option.long === '--mode' ? REQUIRED_MODE : option);
  for (const option of MIRROR_FLAGS) command.addOption(option);
  command.addOption(new Option('--label <key=value>', 'label; repeatable').argParser(collect(parsePair)));
  return command.optionsGroup('Options:');
}

export interface GivenSpec {
  spec: Json;
  /** Undefined when no label was given. */
  labels: Record<string, string> | undefined;
  /** What was given, as paths of an update mask. */
  paths: string[];
}

export function givenSpec(options: Record<string, unknown>): GivenSpec {
  const spec: Json = {};
  const paths = new Set<string>();
  for (const { option, field, value } of SPEC_FLAGS) {
    const given = options[option.attributeName()];
    if (given === undefined) continue;
    spec[field] = value ? value(given as never) : given;
    paths.add(`spec.${snake(field)}`);
  }
  if (Number(spec['queues']) > 1 && spec['multiQueue'] === undefined) {
    spec['multiQueue'] = true;
    paths.add('spec.multi_queue');
  }
  const mirror = givenMirror(options);
  if (mirror !== undefined) {
    spec['packetMirror'] = mirror ?? undefined;
    paths.add('spec.packet_mirror');
  }
  const labels = options['label'] === undefined ? undefined : asMap(options['label'] as [string, string][]);
  if (labels) paths.add('labels');
  return { spec, labels, paths: [...paths] };
}

/** Undefined when nothing was said of a mirror, null when there is to be none. */
function givenMirror({ mirror, mirrorSnapLength, mirrorSampling }: Record<string, unknown>): Json | null | undefined {
  if (mirror !== undefined && mirror !== false)
    return { filter: mirror === true ? '' : mirror, snapLength: mirrorSnapLength, sampling: mirrorSampling };
  if (mirrorSnapLength !== undefined || mirrorSampling !== undefined)
    throw new UsageError('--mirror-snap-length and --mirror-sampling say how --mirror copies: give it too');
  return mirror === false ? null : undefined;
}

/** `sourceAddress` as the API writes it in masks: `source_address`. */
export function snake(camel: string): string {
  return camel.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
