// Handshakes of somebody who is no peer, as fast as one machine can send them.

import { randomBytes } from 'node:crypto';
import { MacMaker } from '../../../src/lane/wireguard/cookie.ts';
import { INITIATION_BYTES, timestamp } from '../../../src/lane/wireguard/messages.ts';
import { keyPair, remote, writeInitiation } from '../../../src/lane/wireguard/noise.ts';
import type { Namespace } from '../../harness/namespace.ts';
import type { Child } from '../../harness/process.ts';

const FLOOD = `
import socket, sys, time
message, address, port = bytes.fromhex(sys.argv[1]), sys.argv[2], int(sys.argv[3])
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.setsockopt(socket.IPPROTO_UDP, 103, len(message)) # UDP_SEGMENT, linux/udp.h
while True:
    for _ in range(10):
        out.sendto(message * 64, (address, port))
        time.sleep(0.0005)
    time.sleep(0.3)
`;

/** Handshakes of a stranger who knows the public key of the other end: 640 in a moment, three times a second, until it is disposed. */
export function flood(from: Namespace, to: Buffer, address: string, port: number): Child {
  const stranger = keyPair(randomBytes(32));
  const end = remote(stranger, to, Buffer.alloc(32));
  const message = Buffer.alloc(INITIATION_BYTES);
  if (end === undefined) throw new Error('a key of low order');
  writeInitiation(message, stranger, end, 1, keyPair(randomBytes(32)), timestamp(1n, 1));
  new MacMaker(to).sign(message, 0);
  return from.spawn(['/usr/bin/python3', '-c', FLOOD, message.toString('hex'), address, String(port)]);
}
