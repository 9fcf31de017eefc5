// How the flow commands reach NATS: the flags, and what they become for the connection. The one place where both are named.

import type { Command } from 'commander';
import { UsageError } from './exit-code.ts';

/** An address, or a file with one, and what a login needs. */
export interface NatsFlags {
  nats?: string;
  natsCreds?: string;
  natsNkey?: string;
  natsTlsCa?: string;
  natsTlsCert?: string;
  natsTlsKey?: string;
}

/** What `connectNats` takes of an address and credentials. */
type NatsTarget = import('../flow/nats-observer.ts').NatsObserverOptions['nats'];

/** Called as those of the agent. */
export function addNatsFlags(command: Command): Command {
  return command
    .optionsGroup('NATS:')
    .option('--nats <url>', 'ask NATS, for the whole cluster: nats://..., tls://..., or a file that holds such an address')
    .option('--nats-creds <file>', 'login: credentials of nsc')
    .option('--nats-nkey <file>', 'login: seed of an nkey')
    .option('--nats-tls-ca <file>', 'who may have signed the certificate of the server, PEM')
    .option('--nats-tls-cert <file>', 'certificate to show to the server, PEM')
    .option('--nats-tls-key <file>', 'its key, PEM')
    .optionsGroup('Options:');
}

/** Undefined when the agent is asked. Throws UsageError for a login without an address, and for half or two of them. */
export function natsTarget(flags: NatsFlags): NatsTarget | undefined {
  const {
    nats,
    natsCreds: creds = '',
    natsNkey: nkey = '',
    natsTlsCa: tlsCa = '',
    natsTlsCert: tlsCert = '',
    natsTlsKey: tlsKey = '',
  } = flags;
  const files = { creds, nkey, tlsCa, tlsCert, tlsKey };
  if (creds !== '' && nkey !== '') throw new UsageError('one login at a time: --nats-creds or --nats-nkey');
  if ((tlsCert === '') !== (tlsKey === ''))
    throw new UsageError('a certificate needs its key: give both --nats-tls-cert and --nats-tls-key');
  if (nats !== undefined) return { mode: nats, files };
  if (Object.values(files).some((file) => file !== '')) throw new UsageError('a login to NATS needs an address: --nats nats://HOST:4222');
  return undefined;
}
