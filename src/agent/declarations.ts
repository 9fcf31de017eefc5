// What lanes are told to hold comes from two owners, interfaces and links, and a lane is told all of it at once. Nothing is told before both have
// spoken: a lane that an agent before us has left would let go of what is missing. The meter of a joined device is told which link it is.

import { type Attachment, Attachment_Kind as Kind } from '../gen/taplane/lane/v1/lane_service.ts';

export class Declarations {
  readonly #want: (attachments: Attachment[]) => void;
  #interfaces: readonly Attachment[] | undefined;
  #links: readonly Attachment[] | undefined;
  /** Meters with their link, by the attachment that they were made of: the same again is the same object. */
  #joined = new WeakMap<Attachment, { name: string; attachment: Attachment }>();

  /** `want` is told all attachments, whenever they may have changed. */
  constructor(want: (attachments: Attachment[]) => void) {
    this.#want = want;
  }

  fromInterfaces(attachments: readonly Attachment[]): void {
    this.#interfaces = attachments;
    this.#tell();
  }

  fromLinks(attachments: readonly Attachment[]): void {
    this.#links = attachments;
    this.#tell();
  }

  #tell(): void {
    const links = this.#links;
    if (this.#interfaces === undefined || links === undefined) return;
    if (links.length === 0) {
      this.#want([...this.#interfaces]);
      return;
    }
    const names = new Map(links.map(({ device, link }) => [device?.uid, link?.name ?? '']));
    this.#want([...this.#interfaces.map((one) => this.#named(one, names.get(one.device?.uid))), ...links]);
  }

  #named(attachment: Attachment, name: string | undefined): Attachment {
    const { kind, meter } = attachment;
    if (name === undefined || kind !== Kind.METER || meter === undefined) return attachment;
    const known = this.#joined.get(attachment);
    if (known?.name === name) return known.attachment;
    const named = { ...attachment, meter: { ...meter, link: name } };
    this.#joined.set(attachment, { name, attachment: named });
    return named;
  }
}
