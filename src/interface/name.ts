// Names of interfaces: what the kernel takes, less what would be unsafe as a path, a NATS token or a surprise. Pure.

import { TaplaneError } from '../errors.ts';

const COLLECTION = 'interfaces/';
const MAX_BYTES = 15;

/** Names that mean something else: pseudo entries of /proc/sys/net/*\/conf, and the loopback device. */
const reserved = new Set(['lo', 'all', 'default']);
/** Names that the kernel and udev give to network cards: a TUN of such a name takes the place of a card that comes later. */
const cardNames = /^(eth|wlan|wwan|usb)\d+$|^(en|wl|ww|ib|sl)([bcopsv]\d|[xP]|a[hp])\w*$/;

/** Why a device must not have this name; undefined when it may. With `pattern`, one `%d` is allowed. */
export function nameProblem(name: string, pattern = false): string | undefined {
  const sample = pattern ? name.replace('%d', '0') : name;
  if (name === '') return 'must be given';
  if (Buffer.byteLength(sample) > MAX_BYTES) return `has ${Buffer.byteLength(sample)} bytes; the kernel takes at most ${MAX_BYTES}`;
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(sample)) {
    return `must start with a letter or digit and hold only letters, digits, '.', '_' and '-'${pattern ? ", and at most one '%d'" : ''}`;
  }
  if (reserved.has(sample)) return `'${sample}' is reserved by the kernel`;
  if (cardNames.test(sample)) return `'${sample}' is a name that the kernel gives to network cards; choose another, such as tun0`;
  return undefined;
}

/** Resource name of an interface. */
export function resourceName(id: string): string {
  return `${COLLECTION}${id}`;
}

/** Id in a resource name. Throws INVALID_ARGUMENT on `field` for anything that is not `interfaces/{name}`. */
export function interfaceId(name: string, field = 'name'): string {
  const id = name.startsWith(COLLECTION) ? name.slice(COLLECTION.length) : '';
  const problem = name.startsWith(COLLECTION) ? nameProblem(id) : 'must have the form interfaces/{interface}';
  if (problem === undefined) return id;
  throw new TaplaneError('INVALID_ARGUMENT', 'INVALID_FIELDS', `${field}: ${problem}`, { fields: [{ field, description: problem }] });
}

/** The lowest numbered name of a pattern that is not taken; the pattern itself when it has no `%d`. */
export function numberedName(pattern: string, taken: (name: string) => boolean): string {
  if (!pattern.includes('%d')) return pattern;
  for (let number = 0; number < 100_000; number++) {
    const name = pattern.replace('%d', String(number));
    if (Buffer.byteLength(name) > MAX_BYTES) break;
    if (!taken(name)) return name;
  }
  throw new TaplaneError('RESOURCE_EXHAUSTED', 'NO_FREE_NAME', `create interface ${pattern}: no free number fits in ${MAX_BYTES} bytes`);
}
