// Takes secrets out of text that leaves the node. Nothing that goes into a bundle should have any; this is the net under it, for what an error of
// NATS, a line of another program or a file of ours may say one day. Pure.

const HIDDEN = '[redacted]';

const PATTERNS: readonly [RegExp, string][] = [
  // user:password@ and token@ of addresses
  [/([a-z][a-z0-9+.-]{0,20}:\/\/)[^\s/@"'`\\]{1,1024}@/gi, `$1${HIDDEN}@`],
  [
    /-----BEGIN [A-Z0-9 ]{0,40}(?:PRIVATE KEY|SEED|NKEY SEED)-----[\s\S]*?(?:-----END [A-Z0-9 ]{0,40}-----|------END [A-Z0-9 ]{0,40}------|$)/g,
    HIDDEN,
  ],
  // seeds of nkeys (prefix S and kind), and JSON web tokens
  [/\bS[UAONCX][A-Z2-7]{56}\b/g, HIDDEN],
  [/\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}/g, HIDDEN],
  // what is called like a secret, as JSON, YAML or key=value
  [
    /(?<![\w-])("?[\w-]{0,40}?(?:password|passwd|secret|token|private[_-]?key|preshared[_-]?key|psk|seed)"?\s{0,4}[:=]\s{0,4})("(?:[^"\\]|\\.)*"|[^\s,;}"']+)/gi,
    `$1"${HIDDEN}"`,
  ],
  // the same as JSON within a text of JSON, and as NATS calls it
  [
    /(\\"[\w-]{0,40}?(?:pass|password|passwd|secret|token|private[_-]?key|preshared[_-]?key|psk|seed)\\"\s{0,4}:\s{0,4}\\")(?:[^"\\]|\\[^"])*/gi,
    `$1${HIDDEN}`,
  ],
  [/(?<![\w-])("?pass"?\s{0,4}:\s{0,4}")(?:[^"\\]|\\.)*/gi, `$1${HIDDEN}`],
  [/\b(authorization"?\s{0,4}[:=]\s{0,4}"?(?:basic|bearer|digest)\s{1,4})[^\s",;\\]+/gi, `$1${HIDDEN}`],
];

/** `text` without what looks like a secret, and without `known` ones of at least four characters. */
export function redact(text: string, known: readonly string[] = []): string {
  let clean = text;
  for (const secret of known) if (secret.length >= 4) clean = clean.replaceAll(secret, HIDDEN);
  for (const [pattern, replacement] of PATTERNS) clean = clean.replace(pattern, replacement);
  return clean;
}
