// The flags that describe a link, one table for create and update: how each is read, and of which protocol it is.

import { type Command, Option } from 'commander';
import { PEER_FORM, parseListen, parsePeer, type TypedPeer } from './link-peer.ts';
import { collect, parseCount, parsePair } from './literals.ts';

export type Word = 'frames' | 'vxlan' | 'wireguard';
export const PROTOCOLS: readonly Word[] = ['frames', 'vxlan', 'wireguard'];
const TRANSPORTS = ['udp', 'tcp'] as const;

/** What commander gives for the flags below. */
export interface LinkOptions {
  interface?: string;
  protocol?: Word;
  transport?: (typeof TRANSPORTS)[number];
  listen?: string;
  peer?: TypedPeer[];
  mtu?: number;
  mark?: number;
  bindDevice?: string;
  privateKey?: string;
  vni?: number;
  learning?: boolean;
  age?: number;
  maxAddresses?: number;
  stormLimit?: number;
  suppressNeighbours?: boolean;
  tlsCert?: string;
  tlsKey?: string;
  tlsCa?: string;
  tlsPeerName?: string;
  label?: [string, string][];
}

const count = (flags: string, description: string) => new Option(flags, description).argParser(parseCount);

export function addLinkFlags(command: Command): Command {
  command.optionsGroup('Link:');
  for (const option of [
    new Option('--interface <interface>', 'interface that is joined; a TAP for vxlan, a TUN for wireguard, either for frames'),
    new Option('--protocol <protocol>', 'what travels').choices(PROTOCOLS),
    new Option('--transport <transport>', 'what carries it; tcp is for frames alone').choices(TRANSPORTS),
    new Option('--listen <ip:port>', 'local address and port, or :PORT; with tcp it makes this end the server').argParser(parseListen),
    new Option(
      '--peer <key=value[,...]>',
      `remote end: ${PEER_FORM}; also ,keepalive=SECONDS ,preshared-key=FILE ,mac=MAC+MAC ,name=TEXT ,probe=IP; repeatable`,
    ).argParser(collect(parsePeer)),
    count('--mtu <bytes>', 'largest packet that the link takes; 0: computed'),
    count('--mark <number>', 'mark of the sockets, for policy routing; 0: none'),
    new Option('--bind-device <device>', 'device that the sockets are bound to'),
    new Option('--private-key <file>', 'wireguard: key of this end, base64; - is stdin; without it the agent makes one'),
    count('--vni <number>', 'vxlan: network identifier, 1 to 16777215'),
    new Option('--learning', 'vxlan: learn MAC addresses from what comes; the default'),
    new Option('--no-learning', 'vxlan: only static ones, and flooding'),
    count('--age <seconds>', 'vxlan: a learned address is forgotten after this; 0: 300'),
    count('--max-addresses <number>', 'vxlan: learned addresses at most; 0: 4096'),
    count('--storm-limit <number>', 'vxlan: frames a second that are flooded at most; 0: 1000'),
    new Option('--suppress-neighbours', 'vxlan: answer ARP and ND for known pairs in place of flooding'),
    new Option('--no-suppress-neighbours', 'vxlan: flood them; the default'),
    new Option('--tls-cert <file>', 'frames over tcp: certificate of this end, a file on the node'),
    new Option('--tls-key <file>', 'frames over tcp: its private key, a file on the node'),
    new Option('--tls-ca <file>', 'frames over tcp: authorities of the other end, a file on the node'),
    new Option('--tls-peer-name <name>', 'frames over tcp: name in the certificate of the other end'),
  ]) {
    command.addOption(option);
  }
  command.addOption(new Option('--label <key=value>', 'label; repeatable').argParser(collect(parsePair)));
  return command.optionsGroup('Options:');
}
