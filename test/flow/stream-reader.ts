// Reads a whole stream by the text protocol over TCP, without any client library, and judges what is in it.

import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { FlowBatch } from '../../src/gen/taplane/v1/flow.ts';

export interface Stored {
  subject: string;
  headers: Record<string, string>;
  payload: Buffer;
}

interface Wire {
  call(subject: string, body: object): Promise<Record<string, unknown>>;
  /** Messages that came to `inbox`. */
  delivered: Stored[];
  inbox: string;
  changed(): Promise<unknown>;
  close(): void;
}

async function open(port: number): Promise<Wire> {
  const inbox = `_deliver.${randomUUID()}`;
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  socket.write('CONNECT {"verbose":false,"headers":true}\r\nSUB _answer 1\r\nPING\r\n');
  socket.write(`SUB ${inbox} 2\r\n`);
  let rest = Buffer.alloc(0);
  const answers: Record<string, unknown>[] = [];
  const delivered: Stored[] = [];
  socket.on('error', () => {});
  socket.on('data', (piece) => {
    rest = Buffer.concat([rest, piece]);
    let at = 0;
    for (;;) {
      const end = rest.indexOf('\r\n', at);
      if (end < 0) break;
      const words = rest.toString('latin1', at, end).split(' ');
      const isMessage = words[0] === 'MSG' || words[0] === 'HMSG';
      const length = isMessage ? Number(words.at(-1)) : 0;
      if (isMessage && rest.length < end + 4 + length) break;
      if (words[0] === 'PING') socket.write('PONG\r\n');
      if (isMessage) {
        const headerLength = words[0] === 'HMSG' ? Number(words.at(-2)) : 0;
        const body = rest.subarray(end + 2, end + 2 + length);
        const headers = body.toString('utf8', 0, headerLength).split('\r\n').slice(1).filter(Boolean);
        const payload = Buffer.from(body.subarray(headerLength));
        if (words[2] === '1') answers.push(JSON.parse(payload.toString() || '{}'));
        else {
          const pairs = headers.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]);
          delivered.push({ subject: words[1] as string, headers: Object.fromEntries(pairs), payload });
        }
      }
      at = end + 2 + (isMessage ? length + 2 : 0);
    }
    rest = Buffer.from(rest.subarray(at));
    socket.emit('changed');
  });
  const changed = () => once(socket, 'changed', { signal: AbortSignal.timeout(20_000) });
  return {
    delivered,
    inbox,
    changed,
    async call(subject, body) {
      const text = JSON.stringify(body);
      socket.write(`PUB ${subject} _answer ${Buffer.byteLength(text)}\r\n${text}\r\n`);
      while (answers.length === 0) await changed();
      return answers.shift() as Record<string, unknown>;
    },
    close: () => socket.destroy(),
  };
}

/** Calls an API of JetStream. */
export async function jetStreamCall(port: number, api: string, body: object = {}): Promise<Record<string, unknown>> {
  const wire = await open(port);
  try {
    return await wire.call(`$JS.API.${api}`, body);
  } finally {
    wire.close();
  }
}

/** All messages of a stream, in order. Throws when there is no such stream. */
export async function readStream(port: number, stream: string): Promise<Stored[]> {
  const wire = await open(port);
  try {
    const info = await wire.call(`$JS.API.STREAM.INFO.${stream}`, {});
    if (info['error']) throw new Error(JSON.stringify(info['error']));
    const { messages } = info['state'] as { messages: number };
    const config = { deliver_subject: wire.inbox, deliver_policy: 'all', ack_policy: 'none', replay_policy: 'instant' };
    const made = await wire.call(`$JS.API.CONSUMER.CREATE.${stream}`, { stream_name: stream, config });
    if (made['error']) throw new Error(JSON.stringify(made['error']));
    while (wire.delivered.length < messages) await wire.changed();
    return wire.delivered;
  } finally {
    wire.close();
  }
}

export interface Judged {
  /** Records that are there. */
  records: number;
  /** Records that gaps tell of, by reason. */
  lost: Record<number, number>;
  gaps: number;
  /** Number after the last, by epoch. */
  next: Record<string, number>;
}

/** Throws when an id is there twice, or when an epoch does not go on without a hole from 1. */
export function judge(messages: Stored[]): Judged {
  const ids = new Set<string>();
  const judged: Judged = { records: 0, lost: {}, gaps: 0, next: {} };
  for (const { headers, payload } of messages) {
    const id = headers['Nats-Msg-Id'] ?? '';
    if (id === '' || ids.has(id)) throw new Error(`id ${id} is there twice or missing`);
    ids.add(id);
    const batch = FlowBatch.decode(payload);
    const wanted = judged.next[batch.epoch] ?? 1;
    if (batch.firstSequence !== BigInt(wanted))
      throw new Error(`${batch.epoch}: ${batch.firstSequence} comes where ${wanted} should: ${id}`);
    const lost = batch.lost.reduce((sum, { count }) => sum + Number(count), 0);
    for (const [index, flow] of batch.flows.entries()) {
      if (flow.sequence !== BigInt(wanted + index)) throw new Error(`${id}: record ${index} has number ${flow.sequence}`);
    }
    judged.next[batch.epoch] = wanted + batch.flows.length + lost;
    judged.records += batch.flows.length;
    if (batch.flows.length === 0) judged.gaps += 1;
    for (const { reason, count } of batch.lost) judged.lost[reason] = (judged.lost[reason] ?? 0) + Number(count);
  }
  return judged;
}
