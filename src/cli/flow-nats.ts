// How the flow commands reach NATS: the flags, and what they become for the connection. The one place where both are named.

import type { Command } from 'commander';

export interface NatsFlags {
  nats?: string;
}

/** What `connectNats` takes of an address and credentials. */
type NatsTarget = import('../flow/nats-observer.ts').NatsObserverOptions['nats'];

export function addNatsFlags(command: Command): Command {
  return command.option('--nats <url>', 'ask NATS instead of the agent: records of the whole cluster, nats:// or tls://');
}

/** Undefined when the agent is asked. */
export function natsTarget({ nats }: NatsFlags): NatsTarget | undefined {
  return nats === undefined ? undefined : { mode: nats };
}
