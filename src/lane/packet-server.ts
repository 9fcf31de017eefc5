// The packet socket of a lane: a plain unix socket beside its gRPC, mode 0600, for the agent alone. One connection is one stream; see
// `framing.ts` for what is said on it. Nothing that comes in can throw out of here.

import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { TaplaneError } from '../errors.ts';
import { StreamFailure, StreamSetup } from '../gen/taplane/lane/v1/lane_service.ts';
import type { Outlet } from './delivery.ts';
import { failureOf } from './failure-wire.ts';
import type { FlowConnections } from './flow-connection.ts';
import { Framer, KIND_END, KIND_FAILURE, KIND_REQUEST, KIND_SETUP, message } from './framing.ts';
import type { PacketStream } from './packet-stream.ts';
import type { Streams } from './streams.ts';

const LAST_WORD_MS = 5000;

/** What the server needs of a logger; pino fits. */
export interface LaneLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface PacketServer {
  close(): Promise<void>;
}

/** Serves on `path`; a socket that is there is the rest of a killed lane, since the caller holds the lane's own socket. */
export async function startPacketServer(path: string, streams: Streams, flows: FlowConnections, log: LaneLog): Promise<PacketServer> {
  rmSync(path, { force: true });
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    serve(socket, streams, flows, log);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    // The mask of the process lets nobody else in from the first moment.
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
  server.on('error', (error) => log.error({ err: error.message }, 'packet socket failed'));
  return {
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function serve(socket: Socket, streams: Streams, flows: FlowConnections, log: LaneLog): void {
  let stream: PacketStream | undefined;
  let acknowledge: ((payload: Buffer) => void) | undefined;
  let asked = false;
  let over = false;
  const outlet: Outlet = {
    write: (bytes, done) => {
      if (over || socket.destroyed) return;
      socket.write(bytes, (error) => {
        if (!error) done();
      });
    },
  };
  const end = (last: Buffer): void => {
    if (over) return;
    over = true;
    if (stream !== undefined) streams.end(stream);
    // Not destroyed at once: what the agent still writes must not keep it from reading the last word. A slow client gets all of it.
    socket.end(last, () => socket.setTimeout(LAST_WORD_MS, () => socket.destroy()));
    socket.resume();
  };
  const fail = (error: unknown): void => {
    const known = error instanceof TaplaneError;
    if (!known) log.error({ err: error instanceof Error ? error.stack : String(error) }, 'stream failed');
    const told = known ? error : new TaplaneError('INTERNAL', 'INTERNAL', 'the data-plane process failed; its log tells more');
    end(message(KIND_FAILURE, StreamFailure.encode(failureOf(told)).finish()));
  };
  const finish = (): void => {
    stream?.finish().then(() => end(message(KIND_END)), fail);
  };
  const displace = (): void => {
    // Another connection has the stream now: this one goes without taking it along.
    over = true;
    socket.destroy();
  };
  const open = (payload: Buffer): void => {
    const setup = StreamSetup.decode(payload);
    if (setup.flows !== undefined) {
      acknowledge = flows.open(socket);
      return;
    }
    const opened = streams.open(setup, outlet, displace);
    stream = opened;
    opened.onBad = fail;
    opened.onRoom = () => socket.resume();
    opened.onLimit = finish;
  };
  const framer = new Framer((kind, payload) => {
    if (over) return;
    if (kind === KIND_SETUP && stream === undefined && acknowledge === undefined) open(payload);
    else if (kind === KIND_REQUEST && acknowledge !== undefined) acknowledge(payload);
    else if (kind === KIND_REQUEST && stream !== undefined) {
      const first = !asked;
      asked = true;
      if (!stream.request(payload, first)) socket.pause();
    } else if (kind === KIND_END && stream !== undefined) finish();
    else throw new TaplaneError('INTERNAL', 'INTERNAL', `packet connection: message of kind ${kind} out of place`);
  });
  socket.on('data', (piece: Buffer) => {
    try {
      framer.push(piece);
    } catch (error) {
      fail(error);
    }
  });
  const lost = (): void => {
    if (over) return void socket.destroy();
    over = true;
    if (stream !== undefined) streams.lost(stream);
    socket.destroy();
  };
  socket.on('end', lost);
  socket.on('close', lost);
  socket.on('error', lost);
}
