// A tar archive of a few small files, in memory: POSIX ustar (pax(1), "ustar Interchange Format"). Names of at most 100 bytes. Pure.

export interface TarFile {
  name: string;
  content: Buffer;
}

const BLOCK = 512;

/** All files, for the owner alone; `seconds` since 1970 for all of them. Throws RangeError for a name that is too long. */
export function tar(files: readonly TarFile[], seconds: number): Buffer {
  const parts: Buffer[] = [];
  for (const { name, content } of files) {
    parts.push(header(name, content.length, seconds), content);
    const rest = content.length % BLOCK;
    if (rest > 0) parts.push(Buffer.alloc(BLOCK - rest));
  }
  parts.push(Buffer.alloc(2 * BLOCK));
  return Buffer.concat(parts);
}

function header(name: string, bytes: number, seconds: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  if (Buffer.byteLength(name) > 100) throw new RangeError(`tar: name ${name} is longer than 100 bytes`);
  block.write(name, 0);
  octal(block, 100, 8, 0o600);
  octal(block, 108, 8, 0);
  octal(block, 116, 8, 0);
  octal(block, 124, 12, bytes);
  octal(block, 136, 12, seconds);
  block.write('0', 156);
  block.write('ustar\0', 257);
  block.write('00', 263);
  block.write('root', 265);
  block.write('root', 297);
  // The sum is taken with blanks in its own place.
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

function octal(block: Buffer, at: number, length: number, value: number): void {
  block.write(
    `${Math.floor(value)
      .toString(8)
      .padStart(length - 1, '0')}\0`,
    at,
  );
}
