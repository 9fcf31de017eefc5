// The options that every command has, and the connection that they lead to. The client is loaded only when it is used: gRPC
// costs more than everything else in a short command.

import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import type { ConnectOptions, TaplaneClient } from '../rpc/client.ts';
import { UsageError } from './exit-code.ts';
import { FORMATS, type Format, LINE_FORMATS } from './output.ts';

export const DEFAULT_SERVER = 'unix:/run/taplane/agent.sock';
export const DEFAULT_TIMEOUT_MS = 10_000;

export interface Settings {
  server: string;
  output: Format;
  timeout: number;
  /** Files and name for TLS to a server HOST:PORT. */
  serverCa?: string;
  clientCert?: string;
  clientKey?: string;
  serverName?: string;
}

/** How a client connects with these settings. */
export function connectOptions({ timeout, serverCa, clientCert, clientKey, serverName }: Settings): ConnectOptions {
  return { timeoutMs: timeout, tls: { caFile: serverCa, certFile: clientCert, keyFile: clientKey, serverName } };
}

/** For those who do not read the command line. */
export function tlsOfEnvironment(
  env: NodeJS.ProcessEnv = process.env,
): Pick<Settings, 'serverCa' | 'clientCert' | 'clientKey' | 'serverName'> {
  const given = {
    serverCa: env['TAPLANE_SERVER_CA'],
    clientCert: env['TAPLANE_CLIENT_CERT'],
    clientKey: env['TAPLANE_CLIENT_KEY'],
    serverName: env['TAPLANE_SERVER_NAME'],
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value));
}

/** Throws UsageError for a form that only lines of a stream have, where `hasLines` is not given. */
export function settingsOf(command: Command, { hasLines = false } = {}): Settings {
  const settings = command.optsWithGlobals<Settings>();
  if (!hasLines && (LINE_FORMATS as readonly string[]).includes(settings.output))
    throw new UsageError(`only flow observe has the form ${settings.output}: use -o ${FORMATS.join(', ')}`);
  return settings;
}

export async function withClient<Result>(settings: Settings, use: (client: TaplaneClient) => Promise<Result>): Promise<Result> {
  const { connect } = await import('../rpc/client.ts');
  await using client = connect(settings.server, connectOptions(settings));
  return await use(client);
}

const UNIT_MS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `500ms`, `10s`, `2m`, `1h`, or plain seconds, in milliseconds. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text);
  const milliseconds = Number(match?.[1]) * (UNIT_MS[match?.[2] ?? 's'] ?? 1);
  // setTimeout counts in 31 bits.
  if (!(milliseconds > 0 && milliseconds < 2 ** 31)) throw new InvalidArgumentError('Expected a time such as 500ms, 10s or 2m.');
  return milliseconds;
}
