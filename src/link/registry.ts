// The links that there are, which interface each joins, how they are shown, and who is told of them.

import { TaplaneError } from '../errors.ts';
import { type AttachmentState, Attachment_Kind as Kind } from '../gen/taplane/lane/v1/lane_service.ts';
import type { Link } from '../gen/taplane/v1/link.ts';
import { WatchLinksResponse } from '../gen/taplane/v1/link_service.ts';
import type { Broadcast, Watched } from '../resource/broadcast.ts';
import type { Entry } from './entry.ts';
import { type Joined, obstacle } from './joined.ts';
import { joinedId, linkName } from './name.ts';
import { judge, salient, viewOf } from './status.ts';

export type LinkEvent = NonNullable<WatchLinksResponse['event']>;

export const LINKS: Watched<LinkEvent> = {
  noun: 'links',
  encode: ({ event, resumeToken }) => WatchLinksResponse.encode({ event, resumeToken }),
  decode: (bytes) => WatchLinksResponse.decode(bytes),
  synced: { $case: 'synced', value: {} },
};

export interface RegistryNeeds {
  broadcast: Broadcast<LinkEvent>;
  /** The interface with this id; undefined when there is none. */
  joined(id: string): Joined | undefined;
  /** What the lane says of the attachment of an interface; undefined while it has not said anything. */
  attachment(uid: string, kind: Kind): AttachmentState | undefined;
  now(): number;
}

export class Registry {
  readonly #needs: RegistryNeeds;
  readonly #entries = new Map<string, Entry>();
  /** By id of the interface; also of links that are being made. */
  readonly #byInterface = new Map<string, string>();

  constructor(needs: RegistryNeeds) {
    this.#needs = needs;
  }

  get size(): number {
    return this.#byInterface.size;
  }

  get(id: string): Entry | undefined {
    return this.#entries.get(id);
  }

  /** The entry, or NOT_FOUND. */
  need(id: string): Entry {
    const entry = this.#entries.get(id);
    if (entry !== undefined) return entry;
    throw new TaplaneError('NOT_FOUND', 'LINK_NOT_FOUND', `link ${id}: there is none of this name`, { metadata: { link: id } });
  }

  all(): Iterable<Entry> {
    return this.#entries.values();
  }

  /** All entries in the order of their names. */
  sorted(): Entry[] {
    return [...this.#entries.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  holds(entry: Entry): boolean {
    return this.#entries.get(entry.name) === entry;
  }

  /** Id of the link on the interface with this id. */
  on(interfaceId: string): string | undefined {
    return this.#byInterface.get(interfaceId);
  }

  /** From here on the interface belongs to this link. Answers what gives it free again. */
  reserve(interfaceId: string, id: string): () => void {
    this.#byInterface.set(interfaceId, id);
    return () => {
      if (!this.#entries.has(id)) this.#byInterface.delete(interfaceId);
    };
  }

  add(entry: Entry): void {
    this.#entries.set(entry.name, entry);
    this.#byInterface.set(interfaceOf(entry), entry.name);
  }

  drop(entry: Entry): void {
    this.#entries.delete(entry.name);
    this.#byInterface.delete(interfaceOf(entry));
    for (const heard of [...entry.waiting]) heard(undefined);
  }

  joined(entry: Entry): Joined | undefined {
    return this.#needs.joined(interfaceOf(entry));
  }

  /** What the lane says of the attachment of the link; undefined while it says nothing. */
  said(entry: Entry): AttachmentState | undefined {
    const uid = this.joined(entry)?.device.uid;
    const said = uid === undefined ? undefined : this.#needs.attachment(uid, Kind.LINK);
    return said?.linkUid === entry.record.uid ? said : undefined;
  }

  /** A link as clients see it now. */
  view(entry: Entry): Link {
    return viewOf(entry.record, judge(entry, this.said(entry), this.joined(entry), this.#needs.now()));
  }

  /** Tells watchers that a link came, changed or went; `modified` only when it looks different from the last time. */
  tell(kind: 'added' | 'modified' | 'deleted', entry: Entry): void {
    const shown = this.view(entry);
    const looks = salient(shown);
    if (kind === 'modified' && looks === entry.lastSalient) return;
    entry.lastSalient = looks;
    this.#needs.broadcast.publish({ $case: kind, value: shown });
  }

  /** Whether something of its interface keeps the link from running. */
  isHindered(entry: Entry): boolean {
    const { interface: name, protocol } = entry.record.spec;
    return obstacle(name, protocol, this.joined(entry)) !== undefined;
  }

  /** The data plane has said something new. */
  laneSaid(): void {
    for (const entry of this.#entries.values()) {
      this.tell('modified', entry);
      if (entry.waiting.size === 0) continue;
      const { status } = this.view(entry);
      for (const heard of [...entry.waiting]) heard(status);
    }
  }

  /** Interfaces may have changed. Answers whether one that is joined has. */
  interfacesChanged(): boolean {
    let hasChanged = false;
    for (const entry of this.#entries.values()) {
      const joined = this.joined(entry);
      const key = [joined?.spec, joined?.device.uid, joined?.isThere, joined?.mtu];
      if (entry.joinedKey.length > 0 && key.every((part, at) => part === entry.joinedKey[at])) continue;
      entry.joinedKey = key;
      hasChanged = true;
      this.tell('modified', entry);
    }
    return hasChanged;
  }

  /** `links/{link}` of the link that joins the interface with this id. */
  linkOf(interfaceId: string): string | undefined {
    const id = this.#byInterface.get(interfaceId);
    return id === undefined ? undefined : linkName(id);
  }
}

export function interfaceOf({ record }: Entry): string {
  return joinedId(record.spec.interface) ?? '';
}
