// Secrets that others of the machine could read keep the agent from starting: a file with a login or key that is open to more than its owner and
// our own group, and a password in the arguments or the environment, which every `ps` and every child shows. Reads no secret, and names none.

import { type Stats, statSync } from 'node:fs';
import { TaplaneError } from '../errors.ts';
import { parseNatsUrl } from '../nats/url.ts';
import type { Config } from './config.ts';

/** Who we are, for the judgement of owners and groups. */
export interface Self {
  uid: number;
  groups: number[];
}

export interface SecretProblem {
  /** What is exposed: a path, or where it was said. */
  subject: string;
  cause: string;
  cure: string;
}

/** What of the configuration names a file with a secret in it. */
const FILES = ['natsCredsFile', 'natsNkeyFile', 'natsTlsKeyFile'] as const;

/** What makes a file unfit for a secret, or undefined. Owned by root or by us; mode 0600, or 0640 where the group is one of ours. Pure. */
export function secretFileProblem(
  path: string,
  { mode, uid, gid }: Pick<Stats, 'mode' | 'uid' | 'gid'>,
  self: Self,
): SecretProblem | undefined {
  const octal = (mode & 0o777).toString(8).padStart(4, '0');
  if (uid !== 0 && uid !== self.uid)
    return {
      subject: path,
      cause: `belongs to uid ${uid}, who may read it and change it`,
      cure: `chown ${self.uid} ${path} && chmod 600 ${path}`,
    };
  if ((mode & 0o037) !== 0) return { subject: path, cause: `its mode is ${octal}: others may use it`, cure: `chmod 600 ${path}` };
  if ((mode & 0o040) !== 0 && !self.groups.includes(gid))
    return {
      subject: path,
      cause: `its mode is ${octal}, and group ${gid} is not ours`,
      cure: `chmod 600 ${path}, or chgrp it to a group of the agent`,
    };
  return undefined;
}

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
  const self = { uid: process.geteuid?.() ?? 0, groups: [process.getegid?.() ?? 0, ...(process.getgroups?.() ?? [])] };
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
