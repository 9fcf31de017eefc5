// Small pure pieces of sys/: names of errors and capabilities, ids of users, lines of debugging.

import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { capabilityNames, effectiveCapabilities } from '../../src/sys/capability.ts';
import { resolveId } from '../../src/sys/identity.ts';
import { lockFile } from '../../src/sys/lock.ts';
import { describe as line } from '../../src/sys/netlink/describe.ts';
import { decode } from '../../src/sys/netlink/message.ts';
import { errnoName, isErrno, SysError } from '../../src/sys/sys-error.ts';
import { captured } from './netlink/captured.ts';

describe('SysError', () => {
  it('reads call, name, detail', () => {
    expect(new SysError('TUNSETIFF', 16).message).toBe('TUNSETIFF: EBUSY');
    expect(new SysError('RTM_NEWADDR', 17, 'ipv4: Address already assigned').message).toBe(
      'RTM_NEWADDR: EEXIST: ipv4: Address already assigned',
    );
    expect([1, 11, 19, 77, 95, 105, 999].map(errnoName)).toEqual([
      'EPERM',
      'EAGAIN',
      'ENODEV',
      'EBADFD',
      'EOPNOTSUPP',
      'ENOBUFS',
      'errno 999',
    ]);
    expect(isErrno(new SysError('x', 16), 'EPERM', 'EBUSY')).toBe(true);
    expect(isErrno(new Error('EBUSY'), 'EBUSY')).toBe(false);
  });
});

describe('identity', () => {
  it('resolves names and numbers, and nothing else', () => {
    expect(resolveId('user', 'root')).toBe(0);
    expect(resolveId('group', 'root')).toBe(0);
    expect(resolveId('user', '4294967294')).toBe(4294967294);
    for (const bad of ['4294967295', '99999999999', '-1', 'no-such-user', '', 'root:x'])
      expect(resolveId('user', bad), bad).toBeUndefined();
  });
});

describe('capabilities', () => {
  it('are named by bit', () => {
    expect(capabilityNames('0000000000003000')).toEqual(['CAP_NET_ADMIN', 'CAP_NET_RAW']);
    expect(capabilityNames('8000000000')).toEqual(['CAP_BPF']);
    expect(capabilityNames('0')).toEqual([]);
    if (process.getuid?.() === 0) expect(effectiveCapabilities()).toContain('CAP_NET_ADMIN');
  });
});

describe('a lock', () => {
  it('is held by one, freed by release, and not taken through a link', () => {
    const folder = mkdtempSync(join(tmpdir(), 'tpl-lock-'));
    try {
      const path = join(folder, 'lock');
      const first = lockFile(path);
      expect(() => lockFile(path)).toThrow('EAGAIN');
      first.release();
      lockFile(path).release();
      symlinkSync(path, join(folder, 'link'));
      expect(() => lockFile(join(folder, 'link'))).toThrow('ELOOP');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('debugging', () => {
  it('shows a message on a line', () => {
    const lines = [captured.LINK, captured.ADDRESSES, captured.ROUTES4, captured.NEIGHBOURS, captured.UNREACHABLE].map((datagram) =>
      decode(datagram)
        .slice(-2)
        .map((message) => line('<', message)),
    );
    expect(lines[0]?.[0]).toMatch(
      /^netlink < seq=1795314673 NEWLINK flags=0x0 index=2 name=tap0 .*mtu=1400 .*alias=hello .*tun=\{mode=tap owner=1000 persistent=true\}/,
    );
    expect(lines[1]?.[1]).toBe(
      'netlink < seq=1795314674 NEWADDR flags=0x22 index=2 family=10 prefixLength=64 flags=64 local=fd000000000000000000000000000001 validLifetime=3600',
    );
    expect(lines[3]?.[1]).toBe('netlink < seq=1795314674 DONE');
    expect(lines[4]?.[0]).toBe('netlink < seq=1795314673 ERROR ENETUNREACH "Nexthop has invalid gateway"');
    expect(line('>', { type: 22, flags: 0x301, sequence: 1, port: 0, payload: Buffer.alloc(8) })).toBe(
      'netlink > seq=1 GETADDR dump flags=0x301 0000000000000000',
    );
  });
});
