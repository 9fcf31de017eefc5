// What a packet of 1420 bytes costs to seal and to open, with each engine that works here, and two kinds of memory: one buffer, as the arena of
// a socket is, and a few in turns. The ratio is to `node:crypto`.

import { type AeadEngine, aeadEngines } from '../src/sys/aead.ts';

const BYTES = 1420;
/** As in an arena: packets one behind the other. */
const PACKETS = 32;
const STRIDE = 1472;

export async function aeadBench(): Promise<string[]> {
  const figures = new Map(aeadEngines.flatMap((engine) => (isThere(engine) ? [[engine.name, measure(engine)] as const] : [])));
  const node = figures.get('node') ?? { seal: Number.NaN, open: Number.NaN, turns: Number.NaN };
  return [...figures].map(([name, { seal, open, turns }]) => {
    const ratio = name === 'node' ? '' : `; node:crypto / this: ${(node.seal / seal).toFixed(1)} and ${(node.open / open).toFixed(1)}`;
    const perPacket = `seal ${seal.toFixed(0)} ns, open ${open.toFixed(0)} ns, sealing in two buffers in turns ${turns.toFixed(0)} ns`;
    return `${BYTES} bytes, ${name}: ${perPacket}${ratio}`;
  });
}

function isThere(engine: AeadEngine): boolean {
  try {
    engine.key(new Uint8Array(32)).close();
    return true;
  } catch {
    return false;
  }
}

interface Figures {
  seal: number;
  open: number;
  turns: number;
}

/** Nanoseconds a packet: the lower decile of many short windows, since other processes only ever add. */
function measure(engine: AeadEngine): Figures {
  const key = engine.key(new Uint8Array(32).fill(1));
  const arena = Buffer.alloc(PACKETS * STRIDE, 1);
  const other = Buffer.alloc(STRIDE, 1);
  const windows = engine.name === 'node' ? 300 : 3000;
  const seal = (packet: number): void => key.seal(packet, arena, packet * STRIDE, BYTES);
  const open = (packet: number): void => {
    if (!key.open(packet, arena, packet * STRIDE, BYTES)) throw new Error(`${engine.name} does not open what it has sealed`);
  };
  const turns = (packet: number): void => key.seal(packet, packet % 2 === 0 ? other : arena, 0, BYTES);
  const samples: Record<keyof Figures, number[]> = { seal: [], open: [], turns: [] };
  for (let window = 0; window < windows; window++) {
    samples.seal.push(timeOf(seal));
    samples.open.push(timeOf(open));
    samples.turns.push(timeOf(turns));
  }
  key.close();
  return { seal: decile(samples.seal), open: decile(samples.open), turns: decile(samples.turns) };
}

function timeOf(work: (packet: number) => void): number {
  const begun = performance.now();
  for (let packet = 0; packet < PACKETS; packet++) work(packet);
  return ((performance.now() - begun) * 1e6) / PACKETS;
}

function decile(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 10)] ?? Number.NaN;
}
