// A real nats-server for tests: on a port of its own, with extra arguments, killed by its own pid.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { executable } from '../../src/nats/binary.ts';

export const natsBinary = executable('nats-server');

export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, 'close');
  return port;
}

export interface RealNats {
  child: ChildProcess;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** Resolves once it takes connections. */
export async function startNats(port: number, ...args: string[]): Promise<RealNats> {
  const child = spawn(natsBinary as string, ['-a', '127.0.0.1', '-p', String(port), ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(child, 'exit');
  await new Promise<void>((resolve, reject) => {
    ended.then(() => reject(new Error('nats-server ended early')));
    createInterface({ input: child.stderr as NodeJS.ReadableStream }).on('line', (line) => line.includes('Server is ready') && resolve());
  });
  return {
    child,
    async stop(signal = 'SIGKILL') {
      child.kill(signal);
      await ended;
    },
  };
}

/** Polls, since what is awaited may live in another process. */
export async function eventually<T>(read: () => T | undefined | false, what: string, withinMs = 20_000): Promise<T> {
  const until = performance.now() + withinMs;
  for (;;) {
    const value = read();
    if (value) return value;
    if (performance.now() > until) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
