// What `node status` prints: one fact a line, then the conditions.

import type { ExportStats, FlowStats } from '../gen/taplane/v1/flow_service.ts';
import { condition_StatusToJSON } from '../gen/taplane/v1/interface.ts';
import { Node, natsStatus_StateToJSON } from '../gen/taplane/v1/node_service.ts';
import { age, human } from './interface-view.ts';
import { print, printDocument } from './output.ts';
import { type Settings, withClient } from './settings.ts';
import { byteSize } from './size.ts';
import { printable, table } from './table.ts';

export async function status(settings: Settings): Promise<void> {
  await withClient(settings, async ({ node, flows }) => {
    const found = await node.getNode();
    if (settings.output === 'json' || settings.output === 'yaml') return printDocument(settings.output, Node.toJSON(found));
    if (settings.output === 'name') return print(`${printable(found.name)}\n`);
    // An agent that does not know of flows has none.
    const recorded = await flows.stats().catch(() => undefined);
    print(facts(found, recorded, Date.now()));
    if (found.conditions.length === 0) return;
    const columns = [
      { head: 'CONDITION', cell: (row: (typeof found.conditions)[number]) => row.type },
      { head: 'STATUS', cell: (row: (typeof found.conditions)[number]) => human(condition_StatusToJSON(row.status), 'STATUS') },
      { head: 'REASON', cell: (row: (typeof found.conditions)[number]) => row.reason },
      { head: 'MESSAGE', cell: (row: (typeof found.conditions)[number]) => row.message },
    ];
    print(`\n${table(columns, found.conditions, false)}`);
  });
}

/** Of root, who has all of some forty, those that Taplane asks for; `-o json` has each. */
function capabilityText(capabilities: string[]): string {
  if (capabilities.length <= 8) return capabilities.join(' ');
  const needed = capabilities.filter((name) => ['CAP_NET_ADMIN', 'CAP_NET_RAW'].includes(name));
  return [...needed, `and ${capabilities.length - needed.length} more`].join(' ');
}

function facts(node: Node, recorded: FlowStats | undefined, nowMs: number): string {
  const { kernelFeatures: kernel, limits, nats, netlink } = node;
  const natsState = nats ? human(natsStatus_StateToJSON(nats.state), 'STATE') : '';
  const natsFacts = [natsState, nats?.embedded ? 'embedded' : '', nats?.server ?? '', nats?.reason ? `(${nats.reason})` : '']
    .filter(Boolean)
    .join(' ');
  const lines: [string, string][] = [
    ['Node', node.name],
    ['Cluster', node.cluster],
    ['Uid', node.uid],
    ['Agent', `${node.version}, pid ${node.pid}, Node.js ${node.nodeVersion}`],
    ['Started', node.startTime ? `${age(node.startTime, nowMs)} ago` : ''],
    ['Kernel', `${node.kernelRelease} ${node.architecture}`],
    ['TUN driver', kernel ? (kernel.tunDevice ? kernel.tunFlags.join(' ') || 'ok' : 'cannot be opened: see taplane doctor') : ''],
    ['Capabilities', capabilityText(node.capabilities)],
    ['Interfaces', limits?.interfaces ? `${node.interfaceCount} of ${limits.interfaces}` : String(node.interfaceCount)],
    ['Links', limits?.links ? `${node.linkCount} of ${limits.links}` : ''],
    ['Lanes', node.lanes.map((lane) => `${lane.name} (${lane.pid > 0 ? `pid ${lane.pid}` : 'not running'})`).join(' ')],
    ['Flows', flowsLine(node, recorded)],
    ['Policy', policyLine(node)],
    ['NATS', natsFacts],
    ['NATS login', nats?.urlFile ?? ''],
    ['Export', node.export ? exportLine(node.export) : ''],
    [
      'Netlink',
      netlink
        ? `${netlink.requests} requests, ${netlink.notifications} notifications, ${netlink.overruns} overruns, ${netlink.repairs} repairs`
        : '',
    ],
  ];
  return lines
    .filter(([, value]) => value !== '')
    .map(([key, value]) => `${`${key}:`.padEnd(14)}${printable(value)}\n`)
    .join('');
}

/** How many interfaces are metered, and why others are not. */
function flowsLine({ interfaceCount }: Node, recorded: FlowStats | undefined): string {
  if (recorded === undefined) return '';
  const { interfaces, records, lostRecords } = recorded;
  if (interfaces.length === 0 && interfaceCount > 0) return 'no interface is metered';
  const idle = interfaces.filter(({ active }) => !active);
  const reasons = [...new Set(idle.map(({ reason }) => reason).filter(Boolean))];
  const [first = ''] = reasons;
  const more = reasons.length > 1 ? `; and ${reasons.length - 1} more reasons: taplane flow stats` : '';
  const told = `${plural(records, 'record')}, ${lostRecords} lost`;
  return `${interfaces.length - idle.length} of ${interfaces.length} interfaces metered, ${told}${first && ` (${first}${more})`}`;
}

function policyLine({ policy }: Node): string {
  if (policy === undefined) return 'none: the unix socket opens everything, a certificate nothing';
  const { file, version, roles, identities, error } = policy;
  const problem = error === '' ? '' : `; NOT as the file is now: ${error.split('\n')[0]}`;
  return `${file}, version ${version}, ${roles} roles, ${identities} identities${problem}`;
}

function exportLine({
  publishedRecords,
  publishedMessages,
  spooledMessages,
  spooledBytes,
  spoolLimitBytes,
  lost,
  reason,
}: ExportStats): string {
  const missing = lost.reduce((sum, { count }) => sum + count, 0n);
  const parts = [
    `${publishedRecords} records and events in ${plural(publishedMessages, 'message')} published`,
    `${spooledMessages} spooled (${byteSize(Number(spooledBytes))} of ${byteSize(Number(spoolLimitBytes))})`,
    `${missing} lost`,
  ];
  return `${parts.join(', ')}${reason && ` (${reason})`}`;
}

function plural(count: bigint, what: string): string {
  return `${count} ${what}${count === 1n ? '' : 's'}`;
}
