// Subjects of NATS: `taplane.v1.<cluster>.<node>.<kind>.<rest>`. A token must not hold what NATS gives a meaning to. Pure.

/** A token: letters, digits, `-` and `_` stay, every other byte becomes `=XX` in hexadecimal, so that two names never meet. */
export function token(text: string): string {
  const bytes = Buffer.from(text, 'utf8');
  let escaped = '';
  for (const byte of bytes) {
    const character = String.fromCharCode(byte);
    escaped += /[A-Za-z0-9_-]/.test(character) ? character : `=${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return escaped === '' ? '=' : escaped;
}

/** Subject of the packets of an interface. */
export function packetSubject(cluster: string, node: string, interfaceName: string): string {
  return `taplane.v1.${token(cluster)}.${token(node)}.packet.${token(interfaceName)}`;
}

/** Subject of the flow records of an interface. */
export function flowSubject(cluster: string, node: string, interfaceName: string): string {
  return `taplane.v1.${token(cluster)}.${token(node)}.flow.${token(interfaceName)}`;
}

/** Subject of the events of a kind, such as `interface-created`. */
export function eventSubject(cluster: string, node: string, kind: string): string {
  return `taplane.v1.${token(cluster)}.${token(node)}.event.${token(kind)}`;
}

/** Whether every subject of `subject` (which may hold `*` and `>`) is one of `pattern`. */
export function covers(pattern: string, subject: string): boolean {
  const [wide, narrow] = [pattern.split('.'), subject.split('.')];
  for (const [index, word] of wide.entries()) {
    const other = narrow[index];
    if (word === '>') return other !== undefined;
    if (other === undefined || other === '>') return false;
    if (word !== '*' && word !== other) return false;
  }
  return wide.length === narrow.length;
}
