// Conditions of the node, as far as interfaces and their records make them.

import type { Condition } from '../gen/taplane/v1/interface.ts';
import type { Conditions } from '../resource/conditions.ts';
import type { Findings } from '../resource/store.ts';
import type { ConditionType } from './condition-type.ts';

const NAMED_MOST = 20;

export interface NodeFacts {
  /** What was found when the state was opened. */
  findings: Pick<Findings, 'corruptFiles' | 'badRecords'>;
  /** Names of interfaces that are not as specified. */
  amiss: string[];
  /** Names of devices that carry a mark which no record knows. */
  unknown: string[];
  /** The kernel is listened to. */
  watching: boolean;
}

/** Brings the conditions up to date, and lists them. */
export function judgeNode(
  conditions: Conditions<ConditionType>,
  { findings, amiss, unknown, watching }: NodeFacts,
  nowMs: number,
): Condition[] {
  const { corruptFiles, badRecords } = findings;
  const intact = corruptFiles.length === 0 && badRecords.length === 0;
  const set = (type: ConditionType, holds: boolean, reason: string, message: string): unknown =>
    conditions.set(type, holds, reason, message, nowMs);
  if (!intact) set('Ready', false, 'StateDamaged', 'the state is not intact');
  else if (amiss.length > 0) set('Ready', false, 'InterfacesNotReady', `not as specified: ${amiss.slice(0, NAMED_MOST).join(', ')}`);
  else set('Ready', true, 'AsSpecified', '');
  if (intact) set('StateIntact', true, 'Intact', '');
  else {
    const lost = [...corruptFiles, ...badRecords.map((name) => `record of ${name}`)].join(', ');
    const cure = 'no device was removed. Adopt or recreate the interfaces, then remove the files from the state directory';
    set('StateIntact', false, 'Quarantined', `unreadable and put aside: ${lost}; ${cure}`);
  }
  set('KernelWatch', watching, watching ? 'Listening' : 'NotListening', '');
  if (unknown.length === 0) conditions.clear('UnknownDevices');
  else {
    const cure = 'make sure that no other agent manages them, then adopt them (take_over) or delete them by hand';
    const names = unknown.slice(0, NAMED_MOST).join(', ');
    set('UnknownDevices', true, 'ForeignMark', `devices with the mark of another agent or of lost state: ${names}; ${cure}`);
  }
  return conditions.list();
}
