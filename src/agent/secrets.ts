// Secrets that others of the machine could read keep the agent from starting: a file with a login or key that is open to more than its owner and
// our own group, and a password in the arguments or the environment, which every `ps` and every child shows. Reads no secret, and names none.

import { statSync } from 'node:fs';
import { TaplaneError } from '../errors.ts';
import { parseNatsUrl } from '../nats/url.ts';
import { ourselves, type SecretProblem, type Self, secretFileProblem } from '../sys/secret-file.ts';
import type { Config } from './config.ts';

/** What of the configuration names a file with a secret in it. */
const FILES = ['natsCredsFile', 'natsNkeyFile', 'natsTlsKeyFile'] as const;

/** All secrets of a configuration that others can see. `configPath`: the file that it was read from. A file that is not there is no problem yet. */
export function exposedSecrets(
  config: Pick<Config, 'nats' | (typeof FILES)[number]>,
  configPath: string | undefined,
  { argv, env, self }: { argv: readonly string[]; env: NodeJS.ProcessEnv; self: Self },
): SecretProblem[] {
  const files: string[] = FILES.map((field) => config[field]).filter((path) => path !== '');
  const problems: SecretProblem[] = [];
  if (hasLogin(config.nats)) {
    const cure = 'write nats: into the file of --config with mode 0600, or give the login as a file: natsCredsFile, natsNkeyFile';
    const tell = (subject: string) => problems.push({ subject, cause: 'holds the password or token of a NATS address', cure });
    if (argv.some((word) => word.endsWith(config.nats))) tell('command line');
    else if (env['TAPLANE_NATS']?.trim() === config.nats) tell('TAPLANE_NATS');
    else if (configPath) files.push(configPath);
  }
  for (const path of files) {
    try {
      const problem = secretFileProblem(path, statSync(path), self);
      if (problem !== undefined) problems.push(problem);
    } catch {
      // Whoever reads it says that it is missing.
    }
  }
  return problems;
}

/** Throws TaplaneError SECRET_EXPOSED, with a cure for each. */
export function refuseExposedSecrets(config: Config, configPath: string | undefined): void {
  const self = ourselves();
  const problems = exposedSecrets(config, configPath, { argv: process.argv, env: process.env, self });
  if (problems.length === 0) return;
  const told = problems.map(({ subject, cause }) => `${subject}: ${cause}`).join('; ');
  throw new TaplaneError('FAILED_PRECONDITION', 'SECRET_EXPOSED', `keep secrets: ${told}`, {
    preconditions: problems.map(({ subject, cure }) => ({ type: 'STATE', subject, description: cure })),
  });
}

function hasLogin(nats: string): boolean {
  if (nats === 'off' || nats === 'embedded') return false;
  const { pass, token } = parseNatsUrl(nats);
  return pass !== undefined || token !== undefined;
}
