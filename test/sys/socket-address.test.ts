import { isIP } from 'node:net';
import { describe, expect, it } from 'vitest';
import {
  addressBytes,
  copySocketAddress,
  formatSocketAddress,
  isAnyAddress,
  isIpv4,
  parseSocketAddress,
  portOf,
  SOCKET_ADDRESS_BYTES,
  type SocketAddress,
  sameAddressAndPort,
  sameSocketAddress,
  socketAddress,
} from '../../src/sys/socket-address.ts';
import { random, seed } from '../harness/random.ts';

function parsed(text: string): SocketAddress {
  const address = parseSocketAddress(text);
  if (!address) throw new Error(`${text} is no address`);
  return address;
}

describe('sockaddr_in6', () => {
  it.each([
    // family, port, flow, address, scope
    ['192.0.2.1:51820', '0a00' + 'ca6c' + '00000000' + '00000000000000000000ffffc0000201' + '00000000'],
    ['[2001:db8::1]:1', '0a00' + '0001' + '00000000' + '20010db8000000000000000000000001' + '00000000'],
    [':51820', '0a00' + 'ca6c' + '00000000' + '00000000000000000000000000000000' + '00000000'],
    ['0.0.0.0:0', '0a00' + '0000' + '00000000' + '00000000000000000000ffff00000000' + '00000000'],
  ])('of %s', (text, hex) => {
    expect(parsed(text).toString('hex')).toBe(hex);
    expect(parsed(text)).toHaveLength(SOCKET_ADDRESS_BYTES);
  });
});

describe('text', () => {
  it.each([
    ['255.255.255.255:65535', '255.255.255.255:65535'],
    ['[::]:0', '[::]:0'],
    [':7', '[::]:7'],
    ['[::1]:7', '[::1]:7'],
    ['[FE80:0:0:0:0:0:0:1]:9', '[fe80::1]:9'],
    ['[2001:db8:0:1:1:1:1:1]:9', '[2001:db8:0:1:1:1:1:1]:9'],
    ['[2001:0:0:1:0:0:0:1]:9', '[2001:0:0:1::1]:9'],
    ['[2001:db8:0:0:1:0:0:1]:9', '[2001:db8::1:0:0:1]:9'],
    ['[1::]:9', '[1::]:9'],
    ['[1:2:3:4:5:6:7::]:9', '[1:2:3:4:5:6:7:0]:9'],
    ['[::2:3:4:5:6:7:8]:9', '[0:2:3:4:5:6:7:8]:9'],
    ['[::ffff:192.0.2.1]:9', '192.0.2.1:9'],
    ['[::ffff:c000:201]:9', '192.0.2.1:9'],
    ['[64:ff9b::192.0.2.33]:9', '[64:ff9b::c000:221]:9'],
    ['[1:2:3:4:5:6:1.2.3.4]:9', '[1:2:3:4:5:6:102:304]:9'],
  ])('%s is written %s', (text, canonical) => {
    expect(formatSocketAddress(parsed(text))).toBe(canonical);
    expect(sameSocketAddress(parsed(canonical), parsed(text))).toBe(true);
  });

  it.each([
    ...['', ':', 'x', '1', '192.0.2.1', '192.0.2.1:', '192.0.2.1:65536', '192.0.2.1:-1', '192.0.2.1:+1', '192.0.2.1:01', '192.0.2.1: 1'],
    ...['192.0.2.1:1 ', '192.0.2.1:0x1', '192.0.2.1:1e1', '192.0.2:1', '192.0.2.1.1:1', '192.0.2.256:1', '192.0.2.01:1', '0300.0.2.1:1'],
    ...['192.0.2.:1', '.0.2.1:1', '192.0.2.1%lo:1', 'localhost:1', '[192.0.2.1]:1', '2001:db8::1:1', '::1:1', '[::1]', '[::1]1', '[::1:1'],
    ...['::1]:1', '[]:1', '[:]:1', '[:::]:1', '[::1::]:1', '[1:2:3:4:5:6:7]:1', '[1:2:3:4:5:6:7:8:9]:1', '[1:2:3:4::5:6:7:8]:1'],
    ...['[12345::]:1', '[g::]:1', '[fe80::1%eth0]:1', '[fe80::1%2]:1', '[1.2.3.4::]:1', '[::1.2.3]:1', '[::1.2.3.4:5]:1', '[::1.2.3.04]:1'],
    ...['[1::2:]:1', '[:1::2]:1', '[ ::1]:1', '[[::1]]:1', '192.0.2.1:1\n', '１92.0.2.1:1', `${'0'.repeat(1_000_000)}:1`],
  ])('%j is no address', (text) => {
    expect(parseSocketAddress(text)).toBeUndefined();
  });

  it(`says of any text what node:net says (seed ${seed})`, () => {
    const from = random('text');
    const letters = [...'0123456789abcdefABF::::....%['];
    let addresses = 0;
    for (let round = 0; round < 20_000; round++) {
      const host = Array.from({ length: from.integer(1, 14) }, () => from.pick(letters)).join('');
      const family = host.includes('%') ? 0 : isIP(host);
      addresses += family === 6 ? 1 : 0;
      expect(parseSocketAddress(`[${host}]:1`) !== undefined, `[${host}]`).toBe(family === 6);
      expect(parseSocketAddress(`${host}:1`) !== undefined, host).toBe(family === 4);
    }
    expect(addresses).toBeGreaterThan(20);
  });

  it(`comes back as it was (seed ${seed})`, () => {
    const from = random('bytes');
    for (let round = 0; round < 2000; round++) {
      const bytes = from.bytes(from.pick([4, 16]));
      for (let at = 0; at < bytes.length; at++) if (from.next() < 0.5) bytes[at] = 0;
      const address = socketAddress(bytes, from.integer(0, 65_535));
      const text = formatSocketAddress(address);
      expect(parsed(text).equals(address), text).toBe(true);
      expect(isIP(text.slice(0, text.lastIndexOf(':')).replace(/[[\]]/g, '')), text).toBe(isIpv4(address) ? 4 : 6);
    }
  });
});

describe('parts', () => {
  it('are read of both families', () => {
    const [four, six] = [parsed('192.0.2.1:53'), parsed('[2001:db8::1]:443')];
    expect([isIpv4(four), portOf(four), [...addressBytes(four)]]).toEqual([true, 53, [192, 0, 2, 1]]);
    expect([isIpv4(six), portOf(six), addressBytes(six).length]).toEqual([false, 443, 16]);
    expect([':1', '0.0.0.0:1', '[::]:1'].map((text) => isAnyAddress(parsed(text)))).toEqual([true, true, true]);
    expect([':1', '0.0.0.0:1'].map((text) => isIpv4(parsed(text)))).toEqual([false, true]);
    expect([four, six].some(isAnyAddress)).toBe(false);
  });

  it('all tell two addresses apart', () => {
    const address = socketAddress(parsed('[2001:db8::1]:443').subarray(8, 24), 443, 3);
    const copy = copySocketAddress(address);
    expect(sameSocketAddress(address, copy)).toBe(true);
    for (let at = 0; at < SOCKET_ADDRESS_BYTES; at++) {
      copy[at] = (copy[at] ?? 0) ^ 1;
      expect(sameSocketAddress(address, copy), `byte ${at}`).toBe(false);
      copy[at] = (copy[at] ?? 0) ^ 1;
    }
    expect(sameSocketAddress(address, copy)).toBe(true);
  });
});

it('is the same but for its scope when address and port are', () => {
  const address = parsed('[fe80::1:2]:6000');
  for (let at = 0; at < SOCKET_ADDRESS_BYTES; at++) {
    const other = copySocketAddress(address);
    other[at] = (other[at] as number) ^ 1;
    // Family, flow and scope do not count.
    expect(sameAddressAndPort(address, other), `byte ${at}`).toBe(at < 2 || (at >= 4 && at < 8) || at >= 24);
  }
});
