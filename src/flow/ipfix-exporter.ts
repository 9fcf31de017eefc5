// Sends flow records to an IPFIX collector over UDP. `send` never waits and never throws; what cannot be sent is counted, and why is told.
//
//   send --encode--> queue (at most 1 MiB) --a burst each millisecond--> socket, connected to the address that the name has now
//
// The socket is connected, since only then the kernel tells that nobody listens. Bursts, because the receive buffer of a collector holds
// some hundred datagrams, and whole batches sent at once would overrun it. Templates go before the first records, again each minute and
// each 1000 messages, and after everything that may have lost them: a failure, a new address. A name is resolved anew each minute.

import { createSocket, type Socket } from 'node:dgram';
import type { LookupAddress } from 'node:dns';
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import type { FlowBatch } from '../gen/taplane/v1/flow.ts';
import type { IpfixStats } from '../gen/taplane/v1/flow_service.ts';
import { parseCollector } from './collector-address.ts';
import { type IpfixMessage, ipfixEncoder } from './ipfix.ts';
import { countOneWays, type InterfaceIndex } from './one-way.ts';

export interface IpfixLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface IpfixExporterOptions {
  /** `host:port`; an IPv6 address in brackets. */
  collector: string;
  /** 1 to 2^32 - 1. */
  observationDomainId: number;
  interfaceIndex: InterfaceIndex;
  /** Both directions in one data record (RFC 5103); for collectors that read it. */
  biflow?: boolean;
  log: IpfixLog;
  /** Milliseconds since 1970. */
  now?: () => number;
  /** All addresses of a name, best first; rejects when it has none. */
  resolve?: (host: string) => Promise<LookupAddress[]>;
}

export interface IpfixExporter {
  /** Takes all records of a batch (*borrows*). Never waits, never throws. */
  send(batch: FlowBatch): void;
  /** A fresh copy each time. */
  stats(): IpfixStats;
  /** Sends what waits, for at most a second, and closes; what is left then has failed. Later batches fail. */
  close(): Promise<void>;
}

const QUEUE_BYTES = 1024 * 1024;
const BURST_MESSAGES = 16;
const BURST_INTERVAL_MS = 1;
const TEMPLATES_EVERY_MS = 60_000;
const TEMPLATES_EVERY_MESSAGES = 1000;
const RESOLVE_EVERY_MS = 60_000;
const RETRY_MS = 1000;
const CLOSE_GRACE_MS = 1000;
/** A datagram is sent well before the kernel hears that it was refused: only when that has not come for this long, all is well. */
const UNREFUSED_MS = 1000;

/** Begins to resolve the name and returns at once. Throws an Error when `collector` is no address. */
export function openIpfixExporter(options: IpfixExporterOptions): IpfixExporter {
  const { collector, log, now = Date.now, resolve: addressesOf = (host) => lookup(host, { all: true }) } = options;
  const { host, port } = parseCollector(collector);
  const encoder = ipfixEncoder(options);
  const stats: IpfixStats = { collector, messages: 0n, records: 0n, failedRecords: 0n, reason: '' };

  const queue: IpfixMessage[] = [];
  /** Of the queue, and of what the socket was given and has not taken yet. */
  let waitingBytes = 0;
  let inSocket = 0;
  let socket: Socket | undefined;
  let address = '';
  /** The last that was chosen, whether or not it could be had. */
  let tried = '';
  let resolving = false;
  let resolvedAt = Number.NEGATIVE_INFINITY;
  let announcedAt = Number.NEGATIVE_INFINITY;
  let messagesSinceTemplates = 0;
  let mustAnnounce = true;
  /** Of the first datagram since the last failure. */
  let wellSince: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  let onIdle: (() => void) | undefined;

  /** Also true when the clock was set back. */
  const hasPassed = (ms: number, since: number): boolean => Math.abs(now() - since) >= ms;

  function fail(reason: string, records: number): void {
    stats.failedRecords += BigInt(records);
    mustAnnounce = true;
    wellSince = undefined;
    if (stats.reason === '') log.warn({ collector, reason }, 'flow records do not reach the IPFIX collector');
    stats.reason = reason;
  }

  function succeed(message: IpfixMessage): void {
    stats.messages += 1n;
    stats.records += BigInt(message.records);
    if (stats.reason === '') return;
    wellSince ??= now();
    if (Math.abs(now() - wellSince) < UNREFUSED_MS) return;
    stats.reason = '';
    log.info({ collector }, 'flow records go to the IPFIX collector again');
  }

  function wakeAfter(ms: number): void {
    if (timer !== undefined) return;
    timer = setTimeout(() => {
      timer = undefined;
      pump();
    }, ms);
    // What waits must not keep a process alive that has nothing else to do; `close` waits for it.
    timer.unref();
  }

  /** Gives the socket what it may have now. */
  function pump(): void {
    if (timer !== undefined || queue.length === 0) return;
    if (socket === undefined || hasPassed(stats.reason === '' ? RESOLVE_EVERY_MS : RETRY_MS, resolvedAt)) void resolve();
    if (socket === undefined) return;
    const open = socket;
    for (const message of queue.splice(0, BURST_MESSAGES)) {
      inSocket += 1;
      const done = (error: Error | null): void => {
        inSocket -= 1;
        waitingBytes -= message.bytes.length;
        if (error) fail(describe('send', error), message.records);
        else succeed(message);
        if (queue.length === 0 && inSocket === 0) onIdle?.();
      };
      try {
        open.send(message.bytes, done);
      } catch (error) {
        done(error as Error);
      }
    }
    if (queue.length > 0) wakeAfter(BURST_INTERVAL_MS);
  }

  async function resolve(): Promise<void> {
    if (resolving || closed) return;
    resolving = true;
    let doing = 'resolve';
    try {
      const found = choose(await addressesOf(host));
      resolvedAt = now();
      doing = 'connect';
      if (!closed && (socket === undefined || found.address !== address)) await connect(found.address, found.family);
    } catch (error) {
      // An address that worked is better than none.
      if (socket !== undefined) resolvedAt = now();
      else fail(describe(doing, error as Error), 0);
    } finally {
      resolving = false;
    }
    if (closed) return;
    if (socket === undefined) wakeAfter(RETRY_MS);
    else pump();
  }

  /** The address in use, as long as the name has it and nothing fails; else the one behind the last: perhaps nobody listens on IPv6. */
  function choose(found: LookupAddress[]): LookupAddress {
    const kept = found.find((each) => each.address === address);
    if (kept !== undefined && stats.reason === '') return kept;
    const chosen = found[(found.findIndex((each) => each.address === tried) + 1) % found.length];
    if (chosen === undefined) throw new Error('no address');
    tried = chosen.address;
    return chosen;
  }

  async function connect(to: string, family: number): Promise<void> {
    const fresh = createSocket(family === 6 ? 'udp6' : 'udp4');
    fresh.unref();
    try {
      fresh.connect(port, to);
      await once(fresh, 'connect');
    } catch (error) {
      fresh.close();
      throw error;
    }
    // Refusals of datagrams that were sent before. Nothing is to be received.
    fresh.on('error', (error) => {
      if (socket === fresh) fail(describe('send', error), 0);
    });
    const old = socket;
    socket = fresh;
    address = to;
    if (old !== undefined) mustAnnounce = true;
    old?.close();
    if (closed) fresh.close();
  }

  return {
    send(batch) {
      if (closed) return fail('closed', countOneWays(batch));
      const time = now();
      const isDue = hasPassed(TEMPLATES_EVERY_MS, announcedAt) || messagesSinceTemplates >= TEMPLATES_EVERY_MESSAGES;
      let messages: IpfixMessage[];
      try {
        messages = encoder.encode(batch, time, mustAnnounce || isDue);
      } catch (error) {
        return fail(describe('encode', error as Error), countOneWays(batch));
      }
      messagesSinceTemplates += messages.length;
      if (messages.some(({ templates }) => templates > 0)) {
        mustAnnounce = false;
        announcedAt = time;
        messagesSinceTemplates = messages.length;
      }
      for (const message of messages) {
        if (waitingBytes + message.bytes.length > QUEUE_BYTES) fail(stats.reason || 'send: too much waits', message.records);
        else {
          waitingBytes += message.bytes.length;
          queue.push(message);
        }
      }
      pump();
    },
    stats: () => ({ ...stats }),
    async close() {
      if (closed) return;
      if (queue.length > 0 || inSocket > 0) {
        let grace: NodeJS.Timeout | undefined;
        await new Promise<void>((done) => {
          onIdle = done;
          grace = setTimeout(done, CLOSE_GRACE_MS);
          pump();
        });
        clearTimeout(grace);
      }
      closed = true;
      clearTimeout(timer);
      const left = queue.splice(0).reduce((sum, { records }) => sum + records, 0);
      if (left > 0) fail(stats.reason || 'closed', left);
      socket?.close();
      socket = undefined;
    },
  };
}

function describe(doing: string, error: Error): string {
  const { code } = error as NodeJS.ErrnoException;
  return `${doing}: ${code ?? error.message}`;
}
