// Finds an IPv4 network for the demo that nothing on this machine uses. Pure but for the one function that reads.

import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';

/** A network by its first address and its mask, as unsigned 32-bit numbers. */
export interface Network {
  base: number;
  mask: number;
}

/** What is in use here: addresses of devices that are up, and all routes but the default one. */
export function usedNetworks(): Network[] {
  const addresses = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .filter(({ family }) => family === 'IPv4')
    .map(({ address, netmask }) => network(number(address), number(netmask)));
  return [...addresses, ...readRoutes(readFileSync('/proc/net/route', 'utf8'))];
}

/** 10.89.x.0/24, else 10.0-255.x.0/24: the first that overlaps with nothing; its first three octets. */
export function freeSubnet(used: Network[]): string | undefined {
  const seconds = [89, ...Array.from({ length: 256 }, (_, octet) => octet)];
  for (const second of seconds) {
    for (let third = 0; third < 256; third++) {
      const base = ((10 << 24) | (second << 16) | (third << 8)) >>> 0;
      if (!used.some((other) => overlap({ base, mask: 0xffffff00 }, other))) return `10.${second}.${third}`;
    }
  }
  return undefined;
}

/** What `attempt` made in the first free subnet that it takes. Addresses of devices that are down are seen by the agent alone. */
export async function inFreeSubnet<Made>(
  used: Network[],
  attempt: (subnet: string) => Promise<Made>,
): Promise<[subnet: string, made: Made]> {
  const taken = [...used];
  for (;;) {
    const subnet = freeSubnet(taken);
    if (!subnet) throw new Error('All of 10.0.0.0/8 is in use here: no address is left for the demo.');
    try {
      return [subnet, await attempt(subnet)];
    } catch (error) {
      if ((error as { reason?: string }).reason !== 'ADDRESS_IN_USE') throw error;
      taken.push(subnetOf(subnet));
    }
  }
}

/** The /24 of three octets. */
export function subnetOf(octets: string): Network {
  return { base: number(`${octets}.0`), mask: 0xffffff00 };
}

/** `lab0`, or the first after it that is no device. */
export function freeName(stem: string, devices: ReadonlySet<string>): string {
  for (let index = 0; ; index++) if (!devices.has(`${stem}${index}`)) return `${stem}${index}`;
}

/** /proc/net/route: device, destination, gateway, ..., mask (8th column), numbers in hex as they lie in memory. */
export function readRoutes(table: string): Network[] {
  return table
    .split('\n')
    .slice(1)
    .map((line) => line.split('\t'))
    .filter((columns) => columns.length > 7)
    .map((columns) => network(swapped(columns[1] as string), swapped(columns[7] as string)))
    .filter(({ mask }) => mask !== 0);
}

function overlap(a: Network, b: Network): boolean {
  const common = (a.mask & b.mask) >>> 0;
  return (a.base & common) >>> 0 === (b.base & common) >>> 0;
}

function network(address: number, mask: number): Network {
  return { base: (address & mask) >>> 0, mask };
}

function number(dotted: string): number {
  return dotted.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0);
}

/** Little-endian hex, as every machine that Node 24 runs on writes it, but for s390x. */
function swapped(hex: string): number {
  return Buffer.from(hex, 'hex').readUInt32LE(0);
}
