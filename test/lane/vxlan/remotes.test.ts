import { expect, it } from 'vitest';
import { LinkPeer } from '../../../src/gen/taplane/v1/link.ts';
import { Remotes } from '../../../src/lane/vxlan/remotes.ts';
import { parseSocketAddress } from '../../../src/sys/socket-address.ts';
import { random, seed } from '../../harness/random.ts';

const peers = (...endpoints: string[]) => endpoints.map((endpoint) => LinkPeer.fromPartial({ endpoint }));
const find = (remotes: Remotes, from: string) => remotes.find(parseSocketAddress(from) as Buffer)?.endpoint;

it('finds remotes by their address, whatever the port, and by the port where several have one address', () => {
  const remotes = new Remotes();
  expect(find(remotes, '192.0.2.1:4789')).toBeUndefined();
  remotes.set(peers('192.0.2.1:4789', '[2001:db8::1]:4789', '192.0.2.2:1', '192.0.2.2:2', 'nonsense', '192.0.2.1:4789'));
  expect(remotes.list.map(({ endpoint, isV6 }) => [endpoint, isV6])).toEqual([
    ['192.0.2.1:4789', false],
    ['[2001:db8::1]:4789', true],
    ['192.0.2.2:1', false],
    ['192.0.2.2:2', false],
  ]);
  expect(find(remotes, '192.0.2.1:50000')).toBe('192.0.2.1:4789');
  expect(find(remotes, '[2001:db8::1]:50000')).toBe('[2001:db8::1]:4789');
  expect([1, 2, 3].map((port) => find(remotes, `192.0.2.2:${port}`))).toEqual(['192.0.2.2:1', '192.0.2.2:2', '192.0.2.2:1']);
  expect(find(remotes, '192.0.2.3:4789')).toBeUndefined();
});

it(`keeps those that stay, with their numbers, and gives free numbers again (seed ${seed})`, () => {
  const draw = random('remotes');
  const remotes = new Remotes();
  const pool = Array.from({ length: 1500 }, (_, index) => `10.${index >> 8}.${index & 255}.1:4789`);
  let numbers = new Map<string, number>();
  for (let round = 0; round < 20; round++) {
    const wanted = draw.shuffled(pool).slice(0, draw.pick([0, 1, 100, 1024]));
    const gone = remotes.set(peers(...wanted));
    expect(gone.sort()).toEqual([...numbers].flatMap(([endpoint, number]) => (wanted.includes(endpoint) ? [] : [number])).sort());
    expect(remotes.list.map(({ endpoint }) => endpoint)).toEqual(wanted);
    for (const { endpoint, number } of remotes.list) {
      if (numbers.has(endpoint)) expect(number).toBe(numbers.get(endpoint));
      expect(remotes.byNumber(number)?.endpoint).toBe(endpoint);
      expect(number).toBeLessThan(2048);
    }
    numbers = new Map(remotes.list.map(({ endpoint, number }) => [endpoint, number]));
    expect(new Set(numbers.values()).size).toBe(wanted.length);
    for (const endpoint of pool) expect(find(remotes, endpoint)).toBe(numbers.has(endpoint) ? endpoint : undefined);
  }
});
