// What is remembered of a link, and as which bytes. The record holds the keys of the link: the database is its owner's alone, and a record leaves the
// agent only on its way to a lane.
//
// Bytes: JSON of the fields, the spec in protobuf's own encoding, sealed.

import { randomUUID } from 'node:crypto';
import { LinkSpec } from '../gen/taplane/v1/link.ts';
import { digestOf } from '../resource/etag.ts';
import { BadRecord, checkSeal, type RecordKind, type Sealed, seal } from '../resource/record-kind.ts';
import { sameSpec } from './prepared.ts';

export type Labels = { [key: string]: string };

export interface LinkRecord {
  /** Id and key. */
  readonly name: string;
  readonly uid: string;
  readonly phase: 'ready';
  readonly labels: Labels;
  /** Prepared, with secrets. */
  readonly spec: LinkSpec;
  readonly generation: number;
  readonly createTimeMs: number;
  readonly updateTimeMs: number;
  /** Epoch of handshakes that was given last, seconds since 1970; 0: none yet. */
  readonly epoch: number;
  /** The lane process that it was given for; '': none yet. */
  readonly lane: string;
}

type Plain = Omit<LinkRecord, 'spec' | 'name' | 'phase'> & { spec: string };

/** Of a link that is created at `nowMs`, milliseconds since 1970. */
export function newRecord(name: string, spec: LinkSpec, labels: Labels, nowMs: number): LinkRecord {
  const times = { createTimeMs: nowMs, updateTimeMs: nowMs };
  return { name, uid: randomUUID(), phase: 'ready', labels, spec, generation: 1, ...times, epoch: 0, lane: '' };
}

/** Of a link that is changed; the generation grows only with the spec. */
export function nextRecord(before: LinkRecord, spec: LinkSpec, labels: Labels, nowMs: number): LinkRecord {
  const generation = before.generation + (sameSpec(before.spec, spec) ? 0 : 1);
  return { ...before, spec, labels, generation, updateTimeMs: nowMs };
}

/** Version of spec and labels, with quotes. Keys count too; a digest does not give them away. */
export function etagOf(record: LinkRecord): string {
  const known = etags.get(record);
  if (known !== undefined) return known;
  const etag = digestOf(record.uid, LinkSpec.encode(record.spec).finish(), record.labels);
  etags.set(record, etag);
  return etag;
}

/** Records do not change, they are replaced. */
const etags = new WeakMap<LinkRecord, string>();

function encode({ name, phase, spec, ...rest }: LinkRecord): Sealed {
  const plain: Plain = { ...rest, spec: Buffer.from(LinkSpec.encode(spec).finish()).toString('base64') };
  return seal({ name, phase }, Buffer.from(JSON.stringify(plain)));
}

function decode(name: string, phase: string, body: Uint8Array, sum: Uint8Array): LinkRecord {
  checkSeal(name, phase, { body, sum });
  if (phase !== 'ready') throw new BadRecord(`record of ${name}: unknown phase ${phase}`);
  try {
    const { spec, ...rest } = JSON.parse(Buffer.from(body).toString('utf8')) as Plain;
    return { ...rest, name, phase, spec: LinkSpec.decode(Buffer.from(spec, 'base64')) };
  } catch {
    // What JSON.parse says quotes what it could not read.
    throw new BadRecord(`record of ${name}: not what a link is written as`);
  }
}

/** How the store keeps links. */
export const LINK_RECORDS: RecordKind<LinkRecord> = { file: 'links.db', table: 'link', secret: true, encode, decode };
