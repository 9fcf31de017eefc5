// `ping` in a namespace: whether something answers, and how many answers came.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Namespace } from './namespace.ts';

/** Asks until it answers: after the carrier has come the kernel takes up to a second to send anything. */
export async function untilAnswers(ns: Namespace, address: string, timeoutMs = 20_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const { code, stdout, stderr } = await ns.exec(['ping', '-n', '-c', '1', '-W', '0.3', address]);
    if (code === 0) return;
    if (performance.now() > deadline) throw new Error(`${address} does not answer within ${timeoutMs} ms\n${stdout}${stderr}`);
    await sleep(20);
  }
}

export interface Pings {
  /** Different requests, of those that were asked for, that were answered. */
  received: number;
  /** Requests, of those that were asked for, that were not. */
  lost: number;
  /** What was amiss with answers: duplicates, errors. */
  more: string;
  /** Requests sent: up to some that were on their way when the last answer that was asked for came. */
  transmitted: number;
}

/** Echo requests until `count` (at most 65535) are answered or `seconds` are over. More options of ping before the address. */
export async function pings(ns: Namespace, address: string, count: number, ...options: string[]): Promise<Pings> {
  // With a deadline ping waits for as many answers as there are to be, and asks on meanwhile. Without one it takes an answer that comes
  // later than twice the slowest for lost; on a busy machine some do.
  const seconds = 60;
  const command = ['ping', '-n', '-c', String(count), '-w', String(seconds), ...options, address];
  const { stdout, stderr } = await ns.exec(command, { timeoutMs: 2 * seconds * 1000 });
  const transmitted = /^(\d+) packets transmitted/m.exec(stdout)?.[1];
  if (transmitted === undefined) throw new Error(`ping ${address}: ${stdout}${stderr}`);
  const answered = new Set([...stdout.matchAll(/ bytes from .* icmp_seq=(\d+) /g)].map((match) => Number(match[1])));
  const received = [...answered].filter((number) => number <= count).length;
  const amiss = stdout.split('\n').filter((line) => /DUP!|^From |wrong|truncated|different|damaged/.test(line));
  return { received, lost: count - received, more: amiss.slice(0, 3).join('; '), transmitted: Number(transmitted) };
}

/** As fast as answers come, with up to 16 requests on their way. */
export function floodPings(ns: Namespace, address: string, count: number): Promise<Pings> {
  return pings(ns, address, count, '-i', '0', '-l', '16');
}
