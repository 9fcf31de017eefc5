// What of a lane's state is news: to interfaces, to links; and which process it is of. Pure.

import { Attachment_Kind as Kind, type LaneState } from '../gen/taplane/lane/v1/lane_service.ts';
import { steady } from '../link/status.ts';

/** Names one process of all times: a process id comes again. */
export function processOf({ pid, startTime }: LaneState): string {
  return `${pid}@${startTime?.seconds ?? 0n}.${startTime?.nanos ?? 0}`;
}

/** What of a lane's state the links are told of: all but counts and times. */
export function linkWords(state: LaneState | undefined): string {
  const links = state?.attachments.filter(({ kind }) => kind === Kind.LINK) ?? [];
  if (links.length === 0) return '';
  const words = links.map(({ linkUid, attached, reason, link }) => {
    const peers = link?.peers.map(({ endpoint, up, pathMtu, reason: why }) => [endpoint, up, pathMtu, steady(why)]);
    return [
      linkUid,
      attached,
      steady(reason),
      String(link?.observedGeneration),
      link?.state,
      steady(link?.reason ?? ''),
      link?.listen,
      link?.mtu,
      peers,
    ];
  });
  return JSON.stringify([state?.pid, words]);
}

/** What of a lane's state the interfaces are told of: all but counts. */
export function holdings(state: LaneState | undefined): string {
  if (state === undefined) return '';
  const { pid, attachments, streams } = state;
  return JSON.stringify([pid, attachments.map(({ uid, kind, attached, reason }) => [uid, kind, attached, reason]), streams]);
}
