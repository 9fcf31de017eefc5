import { expect, it } from 'vitest';
import { parseCollector } from '../../src/flow/collector-address.ts';

it.each([
  ['collector.example:4739', 'collector.example', 4739],
  ['192.0.2.1:1', '192.0.2.1', 1],
  ['[::1]:4739', '::1', 4739],
  ['[fe80::1%eth0]:65535', 'fe80::1%eth0', 65535],
])('reads %s', (text, host, port) => expect(parseCollector(text)).toEqual({ host, port }));

it.each(['', 'host', 'host:', ':4739', 'host:0', 'host:65536', '::1:4739', '[::1]', 'udp://host:4739', 'host:47x', 'a b:1'])(
  'refuses %j',
  (text) => expect(() => parseCollector(text)).toThrow(/^collector /),
);
