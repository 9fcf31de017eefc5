import { describe, expect, it } from 'vitest';
import { interfaceId, nameProblem, numberedName } from '../../src/interface/name.ts';

describe('a name', () => {
  it.each(['tun0', 'a', '0', 'tap-1.2_x', 'x'.repeat(15), 'ethernet', 'eth', 'wg0', 'enabled', 'constructor', '__proto'.slice(2)])(
    '%j may be given',
    (name) => {
      expect(nameProblem(name)).toBeUndefined();
    },
  );

  it.each([
    ['', 'must be given'],
    ['x'.repeat(16), 'has 16 bytes; the kernel takes at most 15'],
    ['.', 'must start with a letter or digit'],
    ['..', 'must start with a letter or digit'],
    ['../../x', 'must start with a letter or digit'],
    ['a/b', 'hold only letters'],
    ['/', 'must start'],
    ['a b', 'hold only letters'],
    ['a\n', 'hold only letters'],
    ['a\0b', 'hold only letters'],
    ['-a', 'must start with a letter or digit'],
    ['_a', 'must start'],
    ['__proto__', 'must start'],
    ['a:1', 'hold only letters'],
    ['a@b', 'hold only letters'],
    ['a*', 'hold only letters'],
    ['tün0', 'hold only letters'],
    ['т', 'must start'],
    ['😀', 'must start'],
    ['tap%d', 'hold only letters'],
    ['lo', "'lo' is reserved"],
    ['all', "'all' is reserved"],
    ['default', "'default' is reserved"],
    ['eth0', 'gives to network cards'],
    ['eth123', 'gives to network cards'],
    ['wlan0', 'gives to network cards'],
    ['enp3s0', 'gives to network cards'],
    ['eno1', 'gives to network cards'],
    ['enx0011223344ff', 'gives to network cards'],
    ['wlp2s0', 'gives to network cards'],
  ])('%j is refused', (name, why) => {
    expect(nameProblem(name)).toContain(why);
  });

  it('counts bytes, not characters', () => {
    expect(nameProblem('é'.repeat(8))).toContain('has 16 bytes');
  });
});

describe('a pattern', () => {
  it.each([
    ['tap%d', undefined],
    ['%d', undefined],
    ['x%dy', undefined],
    [`${'x'.repeat(14)}%d`, undefined],
    [`${'x'.repeat(15)}%d`, 'has 16 bytes'],
    ['tap%d%d', "at most one '%d'"],
    ['tap%s', 'hold only letters'],
    ['eth%d', 'gives to network cards'],
    ['eth1%d', 'gives to network cards'],
  ])('%j: %s', (pattern, why) => {
    if (why === undefined) expect(nameProblem(pattern, true)).toBeUndefined();
    else expect(nameProblem(pattern, true)).toContain(why);
  });

  it('takes the lowest free number that fits', () => {
    const taken = new Set(['tap0', 'tap1', 'tap3']);
    expect(numberedName('tap%d', (name) => taken.has(name))).toBe('tap2');
    expect(numberedName('tap9', () => true)).toBe('tap9');
    const long = `${'x'.repeat(14)}%d`;
    expect(numberedName(long, (name) => !name.endsWith('9'))).toBe(`${'x'.repeat(14)}9`);
    expect(() => numberedName(long, () => true)).toThrow('no free number fits in 15 bytes');
  });
});

describe('a resource name', () => {
  it('holds the id', () => {
    expect(interfaceId('interfaces/tun0')).toBe('tun0');
  });

  it.each(['', 'tun0', 'interfaces/', 'interfaces/a/b', 'Interfaces/tun0', 'interfaces/../x', 'interfaces/lo'])(
    '%j is refused, with its field',
    (name) => {
      expect(() => interfaceId(name, 'interface.name')).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT', fields: [expect.objectContaining({ field: 'interface.name' })] }),
      );
    },
  );
});
