// An agent in a namespace of its own and short ways to use it.

import { setTimeout as sleep } from 'node:timers/promises';
import { type Condition, type Interface, type InterfaceSpec, InterfaceSpec_Mode } from '../../src/gen/taplane/v1/interface.ts';
import {
  AdoptInterfaceRequest,
  CreateInterfaceRequest,
  DeleteInterfaceRequest,
  UpdateInterfaceRequest,
} from '../../src/gen/taplane/v1/interface_service.ts';
import type { TaplaneClient } from '../../src/rpc/client.ts';
import { type Agent, type AgentOptions, startAgent } from '../harness/agent.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';

export const { TUN, TAP } = InterfaceSpec_Mode;
type Deep<T> = T extends (infer I)[] ? Deep<I>[] : T extends object ? { [K in keyof T]?: Deep<T[K]> } : T;
export type Spec = Deep<InterfaceSpec>;

export class Managed implements AsyncDisposable {
  readonly ns: Namespace;
  readonly agent: Agent;

  constructor(ns: Namespace, agent: Agent) {
    this.ns = ns;
    this.agent = agent;
  }

  create(interfaceId: string, spec: Spec): Promise<Interface> {
    return this.#ask((interfaces) =>
      interfaces.create(CreateInterfaceRequest.fromPartial({ interfaceId, interface: { spec: spec as object } })),
    );
  }

  update(name: string, spec: Spec, updateMask: string[]): Promise<Interface> {
    return this.#ask((interfaces) =>
      interfaces.update(
        UpdateInterfaceRequest.fromPartial({ interface: { name: `interfaces/${name}`, spec: spec as object }, updateMask }),
      ),
    );
  }

  adopt(interfaceId: string, networkNamespace = ''): Promise<Interface> {
    return this.#ask((interfaces) => interfaces.adopt(AdoptInterfaceRequest.fromPartial({ interfaceId, networkNamespace })));
  }

  async delete(name: string): Promise<string[]> {
    const { plan } = await this.#ask((interfaces) => interfaces.delete(DeleteInterfaceRequest.fromPartial({ name: `interfaces/${name}` })));
    return plan.map(({ command }) => command);
  }

  get(name: string): Promise<Interface> {
    return this.#ask((interfaces) => interfaces.get({ name: `interfaces/${name}` }));
  }

  async condition(name: string, type: string): Promise<Condition | undefined> {
    return (await this.get(name)).status?.conditions.find((condition) => condition.type === type);
  }

  /** Over a new connection each time: the agent may have been started anew. */
  async #ask<Answer>(question: (interfaces: TaplaneClient['interfaces']) => Promise<Answer>): Promise<Answer> {
    const client = this.agent.client();
    try {
      return await question(client.interfaces);
    } finally {
      client.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.agent[Symbol.asyncDispose]();
    this.ns[Symbol.dispose]();
  }
}

export async function manage(options: Omit<AgentOptions, 'namespace'> = {}): Promise<Managed> {
  const ns = createNamespace();
  try {
    return new Managed(ns, await startAgent({ ...options, namespace: ns }));
  } catch (error) {
    ns[Symbol.dispose]();
    throw error;
  }
}

/** Waits until `look` finds something true; throws with `what` when it does not in time. */
export async function until(look: () => unknown, what: string, timeoutMs = 20_000): Promise<void> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    if (await look()) return;
    if (Date.now() > end) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await sleep(20);
  }
}

/** The reason of the refusal of a call. */
export async function reasonOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => 'none',
    (error: { reason?: string; message: string }) => error.reason ?? error.message,
  );
}
