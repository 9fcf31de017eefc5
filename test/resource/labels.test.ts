import { describe, expect, it } from 'vitest';
import { labelProblems } from '../../src/resource/labels.ts';

describe('labels', () => {
  it.each<[string, Record<string, string>, number]>([
    ['plain', { team: 'net', 'example.com/tier': 'a b', a: '' }, 0],
    ['63 bytes and 255 bytes', { ['k'.repeat(63)]: 'v'.repeat(255) }, 0],
    ['a key of 64 bytes', { ['k'.repeat(64)]: '' }, 1],
    ['an empty key', { '': '' }, 1],
    ['keys that begin or end badly', { '-a': '', 'a-': '', 'a b': '', é: '' }, 4],
    ['a value of 256 bytes in 128 characters', { a: 'é'.repeat(128) }, 1],
    ['control characters', { a: 'x\ny', b: '\0', c: '\x7f' }, 3],
    ['65 labels', Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`k${n}`, ''])), 1],
    ['__proto__', JSON.parse('{"__proto__":"x"}'), 1],
    ['constructor, an ordinary word', { constructor: 'x' } as unknown as Record<string, string>, 0],
  ])('%s', (_, labels, count) => {
    expect(labelProblems(labels, 'interface.labels')).toHaveLength(count);
  });
});
