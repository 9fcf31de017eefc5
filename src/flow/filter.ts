// `FlowFilter`s of a request as one function. Compiled once: then a record costs a few look-ups and no allocation. Pure.
//
// Two steps: what a batch says for all its records (interface, labels, node) is asked first, so that batches of which no record can match
// need not be decoded. An overflow record is no flow: filters that ask for anything of a packet do not match it.

import { type FieldViolation, invalidFields } from '../errors.ts';
import { type Flow, Flow_Event } from '../gen/taplane/v1/flow.ts';
import type { FlowFilter } from '../gen/taplane/v1/flow_service.ts';
import { Direction } from '../gen/taplane/v1/packet.ts';
import { parseMac, parsePrefix } from '../packet/address-text.ts';
import { PrefixSet } from '../packet/prefix-set.ts';
import { type Glob, glob } from './glob.ts';

const MAX_FILTERS = 64;
export const MAX_VALUES = 256;
/** Of all filters together: they are compiled in one go, and compared with each record. */
const MAX_REQUEST_VALUES = 4096;
/** Names, labels and patterns, characters. */
const MAX_TEXT = 512;

/** What a batch says for all its records. */
export interface BatchFields {
  interface: string;
  node: string;
  labels: Readonly<Record<string, string>>;
}

export type FlowTest = (flow: Flow) => boolean;
/** The test for the records of a batch; undefined when none of them can match. */
export type BatchTest = (batch: BatchFields) => FlowTest | undefined;

/** A record is wanted when a filter of `allow` matches, or there is none, and no filter of `deny` does. Throws invalidFields: all violations at once. */
export function compileFilters(allow: readonly FlowFilter[], deny: readonly FlowFilter[]): BatchTest {
  const violations: FieldViolation[] = [];
  const values = [...allow, ...deny].reduce((sum, filter) => sum + valuesOf(filter), 0);
  if (values > MAX_REQUEST_VALUES) {
    const description = `the filters hold ${values} values together, with those of deny; at most ${MAX_REQUEST_VALUES}`;
    throw invalidFields([{ field: 'allow', description }]);
  }
  const wanted = compileAll('allow', allow, violations);
  const unwanted = compileAll('deny', deny, violations);
  if (violations.length > 0) throw invalidFields(violations);
  return (batch) => {
    const yes = wanted.filter((filter) => filter.batch.every((holds) => holds(batch)));
    if (wanted.length > 0 && yes.length === 0) return undefined;
    const no = unwanted.filter((filter) => filter.batch.every((holds) => holds(batch)));
    if (no.some(({ flow }) => flow.length === 0)) return undefined;
    const all = wanted.length === 0 || yes.some(({ flow }) => flow.length === 0);
    if (all && no.length === 0) return everything;
    return (flow) => (all || yes.some((filter) => matches(filter, flow))) && !no.some((filter) => matches(filter, flow));
  };
}

function valuesOf(filter: FlowFilter): number {
  return Object.values(filter).reduce((sum, list: readonly unknown[]) => sum + list.length, 0);
}

interface Compiled {
  batch: ((batch: BatchFields) => boolean)[];
  flow: FlowTest[];
}

const everything: FlowTest = () => true;

function matches({ flow: tests }: Compiled, flow: Flow): boolean {
  for (const test of tests) if (!test(flow)) return false;
  return true;
}

function compileAll(list: string, filters: readonly FlowFilter[], violations: FieldViolation[]): Compiled[] {
  if (filters.length > MAX_FILTERS) {
    violations.push({ field: list, description: `holds ${filters.length} filters; at most ${MAX_FILTERS}` });
    return [];
  }
  return filters.map((filter, index) => compile(filter, new Fields(`${list}[${index}]`, violations)));
}

function compile(filter: FlowFilter, fields: Fields): Compiled {
  const batch: Compiled['batch'] = [];
  const flow: FlowTest[] = [];
  const packet = (test: FlowTest): void => {
    flow.push((one) => one.event !== Flow_Event.OVERFLOW && test(one));
  };

  const interfaces = fields.read('interface', filter.interface, readGlob);
  if (interfaces) batch.push(({ interface: name }) => interfaces.some((holds) => holds(name)));
  const nodes = fields.read('node', filter.node, readName);
  if (nodes) batch.push(({ node }) => nodes.includes(node));
  const labels = fields.read('label', filter.label, readLabel);
  if (labels) batch.push(({ labels: given }) => labels.some(({ key, value }) => holdsLabel(given, key, value)));

  const ip = prefixes(fields.read('ip', filter.ip, readPrefix));
  if (ip) packet(({ sourceAddress, destinationAddress }) => within(ip, sourceAddress) || within(ip, destinationAddress));
  const sourceIp = prefixes(fields.read('source_ip', filter.sourceIp, readPrefix));
  if (sourceIp) packet(({ sourceAddress }) => within(sourceIp, sourceAddress));
  const destinationIp = prefixes(fields.read('destination_ip', filter.destinationIp, readPrefix));
  if (destinationIp) packet(({ destinationAddress }) => within(destinationIp, destinationAddress));

  const port = set(fields.read('port', filter.port, upTo(65_535)));
  if (port) packet(({ sourcePort, destinationPort }) => port.has(sourcePort) || port.has(destinationPort));
  const sourcePort = set(fields.read('source_port', filter.sourcePort, upTo(65_535)));
  if (sourcePort) packet((one) => sourcePort.has(one.sourcePort));
  const destinationPort = set(fields.read('destination_port', filter.destinationPort, upTo(65_535)));
  if (destinationPort) packet((one) => destinationPort.has(one.destinationPort));
  const protocol = set(fields.read('protocol', filter.protocol, upTo(255)));
  // What is no IP has no protocol, not protocol 0.
  if (protocol) packet((one) => one.sourceAddress.length > 0 && protocol.has(one.protocol));
  const flags = fields.read('tcp_flags', filter.tcpFlags, upTo(255, 1));
  if (flags)
    packet(({ tcpFlags, reverseTcpFlags }) => flags.some((bits) => (tcpFlags & bits) === bits || (reverseTcpFlags & bits) === bits));

  const direction = set(fields.read('direction', filter.direction, readDirection));
  if (direction) packet((one) => direction.has(one.direction));
  const event = set(fields.read('event', filter.event, readEvent));
  if (event) flow.push((one) => event.has(one.event));
  const link = set(fields.read('link', filter.link, readName));
  if (link) packet((one) => link.has(one.link));

  const ethertype = set(fields.read('ethertype', filter.ethertype, upTo(65_535)));
  if (ethertype) packet((one) => ethertype.has(one.ethernet?.ethertype ?? versionType(one.sourceAddress.length)));
  const mac = set(fields.read('mac_address', filter.macAddress, readMac));
  if (mac) packet(({ ethernet }) => ethernet !== undefined && (mac.has(macOf(ethernet.source)) || mac.has(macOf(ethernet.destination))));
  const vlan = set(fields.read('vlan', filter.vlan, upTo(4094)));
  if (vlan) packet((one) => vlan.has(one.ethernet?.vlan ?? 0));
  return { batch, flow };
}

type Read<From, To> = (value: From) => To | { wrong: string };

/** Reads the values of fields of one filter, and notes what is wrong under their paths. */
class Fields {
  readonly #filter: string;
  readonly #violations: FieldViolation[];

  constructor(filter: string, violations: FieldViolation[]) {
    this.#filter = filter;
    this.#violations = violations;
  }

  /** Undefined for a field that is not given. */
  read<From, To>(name: string, values: readonly From[], read: Read<From, To>): To[] | undefined {
    if (values.length === 0) return undefined;
    const field = `${this.#filter}.${name}`;
    if (values.length > MAX_VALUES) {
      this.#violations.push({ field, description: `holds ${values.length} values; at most ${MAX_VALUES}` });
      return undefined;
    }
    return values.flatMap((value, index) => {
      const found = read(value);
      if (typeof found !== 'object' || found === null || !('wrong' in found)) return [found as To];
      this.#violations.push({ field: `${field}[${index}]`, description: found.wrong });
      return [];
    });
  }
}

function set<Value>(values: Value[] | undefined): ReadonlySet<Value> | undefined {
  return values && new Set(values);
}

function prefixes(values: { bytes: Uint8Array; length: number }[] | undefined): PrefixSet | undefined {
  return values && new PrefixSet(values);
}

function within(prefixSet: PrefixSet, address: Uint8Array): boolean {
  return (address.length === 4 || address.length === 16) && prefixSet.has(address, 0, address.length);
}

function versionType(addressBytes: number): number {
  return addressBytes === 4 ? 0x0800 : addressBytes === 16 ? 0x86dd : -1;
}

function macOf(bytes: Buffer): number {
  return bytes.length === 6 ? bytes.readUIntBE(0, 6) : -1;
}

function holdsLabel(labels: Readonly<Record<string, string>>, key: string, value: string | undefined): boolean {
  return Object.hasOwn(labels, key) && (value === undefined || labels[key] === value);
}

function shown(value: string | number): string {
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

function readPrefix(text: string) {
  return parsePrefix(text) ?? { wrong: `${shown(text)} is no IP address or prefix` };
}

function readMac(text: string) {
  return parseMac(text) ?? { wrong: `${shown(text)} is no MAC address, such as 02:00:00:00:00:01` };
}

function readName(text: string) {
  if (text === '') return { wrong: 'is empty' };
  return text.length > MAX_TEXT ? { wrong: `is longer than ${MAX_TEXT} characters` } : text;
}

function readGlob(text: string): Glob | { wrong: string } {
  const name = readName(text.startsWith('interfaces/') ? text.slice('interfaces/'.length) : text);
  return typeof name === 'string' ? glob(name) : name;
}

function readLabel(text: string): { key: string; value: string | undefined } | { wrong: string } {
  const name = readName(text);
  if (typeof name !== 'string') return name;
  const at = text.indexOf('=');
  if (at === 0) return { wrong: 'has no key' };
  return { key: at < 0 ? text : text.slice(0, at), value: at < 0 ? undefined : text.slice(at + 1) };
}

function upTo(most: number, least = 0): Read<number, number> {
  return (value) => (value >= least && value <= most ? value : { wrong: `${value} is not from ${least} to ${most}` });
}

function readDirection(value: Direction): Direction | { wrong: string } {
  return value === Direction.INBOUND || value === Direction.OUTBOUND ? value : { wrong: 'is neither inbound nor outbound' };
}

function readEvent(value: Flow_Event): Flow_Event | { wrong: string } {
  return value >= Flow_Event.START && value <= Flow_Event.OVERFLOW ? value : { wrong: 'is no event of a record' };
}
