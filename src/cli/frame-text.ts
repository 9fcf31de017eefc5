// Packets as hex text. Pure.

import { UsageError } from './exit-code.ts';

/** A packet of an argument. Throws UsageError; `where` names it in the message. */
export function parseFrame(text: string, where: string): Buffer {
  const digits = text.replace(/^0x/i, '').replace(/[\s:]/g, '');
  const strange = /[^0-9a-f]/i.exec(digits)?.[0];
  if (strange !== undefined) throw new UsageError(`${where}: ${JSON.stringify(strange)} is no hex digit`);
  if (digits.length % 2 === 1) throw new UsageError(`${where}: ${digits.length} hex digits are half a byte too much or too few`);
  return Buffer.from(digits, 'hex');
}

/** The packets of the arguments of a command. */
export function parseFrames(words: readonly string[]): Buffer[] {
  const frames = words.map((word, index) => parseFrame(word, `packet ${index + 1}`));
  if (frames.length > 1 && frames.every(({ length }) => length <= 1))
    throw new UsageError('each argument is a packet of its own: quote one that has blanks, as in "45 00 00 1c"');
  return frames;
}

/** The packet of line `number` of a file; undefined when there is none. */
export function parseFrameLine(line: string, file: string, number: number): Buffer | undefined {
  const text = line.replace(/#.*/, '').trim();
  return text === '' ? undefined : parseFrame(text, `${file}, line ${number}`);
}
