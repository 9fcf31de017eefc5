// Bytes as a person writes them: pairs of hex digits, blanks and line ends anywhere, `//` comments to the end of the line.

export function bytes(text: string): Buffer {
  const digits = text.replace(/\/\/.*$/gm, '').replace(/\s+/g, '');
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new Error(`bytes: not pairs of hex digits: ${digits.slice(0, 80)}`);
  return Buffer.from(digits, 'hex');
}
