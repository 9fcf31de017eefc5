// The support bundle: what somebody who was not there needs to understand a node, as one tar.gz. Every part has its time and its size; one that fails
// is told of in `about.json` and does not keep the others from coming. No part asks for keys, and all text passes `redact` at the end.

import { readdirSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import os from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { TaplaneError } from '../errors.ts';
import { FlowStats } from '../gen/taplane/v1/flow_service.ts';
import { Interface } from '../gen/taplane/v1/interface.ts';
import { ListInterfacesRequest } from '../gen/taplane/v1/interface_service.ts';
import { Link } from '../gen/taplane/v1/link.ts';
import { ListLinksRequest } from '../gen/taplane/v1/link_service.ts';
import { Node } from '../gen/taplane/v1/node_service.ts';
import type { Interfaces } from '../interface/contract.ts';
import type { Links } from '../link/contract.ts';
import { parseNatsUrl } from '../nats/url.ts';
import { type Config, printConfig } from './config.ts';
import type { Check } from './doctor.ts';
import { type HealthCheck, healthAnswer } from './http-health.ts';
import { kernelTable, plainJson, witness } from './support/kernel.ts';
import { redact } from './support/redact.ts';
import { type TarFile, tar } from './support/tar.ts';

const PART_MS = 5_000;
const PART_BYTES_MOST = 4 * 1024 * 1024;
/** Searched for secrets beyond what is kept, so that none is cut in two before it is found. */
const MARGIN = 64 * 1024;
const BUNDLE_BYTES_MOST = 24 * 1024 * 1024;
const LANE_LOG_BYTES = 256 * 1024;
const CHUNK_BYTES = 256 * 1024;
const PAGE = 100;

export interface SupportNeeds {
  config: Config;
  version: string;
  getNode(): Promise<Node>;
  interfaces: Pick<Interfaces, 'list'>;
  links: Pick<Links, 'list'>;
  flows: { stats(): FlowStats };
  checks(): readonly HealthCheck[];
  scrape(): Promise<{ body: Buffer }>;
  /** The last lines of the log, and the last events. */
  logTail(): string[];
  eventTail(): string[];
  diagnose(): Promise<Check[]>;
}

interface Part {
  name: string;
  /** Undefined: there is nothing of this kind on this node. */
  read(): string | Promise<string> | undefined;
}

/** A bundle in pieces, one at a time in an agent. Throws TaplaneError RESOURCE_EXHAUSTED while another is being made. */
export function supportBundles(needs: SupportNeeds): (signal: AbortSignal) => AsyncGenerator<Buffer> {
  let busy = false;
  return async function* bundle(signal) {
    if (busy)
      throw new TaplaneError('RESOURCE_EXHAUSTED', 'SUPPORT_BUNDLE_BUSY', 'collect support bundle: another is being made', {
        metadata: { subject: 'support bundles', limit: '1' },
        retryAfterMs: 5_000,
      });
    busy = true;
    try {
      const bytes = await collect(needs, signal);
      for (let at = 0; at < bytes.length && !signal.aborted; at += CHUNK_BYTES) yield bytes.subarray(at, at + CHUNK_BYTES);
    } finally {
      busy = false;
    }
  };
}

async function collect(needs: SupportNeeds, signal: AbortSignal): Promise<Buffer> {
  const known = secretsOf(needs.config);
  const files: TarFile[] = [];
  const told: { name: string; bytes: number; cut?: true; error?: string }[] = [];
  let room = BUNDLE_BYTES_MOST;
  for (const part of partsOf(needs)) {
    if (signal.aborted) break;
    await nextTurn();
    try {
      const text = await inTime(part);
      if (text === undefined) continue;
      const whole = Buffer.from(redact(text.slice(0, PART_BYTES_MOST + MARGIN), known));
      const most = Math.min(PART_BYTES_MOST, room);
      const content = whole.subarray(0, most);
      room -= content.length;
      files.push({ name: `taplane/${part.name}`, content });
      told.push({ name: part.name, bytes: content.length, ...(whole.length > most ? { cut: true } : {}) });
    } catch (error) {
      told.push({ name: part.name, bytes: 0, error: redact(error instanceof Error ? error.message : String(error), known) });
    }
  }
  const { config, version } = needs;
  const about = {
    version,
    node: config.node,
    cluster: config.cluster,
    kernel: os.release(),
    collected: new Date().toISOString(),
    parts: told,
  };
  files.unshift({ name: 'taplane/about.json', content: Buffer.from(`${JSON.stringify(about, null, 1)}\n`) });
  return promisify(gzip)(tar(files, Math.floor(Date.now() / 1000)));
}

function partsOf(needs: SupportNeeds): Part[] {
  const { config } = needs;
  const table = (which: Parameters<typeof kernelTable>[0]): Part => ({
    name: `netlink/${which}.json`,
    read: () => plainJson(kernelTable(which)),
  });
  return [
    { name: 'config.yaml', read: () => printConfig(config) },
    { name: 'node.json', read: async () => JSON.stringify(Node.toJSON(await needs.getNode()), null, 1) },
    { name: 'health.txt', read: () => String(healthAnswer(needs.checks(), true).body) },
    { name: 'interfaces.jsonl', read: () => interfaceLines(needs.interfaces) },
    { name: 'links.jsonl', read: () => linkLines(needs.links) },
    { name: 'flow-stats.json', read: () => JSON.stringify(FlowStats.toJSON(needs.flows.stats()), null, 1) },
    { name: 'events.jsonl', read: () => needs.eventTail().join('') },
    { name: 'log.jsonl', read: () => needs.logTail().join('') },
    ...laneLogs(config.runtimeDir),
    { name: 'metrics.txt', read: async () => (await needs.scrape()).body.toString() },
    { name: 'doctor.txt', read: async () => doctorText(await needs.diagnose()) },
    table('links'),
    table('addresses'),
    table('routes'),
    table('neighbours'),
    { name: 'ip/link.json', read: () => witness('link show') },
    { name: 'ip/addr.json', read: () => witness('addr show') },
    { name: 'ip/route.json', read: () => witness('route show table all') },
    { name: 'ip/route6.json', read: () => witness('-6 route show table all') },
    // Neither environment nor arguments: those may hold what somebody should not have put there.
    { name: 'process/status.txt', read: () => readFileSync('/proc/self/status', 'utf8') },
    { name: 'process/limits.txt', read: () => readFileSync('/proc/self/limits', 'utf8') },
  ];
}

async function inTime({ name, read }: Part): Promise<string | undefined> {
  const timer = new AbortController();
  const late = sleep(PART_MS, undefined, { signal: timer.signal, ref: false }).then(
    () => Promise.reject(new Error(`${name}: not ready after ${PART_MS} ms`)),
    () => undefined,
  );
  try {
    return await Promise.race([read(), late]);
  } finally {
    timer.abort();
  }
}

async function interfaceLines(interfaces: SupportNeeds['interfaces']): Promise<string> {
  let lines = '';
  for (let pageToken = ''; ; ) {
    const page = await interfaces.list(ListInterfacesRequest.fromPartial({ pageSize: PAGE, pageToken }));
    for (const one of page.interfaces) lines += `${JSON.stringify(Interface.toJSON(one))}\n`;
    pageToken = page.nextPageToken;
    if (pageToken === '' || lines.length > PART_BYTES_MOST) return lines;
    await nextTurn();
  }
}

/** As clients see them: without keys. */
async function linkLines(links: SupportNeeds['links']): Promise<string> {
  let lines = '';
  for (let pageToken = ''; ; ) {
    const page = await links.list(ListLinksRequest.fromPartial({ pageSize: PAGE, pageToken }));
    for (const one of page.links) lines += `${JSON.stringify(Link.toJSON(one))}\n`;
    pageToken = page.nextPageToken;
    if (pageToken === '' || lines.length > PART_BYTES_MOST) return lines;
    await nextTurn();
  }
}

function laneLogs(runtimeDir: string): Part[] {
  try {
    const names = readdirSync(runtimeDir).filter((name) => /^lane-\d{1,3}\.log$/.test(name));
    return names.map((name) => ({ name: `lanes/${name}`, read: () => endOf(join(runtimeDir, name)) }));
  } catch (error) {
    // Such as for want of descriptors, which is when somebody wants a bundle.
    return [{ name: 'lanes', read: () => Promise.reject(error) }];
  }
}

/** The last bytes of a file, from the beginning of a line. */
async function endOf(path: string): Promise<string> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    const from = Math.max(0, size - LANE_LOG_BYTES);
    const bytes = Buffer.alloc(Math.min(size, LANE_LOG_BYTES));
    const { bytesRead } = await file.read(bytes, 0, bytes.length, from);
    const text = bytes.toString('utf8', 0, bytesRead);
    return from === 0 ? text : text.slice(text.indexOf('\n') + 1);
  } finally {
    await file.close();
  }
}

function doctorText(checks: readonly Check[]): string {
  return checks
    .map(({ name, status, detail, cure }) => `${status.toUpperCase()} ${name}: ${detail}${cure === '' ? '' : `; cure: ${cure}`}\n`)
    .join('');
}

/** Secrets that the configuration holds itself. */
function secretsOf({ nats }: Config): string[] {
  try {
    const { pass = '', token = '' } = parseNatsUrl(nats);
    const texts = [pass, token].filter((text) => text !== '');
    // As it stands in the address, too.
    return [...texts, ...texts.map(encodeURIComponent)];
  } catch {
    return [];
  }
}
