// The series of an agent: their names and types, what a scraper makes of them, how many they can be, and what they cost.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { describe, expect, test } from 'vitest';
import { METHODS } from '../../src/access/methods.ts';
import { CallMeter } from '../../src/metrics/call-counts.ts';
import { OTHERS } from '../../src/metrics/cap.ts';
import { SERIES, seriesTable } from '../../src/metrics/catalogue.ts';
import { exposition } from '../../src/metrics/exposition.ts';
import type { NodeSnapshot } from '../../src/metrics/snapshot.ts';
import { bound } from '../harness/bound.ts';
import { type ReadFamily, readExposition } from './exposition-reader.ts';
import { hasPromtool, promtool } from './promtool.ts';
import { sampleSnapshot } from './sample-snapshot.ts';

const page = exposition(SERIES);

async function written(snapshot: NodeSnapshot): Promise<string> {
  let text = '';
  for await (const piece of page.write(snapshot)) text += piece;
  return text;
}

function family(families: ReadFamily[], name: string): ReadFamily {
  const found = families.find((one) => one.name === `taplane_${name}`);
  if (found === undefined) throw new Error(`no family ${name}`);
  return found;
}

describe('names', () => {
  test('have the prefix, base units, the ending of their type, and stand there once', () => {
    expect(new Set(SERIES.map(({ name }) => name)).size).toBe(SERIES.length);
    for (const { name, kind, labels } of SERIES) {
      expect(name).toMatch(/^taplane_[a-z][a-z0-9_]*$/);
      expect(name.endsWith('_total'), name).toBe(kind === 'counter');
      expect(name, 'base units').not.toMatch(/_(ms|milliseconds|minutes|kilobytes|kb|mb|percent)(_|$)/);
      for (const label of labels) expect(label).toMatch(/^[a-z][a-z_]*$/);
    }
  });

  test('are in docs/observability.md as they are here', () => {
    const docs = readFileSync(join(import.meta.dirname, '../../docs/observability.md'), 'utf8');
    expect(docs).toContain(seriesTable());
  });
});

describe('the page', () => {
  test('reads, has every series with its type, and only the labels that it says', async () => {
    const text = await written(sampleSnapshot());
    const families = readExposition(text);
    expect(families.map(({ name, type }) => [name, type])).toEqual(SERIES.map(({ name, kind }) => [name, kind]));
    for (const { name, labels } of SERIES) {
      const { samples } = families.find((one) => one.name === name) as ReadFamily;
      expect(samples.length, name).toBeGreaterThan(0);
      for (const sample of samples) expect(labels).toEqual(expect.arrayContaining(Object.keys(sample.labels)));
    }
    if (hasPromtool) expect(promtool(['check', 'metrics'], text)).toBe('');
  });

  test('has durations as cumulative buckets up to +Inf', async () => {
    const { samples } = family(readExposition(await written(sampleSnapshot())), 'grpc_call_duration_seconds');
    const buckets = samples.filter(({ name }) => name.endsWith('_bucket'));
    expect(buckets.at(-1)?.labels['le']).toBe('+Inf');
    expect(buckets.map(({ value }) => value)).toEqual(buckets.map(({ value }) => value).toSorted((a, b) => a - b));
    expect(buckets.at(-1)?.value).toBe(samples.find(({ name }) => name.endsWith('_count'))?.value);
  });

  test('keeps apart peers that have the same name', async () => {
    const { samples } = family(readExposition(await written(sampleSnapshot({ links: 1, peers: 2 }))), 'link_peer_up');
    expect(samples.map(({ labels }) => labels['peer'])).toEqual(['site "a"\\\n', 'site "a"\\\n#2']);
    const snapshot = sampleSnapshot({ links: 1, peers: 5 });
    for (const [index, name] of ['a', 'a#2', 'a', 'a#2', 'a'].entries()) Object.assign(snapshot.links[0]?.peers[index] ?? {}, { name });
    const named = family(readExposition(await written(snapshot)), 'link_peer_up').samples.map(({ labels }) => labels['peer']);
    expect(named).toEqual(['a', 'a#2', 'a#3', 'a#2#2', 'a#4']);
  });

  test('of an agent without NATS, audit log and interfaces reads too', async () => {
    const { connections: _c, spool: _s, audit: _a, ...rest } = sampleSnapshot({ interfaces: 0, links: 0 });
    const families = readExposition(await written({ ...rest, lanes: [], reloads: {} }));
    expect(family(families, 'spool_bytes').samples).toEqual([]);
    expect(family(families, 'interfaces').samples).toHaveLength(6);
  });
});

describe('bounds', () => {
  test('beyond the limit there is one series for the rest, which is their sum, and a word on how many', async () => {
    const families = readExposition(await written(sampleSnapshot({ interfaces: 50, links: 20, peers: 3, perInterface: 10 })));
    const repairs = family(families, 'interface_repairs_total').samples;
    expect(repairs).toHaveLength(11);
    expect(repairs.at(-1)).toMatchObject({ labels: { interface: OTHERS }, value: (10 + 49) * 20 });
    // What cannot be added up is not.
    expect(family(families, 'interface_ready').samples).toHaveLength(10);
    const beyond = family(families, 'series_beyond_limit').samples.map(({ labels, value }) => [labels['kind'], value]);
    expect(beyond).toEqual([
      ['interface', 40],
      ['link', 10],
      ['peer', 50],
    ]);
    expect(family(families, 'link_dropped_packets_total').samples).toHaveLength(2 * 10 + 2);
  });

  test('methods that are none make no series', () => {
    const meter = new CallMeter(Object.keys(METHODS));
    for (let index = 0; index < 100; index++) meter.begin(`/taplane.v1.NodeService/Get${index}`, true)('OK');
    expect(meter.counts().ended.size).toBe(0);
    meter.begin('/taplane.v1.NodeService/GetNode', true)('OK');
    expect([...meter.counts().ended.keys()]).toEqual(['taplane.v1.NodeService/GetNode']);
  });

  test('a call is counted once, whatever comes after its end', () => {
    let now = 0;
    const meter = new CallMeter(['/a/B'], () => now);
    const end = meter.begin('/a/B', true);
    expect(meter.counts().inProgress.get('a/B')).toBe(1);
    now = 300;
    end('OK');
    end('CANCELLED');
    const { inProgress, ended, durations } = meter.counts();
    expect([inProgress.get('a/B'), [...(ended.get('a/B') ?? [])], durations.get('a/B')?.sumSeconds]).toEqual([0, [['OK', 1]], 0.3]);
  });

  test('1,000 interfaces, links and peers: written within 200 ms of processor time, in turns of at most 20 ms', async () => {
    const snapshot = sampleSnapshot({ interfaces: 1000, links: 1000, peers: 1 });
    await written(snapshot);
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    let turns = 0;
    const others = setInterval(() => turns++, 0);
    const before = process.cpuUsage();
    const text = await written(snapshot);
    const { user, system } = process.cpuUsage(before);
    delay.disable();
    clearInterval(others);
    const cpuMs = (user + system) / 1000;
    const longestMs = delay.max / 1e6;
    process.stdout.write(
      `scrape of ${text.split('\n').length} lines: ${cpuMs.toFixed(0)} ms of processor, longest turn ${longestMs.toFixed(1)} ms\n`,
    );
    expect(cpuMs).toBeLessThan(bound(200, 1000));
    expect(longestMs).toBeLessThan(bound(20, 1000));
    expect(turns, 'others had their turn meanwhile').toBeGreaterThanOrEqual(3);
  });
});
