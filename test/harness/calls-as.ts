// Several calls from one process of another user, since a command line for each takes longer than the calls. Run as a script it is that process.

import { join } from 'node:path';
import { deserialize, serialize } from 'node:v8';
import { connect } from '../../src/rpc/client.ts';
import { run } from './process.ts';

/** Of the client: room, name of the call, and its request. */
export type Call = [room: 'interfaces' | 'responders' | 'links' | 'flows' | 'node', name: string, request?: unknown];

export interface Called {
  answer?: unknown;
  error?: { code: string; reason: string; message: string };
}

const SELF = import.meta.filename;
const NODE = join(import.meta.dirname, '..', '..', 'node_modules', '.bin', 'node');

/** One after another, as this user and group, without others. Throws when the process fails; a call that fails is an answer. */
export async function callsAs(uid: number, server: string, calls: Call[]): Promise<Called[]> {
  const user = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
  const { code, stdout, stderr } = await run([...user, NODE, SELF, server, serialize(calls).toString('base64')]);
  if (code !== 0) throw new Error(`calls as ${uid}: ${stderr}`);
  return deserialize(Buffer.from(stdout, 'base64')) as Called[];
}

async function main(server: string, calls: Call[]): Promise<void> {
  await using client = connect(server, { timeoutMs: 30_000 });
  const done: Called[] = [];
  for (const [room, name, request] of calls) {
    const call = (client[room] as unknown as Record<string, (request: unknown) => Promise<unknown>>)[name];
    done.push(
      (await call?.(request).then(
        (answer) => ({ answer }),
        ({ code, reason, message }) => ({ error: { code, reason, message } }),
      )) ?? {},
    );
  }
  process.stdout.write(serialize(done).toString('base64'));
}

const [script, server, calls] = process.argv.slice(1);
if (script === SELF && server !== undefined && calls !== undefined) await main(server, deserialize(Buffer.from(calls, 'base64')) as Call[]);
