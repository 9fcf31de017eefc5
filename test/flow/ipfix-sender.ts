// A process that sends random records to a collector and prints its statistics: what must run inside of a namespace.
//
//   node ipfix-sender.ts COLLECTOR SEED COUNT

import { openIpfixExporter } from '../../src/flow/ipfix-exporter.ts';
import { random } from '../harness/random.ts';
import { INTERFACES, randomBatches } from './flow-records.ts';

const [collector = '', seed = '', count = ''] = process.argv.slice(2);
const log = { info: (fields: object) => console.error(fields), warn: (fields: object) => console.error(fields) };
const exporter = openIpfixExporter({ collector, observationDomainId: 7, interfaceIndex: (name) => INTERFACES[name] ?? 0, log });
for (const batch of randomBatches(random('ipfix', Number(seed)), Number(count))) {
  exporter.send(batch);
  // As a busy node does, not all in one moment.
  await new Promise((resolve) => setTimeout(resolve, 10));
}
await exporter.close();
console.log(JSON.stringify(exporter.stats(), (_key, value) => (typeof value === 'bigint' ? Number(value) : value)));
