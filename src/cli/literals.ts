// What people type for addresses, routes, neighbours, responders and pairs, in the JSON form of the API. Only the shape is read here;
// whether an address is one is for the agent to say, which names every bad field.

import { InvalidArgumentError } from 'commander';

export type Json = Record<string, unknown>;

const SCOPES = ['global', 'link', 'host'];

/** `CIDR[,peer=IP,scope=global|link|host,lifetime=SECONDS]`. */
export function parseAddress(text: string): Json {
  const { head, options } = split(text, ['peer', 'scope', 'lifetime']);
  return {
    cidr: head,
    ...(options['peer'] && { peer: options['peer'] }),
    ...(options['scope'] && { scope: scope(options['scope']) }),
    ...(options['lifetime'] && { validLifetime: parseCount(options['lifetime']) }),
  };
}

/** `CIDR[,via=IP,metric=N,table=N,src=IP,scope=global|link|host,mtu=N,onlink]`; `default` is everything of the family of the gateway, IPv4 without one. */
export function parseRoute(text: string): Json {
  const { head, options } = split(text, ['via', 'metric', 'table', 'src', 'scope', 'mtu', 'onlink']);
  return {
    destination: head === 'default' ? (options['via']?.includes(':') ? '::/0' : '0.0.0.0/0') : head,
    ...(options['via'] && { gateway: options['via'] }),
    ...(options['metric'] && { metric: parseCount(options['metric']) }),
    ...(options['table'] && { table: parseCount(options['table']) }),
    ...(options['src'] && { source: options['src'] }),
    ...(options['scope'] && { scope: scope(options['scope']) }),
    ...(options['mtu'] && { mtu: parseCount(options['mtu']) }),
    ...('onlink' in options && { onlink: true }),
  };
}

export const RESPONDER_KINDS = ['icmp-echo', 'arp', 'nd', 'sink', 'reflect'];

/** `KIND[,id=ID,address=IP|CIDR,...,mac=MAC]`; without an id the kind is the id. */
export function parseResponder(text: string): Json {
  const { head, options, pairs } = split(text, ['id', 'address', 'mac'], 'kind');
  if (!RESPONDER_KINDS.includes(head))
    throw new InvalidArgumentError(`Unknown kind ${JSON.stringify(head)}; known: ${RESPONDER_KINDS.join(', ')}.`);
  return {
    id: options['id'] ?? head,
    kind: responderKind(head),
    addresses: pairs.flatMap(([key, value]) => (key === 'address' ? [value] : [])),
    ...(options['mac'] && { macAddress: options['mac'] }),
  };
}

/** `icmp-echo` is `KIND_ICMP_ECHO`. */
export function responderKind(word: string): string {
  return `KIND_${word.toUpperCase().replaceAll('-', '_')}`;
}

/** `IP=MAC`. */
export function parseNeighbour(text: string): Json {
  const [address, macAddress] = parsePair(text);
  return { address, macAddress };
}

/** `KEY=VALUE`; the value may be empty and may hold `=`. */
export function parsePair(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('Expected KEY=VALUE.');
  return [text.slice(0, at), text.slice(at + 1)];
}

/** A whole number from 0 to 4294967295; the agent knows the narrower ranges. */
export function parseCount(text: string): number {
  if (!/^\d{1,10}$/.test(text) || Number(text) > 0xffffffff)
    throw new InvalidArgumentError(`Expected a whole number, not ${JSON.stringify(text)}.`);
  return Number(text);
}

/** For options that may be given several times. */
export function collect<Item>(parse: (text: string) => Item): (text: string, before: Item[] | undefined) => Item[] {
  return (text, before = []) => [...before, parse(text)];
}

interface Parts {
  head: string;
  /** Of a key that stands there twice, the last. */
  options: Record<string, string>;
  pairs: [string, string][];
}

function split(text: string, known: string[], what = 'prefix'): Parts {
  const [head = '', ...rest] = text.split(',');
  if (head === '') throw new InvalidArgumentError(`The ${what} is missing.`);
  const pairs: [string, string][] = [];
  for (const part of rest) {
    const [key = '', value] = part.split(/=(.*)/s);
    if (!known.includes(key)) throw new InvalidArgumentError(`Unknown option ${JSON.stringify(key)}; known: ${known.join(', ')}.`);
    if ((key === 'onlink') !== (value === undefined) || value === '')
      throw new InvalidArgumentError(key === 'onlink' ? 'onlink takes no value.' : `${key} needs a value.`);
    pairs.push([key, value ?? '']);
  }
  return { head, options: Object.fromEntries(pairs), pairs };
}

function scope(text: string): string {
  if (!SCOPES.includes(text)) throw new InvalidArgumentError(`Unknown scope ${JSON.stringify(text)}; known: ${SCOPES.join(', ')}.`);
  return `SCOPE_${text.toUpperCase()}`;
}
