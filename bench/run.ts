// `npm run bench`: figures of this machine, each as a ratio against something real measured in the same run. Needs root; works in
// network namespaces of its own. `npm run bench -- NAME` runs one.

import { aeadBench } from './aead.ts';
import { auditBench } from './audit.ts';
import { confinedBench } from './confined.ts';
import { cutCoalesceBench } from './cut-coalesce.ts';
import { flowEncodeBench } from './flow-encode.ts';
import { flowExportBench } from './flow-export.ts';
import { flowMeterBench } from './flow-meter.ts';
import { interfacesBench } from './interfaces.ts';
import { lanePatchBench } from './lane-patch.ts';
import { laneStreamBench } from './lane-stream.ts';
import { linksBench } from './links.ts';
import { netlinkBench } from './netlink.ts';
import { slowSubscriberBench } from './slow-subscriber.ts';
import { soakBench } from './soak.ts';
import { startBench } from './start.ts';

const benches: Record<string, () => Promise<string[]>> = {
  netlink: netlinkBench,
  start: startBench,
  interfaces: interfacesBench,
  audit: auditBench,
  'lane-patch': lanePatchBench,
  'lane-stream': laneStreamBench,
  'flow-meter': flowMeterBench,
  'flow-export': flowExportBench,
  'flow-encode': flowEncodeBench,
  aead: aeadBench,
  links: linksBench,
  'cut-coalesce': cutCoalesceBench,
};
/** Only when asked for by name. */
const long: Record<string, () => Promise<string[]>> = { soak: soakBench, confined: confinedBench, 'slow-subscriber': slowSubscriberBench };
const wanted = process.argv.slice(2);

for (const [name, run] of Object.entries({ ...benches, ...long })) {
  if (wanted.length > 0 ? !wanted.includes(name) : name in long) continue;
  for (const line of await run()) console.log(`${name.padEnd(11)} ${line}`);
}
