// Keeps the data plane told of the links that it should run, with their keys, and gives each start of a link an epoch for its handshakes.
//
// A responder refuses handshakes whose time is not after that of the last one. So what stands in the place of the clock's seconds grows with every
// start of a link in a lane, whatever the clock does: it is on disk before the lane hears of it.
//
//   touch --(end of the turn)--> want(attachments, epoch 0) ... lane process is known --> epochs --> disk --> lane

import { type Attachment, Attachment_Kind as Kind } from '../gen/taplane/lane/v1/lane_service.ts';
import type { Log } from '../resource/log.ts';
import type { Store } from '../resource/store.ts';
import type { Turns } from '../resource/turns.ts';
import type { Entry } from './entry.ts';
import { type Joined, obstacle } from './joined.ts';
import { linkName } from './name.ts';
import type { LinkRecord } from './record.ts';
import type { Registry } from './registry.ts';

export interface DeclarationNeeds {
  registry: Registry;
  turns: Turns;
  store: Store<LinkRecord>;
  /** Declares all links; sent whenever they may have changed. */
  want(attachments: Attachment[]): void;
  log: Log;
  now(): number;
}

export class Declaration {
  readonly #needs: DeclarationNeeds;
  #told: readonly Attachment[] | undefined;
  #due: NodeJS.Immediate | undefined;
  #open = false;

  constructor(needs: DeclarationNeeds) {
    this.#needs = needs;
  }

  /** From here on everything is known, and told. */
  start(): void {
    this.#open = true;
    this.tell();
  }

  /** Something may have changed. */
  touch(): void {
    if (!this.#open) return;
    this.#due ??= setImmediate(() => {
      this.#due = undefined;
      this.tell();
    });
  }

  tell(): void {
    if (!this.#open) return;
    const { registry, want } = this.#needs;
    const wanted = registry.sorted().flatMap((entry) => attachmentOf(entry, registry.joined(entry)) ?? []);
    const told = this.#told;
    if (told !== undefined && told.length === wanted.length && wanted.every((one, at) => one === told[at])) return;
    this.#told = wanted;
    want(wanted);
  }

  /** Tells for the last time: what runs then stays. */
  stop(): void {
    clearImmediate(this.#due);
    this.#due = undefined;
    this.tell();
    this.#open = false;
  }

  /**
   * The attachments with the epochs of the process `lane` in its links. Resolves when those that are new are on disk; when the disk refuses they hold
   * all the same, and are written with the next start.
   */
  async withEpochs(attachments: readonly Attachment[], lane: string): Promise<Attachment[]> {
    return Promise.all(
      attachments.map(async (attachment) => {
        const { link } = attachment;
        if (link === undefined) return attachment;
        const epoch = await this.#epochOf(link.name, link.uid, lane);
        return { ...attachment, link: { ...link, handshakeEpoch: BigInt(epoch) } };
      }),
    );
  }

  async #epochOf(name: string, uid: string, lane: string): Promise<number> {
    const { registry, turns, store, log, now } = this.#needs;
    const id = name.slice(name.indexOf('/') + 1);
    const known = registry.get(id)?.record;
    if (known?.uid === uid && known.lane === lane) return known.epoch;
    return turns.run(id, async () => {
      const entry = registry.get(id);
      // Deleted meanwhile: the lane is told so next.
      if (entry?.record.uid !== uid) return Math.floor(now() / 1000);
      const { record } = entry;
      if (record.lane === lane) return record.epoch;
      const started: LinkRecord = { ...record, epoch: Math.max(record.epoch + 1, Math.floor(now() / 1000)), lane };
      entry.record = started;
      await store.commit({ put: started }).catch((error: unknown) => {
        log.warn({ link: id, err: String(error) }, 'epoch of handshakes not kept; it grows by the clock until the disk takes it');
      });
      return started.epoch;
    });
  }
}

/** What the data plane should do for a link; undefined while its interface stands in the way. The same object for as long as it asks for the same. */
function attachmentOf(entry: Entry, joined: Joined | undefined): Attachment | undefined {
  const { name, uid, generation, spec } = entry.record;
  if (joined === undefined || obstacle(spec.interface, spec.protocol, joined) !== undefined) return undefined;
  const key = [uid, generation, spec, joined.spec, joined.device.uid, joined.mtu];
  if (entry.asked?.key.every((part, at) => part === key[at]) === true) return entry.asked.attachment;
  const attachment: Attachment = {
    kind: Kind.LINK,
    device: joined.device,
    responders: [],
    peer: undefined,
    meter: undefined,
    link: {
      uid,
      generation: BigInt(generation),
      spec,
      handshakeEpoch: 0n,
      addresses: joined.spec.addresses.map(({ cidr }) => cidr),
      interfaceMtu: joined.mtu,
      name: linkName(name),
    },
  };
  entry.asked = { key, attachment };
  return attachment;
}
