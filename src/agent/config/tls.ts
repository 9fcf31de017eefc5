// The section `tls` of the configuration: the files of the TLS listeners, all of them or none. What is in them is for the server to judge.

import { z } from 'zod';
import type { TlsFiles } from '../../rpc/tls-files.ts';
import type { ConfigProblem } from './error.ts';
import { absolutePath, checked } from './fields.ts';

/** Absolute paths; all empty where there is no TLS. */
export type TlsConfig = { -readonly [File in keyof TlsFiles]: string };

// An empty path is that of a file which is not wanted: what printConfig prints can be read again.
const file = checked((path) => (path === '' ? undefined : absolutePath.safeParse(path).error?.issues[0]?.message)).optional();

export const tlsSchema = z.strictObject({ certFile: file, keyFile: file, clientCaFile: file });

export const tlsCures: Record<string, string> = {
  tls: 'write a mapping with the keys certFile, keyFile and clientCaFile',
  'tls.certFile': 'write the absolute path of a PEM file, such as /etc/taplane/tls.crt',
  'tls.keyFile': 'write the absolute path of a PEM file, such as /etc/taplane/tls.key',
  'tls.clientCaFile': 'write the absolute path of a PEM file, such as /etc/taplane/client-ca.crt',
};

/** Field by field, the last layer that gives one counts; empty for those that none gives. */
export function mergeTls(layers: (z.infer<typeof tlsSchema> | undefined)[]): TlsConfig {
  return Object.assign({ certFile: '', keyFile: '', clientCaFile: '' }, ...layers);
}

/** All files are given. */
export function hasTls(tls: TlsConfig): boolean {
  return tls.certFile !== '' && tls.keyFile !== '' && tls.clientCaFile !== '';
}

/** What no single field shows. */
export function checkTls(tls: TlsConfig): ConfigProblem[] {
  const files = Object.keys(tls) as (keyof TlsConfig)[];
  if (files.every((name) => tls[name] === '')) return [];
  const missing = files.filter((name) => tls[name] === '');
  return missing.map((name) => ({
    source: 'effective configuration',
    field: `tls.${name}`,
    cause: 'is missing, and TLS needs certificate, key and client CA together',
    cure: 'give it too, or leave out all three',
  }));
}
