// The last events of a node in memory, for support bundles: a line each, bounded in number. Also where nothing goes to NATS.

import type { WatchEvent } from '../../interface/broadcast.ts';
import type { LinkEvent } from '../../link/manager.ts';

const MOST = 512;

export class RecentEvents {
  readonly #lines: string[] = [];
  readonly #now: () => Date;

  constructor(now: () => Date = () => new Date()) {
    this.#now = now;
  }

  /** Hears what watchers hear. */
  told(event: WatchEvent | LinkEvent): void {
    if (event.$case !== 'added' && event.$case !== 'modified' && event.$case !== 'deleted') return;
    const { name, status } = event.value;
    const conditions = status?.conditions.map(({ type, status: truth, reason }) => `${type}=${truth === 1 ? 'true' : 'false'}(${reason})`);
    this.note(event.$case, name, conditions?.join(' ') ?? '');
  }

  note(what: string, name: string, detail = ''): void {
    this.#lines.push(`${JSON.stringify({ time: this.#now().toISOString(), what, name, detail })}\n`);
    if (this.#lines.length > MOST * 1.25) this.#lines.splice(0, this.#lines.length - MOST);
  }

  lines(): string[] {
    return this.#lines.slice(-MOST);
  }
}
