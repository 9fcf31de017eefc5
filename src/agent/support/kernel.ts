// What the kernel has, for a bundle: as the agent sees it over netlink, and as `ip` tells it where there is one. The second is a witness of other make
// for a reader who doubts the first; nothing is decided by it.

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dumpAddresses, readAddress } from '../../sys/netlink/address.ts';
import { dumpLinks, readLink } from '../../sys/netlink/link.ts';
import { dumpNeighbours, readNeighbour } from '../../sys/netlink/neighbour.ts';
import { dumpRoutes, readRoute } from '../../sys/netlink/route.ts';
import { Netlink } from '../../sys/netlink/socket.ts';

const WITNESSES = ['/usr/sbin/ip', '/sbin/ip', '/usr/bin/ip', '/bin/ip'];
const WITNESS_MS = 5_000;
const WITNESS_BYTES = 4 * 1024 * 1024;
/** Of a table: what fits into a part of a bundle. */
const ENTRIES_MOST = 10_000;

const TABLES = {
  links: (netlink: Netlink, first: First) => netlink.dump('list links', dumpLinks(), first.of(readLink), first.begin),
  addresses: (netlink: Netlink, first: First) => netlink.dump('list addresses', dumpAddresses(0), first.of(readAddress), first.begin),
  routes: (netlink: Netlink, first: First) => netlink.dump('list routes', dumpRoutes(0, 0), first.of(readRoute), first.begin),
  neighbours: (netlink: Netlink, first: First) => netlink.dump('list neighbours', dumpNeighbours(0), first.of(readNeighbour), first.begin),
} as const;

/** A table of the agent's own namespace: its first entries, and behind them how many more there are. Throws SysError. */
export function kernelTable(which: keyof typeof TABLES): object[] {
  const netlink = new Netlink();
  try {
    const first = new First(ENTRIES_MOST);
    const found: object[] = TABLES[which](netlink, first);
    return first.beyond === 0 ? found : [...found, { more: first.beyond }];
  } finally {
    netlink.close();
  }
}

/** Reads the first so many messages of a dump, and counts the others: a router has a million routes, and they would all be in memory here. */
export class First {
  beyond = 0;
  readonly #most: number;
  #room: number;

  constructor(most: number) {
    this.#most = most;
    this.#room = most;
  }

  /** A dump begins, perhaps again, since the one before was not consistent. */
  readonly begin = (): void => {
    this.beyond = 0;
    this.#room = this.#most;
  };

  of<T>(read: (payload: Buffer) => T | undefined): (payload: Buffer) => T | undefined {
    return (payload) => {
      if (this.#room > 0) {
        this.#room--;
        return read(payload);
      }
      this.beyond++;
      return undefined;
    };
  }
}

/** JSON without what it cannot hold: big numbers become text, bytes hexadecimal. */
export function plainJson(value: unknown): string {
  return JSON.stringify(
    value,
    (_, item) => {
      if (typeof item === 'bigint') return String(item);
      if (item !== null && typeof item === 'object' && item.type === 'Buffer' && Array.isArray(item.data))
        return Buffer.from(item.data).toString('hex');
      return item;
    },
    1,
  );
}

/** Output of `ip -j -d WHAT show`; undefined where there is no `ip`. Rejects when it fails or takes too long. */
export function witness(what: string): Promise<string> | undefined {
  const program = WITNESSES.find((path) => existsSync(path));
  if (program === undefined) return undefined;
  const options = { timeout: WITNESS_MS, maxBuffer: WITNESS_BYTES, killSignal: 'SIGKILL', env: { LC_ALL: 'C' } } as const;
  return new Promise((resolve, reject) => {
    execFile(program, ['-j', '-d', ...what.split(' ')], options, (error, stdout) => (error ? reject(error) : resolve(stdout)));
  });
}
