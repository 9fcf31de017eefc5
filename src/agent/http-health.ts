// Whether the agent lives and is ready, as text for probes. It lives when it answers at all: that says that its event loop turns, and depends on
// nothing outside. It is ready when calls are answered as they should be. NATS is no part of it: an agent without NATS is a whole agent.

import { type Condition, Condition_Status } from '../gen/taplane/v1/interface.ts';
import type { Lane } from '../gen/taplane/v1/node_service.ts';
import type { HttpAnswer, HttpRoute } from './http.ts';

export interface HealthCheck {
  /** One word; a closed set, since it is a label. */
  name: string;
  ok: boolean;
  /** For people. */
  detail: string;
}

export interface ReadinessFacts {
  /** Undefined before calls are answered, false when the agent stops. */
  serving: boolean | undefined;
  storesOpen: boolean;
  /** Nothing of the state was put aside. */
  intact: boolean;
  /** Those that run or should. */
  lanes: readonly Pick<Lane, 'name' | 'pid'>[];
}

/** Every check, in the order in which they come true. Pure. */
export function readiness({ serving, storesOpen, intact, lanes }: ReadinessFacts): HealthCheck[] {
  const silent = lanes.filter(({ pid }) => pid === 0).map(({ name }) => name);
  const open = intact ? 'open' : 'open; some of the state was put aside, see the condition StateIntact';
  return [
    { name: 'stores', ok: storesOpen, detail: storesOpen ? open : 'not open yet' },
    {
      name: 'lane',
      ok: silent.length === 0,
      detail: silent.length > 0 ? `no answer from ${silent.join(', ')}` : lanes.length === 0 ? 'none is needed' : `${lanes.length} answer`,
    },
    {
      name: 'serving',
      ok: serving === true,
      detail: serving ? 'calls are answered' : serving === undefined ? 'still starting' : 'stopping',
    },
  ];
}

/** Nothing of the state was put aside. */
export function isIntact(conditions: readonly Condition[]): boolean {
  return conditions.find(({ type }) => type === 'StateIntact')?.status !== Condition_Status.FALSE;
}

const TEXT = 'text/plain; charset=utf-8';

/** 200 whenever it is asked. */
export const livez: HttpRoute = (query) => ({
  status: 200,
  contentType: TEXT,
  body: query.has('verbose') ? '[+] event-loop: turns\nok\n' : 'ok\n',
});

/** 200 when every check passes, else 503. One line for each check; with `?verbose` also why. */
export function readyz(checks: () => readonly HealthCheck[]): HttpRoute {
  return (query) => healthAnswer(checks(), query.has('verbose'));
}

/** 200 when all checks are well, else 503; a line each, with what is behind it where that is asked for or not well. */
export function healthAnswer(checks: readonly HealthCheck[], verbose: boolean): HttpAnswer {
  const isReady = checks.every(({ ok }) => ok);
  const lines = checks.map(({ name, ok, detail }) => `[${ok ? '+' : '-'}] ${name}${verbose || !ok ? `: ${detail}` : ''}\n`);
  return { status: isReady ? 200 : 503, contentType: TEXT, body: `${lines.join('')}${isReady ? 'ready' : 'not ready'}\n` };
}
