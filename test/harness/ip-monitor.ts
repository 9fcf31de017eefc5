// `ip monitor` in a namespace: an independent record of every change the kernel announced, in order. It is known to listen before
// `watchKernel` returns, because it has already seen a marker device come and go; the marker's own events are left out.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Namespace } from './namespace.ts';
import { Child } from './process.ts';

const MARKER = 'tpl-marker';

export interface KernelEvent {
  /** When `ip` printed it: milliseconds since the epoch, with microseconds as the fraction. */
  at: number;
  kind: 'link' | 'address' | 'route' | 'neighbour';
  deleted: boolean;
  /** Undefined for a route without a device. */
  device: string | undefined;
  /** As `ip` prints it, on one line, without time and kind. */
  text: string;
}

export class KernelWatch implements AsyncDisposable {
  readonly #namespace: Namespace;
  readonly #child: Child;
  #marks = 0;
  #since = 0;

  constructor(namespace: Namespace) {
    this.#namespace = namespace;
    const env = { TZ: 'UTC' };
    this.#child = new Child(['ip', '-n', namespace.name, '-ts', '-o', 'monitor', 'label', 'link', 'address', 'route', 'neigh'], { env });
  }

  /** Everything since the start or the last `clear`. */
  get events(): KernelEvent[] {
    return this.#all().slice(this.#since);
  }

  /** Forgets what was seen so far. */
  clear(): void {
    this.#since = this.#all().length;
  }

  /** Waits until every change made before this call has been seen: the kernel announces in order, so a marker after them is enough. */
  async settle(): Promise<KernelEvent[]> {
    this.#marks += 1;
    const name = `${MARKER}${this.#marks}`;
    this.#namespace.ip(`tuntap add dev ${name} mode tun`);
    this.#namespace.ip(`link delete dev ${name}`);
    await this.#child.until(
      (child) => child.stdout.includes(`: ${name}: `) && /Deleted [^\n]*\n/.test(child.stdout.slice(child.stdout.indexOf(`: ${name}: `))),
      name,
    );
    return this.events;
  }

  /** Waits for the first event that `matches`, seen already or not. */
  async next(matches: (event: KernelEvent) => boolean, timeoutMs = 30_000): Promise<KernelEvent> {
    return this.#child.until(() => this.events.find(matches), 'a kernel event', timeoutMs);
  }

  /** Waits until nothing has been announced for `ms`. */
  async quiet(ms: number): Promise<void> {
    let count = -1;
    while (count !== this.#child.stdout.length) {
      count = this.#child.stdout.length;
      await sleep(ms);
    }
  }

  /** Until it provably listens. */
  async listen(): Promise<void> {
    // Before the socket is bound a marker goes unseen, so markers are made until one is.
    const deadline = Date.now() + 30_000;
    while (!this.#child.stdout.includes(MARKER)) {
      if (!this.#child.isRunning || Date.now() > deadline)
        throw new Error(`watch ${this.#namespace.name}: ${this.#child.stderr || 'ip monitor saw no marker'}`);
      this.#marks += 1;
      this.#namespace.ip(`tuntap add dev ${MARKER}${this.#marks} mode tun`);
      this.#namespace.ip(`link delete dev ${MARKER}${this.#marks}`);
      await sleep(5);
    }
    await this.settle();
  }

  #all(): KernelEvent[] {
    const complete = this.#child.stdout.slice(0, this.#child.stdout.lastIndexOf('\n') + 1);
    return complete.split('\n').flatMap((line) => parse(line) ?? []);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }
}

export async function watchKernel(namespace: Namespace): Promise<KernelWatch> {
  const watch = new KernelWatch(namespace);
  try {
    await watch.listen();
  } catch (error) {
    await watch[Symbol.asyncDispose]();
    throw error;
  }
  return watch;
}

const KINDS = { LINK: 'link', ADDR: 'address', ROUTE: 'route', NEIGH: 'neighbour' } as const;
const LINE = /^\[([^\]]+)\]\s*\[(LINK|ADDR|ROUTE|NEIGH)\](Deleted )?(.*)$/;

/** One line of `ip -ts -o monitor label`, or undefined for a line of another kind or about a marker. */
export function parse(line: string): KernelEvent | undefined {
  const [, time = '', kind = '', deleted, rest = ''] = LINE.exec(line) ?? [];
  if (!(kind in KINDS)) return undefined;
  const device = kind === 'LINK' || kind === 'ADDR' ? /^\d+: ([^\s:@]+)/.exec(rest)?.[1] : /(?:^|\s)dev (\S+)/.exec(rest)?.[1];
  if (device?.startsWith(MARKER)) return undefined;
  const [whole = '', fraction = '0'] = time.split('.');
  return {
    at: Date.parse(`${whole}Z`) + Number(`0.${fraction}`) * 1000,
    kind: KINDS[kind as keyof typeof KINDS],
    deleted: deleted !== undefined,
    device,
    text: rest.replace(/\\\s*/g, ' ').trim(),
  };
}
