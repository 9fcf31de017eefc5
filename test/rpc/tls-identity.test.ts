import { expect, test } from 'vitest';
import { addressGroup } from '../../src/rpc/connections.ts';
import { readNames } from '../../src/rpc/tls-identity.ts';

test('names are read as they stand, or not at all', () => {
  expect(readNames('DNS:A.example, URI:spiffe://t/w, IP Address:10.0.0.1')).toEqual({ uris: ['spiffe://t/w'], dnsNames: ['a.example'] });
  expect(readNames('URI:https://a/b, URI:spiffe://t')).toEqual({ uris: ['https://a/b', 'spiffe://t'], dnsNames: [] });
  expect(readNames('email:"a, URI:spiffe://t/x", DNS:b')).toEqual({ uris: [], dnsNames: ['b'] });
  expect(readNames('othername:<unsupported>, DNS:b')).toEqual({ uris: [], dnsNames: ['b'] });
  for (const bad of [
    '',
    'DNS:"b, URI:spiffe://t/w"',
    'URI:"spiffe://t/w\\u0000"',
    'DNS:b"',
    'DNS:b,URI:spiffe://t/w',
    'DNS:b, spiffe://t/w',
    'DNS:',
    'DNS:a..b',
    'DNS:a b',
    'URI:spiffe://t/a, URI:SPIFFE://t/b',
    'URI:SPIFFE://t/b',
    'URI:spiffe://t/../x',
    'URI:spiffe://t//x',
    'URI:spiffe://t/x/',
    'URI:spiffe://T/x',
    'URI:spiffe://u@t/x',
    'URI:spiffe://t:1/x',
    'URI:spiffe://t/x?y',
    'URI:spiffe://t/%61',
    'URI:no-scheme',
    'URI:uid:0',
    'URI:spiffe://t/x, URI:DNS:a',
    `URI:spiffe://t/${'x'.repeat(2048)}`,
    Array.from({ length: 65 }, (_, n) => `DNS:n${n}`).join(', '),
  ])
    expect(readNames(bad), bad).toBeTypeOf('string');
});

test('an IPv6 client is its /64', () => {
  expect(addressGroup('2001:db8::1')).toBe(addressGroup('2001:db8:0:0:ffff::2'));
  expect(addressGroup('2001:db8:0:1::1')).not.toBe(addressGroup('2001:db8::1'));
  expect(addressGroup('::1')).toBe('0:0:0:0::/64');
  expect(addressGroup('10.0.0.1')).toBe('10.0.0.1');
  expect(addressGroup('::ffff:10.0.0.1')).not.toBe(addressGroup('::ffff:10.0.0.2'));
});
