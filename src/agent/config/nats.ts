// The fields of NATS in the configuration: `nats` and the files with what a login needs, and what must hold between them. Messages
// never repeat an address, since it may hold a password.

import type { NatsFiles } from '../../nats/login.ts';
import { parseNatsUrl } from '../../nats/url.ts';
import type { ConfigProblem } from './error.ts';
import { absolutePath, checked } from './fields.ts';

export interface NatsFilesConfig {
  /** Absolute paths, empty where there is none. Read at each dial. */
  natsCredsFile: string;
  natsNkeyFile: string;
  natsTlsCaFile: string;
  natsTlsCertFile: string;
  natsTlsKeyFile: string;
}

type FileField = keyof NatsFilesConfig;

// An empty path is that of a file which is not wanted: what printConfig prints can be read again.
const file = checked((path) => (path === '' ? undefined : absolutePath.safeParse(path).error?.issues[0]?.message)).optional();

export const natsShape = {
  nats: checked(natsProblem).optional(),
  natsCredsFile: file,
  natsNkeyFile: file,
  natsTlsCaFile: file,
  natsTlsCertFile: file,
  natsTlsKeyFile: file,
};

export const natsCures: Record<string, string> = {
  nats: 'write off, embedded, or an address such as nats://user:password@host:4222 or tls://host:4222',
  natsCredsFile: 'write the absolute path of a file of nsc, such as /etc/taplane/nats.creds',
  natsNkeyFile: 'write the absolute path of a file with a seed, such as /etc/taplane/nats.nk',
  natsTlsCaFile: 'write the absolute path of a PEM file, such as /etc/taplane/nats-ca.pem',
  natsTlsCertFile: 'write the absolute path of a PEM file, such as /etc/taplane/nats.pem',
  natsTlsKeyFile: 'write the absolute path of a PEM file, such as /etc/taplane/nats-key.pem',
};

/** The files of all layers; empty where none is given. */
export function mergeNatsFiles(all: Partial<NatsFilesConfig>): NatsFilesConfig {
  const { natsCredsFile = '', natsNkeyFile = '', natsTlsCaFile = '', natsTlsCertFile = '', natsTlsKeyFile = '' } = all;
  return { natsCredsFile, natsNkeyFile, natsTlsCaFile, natsTlsCertFile, natsTlsKeyFile };
}

/** The files, as the connection takes them. */
export function natsFiles(config: NatsFilesConfig): NatsFiles {
  return {
    creds: config.natsCredsFile,
    nkey: config.natsNkeyFile,
    tlsCa: config.natsTlsCaFile,
    tlsCert: config.natsTlsCertFile,
    tlsKey: config.natsTlsKeyFile,
  };
}

/** What no single field shows. */
export function checkNats(config: NatsFilesConfig & { nats: string }): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const say = (field: FileField, cause: string, cure: string) => problems.push({ source: 'effective configuration', field, cause, cure });
  const files = mergeNatsFiles(config);
  const given = (Object.keys(files) as FileField[]).filter((field) => files[field] !== '');
  if (config.nats === 'off' || config.nats === 'embedded') {
    const why = config.nats === 'off' ? 'there is no NATS to use it for' : 'the embedded server has a password of its own';
    for (const field of given) say(field, `${why} (nats is ${config.nats})`, 'give the address of a server with nats, or leave it out');
    return problems;
  }
  const { user, token } = parseNatsUrl(config.nats);
  if (files.natsCredsFile !== '' && files.natsNkeyFile !== '')
    say('natsNkeyFile', 'natsCredsFile is given too, and a server asks for one of them', 'leave one of them out');
  for (const field of ['natsCredsFile', 'natsNkeyFile'] as const) {
    if (files[field] !== '' && (user !== undefined || token !== undefined))
      say(field, 'the address in nats holds a login too', 'take user, password or token out of the address, or leave the file out');
  }
  if (files.natsTlsCertFile !== '' && files.natsTlsKeyFile === '')
    say('natsTlsCertFile', 'a certificate is of no use without its key', 'give natsTlsKeyFile too');
  if (files.natsTlsKeyFile !== '' && files.natsTlsCertFile === '')
    say('natsTlsKeyFile', 'a key is of no use without its certificate', 'give natsTlsCertFile too');
  return problems;
}

function natsProblem(text: string): string | undefined {
  if (text === 'off' || text === 'embedded') return undefined;
  try {
    parseNatsUrl(text);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
