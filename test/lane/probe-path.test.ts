// Whom a probe comes from and goes to, for what is known of the two ends.

import { describe, expect, it } from 'vitest';
import { probePath, stationPath } from '../../src/lane/link/probe-path.ts';

const show = (path: ReturnType<typeof probePath>) =>
  path && [Buffer.from(path.from).toString('hex'), Buffer.from(path.to).toString('hex'), path.ttl];
const between = (addresses: string[], probeAddress: string, ...allowedPrefixes: string[]) =>
  show(probePath(addresses, { probeAddress, allowedPrefixes }));

describe('the path of a probe', () => {
  it('goes to the probe address, from an address of its family', () => {
    expect(between(['10.0.0.1/24', 'fd00::1/64'], '10.0.0.9', '10.0.0.2/32')).toEqual(['0a000001', '0a000009', 64]);
    expect(between(['10.0.0.1/24', 'fd00::1/64'], 'fd00::9')).toEqual([`fd${'0'.repeat(29)}1`, `fd${'0'.repeat(29)}9`, 64]);
  });

  it('goes to the first allowed prefix of one address that there is an address for', () => {
    expect(between(['10.0.0.1/24'], '', '10.1.0.0/16', 'fd00::2/128', '10.0.0.2/32', '10.0.0.3')).toEqual(['0a000001', '0a000002', 64]);
    expect(between(['10.0.0.1/24'], '', '10.0.0.3')).toEqual(['0a000001', '0a000003', 64]);
  });

  it('goes to nobody, and no further than the other end, where no address is known', () => {
    expect(between(['10.0.0.1/24'], '', '0.0.0.0/0')).toEqual(['0a000001', 'c0000008', 1]);
    expect(between(['fe80::5/64', 'fd00::1/64'], '')).toEqual([`fd${'0'.repeat(29)}1`, `01${'0'.repeat(30)}`, 1]);
    expect(between(['10.0.0.1/24'], 'fd00::9')).toEqual(['0a000001', 'c0000008', 1]);
  });

  it('is none without an address', () => {
    expect(between([], '10.0.0.9', '10.0.0.2/32')).toBeUndefined();
    expect(between(['fe80::5/64'], '')).toBeUndefined();
  });

  it('on Ethernet comes from a station of its own, the same each time', () => {
    const path = stationPath('3f2b8c1e-0d4a-4a51-9b7e-0123456789ab');
    expect(Buffer.from(path.from).toString('hex')).toBe('0223456789ab');
    expect(path.to).toHaveLength(0);
    expect(stationPath('odd').from).toHaveLength(6);
  });
});
