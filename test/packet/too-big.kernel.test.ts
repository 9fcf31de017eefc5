// "Too big" answers as the kernel takes them: its socket learns what the path takes.

import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { tooBig } from '../../src/packet/too-big.ts';
import { VNET_HEADER_BYTES } from '../../src/packet/vnet-header.ts';
import * as libc from '../../src/sys/libc.ts';
import { createNamespace } from '../harness/namespace.ts';
import { openSuperDevice } from './super-device.ts';

const EAGAIN = -11;
/** Sends 1,450 bytes that must not be fragmented, waits for a line, and tells what the path is said to take: IP_MTU, or IPV6_MTU. */
const SENDER = `
import socket, sys
v6 = ':' in sys.argv[1]
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(*((41, 23) if v6 else (0, 10)), 2)
s.connect((sys.argv[1], 4000)); s.send(bytes(1450)); print('sent', flush=True)
sys.stdin.readline(); print(s.getsockopt(*((41, 24) if v6 else (0, 14))), flush=True)
`;

it.each([
  ['192.0.2.2', undefined, undefined],
  ['192.0.2.2', Uint8Array.of(198, 51, 100, 1), undefined],
  ['fd00::2', undefined, undefined],
  ['fd00::2', undefined, Uint8Array.of(0xfd, 1, ...Array<number>(13).fill(0), 1)],
] as const)('a sender to %s learns it from %s %s', async (host, source4, source6) => {
  await using ns = createNamespace();
  const fd = openSuperDevice(ns, 'tun0', 'tun');
  try {
    ns.ip('address add 192.0.2.1/24 dev tun0');
    ns.ip('address add fd00::1/64 dev tun0 nodad');
    ns.ip('link set tun0 up mtu 1500');
    await using sender = ns.spawn(['python3', '-c', SENDER, host]);
    await sender.until(({ stdout }) => stdout.includes('sent'), 'a datagram', 20_000);
    const bytes = Buffer.alloc(2000);
    const out = Buffer.alloc(VNET_HEADER_BYTES + 1500);
    for (let length = 0; length < 1450; ) {
      length = libc.read(fd, bytes, bytes.length);
      if (length === EAGAIN) await sleep(1);
      if (length < 1450) continue;
      const size = tooBig(
        bytes,
        VNET_HEADER_BYTES,
        length - VNET_HEADER_BYTES,
        false,
        1392,
        source4,
        source6,
        out.subarray(VNET_HEADER_BYTES),
      );
      expect(size).toBeGreaterThan(0);
      const whole = out.subarray(0, VNET_HEADER_BYTES + size);
      expect(libc.write(fd, whole, whole.length)).toBe(whole.length);
    }
    sender.stdin.write('\n');
    expect((await sender.ended).stdout).toBe('sent\n1392\n');
  } finally {
    libc.close(fd);
  }
});
