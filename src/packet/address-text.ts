// IP prefixes and MAC addresses from text to bytes: RFC 4291 section 2.2 without zones, IPv4 in four decimal parts, MAC as six octets in
// hexadecimal with colons. Pure.

import type { PrefixBytes } from './prefix-set.ts';

/** Reads `address` or `address/length`; undefined for what is none. Bits beyond the length stay as they are. */
export function parsePrefix(text: string): PrefixBytes | undefined {
  const [address = '', length, ...rest] = text.split('/');
  const bytes = parseAddress(address);
  if (bytes === undefined || rest.length > 0) return undefined;
  if (length === undefined) return { bytes, length: bytes.length * 8 };
  if (!/^\d{1,3}$/.test(length) || Number(length) > bytes.length * 8) return undefined;
  return { bytes, length: Number(length) };
}

/** 4 or 16 bytes; undefined for what is no address. */
export function parseAddress(text: string): Uint8Array | undefined {
  if (text.length > 45) return undefined;
  return text.includes(':') ? ipv6(text) : ipv4(text);
}

/** As a whole number below 2^48; undefined for what is no MAC address. */
export function parseMac(text: string): number | undefined {
  return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text) ? Number.parseInt(text.replaceAll(':', ''), 16) : undefined;
}

function ipv4(text: string): Uint8Array | undefined {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256)) return undefined;
  return Uint8Array.from(parts, Number);
}

function ipv6(text: string): Uint8Array | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [front, back] = halves.map(groups);
  if (front === undefined || (halves.length === 2 && back === undefined)) return undefined;
  // An IPv4 address stands at the end or nowhere.
  if (halves.length === 2 && halves[0]?.includes('.')) return undefined;
  const missing = 8 - front.length - (back?.length ?? 0);
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  const words = [...front, ...Array<number>(missing).fill(0), ...(back ?? [])];
  return Uint8Array.from(words.flatMap((word) => [word >> 8, word & 0xff]));
}

function groups(text: string): number[] | undefined {
  if (text === '') return [];
  const parts = text.split(':');
  const words: number[] = [];
  for (const [index, part] of parts.entries()) {
    if (/^[0-9a-f]{1,4}$/i.test(part)) words.push(Number.parseInt(part, 16));
    else {
      const four = index === parts.length - 1 ? ipv4(part) : undefined;
      if (four === undefined) return undefined;
      words.push(((four[0] as number) << 8) | (four[1] as number), ((four[2] as number) << 8) | (four[3] as number));
    }
  }
  return words;
}
