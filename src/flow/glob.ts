// Patterns of names in which `*` stands for any characters, also none. Pure. Takes at most pattern times name steps, whatever the pattern:
// they come from clients, and a regular expression of many stars could take for ever.

export type Glob = (name: string) => boolean;

/** A test for a pattern in which `*` stands for any characters, also none. */
export function glob(pattern: string): Glob {
  if (!pattern.includes('*')) return (name) => name === pattern;
  const pieces = pattern.split('*');
  const first = pieces[0] ?? '';
  const last = pieces.at(-1) ?? '';
  const middle = pieces.slice(1, -1).filter((piece) => piece !== '');
  return (name) => {
    if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last)) return false;
    const end = name.length - last.length;
    let at = first.length;
    // The leftmost place of each piece leaves the most room for the others.
    for (const piece of middle) {
      const found = name.indexOf(piece, at);
      if (found < 0 || found + piece.length > end) return false;
      at = found + piece.length;
    }
    return true;
  };
}
