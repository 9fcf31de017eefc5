// Order statistics of measurements, by the nearest rank: every answer is a value that was measured.

/** The smallest value that at least `percent` of the values do not exceed. Throws when there are none. */
export function percentile(values: readonly number[], percent: number): number {
  if (values.length === 0) throw new Error('percentile: no values');
  if (!(percent > 0 && percent <= 100)) throw new Error(`percentile: ${percent} is not above 0 and at most 100`);
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.ceil((percent / 100) * sorted.length) - 1] as number;
}

/** One line for a log: `n=100 p50=3.1 p90=5.0 p99=9.2 max=11.0 ms`. */
export function summary(values: readonly number[], unit = 'ms'): string {
  const at = (percent: number) => percentile(values, percent).toFixed(1);
  return `n=${values.length} p50=${at(50)} p90=${at(90)} p99=${at(99)} max=${at(100)} ${unit}`;
}
