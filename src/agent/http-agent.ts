// What an agent shows over HTTP: `/livez`, `/readyz`, `/metrics`. It is there before anything else is opened and goes last, so that a start or a stop
// that takes long can be told from one that hangs.

import { type HttpListener, type HttpRoute, startHttp } from './http.ts';
import { type HealthCheck, livez, readiness, readyz } from './http-health.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';

/** What is shown once the agent is whole. */
export interface Shown {
  checks(): readonly HealthCheck[];
  metrics: Pick<Metrics, 'scrape'>;
}

export interface AgentHttp {
  show(shown: Shown): void;
  stop(): Promise<void>;
}

const STARTING = readiness({ serving: undefined, storesOpen: false, intact: true, lanes: [] });

/** Starts it; with `off` there is nothing. Throws for an address that does not read. */
export async function agentHttp({ listen }: { listen: string }, log: Log): Promise<AgentHttp> {
  let shown: Shown | undefined;
  const metrics: HttpRoute = async () => {
    if (shown === undefined) return { status: 503, contentType: 'text/plain; charset=utf-8', body: 'still starting\n' };
    return { status: 200, ...(await shown.metrics.scrape()) };
  };
  const routes = { '/livez': livez, '/readyz': readyz(() => shown?.checks() ?? STARTING), '/metrics': metrics };
  const listener: HttpListener | undefined = listen === 'off' ? undefined : await startHttp({ listen, routes, log });
  return {
    show(given) {
      shown = given;
    },
    async stop() {
      await listener?.stop();
    },
  };
}
