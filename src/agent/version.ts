// The version of what runs, agent or lane.

import { readFileSync } from 'node:fs';

/** Semantic versioning, as package.json has it. */
export const agentVersion: string = readVersion();

/** The nearest package.json: two levels up from the sources, as from the built files. */
function readVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
