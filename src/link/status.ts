// What is told of a link: what its lane says, and what the agent knows itself.

import type { AttachmentState } from '../gen/taplane/lane/v1/lane_service.ts';
import { Condition_Status } from '../gen/taplane/v1/interface.ts';
import {
  type Link,
  type LinkPeerStatus,
  LinkStatus,
  LinkPeerStatus as PeerStatus,
  LinkSpec_Protocol as Protocol,
  LinkStatus_State as State,
} from '../gen/taplane/v1/link.ts';
import { timestamp } from '../resource/timestamp.ts';
import type { Entry } from './entry.ts';
import { type Joined, obstacle } from './joined.ts';
import { linkName } from './name.ts';
import { withoutSecrets } from './prepared.ts';
import { etagOf, type LinkRecord } from './record.ts';
import { loopOf } from './underlay.ts';

const NOT_HEARD = 'the data-plane process has not answered yet';

/** Brings the conditions of a link up to date, and answers its status. `said` is the word of the lane on the attachment of the interface. */
export function judge(entry: Entry, said: AttachmentState | undefined, joined: Joined | undefined, nowMs: number): LinkStatus {
  const { spec, uid } = entry.record;
  const { conditions } = entry;
  const hindered = obstacle(spec.interface, spec.protocol, joined);
  // An earlier link on the same interface is another.
  const heard = hindered === undefined && said?.linkUid === uid ? said : undefined;
  const status = statusOf(entry, heard, hindered);
  const isReady = heard?.attached === true;
  conditions.set('Ready', isReady, isReady ? 'Attached' : 'NotAttached', isReady ? '' : status.reason, nowMs);
  const isEncrypted = spec.protocol === Protocol.WIREGUARD || spec.tls !== undefined;
  conditions.set(
    'Encrypted',
    isEncrypted,
    isEncrypted ? 'ByProtocol' : 'Plain',
    isEncrypted ? '' : 'what it carries can be read on the way',
    nowMs,
  );
  const isOffloaded = joined?.device.vnetHeader === true;
  const slow = 'the interface has no vnet_header: each packet goes by itself';
  conditions.set('Offloaded', isOffloaded, isOffloaded ? 'SuperFrames' : 'NoVnetHeader', isOffloaded ? '' : slow, nowMs);
  const loop =
    joined &&
    loopOf(
      spec,
      joined.spec,
      status.peers.map(({ endpoint }) => endpoint),
    );
  const leads = loop && `${loop.through} of ${spec.interface} leads ${loop.endpoint} into the link; give socket_mark or bind_device`;
  conditions.set(
    'UnderlaySafe',
    leads === undefined,
    leads === undefined ? 'NoRouteThroughItself' : 'RouteThroughItself',
    leads ?? '',
    nowMs,
  );
  // The files are on the node of the lane, which looks at them.
  const files = heard?.link?.conditions.find(({ type }) => type === 'TlsUsable');
  if (spec.tls === undefined) conditions.clear('TlsUsable');
  else if (files !== undefined) conditions.set('TlsUsable', files.status === Condition_Status.TRUE, files.reason, files.message, nowMs);
  return { ...status, conditions: conditions.list() };
}

function statusOf(entry: Entry, heard: AttachmentState | undefined, hindered: string | undefined): LinkStatus {
  const { publicKey, record } = entry;
  const link = heard?.link;
  if (link !== undefined) return { ...link, publicKey: publicKey.length > 0 ? publicKey : link.publicKey };
  const [state, reason] = hindered === undefined ? [State.UNSPECIFIED, heard?.reason || NOT_HEARD] : [State.WAITING, hindered];
  return LinkStatus.fromPartial({ state, reason, publicKey, peers: silent(record, reason) });
}

/** Peers of which nothing is known yet. */
function silent({ spec }: LinkRecord, reason: string): LinkPeerStatus[] {
  return spec.peers.map(({ endpoint, publicKey, displayName }) => PeerStatus.fromPartial({ endpoint, publicKey, displayName, reason }));
}

/** A link as clients see it, without secrets. */
export function viewOf(record: LinkRecord, status: LinkStatus): Link {
  return {
    name: linkName(record.name),
    uid: record.uid,
    etag: etagOf(record),
    labels: record.labels,
    createTime: timestamp(record.createTimeMs),
    updateTime: timestamp(record.updateTimeMs),
    generation: BigInt(record.generation),
    spec: withoutSecrets(record.spec),
    status,
  };
}

/** What watchers are told of when it changes: all but counts and times. */
export function salient({ etag, status }: Link): string {
  const { state, reason, listen, mtu, observedGeneration, conditions = [], peers = [] } = status ?? {};
  return JSON.stringify([
    etag,
    state,
    steady(reason ?? ''),
    listen,
    mtu,
    String(observedGeneration),
    conditions.map(({ type, status: truth, reason: why, message }) => [type, truth, why, message]),
    peers.map(({ endpoint, publicKey, up, pathMtu, reason: why }) => [
      endpoint,
      Buffer.from(publicKey).toString('base64'),
      up,
      pathMtu,
      steady(why),
    ]),
  ]);
}

/** A reason without how long ago, or until when: that changes by itself. */
export function steady(reason: string): string {
  return reason.replaceAll(/\d+ m?s\b/g, '');
}
