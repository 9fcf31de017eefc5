// Names of a certificate: its subject alternative names, in the text form that Node gives them. Pure.

/**
 * Whether a certificate whose `subjectaltname` is `text` bears `name`: a DNS name (letters alike, no wildcards) or a URI, to the letter. Its
 * common name says nothing (RFC 6125, section 6.4.4).
 */
export function bearsName(text: string | undefined, name: string): boolean {
  return namesOf(text ?? '').some(([kind, value]) =>
    kind === 'DNS' ? value.toLowerCase() === name.toLowerCase() : kind === 'URI' && value === name,
  );
}

/** `DNS:a.example, URI:"x, y"` is [['DNS', 'a.example'], ['URI', 'x, y']]. Values that could be mistaken are quoted as in JSON. What follows
 * something else is not read. */
function namesOf(text: string): [kind: string, value: string][] {
  const names: [string, string][] = [];
  for (const [, kind = '', value = ''] of text.matchAll(/(?:^|, )([^:,"]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?=, |$)/gy)) {
    if (!value.startsWith('"')) names.push([kind, value]);
    else {
      try {
        names.push([kind, String(JSON.parse(value))]);
      } catch {
        // It is no name that anybody asks for.
      }
    }
  }
  return names;
}
