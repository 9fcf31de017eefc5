// Who a client certificate speaks of: the URIs and the DNS names among its subject alternative names (RFC 5280 4.2.1.6), and nothing else. The common
// name is a text for people. What is ambiguous is refused as a whole, never read leniently: a name decides what its bearer may do.

import type { X509Certificate } from 'node:crypto';

export interface TlsIdentity {
  /** As they stand there; at most one is a SPIFFE ID (X509-SVID 2). */
  readonly uris: readonly string[];
  /** Lower case; patterns (`*.example`) are left out, since they name nobody. */
  readonly dnsNames: readonly string[];
  /** SHA-256 of the certificate, lower-case hexadecimal. */
  readonly fingerprint: string;
}

/** The identity, or why there is none. */
export function tlsIdentity(certificate: X509Certificate): TlsIdentity | string {
  const names = readNames(certificate.subjectAltName ?? '');
  if (typeof names === 'string') return names;
  return { ...names, fingerprint: certificate.fingerprint256.replaceAll(':', '').toLowerCase() };
}

/**
 * One entry as Node prints it: values with a quote, a comma or what is not printable are JSON strings (CVE-2021-44532). Such values are read only to
 * find where they end.
 */
const ENTRY = /(othername|email|DNS|X400Name|DirName|EdiPartyName|URI|IP Address|Registered ID):("(?:[^"\\]|\\.)*"|[^",]*)(?:, |$)/y;
const DNS_NAME = /^(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
/** SPIFFE-ID 2: a trust domain, and a path without empty or dot segments. */
const SPIFFE_ID = /^spiffe:\/\/[a-z0-9._-]{1,255}(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._-]+)*$/;
const MAX_SPIFFE_BYTES = 2048;
const MAX_NAMES = 64;

/** Pure: the text of X509Certificate.subjectAltName. */
export function readNames(text: string): { uris: string[]; dnsNames: string[] } | string {
  const uris: string[] = [];
  const dnsNames: string[] = [];
  ENTRY.lastIndex = 0;
  while (ENTRY.lastIndex < text.length) {
    const match = ENTRY.exec(text);
    if (match === null) return 'its subject alternative names cannot be read without doubt';
    const [, kind, value = ''] = match;
    if (kind !== 'URI' && kind !== 'DNS') continue;
    if (value.startsWith('"') || value === '') return `it has a ${kind} name with characters that no such name has`;
    if (kind === 'URI') uris.push(value);
    else if (!value.includes('*')) dnsNames.push(value.toLowerCase());
    if (uris.length + dnsNames.length > MAX_NAMES) return `it has more than ${MAX_NAMES} names`;
  }
  const spiffe = uris.filter((uri) => /^spiffe:/i.test(uri));
  if (spiffe.length > 1) return 'it has more than one SPIFFE ID';
  if (spiffe.some((id) => id.length > MAX_SPIFFE_BYTES || !SPIFFE_ID.test(id))) return 'its SPIFFE ID is malformed';
  if (uris.some((uri) => !/^[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]+$/.test(uri))) return 'it has a URI without a scheme';
  // Names of other kinds of callers, see `callerName`: in the audit log and in limits they must not be taken for these.
  if (uris.some((uri) => /^(uid|dns):/i.test(uri))) return 'it has a URI that reads like another kind of caller';
  if (!dnsNames.every((name) => name.length <= 253 && DNS_NAME.test(name))) return 'it has a malformed DNS name';
  if (uris.length + dnsNames.length === 0) return 'it has neither a URI nor a DNS name among its subject alternative names';
  return { uris, dnsNames };
}
