// The flags that say which flows are wanted, common to observe and top. Different flags must all match, of one flag given several times one
// value is enough; `--not` turns the flag behind it round: what matches that is left out.

import { type Command, InvalidArgumentError, Option } from 'commander';
import { Flow_Event } from '../gen/taplane/v1/flow.ts';
import { FlowFilter } from '../gen/taplane/v1/flow_service.ts';
import { Direction } from '../gen/taplane/v1/packet.ts';
import { UsageError } from './exit-code.ts';

type Field = keyof FlowFilter;
type Values = Partial<Record<Field, unknown[]>>;

const PROTOCOLS: Record<string, number[]> = {
  tcp: [6],
  udp: [17],
  icmp: [1, 58],
  icmpv4: [1],
  icmpv6: [58],
  gre: [47],
  esp: [50],
  sctp: [132],
};
const ETHERTYPES: Record<string, number> = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd, lldp: 0x88cc, ptp: 0x88f7 };
const EVENTS = { start: Flow_Event.START, update: Flow_Event.UPDATE, end: Flow_Event.END, overflow: Flow_Event.OVERFLOW };
const DIRECTIONS = { in: Direction.INBOUND, out: Direction.OUTBOUND };
export const TCP_FLAGS = ['fin', 'syn', 'rst', 'psh', 'ack', 'urg', 'ece', 'cwr'];

export class FlowFilterFlags {
  readonly #allow: Values = {};
  readonly #deny: Values = {};
  #not = false;

  /** Adds the flags to `command`; what is parsed then is kept here. */
  addTo(command: Command): Command {
    const flag = (
      name: string,
      value: string,
      description: string,
      field: Field,
      parse: (text: string) => unknown[],
      choices?: string[],
    ) => {
      const option = new Option(`--${name} <${value}>`, description).argParser((text: string) => this.#take(field, parse(text)));
      if (choices) option.argChoices = choices;
      command.addOption(option);
    };
    command.optionsGroup('Filters (all must match; of one given several times, or with commas, one is enough):');
    command.option('--not', 'leave out what the one filter behind this matches').on('option:not', () => {
      this.#not = true;
    });
    flag('ip', 'cidr', 'source or destination is within', 'ip', words);
    flag('from-ip', 'cidr', 'source is within', 'sourceIp', words);
    flag('to-ip', 'cidr', 'destination is within', 'destinationIp', words);
    flag('port', 'port', 'source or destination port', 'port', numbers);
    flag('from-port', 'port', 'source port', 'sourcePort', numbers);
    flag('to-port', 'port', 'destination port', 'destinationPort', numbers);
    flag('protocol', 'name', 'IP protocol, or its number; icmp is that of both versions', 'protocol', protocols, Object.keys(PROTOCOLS));
    flag('tcp-flags', 'flags', 'all of these in one direction, such as syn,ack', 'tcpFlags', tcpFlags, TCP_FLAGS);
    flag('interface', 'name', 'interface; * stands for any characters', 'interface', words);
    flag('link', 'name', 'overlay link', 'link', words);
    flag('direction', 'way', 'way of the first packet, seen from the node', 'direction', oneOf(DIRECTIONS), Object.keys(DIRECTIONS));
    flag('ethertype', 'type', 'type of Ethernet frames, or its number such as 0x88cc', 'ethertype', ethertypes, Object.keys(ETHERTYPES));
    flag('label', 'key[=value]', 'label of the interface', 'label', (text) => [text]);
    flag('mac', 'address', 'source or destination MAC address', 'macAddress', words);
    flag('vlan', 'id', 'VLAN id; 0: without a tag', 'vlan', numbers);
    flag('event', 'kind', 'what the record tells', 'event', oneOf(EVENTS), Object.keys(EVENTS));
    flag('node', 'name', 'node', 'node', words);
    command.optionsGroup('Options:');
    return command;
  }

  /** Throws UsageError for a `--not` with nothing behind it. */
  filters(): { allow: FlowFilter[]; deny: FlowFilter[] } {
    if (this.#not) throw new UsageError('--not stands before a filter: --not --port 22');
    const allow = Object.keys(this.#allow).length > 0 ? [FlowFilter.fromPartial(this.#allow as Partial<FlowFilter>)] : [];
    // Each is enough to leave a record out.
    const deny = Object.entries(this.#deny).map(([field, values]) => FlowFilter.fromPartial({ [field]: values } as Partial<FlowFilter>));
    return { allow, deny };
  }

  #take(field: Field, values: unknown[]): unknown[] {
    const into = this.#not ? this.#deny : this.#allow;
    this.#not = false;
    into[field] = [...(into[field] ?? []), ...values];
    return values;
  }
}

function words(text: string): string[] {
  return text.split(',').map((word) => word.trim());
}

function numbers(text: string): number[] {
  return words(text).map((word) => number(word, 'a whole number'));
}

function number(word: string, what: string): number {
  if (!/^(\d{1,9}|0x[0-9a-f]{1,7})$/i.test(word)) throw new InvalidArgumentError(`Expected ${what}, not ${JSON.stringify(word)}.`);
  return Number(word);
}

function protocols(text: string): number[] {
  return words(text).flatMap((word) => PROTOCOLS[word.toLowerCase()] ?? [number(word, `a number or ${Object.keys(PROTOCOLS).join(', ')}`)]);
}

function ethertypes(text: string): number[] {
  return words(text).map((word) => ETHERTYPES[word.toLowerCase()] ?? number(word, `a number or ${Object.keys(ETHERTYPES).join(', ')}`));
}

function tcpFlags(text: string): number[] {
  let bits = 0;
  for (const word of words(text)) {
    const bit = TCP_FLAGS.indexOf(word.toLowerCase());
    if (bit < 0) throw new InvalidArgumentError(`Unknown flag ${JSON.stringify(word)}; known: ${TCP_FLAGS.join(', ')}.`);
    bits |= 1 << bit;
  }
  return [bits];
}

function oneOf(known: Record<string, number>): (text: string) => number[] {
  return (text) =>
    words(text).map((word) => {
      const value = known[word.toLowerCase()];
      if (value === undefined) throw new InvalidArgumentError(`Unknown ${JSON.stringify(word)}; known: ${Object.keys(known).join(', ')}.`);
      return value;
    });
}
