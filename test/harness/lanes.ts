// The data-plane processes of an agent under test, which outlive it on purpose: a test has to end them itself.

import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Agent } from './agent.ts';
import type { KernelEvent } from './ip-monitor.ts';

/** Process ids of the lanes that an agent knows of and that run. */
export async function lanesOf(agent: Agent): Promise<number[]> {
  const client = agent.client();
  try {
    return (await client.node.getNode()).lanes.map(({ pid }) => pid).filter((pid) => pid > 1);
  } finally {
    client.close();
  }
}

/** Ends every lane of an agent, whether the agent still runs or not, and the agent, which would start them again. */
export async function stopLanes(agent: Agent): Promise<void> {
  await agent.kill9();
  await endLanes(agent.runtimeDir);
}

/** Ends the lanes that serve in a directory. */
export async function endLanes(runtimeDir: string): Promise<void> {
  for (const pid of lanesIn(runtimeDir)) {
    process.kill(pid, 'SIGKILL');
    while (existsSync(`/proc/${pid}`) && !isZombie(pid)) await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Process ids of lanes that serve in a directory. */
export function lanesIn(runtimeDir: string): number[] {
  return lanesUnder(`${runtimeDir}/lane-`);
}

/** Process ids of lanes whose log has a path that begins so: their title is their own, and not yet set in one that is just starting. */
export function lanesUnder(prefix: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 1 && pid !== process.pid && logOf(pid).startsWith(prefix));
}

function logOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/fd/2`);
  } catch {
    return '';
  }
}

function isZombie(pid: number): boolean {
  try {
    return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return true;
  }
}

/** Notifications of a device that say that its carrier was gone. */
export function lostCarrier(events: readonly KernelEvent[], device: string): string[] {
  return events
    .filter((event) => event.kind === 'link' && event.device === device && !event.text.includes('LOWER_UP'))
    .map(({ text }) => text);
}
