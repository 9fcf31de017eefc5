// One link in memory: its record, what the data plane last said of it, and what we think of it.

import type { Attachment } from '../gen/taplane/lane/v1/lane_service.ts';
import type { LinkStatus } from '../gen/taplane/v1/link.ts';
import { Conditions } from '../resource/conditions.ts';
import { publicKeyOf } from './keys.ts';
import type { LinkRecord } from './record.ts';

/** `Ready`: sockets and queue are held; `Encrypted`; `Offloaded`: super-frames; `UnderlaySafe`: no way leads a peer's endpoint into the link;
 * `TlsUsable`, of links with TLS: the files on the node are what they should be. */
export type ConditionType = 'Ready' | 'Encrypted' | 'Offloaded' | 'UnderlaySafe' | 'TlsUsable';

export class Entry {
  record: LinkRecord;
  readonly conditions = new Conditions<ConditionType>();
  /** What was last asked of the data plane, and for what: see `declaration.ts`. */
  asked: { key: readonly unknown[]; attachment: Attachment } | undefined;
  /** As clients last saw it. */
  lastSalient = '';
  /** A probe is under way. */
  isProbed = false;
  /** Called whenever the data plane has spoken; without a status when the link is gone. */
  readonly waiting = new Set<(status: LinkStatus | undefined) => void>();
  /** What its interface was when it was last looked at. */
  joinedKey: readonly unknown[] = [];
  #key: { of: Uint8Array; publicKey: Buffer } | undefined;

  constructor(record: LinkRecord) {
    this.record = record;
  }

  get name(): string {
    return this.record.name;
  }

  /** Public key of this end; empty where the protocol has none. */
  get publicKey(): Buffer {
    const { wireguard } = this.record.spec;
    if (wireguard === undefined) return NONE;
    if (this.#key?.of !== wireguard.privateKey) this.#key = { of: wireguard.privateKey, publicKey: publicKeyOf(wireguard.privateKey) };
    return this.#key.publicKey;
  }
}

const NONE = Buffer.alloc(0);
