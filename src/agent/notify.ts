// What a service manager is told in the way of sd_notify(3): ready, stopping, still alive. Only where it asks for it, by NOTIFY_SOCKET; nobody
// who does not listen can keep an agent or a lane from running.
//
//   ready --(every half of WATCHDOG_USEC: WATCHDOG=1)--> stopping

import { sendUnixDatagram } from '../sys/unix-datagram.ts';

export interface Notifier {
  /** It serves. From here on the watchdog is told, as long as the event loop turns. */
  ready(): void;
  /** It ends. */
  stopping(): void;
}

/** Warns once when the manager cannot be reached. */
export function notifier(
  log: { warn(fields: object, message: string): void },
  env: NodeJS.ProcessEnv = process.env,
  pid: number = process.pid,
): Notifier {
  const socket = env.NOTIFY_SOCKET ?? '';
  const watchdogMs = watchdogOf(env, pid);
  let timer: NodeJS.Timeout | undefined;
  let complained = false;
  const tell = (text: string): void => {
    if (!socket.startsWith('/') && !socket.startsWith('@')) return;
    try {
      sendUnixDatagram(socket, text);
    } catch (error) {
      if (!complained) log.warn({ path: socket, error }, 'service manager not told');
      complained = true;
    }
  };
  return {
    ready() {
      tell(`READY=1\nMAINPID=${pid}`);
      if (watchdogMs === undefined) return;
      tell('WATCHDOG=1');
      timer = setInterval(() => tell('WATCHDOG=1'), watchdogMs / 2);
      timer.unref();
    },
    stopping() {
      clearInterval(timer);
      tell('STOPPING=1');
    },
  };
}

/** Milliseconds within which the manager wants to hear something; undefined where it does not, or asks another process (WATCHDOG_PID). Pure. */
export function watchdogOf(
  { WATCHDOG_USEC: microseconds = '', WATCHDOG_PID: meant = '' }: NodeJS.ProcessEnv,
  pid: number,
): number | undefined {
  if (!/^\d{1,15}$/.test(microseconds) || Number(microseconds) === 0) return undefined;
  return meant === '' || Number(meant) === pid ? Number(microseconds) / 1000 : undefined;
}
