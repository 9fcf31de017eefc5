// What flow stats prints: a line for each interface, then what became of the records.

import { recordLoss_ReasonToJSON } from '../gen/taplane/v1/flow.ts';
import { FlowStats, type InterfaceFlowStats } from '../gen/taplane/v1/flow_service.ts';
import { age, human, idOf } from './interface-view.ts';
import { message, print, printDocument } from './output.ts';
import { type Settings, withClient } from './settings.ts';
import { byteSize } from './size.ts';
import { type Column, printable, table } from './table.ts';

const columns: Column<InterfaceFlowStats>[] = [
  { head: 'INTERFACE', cell: ({ interface: name }) => idOf(name) },
  { head: 'ACTIVE', cell: ({ active }) => (active ? 'yes' : 'no') },
  { head: 'SEEN', cell: ({ totals }) => String(totals?.seenPackets ?? '') },
  { head: 'BYTES', cell: ({ totals }) => String(totals?.seenBytes ?? '') },
  { head: 'FLOWS', cell: ({ totals }) => String(totals?.activeFlows ?? '') },
  { head: 'RECORDS', cell: ({ records }) => String(records) },
  { head: 'DROPPED', cell: ({ totals }) => String(totals?.droppedFrames ?? '') },
  { head: 'SAMPLED-OUT', cell: ({ totals }) => String(totals?.sampledOutPackets ?? '') },
  { head: 'REASON', cell: ({ reason }) => reason },
  { head: 'EPOCH', wide: true, cell: ({ epoch }) => epoch },
  { head: 'RECORDED', wide: true, cell: ({ totals }) => String(totals?.recordedPackets ?? '') },
  { head: 'IN-TABLE', wide: true, cell: ({ totals }) => String(totals?.inTablePackets ?? '') },
];

export async function stats(settings: Settings): Promise<void> {
  await withClient(settings, async ({ flows }) => {
    const found = await flows.stats();
    if (settings.output === 'json' || settings.output === 'yaml') return printDocument(settings.output, FlowStats.toJSON(found));
    if (settings.output === 'name') return print(found.interfaces.map((one) => `${printable(one.interface)}\n`).join(''));
    if (found.interfaces.length > 0) print(`${table(columns, found.interfaces, settings.output === 'wide')}\n`);
    else message('no interface is metered: there is none, or metering is off (flows.enabled, --no-flows, flowMetering of the spec)');
    print(facts(found, Date.now()));
  });
}

function facts(found: FlowStats, nowMs: number): string {
  const { ringRecords, ringBytes, oldestTime, records, lostRecords, export: exported, ipfix } = found;
  const memory = [`${ringRecords} records`, byteSize(Number(ringBytes)), oldestTime ? `the oldest of ${age(oldestTime, nowMs)} ago` : ''];
  const lines: [string, string][] = [
    ['Records', `${records} since the agent started, ${lostRecords} lost`],
    ['Memory', memory.filter(Boolean).join(', ')],
  ];
  if (exported) {
    const { spooledMessages, spooledBytes, spoolLimitBytes, oldestSeconds, publishedRecords, publishedMessages, retriedMessages, lost } =
      exported;
    const waits = `${spooledMessages} messages, ${byteSize(Number(spooledBytes))} of ${byteSize(Number(spoolLimitBytes))}`;
    lines.push(
      ['NATS', exported.reason || 'ok'],
      ['Published', `${publishedRecords} records and events in ${publishedMessages} messages, ${retriedMessages} sent again`],
      ['Spool', spooledMessages > 0n ? `${waits}, the oldest of ${oldestSeconds}s ago` : waits],
      ['Lost', lost.map(({ reason, count }) => `${count} ${human(recordLoss_ReasonToJSON(reason), 'REASON')}`).join(', ')],
    );
  }
  if (ipfix) {
    const { collector, records: sent, messages, failedRecords, reason } = ipfix;
    lines.push([
      'IPFIX',
      [`${collector}: ${sent} records in ${messages} messages, ${failedRecords} failed`, reason].filter(Boolean).join(': '),
    ]);
  }
  return lines
    .filter(([, value]) => value !== '')
    .map(([key, value]) => `${`${key}:`.padEnd(14)}${printable(value)}\n`)
    .join('');
}
