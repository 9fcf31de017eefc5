// What is written down of a request: its digest, the resources that it names, and the request itself as JSON, without secrets and bounded. Pure.
//
// Of bytes only the length is told, public keys aside, and of a field that sounds like a secret only that it was given: a new field of the API is
// told in full only when it is not called like one.

import { createHash } from 'node:crypto';
import { InterfaceServiceService } from '../gen/taplane/v1/interface_service.ts';
import { LinkServiceService } from '../gen/taplane/v1/link_service.ts';
import { NodeServiceService } from '../gen/taplane/v1/node_service.ts';
import { PacketServiceService } from '../gen/taplane/v1/packet_service.ts';
import { ResponderServiceService } from '../gen/taplane/v1/responder_service.ts';

/** Of the JSON, in bytes. */
const SUMMARY_MOST = 4096;
const STRING_MOST = 256;
const ITEMS_MOST = 32;
const DEPTH_MOST = 12;
const RESOURCES_MOST = 8;
const NAME_MOST = 128;

const SECRET = /key|secret|password|passphrase|token|credential|seed|psk/i;
/** Sounds like one, and is none: public keys, flags, paths of files. */
const HARMLESS = /^(public_?key|peer_?public_?key|has_.*|has[A-Z].*|.*_?file)$/i;

type Serializer = (request: never) => Buffer;

const SERIALIZERS = new Map<string, Serializer>(
  [InterfaceServiceService, ResponderServiceService, LinkServiceService, PacketServiceService, NodeServiceService].flatMap((service) =>
    Object.values(service).map(({ path, requestSerialize }): [string, Serializer] => [path, requestSerialize as Serializer]),
  ),
);

/** SHA-256 of the request as protobuf, hexadecimal; empty for a method that changes nothing, or a request that cannot be written. */
export function digestOf(path: string, request: unknown): string {
  try {
    const bytes = SERIALIZERS.get(path)?.(request as never);
    return bytes === undefined ? '' : createHash('sha256').update(bytes).digest('hex');
  } catch {
    return '';
  }
}

/** JSON of at most 4 KiB; one that would be longer is cut and ends with `...`. */
export function summaryOf(request: unknown): string {
  const text = JSON.stringify(redacted(request, 0)) ?? '';
  if (Buffer.byteLength(text) <= SUMMARY_MOST) return text;
  // A cut may fall into the middle of a character.
  return `${Buffer.from(text)
    .subarray(0, SUMMARY_MOST)
    .toString('utf8')
    .replace(/\uFFFD$/, '')}...`;
}

/** Names of resources that a request is about, as far as it says them. */
export function resourcesOf(request: unknown): string[] {
  const names = new Set<string>();
  const add = (collection: string, id: unknown): void => {
    if (typeof id !== 'string' || id === '' || names.size >= RESOURCES_MOST) return;
    const name = collection === '' || id.startsWith(`${collection}/`) ? id : `${collection}/${id}`;
    names.add(name.slice(0, NAME_MOST));
  };
  const { name, parent, interfaceId, linkId, responderId, responder, interface: ofInterface, link, open } = record(request);
  add('', name);
  if (parent !== undefined) {
    const id = responderId || record(record(responder)['spec'])['id'];
    add('', id ? `${String(parent)}/responders/${String(id)}` : parent);
  }
  add('interfaces', interfaceId);
  add('links', linkId);
  add('interfaces', typeof ofInterface === 'string' ? ofInterface : record(ofInterface)['name']);
  add('links', record(link)['name']);
  add('interfaces', record(record(link)['spec'])['interface']);
  add('interfaces', record(open)['interface']);
  return [...names];
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function redacted(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return value.length > STRING_MOST ? `${value.slice(0, STRING_MOST)}...` : value;
  if (typeof value === 'bigint') return String(value);
  if (value instanceof Uint8Array) return `(${value.length} bytes)`;
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= DEPTH_MOST) return '...';
  if (Array.isArray(value)) {
    const shown = value.slice(0, ITEMS_MOST).map((item) => redacted(item, depth + 1));
    return value.length > ITEMS_MOST ? [...shown, `(${value.length - ITEMS_MOST} more)`] : shown;
  }
  const entries = Object.entries(value).filter(([, inner]) => !isEmpty(inner));
  const shown = entries.slice(0, ITEMS_MOST * 2).map(([key, inner]) => [key, field(key, inner, depth)]);
  return Object.fromEntries(entries.length > shown.length ? [...shown, ['...', entries.length - shown.length]] : shown);
}

function field(key: string, value: unknown, depth: number): unknown {
  if (HARMLESS.test(key))
    return value instanceof Uint8Array ? Buffer.from(value).toString('base64').slice(0, STRING_MOST) : redacted(value, depth + 1);
  return SECRET.test(key) ? '(given)' : redacted(value, depth + 1);
}

/** As it is when it was not set. */
function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '' || value === 0 || value === 0n || value === false) return true;
  return (Array.isArray(value) || value instanceof Uint8Array) && value.length === 0;
}
