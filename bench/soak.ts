// `npm run bench -- soak`: on a quiet machine, the acceptance figures of docs/performance.md as they stand there, and the tests of
// crashes, bad input, many devices, flow records and links at length: 1,000 kills, 1,000,000 mutated requests, 2,000 devices, NATS away for a
// minute and killed 20 times, unless the environment says otherwise. One file at a time. Takes more than an hour.

import { spawnSync } from 'node:child_process';

/** The files that measure, then those that last. */
const FILES = [
  'test/e2e/scale.test.ts',
  'test/e2e/drift.test.ts',
  'test/e2e/traffic.test.ts',
  'test/e2e/lane.test.ts',
  'test/e2e/slow-subscriber.test.ts',
  'test/e2e/faults.test.ts',
  'test/e2e/observability.test.ts',
  'test/metrics/catalogue.test.ts',
  'test/agent/http.test.ts',
  'test/agent/command.kernel.test.ts',
  'test/kernel/reconcile.test.ts',
  'test/kernel/lifecycle.test.ts',
  'test/e2e/crash.test.ts',
  'test/e2e/syscalls.test.ts',
  'test/e2e/bad-input.test.ts',
  'test/e2e/flow-faults.test.ts',
  'test/e2e/flow-disk-full.test.ts',
  'test/e2e/flow-export.test.ts',
  'test/lane/frames-tcp.kernel.test.ts',
  'test/lane/vxlan/kernel-peer.kernel.test.ts',
  'test/lane/vxlan/remotes.kernel.test.ts',
  'test/lane/wireguard/wireguard-go.kernel.test.ts',
  'test/lane/wireguard/storm.test.ts',
  'test/packet/prefix-trie.test.ts',
  'test/e2e/hostile-connections.test.ts',
  'test/rpc/tls-rotation.test.ts',
  'test/e2e/link-faults.test.ts',
  'test/e2e/link-mtu.test.ts',
  'test/e2e/link-kills.test.ts',
  'test/e2e/link-bridge.test.ts',
  'test/e2e/link-peers.test.ts',
  'test/e2e/docs.test.ts',
  'test/e2e/controllers.test.ts',
  'test/agent/hosts.kernel.test.ts',
  'test/audit/log.test.ts',
  'test/e2e/audit.test.ts',
  'test/e2e/shutdown.test.ts',
  'test/e2e/external-lane.test.ts',
  'test/deploy/image.kernel.test.ts',
  'test/deploy/package.kernel.test.ts',
];
const TELLING =
  /scrape of|kills,|stops,|exactly once|NATS .* a call|disk full|codes:|ratio|restart|repairs in|n=\d+ p50|to watcher|lane back|lane killed|image contents|idle memory|stall|loop:|moves:|joined|peers of|accepted|a cycle|% of a core|refused|packets\/s|hostile connections:|TAPLANE_SEED|Tests /;

const LENGTHS = {
  TAPLANE_KILLS: '1000',
  TAPLANE_MUTATIONS: '1000000',
  TAPLANE_CYCLES: '2000',
  TAPLANE_OUTAGE_S: '60',
  TAPLANE_AGENT_KILLS: '100',
  TAPLANE_NATS_RESTARTS: '20',
  TAPLANE_FAULT_CALLS: '2000',
};

export async function soakBench(): Promise<string[]> {
  const env = { ...LENGTHS, TAPLANE_STRICT: '1', ...process.env };
  const told: string[] = [];
  const failed: string[] = [];
  for (const file of FILES) {
    const { status, stdout, stderr } = spawnSync('vitest', ['run', file], { env, encoding: 'utf8', maxBuffer: 64 * 2 ** 20 });
    told.push(file, ...stdout.split('\n').filter((line) => TELLING.test(line) && !line.includes('stdout')));
    if (status !== 0) failed.push(`${file}\n${stdout}\n${stderr}`);
  }
  if (failed.length > 0) throw new Error(`soak failed\n${told.join('\n')}\n${failed.join('\n')}`);
  return told;
}
