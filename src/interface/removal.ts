// How an interface goes: for a client, or because it was only to live as long as its agent. Runs in the turn of its name.

import type { DeleteInterfaceRequest, DeleteInterfaceResponse } from '../gen/taplane/v1/interface_service.ts';
import { checkEtag } from '../resource/etag.ts';
import type { Log } from '../resource/log.ts';
import type { Replay, Store } from '../resource/store.ts';
import type { Engine } from './engine.ts';
import type { Entry } from './entry.ts';
import { type Actual, nothing } from './plan.ts';
import { checkNoLink } from './preconditions.ts';
import { etagOf, type Record } from './record.ts';
import type { Registry } from './registry.ts';
import { planStep } from './step.ts';

interface RemovalNeeds {
  registry: Registry;
  engine: Engine;
  store: Store<Record>;
  /** The link that joins an interface, `links/{link}`; undefined for none. */
  linkOf: (id: string) => string | undefined;
  log: Log;
}

export class Removal {
  readonly #needs: RemovalNeeds;
  readonly #leaving = new Set<string>();

  constructor(needs: RemovalNeeds) {
    this.#needs = needs;
  }

  /** Whether the deletion of this interface is under way. */
  isLeaving(name: string): boolean {
    return this.#leaving.has(name);
  }

  async remove(
    entry: Entry,
    request: DeleteInterfaceRequest,
    verb: string,
    remember: (answer: DeleteInterfaceResponse) => Replay | undefined,
  ): Promise<DeleteInterfaceResponse> {
    checkEtag(etagOf(entry.record), request.etag, verb);
    checkNoLink(entry.name, this.#needs.linkOf(entry.name), verb);
    const answer = { plan: this.#needs.engine.removal(entry).map(planStep) };
    if (request.validateOnly) return answer;
    // No link may come from here on.
    this.#leaving.add(entry.name);
    try {
      await this.#decided(entry, remember(answer));
    } finally {
      this.#leaving.delete(entry.name);
    }
    return answer;
  }

  /** Without a word to the store before: the next start of an agent removes what is ephemeral. */
  async discard(entry: Entry): Promise<void> {
    const { engine, registry, store } = this.#needs;
    const last = this.#lastLook(entry);
    engine.remove(entry);
    registry.drop(entry);
    await store.commit({ remove: entry.name });
    registry.tell('deleted', entry, last);
  }

  async #decided(entry: Entry, replay: Replay | undefined): Promise<void> {
    const { registry, engine, store, log } = this.#needs;
    const before = entry.record;
    // From this commit on the deletion is decided; a start finishes it.
    await store.commit({ put: { ...before, phase: 'deleting' } });
    const last = this.#lastLook(entry);
    try {
      engine.remove(entry);
    } catch (error) {
      await store.commit({ put: before }).catch(() => {
        // The record says `deleting`: the next start finishes it.
      });
      throw error;
    }
    registry.drop(entry);
    await store.commit({ remove: entry.name, ...(replay === undefined ? {} : { replay }) }).catch((error: unknown) => {
      log.warn({ interface: entry.name, err: String(error) }, 'deletion recorded as begun only; the next start finishes it');
    });
    registry.tell('deleted', entry, last);
  }

  #lastLook(entry: Entry): Actual {
    try {
      return this.#needs.engine.observe(entry);
    } catch {
      return nothing;
    }
  }
}
