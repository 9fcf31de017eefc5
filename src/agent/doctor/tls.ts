// The files of the TLS listeners, read as the agent does at its start.

import type { TaplaneError } from '../../errors.ts';
import { loadTls, type TlsFiles } from '../../rpc/tls-files.ts';
import { endingOf } from '../../rpc/tls-reload.ts';
import { type Check, fail, pass, warn } from './check.ts';

const NAME = 'tls-files';

/** Empty where there is no TLS. */
export function judgeTls(files: TlsFiles | undefined, nowMs: number): Check[] {
  if (files === undefined) return [];
  try {
    const { leaf } = loadTls(files);
    const ending = endingOf(leaf, nowMs);
    if (ending !== '') return [warn(NAME, `${files.certFile}: ${ending}`, 'have it renewed; the agent takes new files by itself')];
    return [pass(NAME, `certificate, key and client CA fit; good until ${leaf.validToDate.toISOString()}`)];
  } catch (error) {
    const { message, preconditions = [] } = error as Partial<TaplaneError> & Error;
    return [fail(NAME, message, preconditions.map(({ description }) => description).join('; '))];
  }
}
