// What may stand after --listen and --server: `unix:PATH` or `HOST:PORT`. Pure, but for the error it throws.

import { isIP } from 'node:net';
import { TaplaneError } from '../errors.ts';

export type ListenAddress = { kind: 'unix'; path: string } | { kind: 'tcp'; host: string; port: number; loopback: boolean };

// sun_path of struct sockaddr_un, linux/un.h: 108 bytes with the terminating zero.
const MAX_SOCKET_PATH_BYTES = 107;

/** Throws INVALID_ARGUMENT with reason INVALID_ADDRESS. */
export function parseListenAddress(text: string): ListenAddress {
  if (text.startsWith('unix:')) {
    // Both spellings of gRPC's naming: unix:PATH and unix:///absolute/path.
    const path = text.startsWith('unix:///') ? text.slice('unix://'.length) : text.slice('unix:'.length);
    if (path === '' || path.includes('\0')) throw invalid(text, 'the path of the socket is missing');
    if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES)
      throw invalid(text, `the path of a socket has at most ${MAX_SOCKET_PATH_BYTES} bytes`);
    return { kind: 'unix', path };
  }
  const match = /^(?:\[([^\]]+)\]|([^:[\]/]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65535 || (match?.[1] !== undefined && isIP(host) !== 6)) {
    throw invalid(text, 'expected unix:PATH, HOST:PORT or [IPv6]:PORT');
  }
  return { kind: 'tcp', host, port, loopback: isLoopback(host) };
}

/** The form that gRPC takes as a target. */
export function formatAddress(address: ListenAddress): string {
  if (address.kind === 'unix') return `unix:${address.path}`;
  return `${isIP(address.host) === 6 ? `[${address.host}]` : address.host}:${address.port}`;
}

function isLoopback(host: string): boolean {
  // RFC 6761 6.3: the name localhost is always loopback. Other names could resolve to anything later.
  if (host === 'localhost') return true;
  return isIP(host) === 4 ? host.startsWith('127.') : host === '::1';
}

function invalid(text: string, cause: string): TaplaneError {
  return new TaplaneError('INVALID_ARGUMENT', 'INVALID_ADDRESS', `read address ${JSON.stringify(text)}: ${cause}`, {
    metadata: { address: text },
  });
}
