// Netlink messages as lines for people: what `TAPLANE_DEBUG=netlink` prints. Pure.

import { errnoName } from '../sys-error.ts';
import { readAddress } from './address.ts';
import { readLink } from './link.ts';
import { type Message, NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, readAck } from './message.ts';
import { readNeighbour } from './neighbour.ts';
import { readRoute } from './route.ts';

const names: Record<number, string> = {
  16: 'NEWLINK',
  17: 'DELLINK',
  18: 'GETLINK',
  19: 'SETLINK',
  20: 'NEWADDR',
  21: 'DELADDR',
  22: 'GETADDR',
  24: 'NEWROUTE',
  25: 'DELROUTE',
  26: 'GETROUTE',
  28: 'NEWNEIGH',
  29: 'DELNEIGH',
  30: 'GETNEIGH',
};

const readers: Record<number, (payload: Buffer) => object | undefined> = { 4: readLink, 5: readAddress, 6: readRoute, 7: readNeighbour };

/** One line for a message; `direction` is `>` for sent, `<` for received, `!` for notified. */
export function describe(direction: '>' | '<' | '!', message: Message): string {
  const front = `netlink ${direction} seq=${message.sequence}`;
  if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
    const ack = readAck(message);
    const what = message.type === NLMSG_DONE ? 'DONE' : 'ACK';
    return ack.errno === 0 ? `${front} ${what}` : `${front} ERROR ${errnoName(ack.errno)}${ack.text === '' ? '' : ` "${ack.text}"`}`;
  }
  const dump = (message.flags & NLM_F_DUMP) === NLM_F_DUMP && direction === '>' ? ' dump' : '';
  const body = readers[message.type >> 2]?.(message.payload);
  return `${front} ${names[message.type] ?? `type ${message.type}`}${dump} flags=0x${message.flags.toString(16)} ${body === undefined ? message.payload.toString('hex') : show(body)}`;
}

/** Fields that say something: no empty, zero or absent ones; bytes as hex. */
function show(body: object): string {
  const shown: string[] = [];
  for (const [key, value] of Object.entries(body)) {
    if (value === undefined || value === 0 || value === 0n || value === '' || value === false) continue;
    if (Buffer.isBuffer(value)) {
      if (value.length > 0) shown.push(`${key}=${value.toString('hex')}`);
    } else if (typeof value === 'object') {
      shown.push(`${key}={${show(value)}}`);
    } else {
      shown.push(`${key}=${value}`);
    }
  }
  return shown.join(' ');
}
