// From a snapshot to the text that Prometheus reads (exposition format 0.0.4), by prom-client. A family at a time; the event loop gets its turn
// whenever a slice of a few milliseconds is used up, so that a scrape of thousands of series holds up nobody.

import { setImmediate as nextTurn } from 'node:timers/promises';
import { Gauge, type MetricObjectWithValues, type MetricValue, Registry } from 'prom-client';
import type { Series } from './series.ts';
import type { NodeSnapshot } from './snapshot.ts';

/** Longest that one turn of the event loop is used, but for one family. */
const SLICE_MS = 4;

/** The library calls a family that makes its samples when it is asked a Gauge; the type that it tells is its own. */
class Family extends Gauge {
  readonly #series: Series;
  #snapshot: NodeSnapshot | undefined;

  constructor(series: Series, registry: Registry) {
    super({ name: series.name, help: series.help, labelNames: [...series.labels], registers: [registry] });
    this.#series = series;
  }

  look(snapshot: NodeSnapshot | undefined): void {
    this.#snapshot = snapshot;
  }

  override async get(): Promise<MetricObjectWithValues<MetricValue<string>>> {
    const { name, help, kind, read } = this.#series;
    const samples = this.#snapshot === undefined ? [] : [...read(this.#snapshot)];
    const values = samples.map(({ labels = {}, value, suffix = '' }) => ({ labels: { ...labels }, value, metricName: `${name}${suffix}` }));
    // As the library writes it, whatever its types say: the word, and no function that collects.
    return { name, help, type: kind, aggregator: 'sum', values } as unknown as MetricObjectWithValues<MetricValue<string>>;
  }
}

export interface Exposition {
  readonly contentType: string;
  /** Each piece ends with a newline. */
  write(snapshot: NodeSnapshot): AsyncGenerator<string>;
}

export function exposition(series: readonly Series[]): Exposition {
  const registry = new Registry();
  const families = series.map((one) => ({ name: one.name, family: new Family(one, registry) }));
  return {
    contentType: registry.contentType,
    async *write(snapshot) {
      let since = performance.now();
      for (const { name, family } of families) {
        family.look(snapshot);
        const text = await registry.getSingleMetricAsString(name);
        family.look(undefined);
        yield `${text}\n`;
        if (performance.now() - since < SLICE_MS) continue;
        await nextTurn();
        since = performance.now();
      }
    },
  };
}
