// `taplane lane`: the data-plane process. It outlives the agent. It ends on SIGTERM, when the agent says that nothing is left to do, and by
// itself when no agent speaks to it and it holds nothing or cannot be found. With `--stay`, for a container or unit of its own, it does not
// end for want of an agent or of work: only on SIGTERM, and when its socket is gone, so that whoever keeps it running starts it anew.

import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { TaplaneError } from '../errors.ts';
import type { LaneState } from '../gen/taplane/lane/v1/lane_service.ts';
import { type Lane, openLane } from '../lane/lane.ts';
import { linkMissing } from '../lane/link/probe.ts';
import { packetSocketOf } from '../lane/place.ts';
import { timestamp } from '../resource/timestamp.ts';
import { startLaneServer } from '../rpc/lane-server.ts';
import { pidNamespace } from '../sys/pid-namespace.ts';
import { keepMemoryOutOfCoreDumps } from './core-dumps.ts';
import { giveBackMemoryWhenIdle } from './idle-memory.ts';
import { type AgentLog, isLevel, openLog } from './log.ts';
import { notifier } from './notify.ts';
import { agentVersion } from './version.ts';

const ALONE_MS = 10_000;
const LAST_ANSWER_MS = 100;
/** When what was to be done at once is done. */
const SETTLED_MS = 2000;
/** Without an agent meters go on for so long: an upgrade is over by then, and their records wait in memory. */
const METERING_ALONE_MS = 10 * 60_000;
/** How long records may still wait to be fetched when nothing else is left to do. */
const LAST_RECORDS_MS = 5_000;

export interface LaneOptions {
  socket: string;
  /** Somebody else starts it and ends it. */
  stay?: boolean;
}

/** Runs until it ends; answers the exit code. */
export async function runLane({ socket, stay = false }: LaneOptions): Promise<number> {
  process.umask(0o077);
  keepMemoryOutOfCoreDumps();
  process.title = 'taplane lane';
  const log: AgentLog = openLog('info');
  const { promise: ended, resolve: end } = Promise.withResolvers<string>();
  const instance = randomBytes(16).toString('hex');
  const startTime = timestamp(performance.timeOrigin);
  let alone: NodeJS.Timeout | undefined;
  let lane: Lane | undefined;
  let heardAt = performance.now();
  let over = false;
  const heard = (): void => {
    if (over) return;
    heardAt = performance.now();
    waitAlone();
  };
  const waitAlone = (): void => {
    clearTimeout(alone);
    alone = setTimeout(() => {
      // Without its socket no agent can ever take it over.
      if (!existsSync(socket)) end('its socket is gone');
      // What it holds is what it is for, also without an agent.
      else if (stay || lane?.isUsed() === true) heard();
      else if (lane?.isUsed() && performance.now() - heardAt < METERING_ALONE_MS) waitAlone();
      else end('nobody speaks to it');
    }, ALONE_MS);
  };
  const state = (): LaneState => ({
    pid: process.pid,
    instance,
    pidNamespace: pidNamespace(),
    version: agentVersion,
    startTime,
    attachments: lane?.attachments() ?? [],
    streams: lane?.streams() ?? [],
    streamTotals: lane?.streamTotals(),
  });
  let leaving = false;
  const endIfUnused = (deadline = performance.now() + LAST_RECORDS_MS): void => {
    const used = lane?.isUsed();
    if (used === true || !leaving) return;
    if (used === 'metering' && performance.now() < deadline) setTimeout(() => endIfUnused(deadline), LAST_ANSWER_MS);
    else end('nothing left to do');
  };
  const server = await startLaneServer(
    socket,
    {
      getLane() {
        heard();
        return state();
      },
      setAttachments({ attachments, keepRunning, flowLimits, pid, instance: meant, logLevel }) {
        if ((meant !== '' && meant !== instance) || (pid !== 0 && pid !== process.pid))
          throw new TaplaneError(
            'FAILED_PRECONDITION',
            'OTHER_LANE',
            `declare attachments: process ${meant || pid} is meant, this is ${meant === '' ? process.pid : instance}`,
          );
        // What was taken now would never be let go of again.
        if (over) return state();
        heard();
        follow(log, logLevel);
        lane?.setAttachments(attachments, flowLimits);
        const toldBefore = leaving;
        leaving = attachments.length === 0 && !keepRunning && !stay;
        // After the answer is out.
        if (leaving && !toldBefore) setTimeout(() => endIfUnused(), LAST_ANSWER_MS);
        return state();
      },
      async *probePeer({ linkUid, probe }, signal) {
        if (lane === undefined || probe === undefined) throw linkMissing(linkUid);
        yield* lane.probe(linkUid, probe, signal);
      },
    },
    log,
  );
  // Only who holds the first socket may take the second.
  lane = await openLane(packetSocketOf(socket), log);
  heard();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => end(signal));
  // Nothing to read again.
  process.on('SIGHUP', () => {});
  log.info({ pid: process.pid, socket }, 'lane ready');
  // Node writes the code that it has compiled when a process ends well. The lane after one that was killed has to be there at once all the same.
  setTimeout(flushCompileCache, SETTLED_MS).unref();
  giveBackMemoryWhenIdle();
  // A lane that an agent has started is none of the manager's business.
  const manager = stay ? notifier(log) : undefined;
  manager?.ready();
  const reason = await ended;
  manager?.stopping();
  over = true;
  clearTimeout(alone);
  await lane.close();
  await server.stop();
  log.info({ reason }, 'lane ends');
  return 0;
}

/** Logs what the agent logs. A change is said, whichever way it goes. */
function follow(log: AgentLog, level: string): void {
  if (!isLevel(level) || level === log.level) return;
  const say = (): void => log.info({ log_level: level }, 'log level set');
  say();
  const wasQuiet = log.level === 'warn' || log.level === 'error';
  log.setLevel(level);
  if (wasQuiet) say();
}
