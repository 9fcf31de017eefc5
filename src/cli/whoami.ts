// What `whoami` prints: one fact a line.

import { Caller, Caller_Kind, caller_KindToJSON } from '../gen/taplane/v1/node_service.ts';
import { human } from './interface-view.ts';
import { print, printDocument } from './output.ts';
import { type Settings, withClient } from './settings.ts';
import { printable } from './table.ts';

export async function whoami(settings: Settings): Promise<void> {
  await withClient(settings, async ({ node }) => {
    const found = await node.getCaller();
    const { output } = settings;
    if (output === 'json' || output === 'yaml') return printDocument(output, Caller.toJSON(found));
    if (output === 'name') return print(`${printable(found.name)}\n`);
    const open = found.kind === Caller_Kind.TLS ? 'none: a certificate alone opens nothing' : 'none: everything is allowed here';
    const lines: [string, string][] = [
      ['Caller', found.name],
      ['Known by', human(caller_KindToJSON(found.kind), 'KIND')],
      ['Policy', found.policyInForce ? 'in force' : open],
      ['Roles', found.policyInForce ? found.roles.join(' ') || 'none: everything is denied' : ''],
    ];
    const shown = lines.filter(([, value]) => value !== '');
    print(shown.map(([key, value]) => `${`${key}:`.padEnd(10)}${printable(value)}\n`).join(''));
  });
}
