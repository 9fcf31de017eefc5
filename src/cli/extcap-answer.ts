// What Wireshark is told before a capture: interfaces, link types, choices, in the sentences of extcap(4). An agent that does not answer
// has no interfaces; that is no failure, or Wireshark would complain at every start.

import { type Interface, InterfaceSpec_Mode } from '../gen/taplane/v1/interface.ts';
import { UsageError } from './exit-code.ts';
import type { ExtcapOptions } from './extcap.ts';
import { addresses, idOf } from './interface-view.ts';
import { message, print } from './output.ts';
import { DEFAULT_SERVER, type Settings, withClient } from './settings.ts';
import { clientVersion } from './version.ts';

/** Wireshark starts, or a user waits for a list. */
const ANSWER_WITHIN_MS = 1500;
const PREFIX = 'taplane-';
/** The most that Taplane keeps of a packet. */
const SNAP_MOST = 65_549;

export async function answer(options: ExtcapOptions, settings: Settings): Promise<void> {
  if (options.extcapDlts) print(dlt((await find(deviceOf(options.extcapInterface), settings)).spec?.mode));
  else if (options.extcapConfig) print(choices(settings.server));
  else print(`${version()}${(await interfaces(settings)).map(sentence).join('')}`);
}

/** The name of the device behind the name that Wireshark shows. Throws UsageError. */
export function deviceOf(value: string | undefined): string {
  if (value?.startsWith(PREFIX)) return value.slice(PREFIX.length);
  throw new UsageError(`--extcap-interface must be one of those that --extcap-interfaces lists, got ${JSON.stringify(value ?? '')}`);
}

export function version(): string {
  return `extcap {version=${clientVersion()}}{display=Taplane}\n`;
}

/** One interface. Braces would end a value. */
export function sentence(one: Interface): string {
  const id = idOf(one.name);
  const has = addresses(one);
  const plain = (text: string): string => text.replace(/[{}]/g, '');
  return `interface {value=${PREFIX}${plain(id)}}{display=Taplane ${plain(has ? `${id} (${has})` : id)}}\n`;
}

/** By the numbers that libpcap uses on Linux, for Wireshark compiles filters for them: raw IP is 12 there, and 101 in files. */
export function dlt(mode: InterfaceSpec_Mode | undefined): string {
  return mode === InterfaceSpec_Mode.TAP
    ? 'dlt {number=1}{name=EN10MB}{display=Ethernet}\n'
    : 'dlt {number=12}{name=RAW}{display=Raw IP}\n';
}

export function choices(server = DEFAULT_SERVER): string {
  return [
    `arg {number=0}{call=--server}{display=Agent}{type=string}{default=${server}}{tooltip=unix:PATH or HOST:PORT}\n`,
    `arg {number=1}{call=--snap-length}{display=Bytes of a packet}{type=unsigned}{range=1,${SNAP_MOST}}{default=${SNAP_MOST}}{tooltip=What is kept of each packet}\n`,
    'arg {number=2}{call=--direction}{display=Direction}{type=selector}{tooltip=Seen from the node}\n',
    'value {arg=2}{value=both}{display=Both}{default=true}\n',
    'value {arg=2}{value=in}{display=Received by the node}{default=false}\n',
    'value {arg=2}{value=out}{display=Sent by the node}{default=false}\n',
  ].join('');
}

async function interfaces(settings: Settings): Promise<Interface[]> {
  const request = { pageSize: 1000, pageToken: '', labelSelector: {}, view: 0 as const };
  try {
    const page = await withClient(atOnce(settings), (client) => client.interfaces.list(request));
    return page.interfaces;
  } catch (error) {
    message((error as Error).message);
    return [];
  }
}

function find(id: string, settings: Settings): Promise<Interface> {
  return withClient(atOnce(settings), (client) => client.interfaces.get({ name: `interfaces/${id}` }));
}

function atOnce(settings: Settings): Settings {
  return { ...settings, timeout: Math.min(settings.timeout, ANSWER_WITHIN_MS) };
}
