// Which words a filter expression of pcap-filter(7) may hold. libpcap asks DNS for every word that stands where a host or network may
// stand, and waits for the answer with the whole process; so each such word is refused before libpcap sees it. Pure.
//
// Reads tokens exactly as libpcap's scanner.l does, or refuses. A plain word is let through only where grammar.y cannot take it for a
// host: right after `port`, `portrange` or `proto`, or after them with nothing but numbers, names, and/or/not and parentheses between,
// where the qualifier is inherited. These are looked up in /etc/services and /etc/protocols, which does not touch the network.

import { isIPv6 } from 'node:net';

const words = (text: string) => new Set(text.trim().split(/\s+/));

/** Those of libpcap 1.9. A keyword of later versions must not be here: to earlier ones it is the name of a host. */
export const KEYWORDS = words(`
  dst src link ether ppp slip fddi tr wlan arp rarp ip sctp tcp udp icmp igmp igrp pim vrrp carp radio ip6 icmp6 ah esp atalk aarp decnet
  lat sca moprc mopdl iso esis es-is isis is-is l1 l2 iih lsp snp csnp psnp clnp stp ipx netbeui host net mask address1 addr1 address2
  addr2 address3 addr3 address4 addr4 ra ta less greater byte broadcast multicast len length vlan mpls pppoed pppoes geneve lane metac
  bcc oam oamf4 oamf4ec oamf4sc sc ilmic vpi vci connectmsg metaconnect rnr rulenum srnr subrulenum fisu lssu lsu msu hfisu hlssu hmsu
  sio opc dpc sls hsio hopc hdpc hsls
`);

/** Names of numbers: fields of headers and their values. */
export const CONSTANTS = words(`
  icmptype icmpcode icmp-echoreply icmp-unreach icmp-sourcequench icmp-redirect icmp-echo icmp-routeradvert icmp-routersolicit
  icmp-timxceed icmp-paramprob icmp-tstamp icmp-tstampreply icmp-ireq icmp-ireqreply icmp-maskreq icmp-maskreply icmp6type icmp6code
  icmp6-destinationunreach icmp6-packettoobig icmp6-timeexceeded icmp6-parameterproblem icmp6-echo icmp6-echoreply
  icmp6-multicastlistenerquery icmp6-multicastlistenerreportv1 icmp6-multicastlistenerdone icmp6-routersolicit icmp6-routeradvert
  icmp6-neighborsolicit icmp6-neighboradvert icmp6-redirect icmp6-routerrenum icmp6-nodeinformationquery icmp6-nodeinformationresponse
  icmp6-ineighbordiscoverysolicit icmp6-ineighbordiscoveryadvert icmp6-multicastlistenerreportv2 icmp6-homeagentdiscoveryrequest
  icmp6-homeagentdiscoveryreply icmp6-mobileprefixsolicit icmp6-mobileprefixadvert icmp6-certpathsolicit icmp6-certpathadvert
  icmp6-multicastrouteradvert icmp6-multicastroutersolicit icmp6-multicastrouterterm tcpflags tcp-fin tcp-syn tcp-rst tcp-push tcp-ack
  tcp-urg tcp-ece tcp-cwr
`);

/** A word right after one of these is looked up in a fixed list of libpcap's. */
const LISTED = words('llc type subtype dir direction on ifname rset ruleset reason action');
const NAMED = words('port portrange proto');
const JOINING = words('and or not && || !');

const REFUSED = new Map([
  ['protochain', 'its program loops'],
  ['gateway', 'it looks up the name of a host'],
  ['inbound', 'the direction is not in the bytes of a packet'],
  ['outbound', 'the direction is not in the bytes of a packet'],
  ['ifindex', 'the interface is not in the bytes of a packet'],
]);

const NUMBER = /^(?:\d+|0[xX][\dA-Fa-f]+)$/;
const ADDRESS =
  /^(?:\d+(?:\.\d+){1,3}|[\dA-Fa-f]{12}|[\dA-Fa-f]{4}(?:\.[\dA-Fa-f]{4}){2}|[\dA-Fa-f]{1,2}([.-])(?:[\dA-Fa-f]{1,2}\1){4}[\dA-Fa-f]{1,2})$/;
const MAC_WITH_COLONS = /^[\dA-Fa-f]{1,2}(?::[\dA-Fa-f]{1,2}){5}$/;

/** Longest first, as flex takes them: an escaped word, a word with two colons or more, a word, an operator; blanks are between. */
const TOKEN = /\\[^ !()\n\t]+|[\w.-]*:[\w.-]*:[\w.:-]*|[A-Za-z\d](?:[\w.-]*[A-Za-z\d.])?|&&|\|\||!=|[^ \t\r\n]/g;

/** Most bytes of an expression. */
export const MAX_BYTES = 2048;
/**
 * The time that libpcap's optimizer takes grows with the cube of the length: 300 ports take seconds. With these bounds it is below
 * a tenth of a second. A range of ports counts as three values, the length of a prefix not at all.
 */
export const MAX_VALUES = 64;
const MAX_TOKENS = 512;

type Kind = 'operator' | 'open' | 'close' | 'joining' | 'named' | 'listed' | 'keyword' | 'number' | 'address' | 'bad address' | 'name';

function kindOf(token: string): Kind {
  if (token === '(') return 'open';
  if (token === ')') return 'close';
  if (JOINING.has(token)) return 'joining';
  if (NAMED.has(token)) return 'named';
  if (LISTED.has(token)) return 'listed';
  if (KEYWORDS.has(token)) return 'keyword';
  if (NUMBER.test(token) || CONSTANTS.has(token)) return 'number';
  if (token.length > 1 && token.startsWith('\\')) return 'name';
  if (token.length > 1 && token.includes(':')) return MAC_WITH_COLONS.test(token) || isIPv6(token) ? 'address' : 'bad address';
  if (ADDRESS.test(token)) return 'address';
  return /^[A-Za-z\d]/.test(token) ? 'name' : 'operator';
}

/** Why libpcap must not be asked to compile an expression; undefined when it may be. Says nothing of whether it compiles. */
export function objectionTo(expression: string): string | undefined {
  if (expression.length > MAX_BYTES) return `it has ${expression.length} bytes, at most ${MAX_BYTES}`;
  const strange = /[^\t\r\n\x20-\x7e]/.exec(expression);
  if (strange) return `the character at ${strange.index} is not printable ASCII`;
  const tokens = expression.match(TOKEN) ?? [];
  if (tokens.length > MAX_TOKENS) return `it has ${tokens.length} words and signs, at most ${MAX_TOKENS}`;
  return objectionToWord(tokens) ?? objectionToLength(tokens);
}

function objectionToWord(tokens: string[]): string | undefined {
  // How many parentheses are open, and how many were at the qualifier that a plain word would inherit, if it may.
  let depth = 0;
  let namedAt: number | undefined;
  let before: Kind = 'operator';
  for (const token of tokens) {
    const refused = REFUSED.get(token);
    if (refused !== undefined) return `${token} is not supported: ${refused}`;
    const kind = kindOf(token);
    if (kind === 'bad address') return `${token} is no address`;
    if (kind === 'name' && before !== 'listed' && namedAt === undefined) {
      return `${token}: is no word of the filter language; names of hosts and networks are not looked up, give the address (services go after port, protocols after proto)`;
    }
    if (kind === 'open') depth += 1;
    if (kind === 'close') depth -= 1;
    if (kind === 'named') namedAt = depth;
    const inherits = kind === 'joining' || kind === 'number' || kind === 'name' || kind === 'named' || kind === 'open' || kind === 'close';
    if (!inherits || depth < (namedAt ?? depth)) namedAt = undefined;
    before = kind;
  }
  return undefined;
}

function objectionToLength(tokens: string[]): string | undefined {
  let values = 0;
  let each = 1;
  for (const [index, token] of tokens.entries()) {
    const kind = kindOf(token);
    if (token === 'portrange') each = 3;
    else if (kind === 'keyword' || kind === 'named') each = 1;
    else if ((kind === 'number' || kind === 'address' || kind === 'name') && tokens[index - 1] !== '/') values += each;
  }
  return values > MAX_VALUES ? `it compares with ${values} values, at most ${MAX_VALUES} (a range of ports counts as three)` : undefined;
}
