import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { page } from '../../src/resource/page.ts';

const names = (count: number) => Array.from({ length: count }, (_, n) => `n${String(n).padStart(5, '0')}`);
const self = (name: string) => name;

describe('pages', () => {
  it('have 500 items when nothing is said, and at most 1000', () => {
    expect(page({ pageSize: 0, pageToken: '' }, names(2000), self).items).toHaveLength(500);
    expect(page({ pageSize: 5000, pageToken: '' }, names(2000), self).items).toHaveLength(1000);
    expect(page({ pageSize: 0, pageToken: '' }, names(500), self).nextPageToken).toBe('');
  });

  it('give every item once, in order, also of keys with NUL and of another script', () => {
    const key = fc.string({ unit: fc.constantFrom('a', 'b', '\0', '-', 'é'), minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(fc.uniqueArray(key, { maxLength: 30 }), fc.integer({ min: 1, max: 7 }), (keys, pageSize) => {
        const sorted = keys.sort((a, b) => (a < b ? -1 : 1));
        const seen: string[] = [];
        let pageToken = '';
        do {
          const given = page({ pageSize, pageToken }, sorted, self);
          expect(given.items.length).toBeLessThanOrEqual(pageSize);
          seen.push(...given.items);
          expect(seen.length).toBeLessThanOrEqual(sorted.length);
          pageToken = given.nextPageToken;
        } while (pageToken !== '');
        expect(seen).toEqual(sorted);
      }),
    );
  });

  it('go on where they were when items come and go', () => {
    const { nextPageToken } = page({ pageSize: 2, pageToken: '' }, ['a', 'b', 'c', 'd'], self);
    expect(page({ pageSize: 2, pageToken: nextPageToken }, ['a', 'aa', 'd', 'e', 'f'], self).items).toEqual(['d', 'e']);
  });

  it.each([
    [{ pageSize: -1, pageToken: '' }, 'page_size'],
    [{ pageSize: 0, pageToken: '!' }, 'page_token'],
    [{ pageSize: 0, pageToken: 'YQ==' }, 'page_token'],
    [{ pageSize: 0, pageToken: Buffer.from('x'.repeat(129)).toString('base64url') }, 'page_token'],
  ])('%j is refused', (request, field) => {
    expect(() => page(request, names(3), self)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', fields: [expect.objectContaining({ field })] }),
    );
  });
});
