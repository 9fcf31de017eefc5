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
  sent: number;
  received: number;
  /** What the answers were like, or why there was none: duplicates, errors. */
  more: string;
}

/** Sends `count` echo requests, more options of ping before the address. */
export async function pings(ns: Namespace, address: string, count: number, ...options: string[]): Promise<Pings> {
  const { stdout, stderr } = await ns.exec(['ping', '-n', '-q', '-W', '5', '-c', String(count), ...options, address], {
    timeoutMs: 100_000,
  });
  const found = /(\d+) packets transmitted, (\d+) received(.*), [\d.]+% packet loss/.exec(stdout);
  if (found === null) throw new Error(`ping ${address}: ${stdout}${stderr}`);
  return { sent: Number(found[1]), received: Number(found[2]), more: found[3] ?? '' };
}

/** As fast as answers come, with up to 16 requests on their way. */
export function floodPings(ns: Namespace, address: string, count: number): Promise<Pings> {
  return pings(ns, address, count, '-f', '-l', '16');
}
