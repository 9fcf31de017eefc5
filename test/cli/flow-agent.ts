// A served agent for tests of the flow commands: a ring in memory behind a real server on a unix socket, and what it was asked.

import type { Flows } from '../../src/flow/contract.ts';
import { openFlows } from '../../src/flow/flows.ts';
import { FlowRing } from '../../src/flow/ring.ts';
import type { Flow, FlowBatch } from '../../src/gen/taplane/v1/flow.ts';
import { FlowStats, type ObserveFlowsRequest } from '../../src/gen/taplane/v1/flow_service.ts';
import { batch, encoded } from '../flow/flow-values.ts';
import { type Served, served } from '../rpc/served.ts';
import { type Ran, start, taplane } from './run-taplane.ts';

// Lines show the time of day where they are printed.
process.env['TZ'] = 'UTC';

const stats = FlowStats.fromPartial({
  interfaces: [
    {
      interface: 'interfaces/tap0',
      active: true,
      epoch: 'e0',
      records: 7n,
      totals: { seenPackets: 100n, seenBytes: 9000n, activeFlows: 3n, droppedFrames: 2n },
    },
    { interface: 'interfaces/tun0', reason: 'the data plane is away' },
  ],
  export: {
    spooledMessages: 2n,
    spooledBytes: 2048n,
    spoolLimitBytes: 1024n * 1024n,
    publishedRecords: 5n,
    publishedMessages: 4n,
    oldestSeconds: 9n,
    lost: [{ reason: 2, count: 3n }],
  },
  ipfix: { collector: 'c:4739', messages: 1n, records: 2n },
});

export interface Running {
  /** What it has written so far. */
  said: { stdout: string; stderr: string };
  /** Sends Ctrl-C; resolves with the exit code. */
  stop(): Promise<number | null>;
}

export interface FlowAgent extends AsyncDisposable {
  agent: Served;
  ring: FlowRing;
  /** What was asked, in turn. */
  requests: ObserveFlowsRequest[];
  /** Puts a batch of tap0; records are numbered. */
  put(...flows: Partial<Flow>[]): void;
  putBatch(value: FlowBatch): void;
  /** Ends all observers, as an agent that stops in order does. */
  end(): void;
  /** Runs `taplane flow` and these words. */
  run(line: string): Promise<Ran>;
  running(line: string): Running;
}

const words = (line: string): string[] => ['flow', ...line.split(' ').filter(Boolean)];

export async function flowAgent(): Promise<FlowAgent> {
  const ring = new FlowRing();
  const requests: ObserveFlowsRequest[] = [];
  const flows = openFlows({ ring, interfaces: () => stats.interfaces, exported: () => stats.export, ipfix: () => stats.ipfix });
  const observe: Flows['observe'] = (request, signal) => {
    requests.push(request);
    return flows.observe(request, signal);
  };
  const agent = await served({ flows: { ...flows, observe } });
  const putBatch = (value: FlowBatch): void => void ring.put(encoded(value));
  return {
    agent,
    ring,
    requests,
    putBatch,
    end: flows.end,
    put: (...list) => putBatch(batch(1 + ring.totals.records, list)),
    run: (line) => taplane(words(line), agent.address),
    running(line) {
      const child = start(words(line), agent.address);
      const said = { stdout: '', stderr: '' };
      child.stdout?.on('data', (piece) => {
        said.stdout += piece;
      });
      child.stderr?.on('data', (piece) => {
        said.stderr += piece;
      });
      const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
      return {
        said,
        stop() {
          child.kill('SIGINT');
          return ended;
        },
      };
    },
    [Symbol.asyncDispose]: () => agent[Symbol.asyncDispose](),
  };
}
