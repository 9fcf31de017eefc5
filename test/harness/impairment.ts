// A wire between a host of the underlay and its router that loses, repeats, reorders, corrupts and delays what it carries, each packet of UDP
// or TCP by a draw of its own from one seed, and counts what it did: a test that shows how a link takes a fault shows first that there was one.
//
//   await using net = createUnderlay({ hosts: 2, wired: [1] });
//   await using wire = await startImpairment(net.wire(1));
//   await wire.set({ loss: 0.05 });

import { join } from 'node:path';
import type { Namespace } from './namespace.ts';
import type { Child } from './process.ts';
import { seed } from './random.ts';

/** Shares are from 0 to 1. */
export interface Rules {
  loss?: number;
  duplicate?: number;
  /** Share of packets that others overtake, by `reorderMs`, 3 if not given. */
  reorder?: number;
  reorderMs?: number;
  /** Share of packets of whose payload one bit is changed, with a checksum that is right: they reach the program. */
  corrupt?: number;
  /** The same with the checksum that was: the kernel of the receiver drops them. */
  damage?: number;
  delayMs?: number;
  /** IP packets that are longer vanish. */
  maxBytes?: number;
  /** Keeps so many packets, the first that come, to be sent once more. */
  record?: number;
}

/** Of what came from one side. */
export interface Counts {
  /** Packets of UDP and TCP; every one of them was lost, too big, or forwarded. */
  seen: number;
  forwarded: number;
  lost: number;
  duplicated: number;
  reordered: number;
  corrupted: number;
  damaged: number;
  tooBig: number;
  /** What the wire itself had no room for: figures are worth nothing then. */
  overflow: number;
  /** Sent once more toward this side. */
  sent: number;
}

export interface Sending {
  /** The side that they go to. */
  toward: 'a' | 'b';
  count: number;
  perSecond: number;
  /** Done to each of them, with a checksum that is right: a bit of the payload flipped, another counter of WireGuard, all of it random. */
  change?: 'bit' | 'counter' | 'noise' | undefined;
}

export type Command =
  | { do: 'rules'; rules: Rules; from?: 'a' | 'b' | undefined }
  | { do: 'counts' }
  | { do: 'reset' }
  | { do: 'send'; sending: Sending };

export class Impairment implements AsyncDisposable {
  readonly #child: Child;
  #read = 0;

  constructor(child: Child) {
    this.#child = child;
  }

  /** In place of the rules that were; `from` only for what comes from one side, `a` the host's, `b` the router's. */
  async set(rules: Rules, from?: 'a' | 'b'): Promise<void> {
    await this.#ask({ do: 'rules', rules, from });
  }

  /** Since the last `reset`, by where it came from. */
  counts(): Promise<{ a: Counts; b: Counts; recorded: { a: number; b: number } }> {
    return this.#ask({ do: 'counts' });
  }

  async reset(): Promise<void> {
    await this.#ask({ do: 'reset' });
  }

  /** Sends what was recorded once more; answers how many packets. */
  async send(sending: Sending): Promise<number> {
    return this.#ask({ do: 'send', sending });
  }

  async #ask<Answer>(command: Command): Promise<Answer> {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`);
    return JSON.parse(await this.line()) as Answer;
  }

  /** The next line that it says. */
  async line(): Promise<string> {
    const number = this.#read++;
    return this.#child.until(({ stdout }) => stdout.split('\n').slice(0, -1)[number], 'its answer', 120_000);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#child[Symbol.asyncDispose]();
  }
}

/** Between the devices `a` and `b` of a namespace. */
export async function startImpairment(wire: Namespace, from = seed): Promise<Impairment> {
  const program = join(import.meta.dirname, 'wire.ts');
  const impairment = new Impairment(wire.spawn([process.execPath, program, 'a', 'b', String(from)]));
  await impairment.line();
  return impairment;
}
