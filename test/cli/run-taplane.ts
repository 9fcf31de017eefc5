// bin/taplane as a process, as a shell would run it.

import { type ChildProcess, spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';

export const TAPLANE = new URL('../../bin/taplane', import.meta.url).pathname;

export interface Ran {
  code: number | null;
  stdout: string;
  stderr: string;
}

export function start(arguments_: string[], server: string): ChildProcess {
  return spawn(TAPLANE, arguments_, { env: { ...process.env, TAPLANE_SERVER: server, NO_COLOR: '1' }, stdio: 'pipe' });
}

export async function taplane(arguments_: string[], server: string, input = ''): Promise<Ran> {
  const child = start(arguments_, server);
  child.stdin?.on('error', () => {}).end(input);
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  const [stdout, stderr, code] = await Promise.all([
    text(child.stdout as NodeJS.ReadableStream),
    text(child.stderr as NodeJS.ReadableStream),
    exited,
  ]);
  return { code, stdout, stderr };
}
