// A flood for a TUN, in a process of its own that holds its queue: `frame-flood.ts DEVICE`. For each line `KIND COUNT SEED PER_SECOND` on its
// standard input it writes so many SYN packets, `scan` no two of which are of one flow, `usual` of USUAL_FLOWS flows in turn, or `single` all of
// one; then says how many went in.

import { createInterface } from 'node:readline';
import * as libc from '../../src/sys/libc.ts';
import { attachTun } from '../../src/sys/tun.ts';
import { synScan } from './syn-scan.ts';

const [device = ''] = process.argv.slice(2);
const BURST = 64;
const USUAL_FLOWS = 4096;
const fd = attachTun(device, { mode: 'tun', multiQueue: false, packetInfo: false, vnetHeader: false });
const sleeper = new Int32Array(new SharedArrayBuffer(4));
console.log('held');

function* inTurn(flows: number, count: number, seed: number): Generator<Buffer> {
  const frames = Array.from(synScan(flows, seed), (frame) => Buffer.from(frame));
  for (let index = 0; index < count; index++) yield frames[index % flows] as Buffer;
}

for await (const line of createInterface(process.stdin)) {
  const [kind, count, seed, perSecond] = line.split(' ').map((word, index) => (index === 0 ? word : Number(word))) as [
    string,
    number,
    number,
    number,
  ];
  const begun = performance.now();
  let sent = 0;
  for (const frame of kind === 'scan' ? synScan(count, seed) : inTurn(kind === 'usual' ? USUAL_FLOWS : 1, count, seed)) {
    if (sent % BURST === 0) while (sent > ((performance.now() - begun) / 1000) * perSecond) Atomics.wait(sleeper, 0, 0, 0.2);
    if (libc.write(fd, frame, frame.length) === frame.length) sent++;
  }
  console.log(JSON.stringify({ sent, perSecond: Math.round(sent / ((performance.now() - begun) / 1000)) }));
}
