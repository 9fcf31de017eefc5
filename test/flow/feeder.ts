// A stand-in for an agent and its lanes: feeds an exporter until it is killed. Lanes remember what was taken, one number in a file for
// each; being killed between `put` and that makes the same batch come again.
//
//   feeder.ts FOLDER PORT INTERFACES BATCHES MOST_RECORDS PAUSE_MS    port 0: without NATS, it only spools

import { closeSync, existsSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openExporter } from '../../src/flow/exporter.ts';
import { connectNats } from '../../src/nats/connection.ts';
import { EXPORTING, meter } from './batches.ts';

const [folder = '', port = '', interfaces = '1', batches = '100', mostRecords = '20', pauseMs = '1'] = process.argv.slice(2);
const silent = { debug() {}, info() {}, warn() {} };
const link = connectNats({
  mode: port === '0' ? 'off' : `nats://127.0.0.1:${port}`,
  name: 'feeder',
  stateDir: folder,
  log: silent,
  random: () => 0,
});
const exporter = openExporter({
  ...EXPORTING,
  file: join(folder, 'spool', 'spool.db'),
  cluster: 'c',
  node: 'n',
  mode: 'jetstream',
  connection: () => (port === '0' ? undefined : link.connection()),
  log: silent,
  times: { ackMs: 1_000, checkMs: 1_000 },
});

const lanes = Array.from({ length: Number(interfaces) }, (_, number) => {
  const path = join(folder, `lane-${number}`);
  const taken = existsSync(path) ? Number(readFileSync(path, 'utf8') || 0) : 0;
  return {
    meter: meter(`t${number}`, `e${number}`.padEnd(16, '0'), Number(mostRecords)),
    fd: openSync(path, existsSync(path) ? 'r+' : 'w+'),
    taken,
  };
});
process.stdout.write('ready\n');
for (let busy = true; busy; ) {
  busy = false;
  for (const lane of lanes) {
    if (lane.taken >= Number(batches)) continue;
    busy = true;
    exporter.put([lane.meter.batch(lane.taken)]);
    lane.taken += 1;
    writeSync(lane.fd, String(lane.taken).padEnd(12), 0);
  }
  await sleep(Number(pauseMs));
}
process.stdout.write('fed\n');
for (;;) {
  const stats = exporter.stats();
  if (stats.spooledMessages === 0n && stats.reason === '') break;
  await sleep(20);
}
process.stdout.write('done\n');
await exporter.close(0);
await link.close();
for (const { fd } of lanes) closeSync(fd);
