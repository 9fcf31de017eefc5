// What the flags of a link come to: the message, and which of its fields they speak of.

import {
  type Link,
  type LinkPeer,
  LinkSpec,
  LinkSpec_Protocol as Protocol,
  LinkSpec_Transport as Transport,
} from '../gen/taplane/v1/link.ts';
import { UsageError } from './exit-code.ts';
import { resourceName } from './interface-view.ts';
import { type LinkOptions, PROTOCOLS, type Word } from './link-flags.ts';
import { KeyFiles } from './link-key.ts';
import type { TypedPeer } from './link-peer.ts';
import { snake } from './spec-flags.ts';

const PROTOCOL: Record<Word, Protocol> = {
  frames: Protocol.FRAMES,
  vxlan: Protocol.VXLAN,
  wireguard: Protocol.WIREGUARD,
};
const TRANSPORT = { udp: Transport.UDP, tcp: Transport.TCP } as const;

/** Flags of one protocol, by their names in LinkOptions. */
const ONLY: Partial<Record<keyof LinkOptions, { flag: string; of: Word }>> = {
  privateKey: { flag: '--private-key', of: 'wireguard' },
  vni: { flag: '--vni', of: 'vxlan' },
  learning: { flag: '--no-learning', of: 'vxlan' },
  age: { flag: '--age', of: 'vxlan' },
  maxAddresses: { flag: '--max-addresses', of: 'vxlan' },
  stormLimit: { flag: '--storm-limit', of: 'vxlan' },
  suppressNeighbours: { flag: '--suppress-neighbours', of: 'vxlan' },
  tlsCert: { flag: '--tls-cert', of: 'frames' },
  tlsKey: { flag: '--tls-key', of: 'frames' },
  tlsCa: { flag: '--tls-ca', of: 'frames' },
  tlsPeerName: { flag: '--tls-peer-name', of: 'frames' },
};

const KEY_BYTES = 32;
/** In place of the file: no preshared key any more, which the API says with zeros. */
const NONE = 'none';
/** A link that flags speak of. */
export interface GivenLink {
  link: Link;
  /** What was given, as paths of an update mask. */
  paths: string[];
}

/**
 * Lays what the flags say over `before`: single settings of vxlan and TLS over those that are there, peers whole. Reads key files.
 * Throws UsageError when a flag does not belong to the protocol, as far as that is known.
 */
export async function givenLink(options: LinkOptions, before: Link): Promise<GivenLink> {
  const spec: LinkSpec = before.spec ?? LinkSpec.create();
  const paths = new Set<string>();
  const set = <Field extends keyof LinkSpec>(field: Field, value: LinkSpec[Field] | undefined) => {
    if (value === undefined) return;
    spec[field] = value;
    paths.add(`spec.${snake(field)}`);
  };
  const keys = new KeyFiles();
  set('interface', options.interface === undefined ? undefined : resourceName(options.interface));
  set('protocol', options.protocol && PROTOCOL[options.protocol]);
  set('transport', options.transport && TRANSPORT[options.transport]);
  checkProtocol(options, spec.protocol);
  set('listen', options.listen);
  set('mtu', options.mtu);
  set('socketMark', options.mark);
  set('bindDevice', options.bindDevice);
  set('wireguard', options.privateKey === undefined ? undefined : { privateKey: await keys.read('--private-key', options.privateKey) });
  set('vxlan', vxlan(options, spec.vxlan));
  set('tls', tls(options, spec.tls));
  set('peers', options.peer && (await completePeers(options.peer, keys)));
  const labels = { ...before.labels, ...Object.fromEntries(options.label ?? []) };
  if (options.label) paths.add('labels');
  return { link: { ...before, spec: paths.size > 0 || before.spec ? spec : undefined, labels }, paths: [...paths] };
}

/** Reads the preshared keys. Throws UsageError. */
export async function completePeers(typed: readonly TypedPeer[], keys: KeyFiles): Promise<LinkPeer[]> {
  const peers: LinkPeer[] = [];
  for (const { peer, presharedKeyFile } of typed) {
    if (presharedKeyFile === undefined) peers.push(peer);
    else if (presharedKeyFile === NONE) peers.push({ ...peer, presharedKey: Buffer.alloc(KEY_BYTES) });
    else peers.push({ ...peer, presharedKey: await keys.read('--peer preshared-key', presharedKeyFile) });
  }
  return peers;
}

/** Whether the flags change single settings of what must then be read first. */
export function needsBefore(options: LinkOptions): boolean {
  return vxlan(options, undefined) !== undefined || tls(options, undefined) !== undefined;
}

function checkProtocol(options: LinkOptions, protocol: Protocol): void {
  const word = PROTOCOLS.find((name) => PROTOCOL[name] === protocol);
  if (word === undefined) return;
  for (const [name, only] of Object.entries(ONLY)) {
    if (only.of !== word && options[name as keyof LinkOptions] !== undefined)
      throw new UsageError(`${only.flag}: is for ${only.of}, and this link is ${word}; leave it out, or choose --protocol ${only.of}`);
  }
  if (options.transport === 'tcp' && word !== 'frames')
    throw new UsageError(`--transport tcp: ${word} goes over udp; leave it out, or choose --protocol frames`);
}

function vxlan(options: LinkOptions, before: LinkSpec['vxlan']): LinkSpec['vxlan'] {
  const { vni, learning, age, maxAddresses, stormLimit, suppressNeighbours } = options;
  const given = {
    ...(vni !== undefined && { vni }),
    ...(learning !== undefined && { noLearning: !learning }),
    ...(age !== undefined && { ageSeconds: age }),
    ...(maxAddresses !== undefined && { maxAddresses }),
    ...(stormLimit !== undefined && { stormLimit }),
    ...(suppressNeighbours !== undefined && { suppressNeighbours }),
  };
  if (Object.keys(given).length === 0) return undefined;
  const none = { vni: 0, noLearning: false, ageSeconds: 0, maxAddresses: 0, stormLimit: 0, suppressNeighbours: false };
  return { ...none, ...before, ...given };
}

function tls(options: LinkOptions, before: LinkSpec['tls']): LinkSpec['tls'] {
  const { tlsCert, tlsKey, tlsCa, tlsPeerName } = options;
  const given = {
    ...(tlsCert !== undefined && { certificateFile: tlsCert }),
    ...(tlsKey !== undefined && { privateKeyFile: tlsKey }),
    ...(tlsCa !== undefined && { caFile: tlsCa }),
    ...(tlsPeerName !== undefined && { peerName: tlsPeerName }),
  };
  if (Object.keys(given).length === 0) return undefined;
  return { certificateFile: '', privateKeyFile: '', caFile: '', peerName: '', ...before, ...given };
}
