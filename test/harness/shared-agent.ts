// One agent in one namespace for the tests of a file, one after the other. A test that is over has its interfaces deleted, and the agent
// goes to the next only when nothing is left of them: no interface, no link, nothing that a lane holds, and a kernel as it was found. Else
// it ends here, and the next test gets a new one. A test that counts what an agent did in all its life, or starts it with options, wants `startAgent`.
//
//   await using shared = await shareAgent();
//   const { agent, ns } = shared;

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll } from 'vitest';
import { DeleteInterfaceRequest, ListInterfacesRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { ListLinksRequest } from '../../src/gen/taplane/v1/link_service.ts';
import { type Agent, startAgent } from './agent.ts';
import { createNamespace, type Namespace } from './namespace.ts';
import { snapshot } from './truth.ts';

const TIDY_MS = 5000;
const LOOK_MS = 20;

export interface SharedAgent extends AsyncDisposable {
  agent: Agent;
  ns: Namespace;
}

interface Pair {
  agent: Agent;
  ns: Namespace;
  /** What the kernel showed before the first interface. */
  bare: string;
}

let resting: Pair | undefined;

/** The one that rests, or a new one. Two at a time are two agents. */
export async function shareAgent(): Promise<SharedAgent> {
  const pair = resting ?? (await startPair());
  resting = undefined;
  return {
    agent: pair.agent,
    ns: pair.ns,
    async [Symbol.asyncDispose]() {
      const isTidy = await tidied(pair).catch(() => false);
      if (isTidy && resting === undefined) resting = pair;
      else await endPair(pair);
    },
  };
}

async function startPair(): Promise<Pair> {
  const ns = createNamespace();
  try {
    const bare = snapshot(ns);
    return { ns, agent: await startAgent({ namespace: ns }), bare };
  } catch (error) {
    await ns[Symbol.asyncDispose]();
    throw error;
  }
}

async function endPair({ agent, ns }: Pair): Promise<void> {
  await agent[Symbol.asyncDispose]();
  await ns[Symbol.asyncDispose]();
}

/** Whether nothing is left of the test that was there. */
async function tidied({ agent, ns, bare }: Pair): Promise<boolean> {
  // Throws when it does not run.
  void agent.pid;
  const client = agent.client({ timeoutMs: TIDY_MS });
  try {
    const { links } = await client.links.list(ListLinksRequest.fromPartial({ pageSize: 1 }));
    if (links.length > 0) return false;
    const { interfaces } = await client.interfaces.list(ListInterfacesRequest.fromPartial({}));
    for (const { name } of interfaces) await client.interfaces.delete(DeleteInterfaceRequest.fromPartial({ name }));
    for (const deadline = performance.now() + TIDY_MS; performance.now() < deadline; await sleep(LOOK_MS)) {
      const { lanes } = await client.node.getNode();
      if (lanes.every((lane) => lane.attachments + lane.streams + lane.meters === 0)) return snapshot(ns) === bare;
    }
    return false;
  } finally {
    client.close();
  }
}

afterAll(async () => {
  if (resting) await endPair(resting);
  resting = undefined;
});
