// What is remembered of an interface, and as which bytes. Only intent goes to disk: what the kernel says is read from the kernel.
//
//   creating --> ready --> updating --> ready        a change that was begun and not finished when the agent died is taken back;
//   adopting ----' '-----> deleting --> (gone)       a deletion that was begun is finished
//
// Bytes: JSON of the fields, the spec in protobuf's own encoding, and a SHA-256 over name, phase and body, so that a flipped
// bit on the disk is noticed and not obeyed. Pure.

import { InterfaceSpec } from '../gen/taplane/v1/interface.ts';
import { digestOf } from '../resource/etag.ts';
import { BadRecord, checkSeal, type RecordKind, type Sealed, seal } from '../resource/record-kind.ts';

export type Phase = (typeof phases)[number];

const phases = ['ready', 'creating', 'adopting', 'updating', 'deleting'] as const;

export interface Record {
  /** Kernel name and key. */
  name: string;
  uid: string;
  phase: Phase;
  labels: { [key: string]: string };
  /** Prepared spec. */
  spec: InterfaceSpec;
  generation: number;
  createTimeMs: number;
  updateTimeMs: number;
  /** When each address with a lifetime was asked for, by canonical CIDR. */
  addressSinceMs: { [cidr: string]: number };
  /** While adopting: the alias that the device had. */
  aliasBefore?: string;
  /** While updating: what to go back to. `restore` also names the kernel's values that `spec` had left alone. */
  before?: { record: Record; restore: InterfaceSpec };
}

type Plain = Omit<Record, 'spec' | 'before' | 'name' | 'phase'> & { spec: string; before?: { record: Plain; restore: string } };

const packSpec = (spec: InterfaceSpec): string => Buffer.from(InterfaceSpec.encode(spec).finish()).toString('base64');
const unpackSpec = (text: string): InterfaceSpec => InterfaceSpec.decode(Buffer.from(text, 'base64'));

function toPlain(record: Record): Plain {
  const { name: _name, phase: _phase, spec, before, ...rest } = record;
  return {
    ...rest,
    spec: packSpec(spec),
    ...(before === undefined ? {} : { before: { record: toPlain(before.record), restore: packSpec(before.restore) } }),
  };
}

function fromPlain(plain: Plain, name: string, phase: Phase): Record {
  const { spec, before, ...rest } = plain;
  return {
    ...rest,
    name,
    phase,
    spec: unpackSpec(spec),
    ...(before === undefined ? {} : { before: { record: fromPlain(before.record, name, 'ready'), restore: unpackSpec(before.restore) } }),
  };
}

/** Bytes of a record. */
export function encodeRecord(record: Record): Sealed {
  return seal(record, Buffer.from(JSON.stringify(toPlain(record))));
}

/** The record in these bytes. Throws BadRecord when they are not what was written. */
export function decodeRecord(name: string, phase: string, body: Uint8Array, sum: Uint8Array): Record {
  checkSeal(name, phase, { body, sum });
  if (!(phases as readonly string[]).includes(phase)) throw new BadRecord(`record of ${name}: unknown phase ${phase}`);
  try {
    return fromPlain(JSON.parse(Buffer.from(body).toString('utf8')) as Plain, name, phase as Phase);
  } catch (error) {
    throw new BadRecord(`record of ${name}: ${error instanceof Error ? error.message : 'broken'}`);
  }
}

/** Version of spec and labels, with quotes. */
export function etagOf(record: Record): string {
  return digestOf(record.uid, InterfaceSpec.encode(record.spec).finish(), record.labels);
}

/** True when two specs ask for the same. */
export function sameSpec(a: InterfaceSpec, b: InterfaceSpec): boolean {
  return Buffer.compare(InterfaceSpec.encode(a).finish(), InterfaceSpec.encode(b).finish()) === 0;
}

/** How the store keeps interfaces. */
export const INTERFACE_RECORDS: RecordKind<Record> = {
  file: 'state.db',
  table: 'interface',
  secret: false,
  encode: encodeRecord,
  decode: decodeRecord,
};
