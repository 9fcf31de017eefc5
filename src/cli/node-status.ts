// What `node status` prints: one fact a line, then the conditions.

import { condition_StatusToJSON } from '../gen/taplane/v1/interface.ts';
import { Node, natsStatus_StateToJSON } from '../gen/taplane/v1/node_service.ts';
import { age, human } from './interface-view.ts';
import { print, printDocument } from './output.ts';
import { type Settings, withClient } from './settings.ts';
import { printable, table } from './table.ts';

export async function status(settings: Settings): Promise<void> {
  await withClient(settings, async ({ node }) => {
    const found = await node.getNode();
    if (settings.output === 'json' || settings.output === 'yaml') return printDocument(settings.output, Node.toJSON(found));
    if (settings.output === 'name') return print(`${printable(found.name)}\n`);
    print(facts(found, Date.now()));
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

function facts(node: Node, nowMs: number): string {
  const { kernelFeatures: kernel, limits, nats, netlink, export: exported } = node;
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
    ['Capabilities', node.capabilities.join(' ')],
    ['Interfaces', limits?.interfaces ? `${node.interfaceCount} of ${limits.interfaces}` : String(node.interfaceCount)],
    ['Lanes', node.lanes.map((lane) => `${lane.name} (${lane.pid > 0 ? `pid ${lane.pid}` : 'not running'})`).join(' ')],
    ['NATS', natsFacts],
    ['Export', exported ? `${exported.reason || 'ok'}, ${exported.spooledMessages} messages wait` : ''],
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
