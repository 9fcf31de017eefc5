// Amounts of bytes as people write and read them. Pure.

import { InvalidArgumentError } from 'commander';

const UNITS = ['', 'K', 'M', 'G', 'T'];

/** `1500`, `64K`, `10M`, `1G`: powers of 1024. */
export function parseBytes(text: string): number {
  const match = /^(\d{1,15})([KMGT]?)(?:i?B)?$/i.exec(text);
  const bytes = Number(match?.[1]) * 1024 ** UNITS.indexOf((match?.[2] ?? '').toUpperCase());
  if (!(bytes >= 0 && bytes <= Number.MAX_SAFE_INTEGER))
    throw new InvalidArgumentError('Expected a number of bytes such as 1500, 64K or 10M.');
  return bytes;
}

/** `812 B`, `1.2 MiB`. */
export function byteSize(bytes: number): string {
  const unit = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
  if (unit === 0) return `${bytes} B`;
  const value = bytes / 1024 ** unit;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}iB`;
}
