// Where connections come from: unix sockets, plaintext TCP on loopback, TCP with TLS. Each finds out who is there, and hands the connection to the table.

import { createServer, type Server as NetServer, type Socket } from 'node:net';
import type { UnixCaller } from '../access/caller.ts';
import { TaplaneError } from '../errors.ts';
import type { ConnectionTable } from './connections.ts';
import { formatAddress, type ListenAddress } from './listen-address.ts';
import type { ListenLog } from './refusals.ts';
import type { TlsListeners } from './tls-listener.ts';
import { reserveSocket } from './unix-socket.ts';

export type PeerCredentials = (fd: number) => Omit<UnixCaller, 'kind'>;

export interface ListenerNeeds {
  table: ConnectionTable;
  /** Hands an admitted connection to gRPC. */
  inject: (socket: Socket) => void;
  /** SO_PEERCRED of an accepted unix socket; throws when the kernel does not say. */
  peerCredentials: PeerCredentials;
  /** For TCP; plaintext when undefined, which is for loopback only. */
  tls: TlsListeners | undefined;
  log: ListenLog;
}

export interface Listener {
  /** With the port that was taken. */
  readonly address: string;
  /** Accepts no more; those that are there stay. */
  close(): void;
  /** Removes what it left in the file system. */
  remove(): Promise<void>;
}

/** Listens. Throws TaplaneError with nothing left open. */
export async function listen(address: ListenAddress, needs: ListenerNeeds): Promise<Listener> {
  return address.kind === 'unix' ? await listenUnix(address, needs) : await listenTcp(address, needs);
}

async function listenUnix(address: ListenAddress & { kind: 'unix' }, needs: ListenerNeeds): Promise<Listener> {
  const { table, inject, peerCredentials } = needs;
  const server = createServer((socket) => {
    const caller = unixCaller(socket, peerCredentials);
    if (caller instanceof Error)
      table.refuse(
        socket.on('error', () => {}),
        'no_credentials',
        address.path,
        caller.message,
      );
    else table.admit(socket, caller, inject);
  });
  const reserved = await reserveSocket(address.path);
  try {
    await reserved.bind(() => bound(server, { path: address.path }, address, needs.log));
  } catch (error) {
    server.close();
    await reserved.remove();
    throw error;
  }
  return { address: formatAddress(address), close: () => void server.close(), remove: () => reserved.remove() };
}

function unixCaller(socket: Socket, peerCredentials: PeerCredentials): UnixCaller | Error {
  const { _handle: handle } = socket as Socket & { _handle?: { fd?: number } };
  try {
    if (handle?.fd === undefined || handle.fd < 0) throw new Error('the socket has no descriptor any more');
    const { uid, gid, pid } = peerCredentials(handle.fd);
    return { kind: 'unix', uid, gid, pid };
  } catch (error) {
    return error as Error;
  }
}

async function listenTcp(address: ListenAddress & { kind: 'tcp' }, needs: ListenerNeeds): Promise<Listener> {
  const { table, inject, tls } = needs;
  const plain = (socket: Socket) => {
    const from = `${socket.remoteAddress}:${socket.remotePort}`;
    table.admit(socket, { kind: 'loopback', address: from }, inject);
  };
  const server = tls ? tls.open() : createServer(plain);
  const { host, port } = address;
  await bound(server, { host, port }, address, needs.log);
  const taken = (server.address() as { port: number }).port;
  return { address: formatAddress({ ...address, port: taken }), close: () => void server.close(), remove: async () => {} };
}

function bound(server: NetServer, where: { path: string } | { host: string; port: number }, address: ListenAddress, log: ListenLog) {
  const target = formatAddress(address);
  return new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      const message = `listen on ${target}: ${cause.message.replace(/^listen /, '')}`;
      reject(new TaplaneError('FAILED_PRECONDITION', 'LISTEN_FAILED', message, { cause, metadata: { address: target } }));
    });
    server.listen(where, () => {
      server.removeAllListeners('error');
      // Such as no descriptors left for accept(2): the connection is lost, the server goes on.
      server.on('error', (error) => log.warn?.({ address: target, error: error.message }, 'accept failed'));
      resolve();
    });
  });
}
