// What flow top does: a table of the busiest flows each interval, in place on a terminal, one below the other elsewhere; until Ctrl-C.

import { ObserveFlowsRequest } from '../gen/taplane/v1/flow_service.ts';
import { UsageError } from './exit-code.ts';
import { flowLosses } from './flow-loss.ts';
import type { NatsFlags } from './flow-nats.ts';
import type { Filters } from './flow-observe.ts';
import { type Order, type Rate, Rates } from './flow-rates.ts';
import { ALL, flowAnswers, missedReason } from './flow-source.ts';
import { amount } from './flow-text.ts';
import { parseMoment } from './flow-time.ts';
import { interruption } from './interruption.ts';
import { message, print } from './output.ts';
import type { Settings } from './settings.ts';
import { type Column, table } from './table.ts';

export interface TopOptions extends NatsFlags {
  by: Order;
  /** Milliseconds. */
  interval: number;
  /** Rows. */
  number: number;
  /** Tables; undefined for no end. */
  count?: number;
}

/** Flows that go on have had a record in this time. */
const LOOK_BACK = '2m';
const HOME = '\x1b[H';
const REST_OF_LINE = '\x1b[K';
const REST_OF_SCREEN = '\x1b[J';

export async function top(options: TopOptions, filters: Filters, settings: Settings): Promise<void> {
  const { by, interval, number, count = Number.POSITIVE_INFINITY } = options;
  if (!['table', 'wide', 'json'].includes(settings.output)) throw new UsageError('top prints tables: use -o table, wide or json');
  if (number === 0) throw new UsageError('give a number of rows greater than 0');
  if (count === 0) throw new UsageError('give a number of tables greater than 0');
  using interrupted = interruption();
  using losses = flowLosses(missedReason(options), message);
  const rates = new Rates();
  // One table alone goes below what stands there.
  const isInPlace = process.stdout.isTTY === true && count > 1;
  const request = ObserveFlowsRequest.fromPartial({ ...filters, follow: true, last: ALL, since: parseMoment(LOOK_BACK, Date.now()) });
  let shown = 0;
  const show = (): void => {
    const isApart = shown > 0 && settings.output !== 'json' && process.stdout.isTTY !== true;
    print(`${isApart ? '\n' : ''}${tableOf(rates.top(by, number, performance.now()), options, settings, isInPlace)}`);
    if (++shown >= count) interrupted.stop();
  };
  let timer: NodeJS.Timeout | undefined;
  try {
    for await (const answer of flowAnswers(request, options, settings, interrupted)) {
      losses.take(answer);
      if (answer.batch !== undefined) rates.take(answer.batch, performance.now(), timer === undefined);
      if (answer.following) timer ??= setInterval(show, interval);
    }
  } finally {
    clearInterval(timer);
  }
}

function tableOf(rates: Rate[], { by, nats, interval }: TopOptions, { output }: Settings, isInPlace: boolean): string {
  if (output === 'json') return `${JSON.stringify({ time: new Date().toISOString(), flows: rates.map(rounded) })}\n`;
  const rows = isInPlace ? rates.slice(0, Math.max(1, (process.stdout.rows || 24) - 3)) : rates;
  const head = `${new Date().toLocaleTimeString('en-GB')}  the busiest by ${by}, every ${interval / 1000} s\n`;
  const columns = columnsOf(by, nats !== undefined);
  const body = rows.length > 0 ? table(columns, rows, output === 'wide') : 'no flows\n';
  return isInPlace ? inPlace(`${head}${body}`, process.stdout.columns || 80) : `${head}${body}`;
}

/** Writes over what stood there, so that nothing flickers. */
function inPlace(text: string, columns: number): string {
  const lines = text.split('\n').map((line) => `${line.slice(0, columns)}${REST_OF_LINE}`);
  return `${HOME}${lines.join('\n')}${REST_OF_SCREEN}`;
}

function rounded(rate: Rate): object {
  return { ...rate, bytes: Math.round(rate.bytes), packets: Math.round(rate.packets * 10) / 10 };
}

/** Of what is slow, a digit more. */
function perSecond(rate: number): string {
  return rate < 9.95 && !Number.isInteger(rate) ? rate.toFixed(1) : amount(rate);
}

function columnsOf(by: Order, showNode: boolean): Column<Rate>[] {
  return [
    ...(showNode ? [{ head: 'NODE', cell: ({ node }: Rate) => node }] : [{ head: 'NODE', wide: true, cell: ({ node }: Rate) => node }]),
    { head: 'INTERFACE', cell: (rate) => rate.interface },
    { head: 'PROTO', cell: ({ protocol }) => protocol },
    { head: 'SOURCE', cell: ({ source }) => source },
    { head: 'DESTINATION', cell: ({ destination }) => destination },
    { head: 'BYTES/S', cell: ({ bytes }) => perSecond(bytes) },
    { head: 'PACKETS/S', cell: ({ packets }) => perSecond(packets) },
    ...(by === 'flows' ? [{ head: 'FLOWS', cell: ({ flows }: Rate) => String(flows) }] : []),
  ];
}
