// A real server on a real unix socket in a directory of its own, for one test: stopped and removed with `await using`.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { vi } from 'vitest';
import { connect, type TaplaneClient } from '../../src/rpc/client.ts';
import { type RunningServer, type ServerNeeds, startServer } from '../../src/rpc/server.ts';
import { peerCredentials } from '../../src/sys/peer-credentials.ts';
import { type MemoryInterfaces, memoryInterfaces, memoryNode } from './memory-interfaces.ts';
import { noPackets } from './memory-packets.ts';
import { type MemoryResponders, memoryResponders } from './memory-responders.ts';

// A command line is several processes: on a busy machine a second each.
vi.setConfig({ testTimeout: 120_000 });

export interface Served extends AsyncDisposable {
  directory: string;
  path: string;
  address: string;
  interfaces: MemoryInterfaces;
  responders: MemoryResponders;
  server: RunningServer;
  client: TaplaneClient;
  logged: { fields: Record<string, unknown>; message: string }[];
}

export async function served(overrides: Partial<ServerNeeds> = {}): Promise<Served> {
  const directory = await mkdtemp(join(tmpdir(), 'taplane-rpc-'));
  const path = join(directory, 'agent.sock');
  const interfaces = memoryInterfaces();
  const responders = memoryResponders();
  const logged: Served['logged'] = [];
  const log = { error: (fields: object, message: string) => void logged.push({ fields: { ...fields }, message }) };
  const server = await startServer({
    listen: [`unix:${path}`],
    interfaces,
    responders,
    packets: noPackets,
    node: memoryNode(),
    peerCredentials,
    log,
    ...overrides,
  });
  const address = `unix:${path}`;
  const client = connect(address, { timeoutMs: 15_000 });
  return {
    directory,
    path,
    address,
    interfaces,
    responders,
    server,
    client,
    logged,
    async [Symbol.asyncDispose]() {
      client.close();
      await server.stop(0);
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Polls until `holds`, at most `withinMs`. */
export async function eventually(holds: () => boolean, withinMs = 15_000): Promise<void> {
  const end = Date.now() + withinMs;
  while (!holds()) {
    if (Date.now() > end) throw new Error('condition did not become true in time');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
