// Globs and prefixes of a role against naive readings of them.

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { compileRole } from '../../src/access/policy.ts';
import { seed } from '../harness/random.ts';

const options = { seed, numRuns: 500 };

/** By trying every way to split, on short texts. */
function naiveGlob(pattern: string, name: string): boolean {
  if (pattern === '') return name === '';
  if (pattern[0] !== '*') return name[0] === pattern[0] && naiveGlob(pattern.slice(1), name.slice(1));
  return Array.from({ length: name.length + 1 }, (_, at) => name.slice(at)).some((rest) => naiveGlob(pattern.slice(1), rest));
}

const interfaces = (...patterns: string[]) => {
  const role = compileRole('r', { methods: ['*'], interfaces: patterns });
  return (value: string): boolean => role.allows({ kind: 'interface', value });
};

it('patterns of names', () => {
  const word = (letters: string, most: number) => fc.array(fc.constantFrom(...letters), { maxLength: most }).map((all) => all.join(''));
  fc.assert(
    fc.property(word('ab*', 6), word('ab', 8), (pattern, name) => interfaces(pattern)(name) === naiveGlob(pattern, name)),
    options,
  );
});

it('a numbered name is in reach only when every number is', () => {
  const piece = fc.array(fc.constantFrom('a', '1', '*', 'd', '-'), { maxLength: 5 }).map((all) => all.join(''));
  fc.assert(
    fc.property(piece, fc.constantFrom('a', 'a-', '1', ''), fc.constantFrom('', 'd', '1', '-a'), (pattern, before, after) => {
      const isAllowed = interfaces(pattern)(`${before}%d${after}`);
      return !isAllowed || ['0', '1', '7', '10', '11', '99999'].every((number) => naiveGlob(pattern, `${before}${number}${after}`));
    }),
    options,
  );
  expect(interfaces('a*')('a%d')).toBe(true);
  expect(interfaces('a1*')('a%d')).toBe(false);
  expect(interfaces('a*d')('a%d')).toBe(false);
  expect(interfaces('a%d')('a%d')).toBe(false);
});

const bitsOf = (bytes: readonly number[]): string => bytes.map((byte) => byte.toString(2).padStart(8, '0')).join('');
const textOf = (bytes: readonly number[]): string =>
  bytes.length === 4
    ? bytes.join('.')
    : Array.from({ length: 8 }, (_, at) => (((bytes[2 * at] as number) << 8) | (bytes[2 * at + 1] as number)).toString(16)).join(':');

it('prefixes lie in prefixes, bit by bit', () => {
  const near = fc.constantFrom(4, 16).chain((length) =>
    fc.tuple(
      fc.array(fc.constantFrom(0, 1, 10, 128, 255), { minLength: length, maxLength: length }),
      // Mostly the same bytes with one bit turned, so that the edge is met.
      fc.integer({ min: -1, max: length * 8 - 1 }),
      fc.integer({ min: 0, max: length * 8 }),
      fc.integer({ min: 0, max: length * 8 }),
    ),
  );
  let inside = 0;
  fc.assert(
    fc.property(near, fc.constantFrom('address', 'route', 'peer', 'inner'), ([bytes, turned, outer, inner], kind) => {
      const other = bytes.map((byte, at) => (turned >= 0 && turned >> 3 === at ? byte ^ (0x80 >> (turned & 7)) : byte));
      const cidr = `${textOf(bytes)}/${outer}`;
      const role = compileRole('r', { methods: ['*'], addresses: [cidr], routes: [cidr], peers: [cidr] });
      const wanted = inner >= outer && bitsOf(bytes).slice(0, outer) === bitsOf(other).slice(0, outer);
      if (wanted) inside++;
      return role.allows({ kind: kind as 'address', value: `${textOf(other)}/${inner}` }) === wanted;
    }),
    { ...options, seed: seed | 1 },
  );
  expect(inside).toBeGreaterThan(20);
});

it('families are kept apart, and text that is no prefix lies in none', () => {
  const all = compileRole('r', { methods: ['*'], addresses: ['0.0.0.0/0', '::/0'] });
  const v4 = compileRole('r', { methods: ['*'], addresses: ['0.0.0.0/0'] });
  expect(all.allows({ kind: 'address', value: '::1/128' })).toBe(true);
  expect(v4.allows({ kind: 'address', value: '::1/128' })).toBe(false);
  fc.assert(
    fc.property(fc.string(), (value) => {
      return /^[0-9a-f.:]+(\/\d+)?$/i.test(value) || !all.allows({ kind: 'address', value });
    }),
    { seed, numRuns: 200 },
  );
  expect(compileRole('r', { methods: ['*'], addresses: ['*'] }).allows({ kind: 'address', value: 'nonsense' })).toBe(true);
});

it('what is left out is denied', () => {
  const role = compileRole('r', { methods: ['read'] });
  for (const kind of ['interface', 'link', 'bridge', 'address', 'route', 'inner', 'peer', 'use'] as const)
    for (const value of ['', '*', 'self', '0.0.0.0/0', 'capture']) expect(role.allows({ kind, value })).toBe(false);
  expect(role.allows({ kind: 'namespace', value: 'self' })).toBe(true);
  expect(role.allows({ kind: 'namespace', value: 'other' })).toBe(false);
});
