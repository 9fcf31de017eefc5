// taplane flow top, and the rates that it shows.

import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Rates } from '../../src/cli/flow-rates.ts';
import type { Flow } from '../../src/gen/taplane/v1/flow.ts';
import { batch } from '../flow/flow-values.ts';
import { eventually } from '../rpc/served.ts';
import { type FlowAgent, flowAgent } from './flow-agent.ts';
import { TAPLANE } from './run-taplane.ts';

let on: FlowAgent;
beforeEach(async () => {
  on = await flowAgent();
});
afterEach(() => on[Symbol.asyncDispose]());

describe('top', () => {
  const recent = (partial: Partial<Flow>): Partial<Flow> => {
    const seconds = BigInt(Math.floor(Date.now() / 1000));
    return { startTime: { seconds: seconds - 10n, nanos: 0 }, endTime: { seconds, nanos: 0 }, event: 2, ...partial };
  };
  const traffic = (bytes: number) => ({ packets: 10n, bytes: BigInt(bytes), totalPackets: 0n, totalBytes: 0n });

  test('orders flows by rate, a table each interval where stdout is no terminal', async () => {
    on.put(
      recent({ flowId: 'a', forward: traffic(1000), reverse: undefined }),
      recent({ flowId: 'b', sourcePort: 2, forward: traffic(50_000), reverse: traffic(50_000) }),
      recent({ flowId: 'c', sourcePort: 3, forward: traffic(74), reverse: undefined, destinationPort: 443 }),
    );
    const { stdout, code, stderr } = await on.run('top --count 2 --interval 200ms -n 2 --port 80');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const table = `INTERFACE   PROTO   SOURCE           DESTINATION   BYTES/S   PACKETS/S
tap0        tcp     10.0.0.1:2       10.0.0.2:80   10k       2
tap0        tcp     10.0.0.1:40000   10.0.0.2:80   100       1
`;
    const tables = stdout.split(/^\d\d:\d\d:\d\d {2}the busiest by bytes, every 0.2 s\n/m);
    expect(tables).toEqual(['', `${table}\n`, table]);
    const flows = (await on.run('top --by flows --count 1 --interval 100ms')).stdout;
    expect(flows).toMatch(
      /FLOWS\ntap0 +tcp +10\.0\.0\.1 +10\.0\.0\.2:80 +10k +3 +2\ntap0 +tcp +10\.0\.0\.1 +10\.0\.0\.2:443 +7\.4 +1 +1\n/,
    );
    expect(JSON.parse((await on.run('top --count 1 --interval 100ms -o json -n 1')).stdout)).toMatchObject({
      flows: [{ bytes: 10_000, source: '10.0.0.1:2' }],
    });
  });

  test('is drawn in place on a terminal', async () => {
    on.put(recent({ flowId: 'a', forward: traffic(1000), reverse: undefined }));
    // script(1) gives it one, of no size.
    const shownBy = async (count: number): Promise<string> => {
      const command = `${TAPLANE} --server ${on.agent.address} flow top --count ${count} --interval 100ms`;
      const child = spawn('script', ['-qec', command, '/dev/null'], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { ...process.env, TERM: 'xterm' },
      });
      return await text(child.stdout);
    };
    const shown = await shownBy(2);
    expect(shown.split('\x1b[H')).toHaveLength(3);
    const visible = shown.replaceAll('\x1b', 'ESC').replaceAll('\r', '');
    expect(visible).toMatch(/10\.0\.0\.1:40000 +10\.0\.0\.2:80 +100 +1ESC\[K\nESC\[KESC\[J$/);
    // One alone takes nothing away from the screen.
    expect(await shownBy(1)).not.toContain('\x1b[H');
  });

  test('Ctrl-C ends it with 0', async () => {
    const going = on.running('top --interval 100ms');
    await eventually(() => going.said.stdout.includes('no flows'));
    expect(await going.stop()).toBe(0);
  });

  test('rates hold until the next record, and end with the flow or with silence', () => {
    const rates = new Rates();
    const record = (event: Flow['event'], from: number, to: number, bytes: number) =>
      batch(1, [
        {
          event,
          startTime: { seconds: BigInt(from), nanos: 0 },
          endTime: { seconds: BigInt(to), nanos: 0 },
          forward: traffic(bytes),
          reverse: undefined,
        },
      ]);
    const now = (ms: number) => rates.top('bytes', 10, ms).map(({ bytes }) => bytes);
    rates.take(record(1, 100, 101, 500), 0);
    expect(now(1)).toEqual([500]);
    rates.take(record(2, 100, 161, 6000), 1000);
    expect([now(2000), now(50_000)]).toEqual([[100], [100]]);
    rates.take(record(3, 100, 171, 1000), 60_000);
    expect([now(61_000), now(62_000)]).toEqual([[100], []]);
    rates.take(record(2, 100, 231, 600), 100_000);
    expect([now(279_000).length, now(281_000)]).toEqual([1, []]);
  });
});
