// What of a lane's state is news: to interfaces, to links; and which process it is of.

import { Attachment_Kind as Kind, type LaneState } from '../../gen/taplane/lane/v1/lane_service.ts';
import { steady } from '../../link/status.ts';
import { pidNamespace } from '../../sys/pid-namespace.ts';

/** Names one process of all times and all pid namespaces: a process id comes again. A lane of a version before instances has that and its start. */
export function processOf({ instance, pid, startTime }: LaneState): string {
  return instance || `${pid}@${startTime?.seconds ?? 0n}.${startTime?.nanos ?? 0}`;
}

/** The process id of a lane as this process may use it; undefined where it counts processes in another way. */
export function pidHere(state: Pick<LaneState, 'pid' | 'pidNamespace'> | undefined, here: string = pidNamespace()): number | undefined {
  return state === undefined || (state.pidNamespace !== '' && state.pidNamespace !== here) ? undefined : state.pid;
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
      link?.conditions.map(({ type, status, message }) => [type, status, message]),
      peers,
    ];
  });
  return JSON.stringify([state && processOf(state), words]);
}

/** What of a lane's state the interfaces are told of: all but counts. */
export function holdings(state: LaneState | undefined): string {
  if (state === undefined) return '';
  const { attachments, streams } = state;
  return JSON.stringify([processOf(state), attachments.map(({ uid, kind, attached, reason }) => [uid, kind, attached, reason]), streams]);
}
