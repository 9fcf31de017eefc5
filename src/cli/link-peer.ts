// A peer of a link as people type it: `endpoint=IP:PORT,public-key=K,allowed=CIDR+CIDR,...`. What can be told wrong without the agent is
// told here, with the cure; what an address is worth is for the agent to say.

import { isIP } from 'node:net';
import { InvalidArgumentError } from 'commander';
import type { LinkPeer } from '../gen/taplane/v1/link.ts';

/** A peer but for its preshared key, which is in a file. */
export interface TypedPeer {
  peer: LinkPeer;
  presharedKeyFile: string | undefined;
}

export const PEER_FORM = 'endpoint=IP:PORT,public-key=K,allowed=CIDR+CIDR,...';
export const PEER_KEYS = ['endpoint', 'public-key', 'allowed', 'keepalive', 'preshared-key', 'mac', 'name', 'probe'] as const;
type PeerKey = (typeof PEER_KEYS)[number];
/** 32 bytes are 43 digits and one `=`; the last digit has two bits that say nothing. */
const KEY_TEXT = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/;
const MAX_KEEPALIVE = 65_535;

export function parsePeer(text: string): TypedPeer {
  const given = split(text);
  const value = (key: PeerKey) => given.get(key) ?? '';
  const publicKey = parseKey(value('public-key'));
  if (given.has('public-key') && publicKey === undefined)
    refuse(
      'public-key',
      value('public-key'),
      'expected 44 characters of base64, as taplane link get and link pubkey of the other end print',
    );
  if (given.has('endpoint')) checkEndpoint('endpoint', value('endpoint'));
  if (given.has('preshared-key') && parseKey(value('preshared-key')))
    throw new InvalidArgumentError('preshared-key: expected a file, not the key itself, which every user could see in ps.');
  if (given.has('probe') && isIP(value('probe')) === 0) refuse('probe', value('probe'), 'expected an IP address inside the link');
  const allowed = several(value('allowed'));
  for (const prefix of allowed)
    if (!isPrefix(prefix)) refuse('allowed', prefix, 'expected prefixes with + between them, such as 10.0.0.2/32+fd00::2/128');
  const macs = several(value('mac'));
  for (const mac of macs)
    if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac))
      refuse('mac', mac, 'expected MAC addresses with + between them, such as 02:00:00:00:00:01');
  return {
    peer: {
      endpoint: value('endpoint'),
      publicKey: publicKey ?? Buffer.alloc(0),
      allowedPrefixes: allowed,
      keepalive: keepalive(value('keepalive')),
      macAddresses: macs,
      displayName: value('name'),
      probeAddress: value('probe'),
      presharedKey: Buffer.alloc(0),
      hasPresharedKey: false,
    },
    presharedKeyFile: given.get('preshared-key'),
  };
}

/** 32 bytes of base64, or undefined. */
export function parseKey(text: string): Buffer | undefined {
  return KEY_TEXT.test(text) ? Buffer.from(text, 'base64') : undefined;
}

/** `IP:PORT`, `[IP]:PORT` or `:PORT`. */
export function parseListen(text: string): string {
  if (/^\d+$/.test(text)) refuse('', text, `a port alone has a colon before it, :${text}; with an address it is 192.0.2.1:${text}`);
  if (!/^:\d+$/.test(text)) checkEndpoint('', text);
  else if (Number(text.slice(1)) > 65_535) throw new InvalidArgumentError('A port is at most 65535.');
  return text;
}

/** Whether `text` is how a user may call this peer: endpoint, own name, or public key. */
export function isCalled({ endpoint, displayName, publicKey }: LinkPeer, text: string): boolean {
  return text !== '' && (text === endpoint || text === displayName || (publicKey.length > 0 && text === publicKey.toString('base64')));
}

/** One word for it: its own name, else its endpoint, else its key. */
export function peerName({ endpoint, displayName, publicKey }: Pick<LinkPeer, 'endpoint' | 'displayName' | 'publicKey'>): string {
  return displayName || endpoint || publicKey.toString('base64');
}

function split(text: string): Map<PeerKey, string> {
  const given = new Map<PeerKey, string>();
  for (const part of text.split(',')) {
    const at = part.indexOf('=');
    const key = (at < 0 ? part : part.slice(0, at)) as PeerKey;
    if (parseKey(part)) throw new InvalidArgumentError(`A key stands behind its name: public-key=${part}.`);
    if (!PEER_KEYS.includes(key)) {
      const cure = at < 0 ? `expected ${PEER_FORM}` : `known: ${PEER_KEYS.join(', ')}`;
      throw new InvalidArgumentError(`Unknown key ${JSON.stringify(key)}; ${cure}.`);
    }
    if (at < 0 || at === part.length - 1) throw new InvalidArgumentError(`${key} needs a value: ${key}=...`);
    if (given.has(key))
      throw new InvalidArgumentError(`${key} is given twice${key === 'allowed' || key === 'mac' ? '; put + between values' : ''}.`);
    given.set(key, part.slice(at + 1));
  }
  return given;
}

function checkEndpoint(key: string, text: string): void {
  const [, host = '', port = ''] = /^\[([^\]]*)\]:(\d+)$/.exec(text) ?? /^([^:[\]]*):(\d+)$/.exec(text) ?? [];
  const cure = 'expected an address and a port, such as 192.0.2.1:51820 or [2001:db8::1]:51820';
  if (port === '' || host === '') refuse(key, text, isIP(text) !== 0 ? `the port is missing: ${cure}` : cure);
  if (isIP(host) !== (text.startsWith('[') ? 6 : 4))
    refuse(key, text, `${JSON.stringify(host)} is no such address; names are not looked up: ${cure}`);
  if (Number(port) > 65_535) refuse(key, text, 'a port is at most 65535');
}

function isPrefix(text: string): boolean {
  const [, address = '', bits = ''] = /^(.*)\/(\d{1,3})$/.exec(text) ?? [];
  const family = isIP(address);
  return family !== 0 && Number(bits) <= (family === 4 ? 32 : 128);
}

function keepalive(text: string): number {
  if (text !== '' && !(/^\d{1,5}$/.test(text) && Number(text) <= MAX_KEEPALIVE))
    refuse('keepalive', text, `expected seconds, 0 to ${MAX_KEEPALIVE}`);
  return Number(text);
}

function several(text: string): string[] {
  return text === '' ? [] : text.split('+');
}

function refuse(key: string, text: string, cure: string): never {
  throw new InvalidArgumentError(`${key && `${key}: `}${JSON.stringify(text)}: ${cure}.`);
}
