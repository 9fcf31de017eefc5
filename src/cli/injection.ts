// A stream that only sends packets into an interface, for send and replay: opened when it is made, with the account of what was taken.

import type { InjectTotals } from '../gen/taplane/v1/packet.ts';
import { InjectTotals as Totals } from '../gen/taplane/v1/packet.ts';
import { StreamOpen, StreamOpen_Mode } from '../gen/taplane/v1/packet_service.ts';
import type { TaplaneClient } from '../rpc/client.ts';
import { firstAnswer } from './first-answer.ts';
import { resourceName } from './interface-view.ts';
import { sum } from './packet-account.ts';
import type { Settings } from './settings.ts';

export interface Injection {
  /** What frames of the interface begin with, as tcpdump.org/linktypes. */
  readonly linkType: number;
  /** The account so far. */
  readonly totals: InjectTotals;
  /** Sends frames, in this order; resolves when there is room for more. */
  send(frames: Buffer[]): Promise<void>;
  /** Half-closes and waits until all was worked off. The whole account, or the error of the stream. */
  finish(): Promise<InjectTotals>;
  cancel(): void;
}

export async function inject(client: TaplaneClient, name: string, settings: Settings): Promise<Injection> {
  const stream = client.packets.stream(StreamOpen.fromPartial({ interface: resourceName(name), mode: StreamOpen_Mode.INJECT }));
  using answer = firstAnswer(`send packets to ${name}`, settings, stream.cancel);
  const batches = stream.batches[Symbol.asyncIterator]();
  const first = await batches.next();
  if (first.done) {
    await answer.check();
    throw new Error(`send packets to ${name}: the agent ended the stream`);
  }
  let totals = first.value.injected ?? Totals.create();
  let sent = 0n;
  const reading = (async () => {
    for (let next = await batches.next(); !next.done; next = await batches.next()) totals = next.value.injected ?? totals;
  })();
  // Told by `finish`, or by `send` before it.
  reading.catch(() => {});
  return {
    linkType: first.value.opened?.linkType ?? 0,
    get totals() {
      return totals;
    },
    async send(frames) {
      sent += BigInt(frames.length);
      await stream.send({ frames });
    },
    async finish() {
      stream.end();
      await reading;
      const told = totals.accepted + sum(totals.rejected);
      if (told !== sent) throw new Error(`send packets to ${name}: ${sent} were sent, and the agent told what became of ${told}`);
      return totals;
    },
    cancel: stream.cancel,
  };
}
