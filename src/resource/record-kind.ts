// What a store must know of the records that it keeps: where, and as which bytes. A record goes with a SHA-256 over name, phase and body, so that
// a flipped bit on the disk is noticed and not obeyed. Pure.

import { createHash } from 'node:crypto';

/** What every record has, for the store. */
export interface StoredRecord {
  /** Key. */
  readonly name: string;
  /** How far a change has come, in words of the room. */
  readonly phase: string;
}

/** A record as bytes. */
export interface Sealed {
  body: Uint8Array;
  sum: Uint8Array;
}

export interface RecordKind<R extends StoredRecord> {
  /** Name of the database in the state directory. */
  readonly file: string;
  /** Name of the table. */
  readonly table: string;
  /** Records hold secrets: the file is its owner's alone, and what is removed from it is written over. */
  readonly secret: boolean;
  encode(record: R): Sealed;
  /** Throws BadRecord when the bytes are not what was written. */
  decode(name: string, phase: string, body: Uint8Array, sum: Uint8Array): R;
}

/** Thrown by `RecordKind.decode`. */
export class BadRecord extends Error {}

/** SHA-256 over name, phase and body. */
export function seal({ name, phase }: StoredRecord, body: Uint8Array): Sealed {
  return { body, sum: checksum(name, phase, body) };
}

/** Throws BadRecord when the seal does not fit. */
export function checkSeal(name: string, phase: string, { body, sum }: Sealed): void {
  if (!checksum(name, phase, body).equals(sum)) throw new BadRecord(`record of ${name}: checksum does not match`);
}

function checksum(name: string, phase: string, body: Uint8Array): Buffer {
  return createHash('sha256').update(`${name}\0${phase}\0`).update(body).digest();
}
