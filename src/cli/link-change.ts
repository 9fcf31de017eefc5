// What link create, update, delete and link peer do. Each prints the link it got; a dry run says what would be done.

import { Link, LinkSpec_Protocol as Protocol } from '../gen/taplane/v1/link.ts';
import { CreateLinkRequest, DeleteLinkRequest, DeleteLinkResponse, UpdateLinkRequest } from '../gen/taplane/v1/link_service.ts';
import type { ClientError, TaplaneClient } from '../rpc/client.ts';
import { EXIT, UsageError } from './exit-code.ts';
import { type ChangeOptions, control, isDryRun } from './interface-change.ts';
import type { LinkOptions } from './link-flags.ts';
import { completePeers, givenLink, needsBefore } from './link-given.ts';
import { KeyFiles } from './link-key.ts';
import { isCalled, peerName, type TypedPeer } from './link-peer.ts';
import { printLinks } from './link-read.ts';
import { linkId, linkName } from './link-view.ts';
import { readLinkManifest } from './manifest.ts';
import { message, print, printDocument } from './output.ts';
import { type Settings, withClient } from './settings.ts';
import { printable } from './table.ts';

/** Peers are read, changed and written back: when somebody else did so meanwhile, again. */
const EDIT_TRIES = 5;

interface CreateOptions extends ChangeOptions, LinkOptions {
  file?: string;
}

interface UpdateOptions extends CreateOptions {
  clear?: string[];
  addLabel?: [string, string][];
  removeLabel?: string[];
  etag?: string;
  create?: boolean;
}

export async function create(name: string | undefined, options: CreateOptions, settings: Settings): Promise<void> {
  const before = options.file === undefined ? Link.create() : await readLinkManifest(options.file);
  const { link } = await givenLink(options, before);
  const resource = named(name, before);
  if (!link.spec?.interface)
    throw new UsageError('--interface: name the interface that is joined; taplane interface list shows what there is');
  if (link.spec.protocol === Protocol.UNSPECIFIED)
    throw new UsageError(
      '--protocol: say what travels: frames (plain, to anything), vxlan (Ethernet, several sites) or wireguard (encrypted IP)',
    );
  for (const peer of link.spec.peers) {
    if (peer.hasPresharedKey && peer.presharedKey.length === 0)
      message(
        `warning: ${printable(peerName(peer))} had a preshared key, which no file has: taplane link peer add ... preshared-key=FILE --replace`,
      );
  }
  await withClient(settings, async ({ links }) => {
    const request = CreateLinkRequest.fromPartial({ linkId: linkId(resource), link, ...control(options) });
    await show(await links.create(request), options, settings, 'create');
  });
}

export async function update(name: string | undefined, options: UpdateOptions, settings: Settings): Promise<void> {
  const fromFile = options.file === undefined ? undefined : await readLinkManifest(options.file);
  const resource = named(name, fromFile);
  await withClient(settings, async ({ links }) => {
    const labels = options.addLabel ?? options.removeLabel;
    // Single settings of what is changed whole rest on what is there.
    const mustRead = fromFile === undefined && (needsBefore(options) || labels !== undefined);
    const current = mustRead ? await links.get({ name: resource }) : undefined;
    const { link, paths } = await givenLink(options, fromFile ?? current ?? Link.create());
    for (const field of options.clear ?? []) paths.push(clear(link, field));
    if (labels) {
      link.labels = { ...link.labels, ...Object.fromEntries(options.addLabel ?? []) };
      for (const key of options.removeLabel ?? []) delete link.labels[key];
      if (!paths.includes('labels')) paths.push('labels');
    }
    if (paths.length === 0 && fromFile === undefined) throw new UsageError('nothing to change: give at least one flag, or -f FILE');
    const request = UpdateLinkRequest.fromPartial({
      // Of a link that was read, its etag comes along: nobody else may have changed it meanwhile.
      link: { ...link, name: resource, etag: options.etag ?? link.etag },
      updateMask: fromFile ? ['*'] : paths,
      allowMissing: options.create === true,
      ...control(options),
    });
    await show(await links.update(request), options, settings, 'update');
  });
}

export async function remove(
  names: string[],
  options: ChangeOptions & { missingOk?: boolean; etag?: string },
  settings: Settings,
): Promise<void> {
  if (names.length > 1 && options.requestId) throw new UsageError('--request-id names one call: delete one link at a time');
  await withClient(settings, async ({ links }) => {
    for (const name of names) {
      const allowMissing = options.missingOk === true;
      const request = { name: linkName(name), etag: options.etag ?? '', allowMissing, ...control(options) };
      const answer = await links.delete(DeleteLinkRequest.fromPartial(request));
      if (settings.output === 'json' || settings.output === 'yaml') await printDocument(settings.output, DeleteLinkResponse.toJSON(answer));
      else if (isDryRun(options)) message(`would delete ${linkId(name)}`);
      else if (settings.output === 'name') print(`${linkName(name)}\n`);
      else message(allowMissing ? `${linkId(name)} is not there any more` : `deleted ${linkId(name)}`);
    }
  });
}

export async function addPeer(
  name: string,
  typed: TypedPeer,
  options: ChangeOptions & { replace?: boolean },
  settings: Settings,
): Promise<void> {
  const [peer] = await completePeers([typed], new KeyFiles());
  if (!peer) return;
  await edit(name, options, settings, (link) => {
    const peers = link.spec?.peers ?? [];
    const at = peers.findIndex((other) => {
      if (peer.publicKey.length > 0) return other.publicKey.equals(peer.publicKey);
      return peer.endpoint !== '' && other.endpoint === peer.endpoint;
    });
    const holder = peers.find((other, index) => index !== at && peer.endpoint !== '' && other.endpoint === peer.endpoint);
    if (holder)
      throw new UsageError(
        `add peer to ${linkId(name)}: ${peer.endpoint} is the endpoint of ${peerName(holder)}, which has another key; ` +
          `remove that first: taplane link peer remove ${linkId(name)} ${peerName(holder)}`,
        EXIT.alreadyExists,
      );
    if (at < 0) return [...peers, peer];
    if (options.replace) return peers.with(at, peer);
    throw new UsageError(
      `add peer to ${linkId(name)}: ${peerName(peer)} is there already; give --replace to change it`,
      EXIT.alreadyExists,
    );
  });
}

export async function removePeers(
  name: string,
  called: string[],
  options: ChangeOptions & { missingOk?: boolean },
  settings: Settings,
): Promise<void> {
  await edit(name, options, settings, (link) => {
    const peers = link.spec?.peers ?? [];
    for (const text of called) {
      const known = peers.map(peerName).join(', ');
      if (!options.missingOk && !peers.some((peer) => isCalled(peer, text)))
        throw new UsageError(
          `remove peer of ${linkId(name)}: ${text} is none of its peers; there ${known ? `are: ${known}` : 'are none'}`,
          EXIT.notFound,
        );
    }
    return peers.filter((peer) => !called.some((text) => isCalled(peer, text)));
  });
}

async function edit(
  name: string,
  options: ChangeOptions,
  settings: Settings,
  change: (link: Link) => NonNullable<Link['spec']>['peers'],
): Promise<void> {
  await withClient(settings, async ({ links }) => {
    for (let tries = 1; ; tries += 1) {
      const current = await links.get({ name: linkName(name) });
      try {
        const changed = await write(links, current, change(current), options);
        return await show(changed, options, settings, 'update');
      } catch (error) {
        if ((error as ClientError).code !== 'ABORTED' || tries === EDIT_TRIES) throw error;
      }
    }
  });
}

function write(
  links: TaplaneClient['links'],
  current: Link,
  peers: NonNullable<Link['spec']>['peers'],
  options: ChangeOptions,
): Promise<Link> {
  const { name, etag, spec } = current;
  // Both fields are never answered; absent they stay as they are, also of the peers that were there.
  const link = { name, etag, spec: { ...spec, peers } };
  return links.update(UpdateLinkRequest.fromPartial({ link, updateMask: ['spec.peers'], ...control(options) }));
}

/** Empties a field; returns its path. */
function clear(link: Link, field: string): string {
  if (field === 'labels') {
    link.labels = {};
    return 'labels';
  }
  return `spec.${field.replaceAll('-', '_')}`;
}

function named(name: string | undefined, fromFile: Link | undefined): string {
  const chosen = name ?? fromFile?.name ?? '';
  if (chosen === '') throw new UsageError('name a link, or give -f FILE with its `name`');
  return linkName(chosen);
}

async function show(link: Link, options: ChangeOptions & Pick<LinkOptions, 'privateKey'>, settings: Settings, verb: string): Promise<void> {
  if (isDryRun(options) && settings.output !== 'json' && settings.output !== 'yaml') return message(`would ${verb} ${linkId(link.name)}`);
  await printLinks([link], settings, Link.toJSON(link));
  if (settings.output !== 'table') return;
  const { reason = '', publicKey } = link.status ?? {};
  if (reason) message(`${linkId(link.name)} is not up: ${printable(reason)}`);
  // The other ends need it next.
  if ((verb === 'create' || options.privateKey !== undefined) && publicKey?.length) message(`public key: ${publicKey.toString('base64')}`);
}
