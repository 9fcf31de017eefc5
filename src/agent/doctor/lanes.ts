// The data-plane processes that something else keeps running: whether each answers on its socket. Those of an agent itself are its own care.

import { join } from 'node:path';
import type { Config } from '../config.ts';
import { type Check, pass, warn } from './check.ts';
import { dial } from './services.ts';

/** One check a lane; none where the agent starts its lanes. */
export async function judgeLanes({ laneMode, lanes, runtimeDir }: Pick<Config, 'laneMode' | 'lanes' | 'runtimeDir'>): Promise<Check[]> {
  if (laneMode !== 'external') return [];
  const names = Array.from({ length: lanes }, (_, number) => `lane-${number}`);
  return Promise.all(
    names.map(async (name) => judgeLane(name, join(runtimeDir, `${name}.sock`), await dial(`unix:${runtimeDir}/${name}.sock`))),
  );
}

/** `error` is the errno name of a connection attempt, empty when somebody answered. */
function judgeLane(name: string, socket: string, error: string): Check {
  if (error === '') return pass(name, `a data-plane process answers at ${socket}`);
  const found =
    error === 'ENOENT' ? `${socket} is not there` : error === 'ECONNREFUSED' ? `nobody answers at ${socket}` : `${socket}: ${error}`;
  return warn(
    name,
    `${found}: streams, responders, links and flows on it do nothing`,
    `see whether the container or unit of the lane runs and shares the runtime directory: taplane lane --socket ${socket} --stay; or let the agent start its lanes: laneMode: spawn`,
  );
}
