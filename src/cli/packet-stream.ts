// What packet stream does: until Ctrl-C or --count. A subscription outlives its connection for a while, so a restarted agent is met again
// with the resume token; where the agent no longer knows the subscription, that is told, for nobody knows what came between.
//
//   open --> printing --(connection lost)--> resuming --(resumed)-----------> printing
//               |                               '--(OUT_OF_RANGE)--> open
//               '--(Ctrl-C, --count)--> half-closed: the last account is waited for, a moment at most

import type { PacketBatch, StreamOpened } from '../gen/taplane/v1/packet.ts';
import { StreamOpen, StreamOpen_Mode } from '../gen/taplane/v1/packet_service.ts';
import type { ClientError, PacketStream, TaplaneClient } from '../rpc/client.ts';
import { attachedLine, type PacketOptions, packetFields } from './capture-request.ts';
import { firstAnswer } from './first-answer.ts';
import { type Interruption, interruption } from './interruption.ts';
import { type LossTeller, lossTeller } from './loss-teller.ts';
import { message } from './output.ts';
import { Totals, totalsLines } from './packet-account.ts';
import { type PacketPrinter, packetPrinter } from './packet-print.ts';
import { Reconnection } from './reconnection.ts';
import { type Settings, withClient } from './settings.ts';

const RESUME_TIMEOUT_S = 30n;
const LAST_WORDS_MS = 1000;

export interface StreamOptions extends PacketOptions {
  mode: 'consume' | 'observe';
  window: number;
  ownQueue?: boolean;
}

export async function stream(name: string, options: StreamOptions, settings: Settings): Promise<void> {
  const printer = await packetPrinter(settings);
  using interrupted = interruption();
  const open = StreamOpen.fromPartial({
    ...packetFields(name, options),
    mode: options.mode === 'observe' ? StreamOpen_Mode.OBSERVE : StreamOpen_Mode.CONSUME,
    windowBytes: options.window,
    ownQueue: options.ownQueue === true,
    resumeTimeout: { seconds: RESUME_TIMEOUT_S, nanos: 0 },
  });
  const totals = new Totals();
  let printed = 0;
  try {
    using losses = lossTeller(message);
    const following = new Following(name, open, { settings, interrupted, printer, losses, totals, most: options.count || Infinity });
    try {
      await following.run();
    } finally {
      printed = following.printed;
    }
  } finally {
    if (printed > 0 || totals.all.offered > 0n) for (const line of totalsLines(totals.all, BigInt(printed))) message(line);
  }
}

interface FollowingNeeds {
  settings: Settings;
  interrupted: Interruption;
  printer: PacketPrinter;
  losses: LossTeller;
  totals: Totals;
  /** Packets to print. */
  most: number;
}

/** A subscription over as many connections as it takes. */
class Following {
  printed = 0;
  readonly #name: string;
  readonly #open: StreamOpen;
  readonly #needs: FollowingNeeds;
  #linkType = 0;
  #hasOpened = false;
  readonly #reconnection: Reconnection;

  constructor(name: string, open: StreamOpen, needs: FollowingNeeds) {
    this.#name = name;
    this.#open = open;
    this.#needs = needs;
    this.#reconnection = new Reconnection(needs.interrupted.signal, message, 'resuming');
  }

  async run(): Promise<void> {
    const { settings, interrupted, totals } = this.#needs;
    const { signal } = interrupted;
    while (!signal.aborted) {
      // A client of its own for each try: that of a lost connection waits longer and longer before it tries again.
      const error = await withClient(settings, (client) => this.#follow(client)).catch((cause: ClientError) => cause);
      if (signal.aborted) return;
      if (error === undefined) throw new Error(`stream packets of ${this.#name}: the agent ended the stream`);
      if (error.code === 'OUT_OF_RANGE' && this.#open.resumeToken !== '') {
        message('the agent does not know this stream any more: opened anew, what came between is unknown');
        Object.assign(this.#open, { resumeToken: '', resumeSequence: 0n });
        totals.begin();
        continue;
      }
      if (!(await this.#reconnection.again(error))) throw error;
    }
  }

  async #follow(client: TaplaneClient): Promise<ClientError | undefined> {
    const { settings, interrupted, losses, totals, most } = this.#needs;
    const stream = client.packets.stream({ ...this.#open });
    using answer = firstAnswer(`stream packets of ${this.#name}`, settings, stream.cancel);
    using _ending = endingWith(interrupted.signal, stream);
    for await (const batch of stream.batches) {
      answer.came();
      if (batch.opened !== undefined) this.#opened(batch.opened);
      totals.take(batch);
      losses.take(batch.lost);
      // After Ctrl-C only the account is of interest.
      if (!interrupted.signal.aborted) await this.#print(batch, stream);
      if (this.printed >= most) interrupted.stop();
    }
    await answer.check();
    return undefined;
  }

  #opened(opened: StreamOpened): void {
    const { linkType, resumeToken, resumed, nextSequence } = opened;
    this.#linkType = linkType;
    if (resumed) message('resumed');
    else if (!this.#hasOpened) message(attachedLine('streaming', this.#name, opened));
    this.#hasOpened = true;
    if (!resumed) this.#open.resumeSequence = nextSequence;
    this.#open.resumeToken = resumeToken;
    this.#reconnection.connected();
  }

  async #print(batch: PacketBatch, stream: PacketStream): Promise<void> {
    if (batch.frames.length === 0) return;
    this.printed += await this.#needs.printer(batch, this.#linkType, this.#needs.most - this.printed);
    const next = batch.firstSequence + BigInt(batch.frames.length);
    this.#open.resumeSequence = next;
    // That the stream is over, its batches tell.
    if (this.#open.windowBytes > 0) await stream.send({ acknowledge: next }).catch(() => {});
  }
}

/** Half-closes `stream` with the signal, so that the agent lets go of the subscription, and cancels it when that takes long. */
function endingWith(signal: AbortSignal, stream: PacketStream): Disposable {
  let timer: NodeJS.Timeout | undefined;
  const end = (): void => {
    stream.end();
    timer = setTimeout(stream.cancel, LAST_WORDS_MS);
  };
  if (signal.aborted) end();
  else signal.addEventListener('abort', end, { once: true });
  return {
    [Symbol.dispose]() {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
    },
  };
}
