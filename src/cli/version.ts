// `taplane version`: this client, and the agent where one answers.

import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { Node } from '../gen/taplane/v1/node_service.ts';
import { examples } from './interface.ts';
import { message, print, printDocument } from './output.ts';
import { type Settings, settingsOf, withClient } from './settings.ts';

const PROTOCOL = 'taplane.v1';
/** A version is wanted now; who waits for an agent asks for its status. */
const ANSWER_WITHIN_MS = 2000;

export function clientVersion(): string {
  const file = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };
  return file.version;
}

export function addVersionCommand(program: Command): void {
  program
    .command('version')
    .summary('versions of client and agent')
    .option('--client', 'only the client; asks no agent')
    .addHelpText('before', examples('taplane version', 'taplane version --client', 'taplane version -o json'))
    .action(async (options: { client?: boolean }, command: Command) => version(options, settingsOf(command)));
}

async function version(options: { client?: boolean }, settings: Settings): Promise<void> {
  const client = { version: clientVersion(), nodeVersion: process.versions.node };
  const timeout = Math.min(settings.timeout, ANSWER_WITHIN_MS);
  let cause: unknown;
  let asked: Node | undefined;
  try {
    if (!options.client) asked = await withClient({ ...settings, timeout }, ({ node }) => node.getNode());
  } catch (error) {
    cause = error;
  }
  const server = asked ? { version: asked.version, nodeVersion: asked.nodeVersion, node: asked.name } : undefined;
  if (settings.output === 'json' || settings.output === 'yaml')
    await printDocument(settings.output, { client, ...(server && { server }), protocol: PROTOCOL });
  else print(`client: ${client.version}\n${server ? `server: ${server.version} (${server.node})\n` : ''}protocol: ${PROTOCOL}\n`);
  // No failure: the question was for versions, and an agent that is not there has none.
  if (cause) message(`server: ${(cause as Error).message}`);
}
