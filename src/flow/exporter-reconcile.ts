// What the server has of a subject, against what the spool believes: asked on every new connection, when a stream is another one, and when
// a fence did not hold. Afterwards the spool knows what is stored, what waits, and which sequence comes before the next message.
//
//   the last message of the subject is one of our rows   all up to it is stored; what was acknowledged behind it is lost: it waits again
//   it is none of ours                                   behind our last acknowledged one: go on. Before it: all that we keep is lost
//   there is none                                        removed by age, size or purge: go on. Else, the stream is another or older: lost

import { RecordLoss_Reason as Reason } from '../gen/taplane/v1/flow.ts';
import type { JetStream, StoredMessage, StreamSeen } from '../nats/jetstream.ts';
import { parseId } from './gap.ts';
import type { Row, Spool, Subject } from './spool.ts';

export interface Reconciling {
  spool: Spool;
  jetStream: JetStream;
  stream: StreamSeen;
  subject: Subject;
  /** The subject as NATS knows it. */
  path: string;
  /** Lets others run when this turn of the event loop has been long enough; throws when all of it is over. */
  breathe: () => Promise<void>;
}

/** Whether it has to be asked before the next message is sent: the fence does not tell of a stream made anew. */
export function isUnproven(subject: Subject, stream: StreamSeen): boolean {
  return subject.sequence > 0 && subject.incarnation !== stream.incarnation;
}

/** Answers with the number of messages that have to be sent again. Throws when the server does not answer. */
export async function reconcile(work: Reconciling): Promise<number> {
  const { spool, jetStream, stream, subject, path, breathe } = work;
  const last = await jetStream.last(stream.name, path);
  await breathe();
  const parsed = last && parseId(last.id);
  const end = parsed === undefined ? 0 : parsed.first + (last?.records ?? 1);
  const at = parsed && spool.find(subject, parsed.epoch, parsed.first);
  let again = 0;
  let lost = false;
  if (at !== undefined) {
    while (spool.storedUpTo(subject, at, end)) await breathe();
    again = await giveBack(work, at.pos);
  } else if (await hasForgotten(work, last)) {
    lost = true;
    await breathe();
    again = await giveBack(work, 0);
  }
  const next = spool.next(subject);
  if (next !== undefined && subject.kind === 'flow') {
    const from = hole(next, parsed?.epoch, end, lost || (spool.putAside !== '' && next.first > 1));
    if (from !== undefined) spool.addGap(next, from, lost || again > 0 ? Reason.SERVER_LOST : Reason.SPOOL_FAILED);
  }
  // With nothing before which a gap could be put, it has to be asked again when there is.
  if (lost && next === undefined) return again;
  spool.follow(subject, last?.sequence ?? 0, stream.incarnation);
  return again;
}

/** Whether the server no longer has what it had acknowledged last. */
async function hasForgotten({ jetStream, stream, subject, path }: Reconciling, last: StoredMessage | undefined): Promise<boolean> {
  if (subject.sequence === 0) return false;
  if (subject.incarnation !== stream.incarnation) return true;
  if (last !== undefined) return last.sequence < subject.sequence;
  // Not older than our acknowledgement: asked now.
  const fresh = await jetStream.stream(path, undefined);
  if ('missing' in fresh) throw new Error(fresh.missing);
  if (fresh.incarnation !== stream.incarnation || fresh.lastSequence < subject.sequence) return true;
  // A stream put back from a copy, and grown past our sequence by others: the number was given to another message. A stream does not do that.
  return (await jetStream.at(stream.name, subject.sequence)) !== undefined;
}

async function giveBack({ spool, subject, breathe }: Reconciling, behind: number): Promise<number> {
  for (let total = 0; ; ) {
    const some = spool.giveBack(subject, behind);
    if (some === 0) return total;
    total += some;
    await breathe();
  }
}

/** Number of the first record that is neither stored nor here; `next` is the first that is here. */
function hole(next: Row, storedEpoch: string | undefined, end: number, isAllLost: boolean): number | undefined {
  const from = next.epoch === storedEpoch ? end : isAllLost ? 1 : next.first;
  return from < next.first ? from : undefined;
}
