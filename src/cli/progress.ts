// How far a long work is, in one line on stderr that is rewritten in place, five times a second at most, and erased at the end. Nothing
// where stderr is no terminal, or where it is not wanted.

import { message } from './output.ts';
import { byteSize } from './size.ts';

const EVERY_MS = 200;
/** The rate is that of the last seconds. */
const WINDOW_MS = 3000;
const ERASE = '\r\x1b[K';

export interface ProgressState {
  packets: number;
  bytes: number;
  dropped: number;
  /** How much of all is done, 0 to 1; undefined where the end is not known. */
  done: number | undefined;
}

export interface Progress extends Disposable {
  /** A message on stderr, above the line. */
  say(text: string): void;
}

/** What it writes to: stderr, or what stands for it in a test. */
export interface Terminal {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

export function progress(
  state: () => ProgressState,
  { wanted = true, terminal = process.stderr as Terminal, now = () => performance.now() } = {},
): Progress {
  if (!wanted || terminal.isTTY !== true || process.env['TERM'] === 'dumb') return { say: message, [Symbol.dispose]() {} };
  const line = progressLine(now());
  let shown = false;
  const draw = (): void => {
    shown = true;
    terminal.write(`${ERASE}${line(state(), now()).slice(0, (terminal.columns || 80) - 1)}`);
  };
  const erase = (): void => {
    if (shown) terminal.write(ERASE);
    shown = false;
  };
  const timer = setInterval(draw, EVERY_MS);
  timer.unref();
  process.once('exit', erase);
  return {
    say(text) {
      erase();
      terminal.write(`${text}\n`);
    },
    [Symbol.dispose]() {
      clearInterval(timer);
      process.off('exit', erase);
      erase();
    },
  };
}

/** From a state to a line; remembers states for the rate. Times are milliseconds of one clock. Pure. */
export function progressLine(startMs: number): (state: ProgressState, nowMs: number) => string {
  const samples = [{ at: startMs, packets: 0 }];
  return ({ packets, bytes, dropped, done }, nowMs) => {
    samples.push({ at: nowMs, packets });
    while (samples.length > 2 && (samples[1]?.at ?? nowMs) <= nowMs - WINDOW_MS) samples.shift();
    const first = samples[0] ?? { at: startMs, packets: 0 };
    const rate = Math.round((packets - first.packets) / Math.max(0.001, (nowMs - first.at) / 1000));
    const left = done === undefined || done <= 0 ? undefined : ((nowMs - startMs) * (1 - Math.min(1, done))) / done;
    const parts = [`${packets} packets`, byteSize(bytes), `${rate}/s`, `${dropped} dropped`];
    if (left !== undefined) parts.push(`${timeLeft(left / 1000)} left`);
    return parts.join('  ');
  };
}

function timeLeft(seconds: number): string {
  if (seconds < 100) return `${Math.ceil(seconds)} s`;
  if (seconds < 6000) return `${Math.ceil(seconds / 60)} min`;
  return `${Math.ceil(seconds / 3600)} h`;
}
