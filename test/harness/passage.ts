// What passes an overlay, measured from outside by plain sockets: a transfer over TCP both ways with checksums and its longest stall; numbered
// datagrams, told apart as lost, twice, changed, out of order; a probe that shows for how long nothing passed.

import type { Namespace } from './namespace.ts';
import type { Child } from './process.ts';

const PYTHON = '/usr/bin/python3';

const TRANSFER = `
import hashlib, json, os, random, socket, sys, time
role, address, port, mebibytes, seed, pause = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
family = socket.AF_INET6 if ':' in address else socket.AF_INET
block = random.Random(seed).randbytes(1 << 20)
def send(peer):
    digest = hashlib.sha256()
    for number in range(mebibytes):
        piece = number.to_bytes(8, 'big') + block[8:]
        digest.update(piece)
        peer.sendall(piece)
        time.sleep(pause / 1000)
    peer.shutdown(socket.SHUT_WR)
    return digest.hexdigest()
def receive(peer):
    digest, size, stall, last = hashlib.sha256(), 0, 0, time.monotonic()
    while True:
        piece = peer.recv(1 << 18)
        now = time.monotonic()
        stall = max(stall, now - last)
        last = now
        if not piece: return digest.hexdigest(), size, stall * 1000
        digest.update(piece)
        size += len(piece)
if role == 'serve':
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    server.listen()
    print('ready', flush=True)
    peer, _ = server.accept()
    got = receive(peer)
    sent = send(peer)
else:
    peer = socket.create_connection((address, port), timeout=60)
    peer.settimeout(None)
    begun = time.monotonic()
    sent = send(peer)
    got = receive(peer)
    print(json.dumps({'ms': (time.monotonic() - begun) * 1000}))
print(json.dumps({'sent': sent, 'received': got[0], 'bytes': got[1], 'stallMs': got[2]}))
`;

export interface TransferResult {
  /** Of both ways, one after the other. */
  ms: number;
  /** Longest time, at either end, in which nothing came while something was to come. */
  stallMs: number;
}

interface End {
  sent: string;
  received: string;
  bytes: number;
  stallMs: number;
}

/** Sends so many MiB from one to `address` of the other over TCP, with `pauseMs` behind each, then as many back. Throws when what came is not what was sent. */
export async function transferBothWays(
  from: Namespace,
  to: Namespace,
  address: string,
  mebibytes: number,
  { port = 7001, seed = 1, timeoutMs = 80_000, pauseMs = 0 } = {},
): Promise<TransferResult> {
  const words = [address, String(port), String(mebibytes), String(seed), String(pauseMs)];
  await using server = to.spawn([PYTHON, '-c', TRANSFER, 'serve', ...words]);
  await server.until(({ stdout }) => stdout.includes('ready'), 'the server');
  const client = await from.exec([PYTHON, '-c', TRANSFER, 'call', ...words], { timeoutMs });
  if (client.code !== 0) throw new Error(`transfer to ${address}: ${client.signal ?? client.stderr}\nserver: ${server.stderr}`);
  const { stdout, stderr } = await server.ended;
  const near = lines(client.stdout);
  const far = lines(stdout)[0] as End | undefined;
  const [{ ms }, mine] = near as [{ ms: number }, End];
  if (far === undefined) throw new Error(`transfer to ${address}: the server said ${stdout}${stderr}`);
  const bytes = mebibytes * 2 ** 20;
  if (mine.sent !== far.received || far.sent !== mine.received || mine.bytes !== bytes || far.bytes !== bytes) {
    throw new Error(`transfer to ${address}: not what was sent: ${client.stdout}${stdout}`);
  }
  return { ms, stallMs: Math.max(mine.stallMs, far.stallMs) };
}

const RECEIVE = `
import json, select, socket, struct, sys, zlib
address, port, idle = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
udp = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, 33, 32 << 20) # SO_RCVBUFFORCE
udp.bind((address, port))
print('ready', flush=True)
seen, duplicates, corrupted, reordered, most = set(), 0, 0, 0, -1
done = False
while True:
    ready, _, _ = select.select([udp] if done else [udp, sys.stdin], [], [], idle if done else None)
    if udp not in ready:
        if done: break
        done = sys.stdin.read() == '' # the sender has ended
        continue
    data = udp.recv(65536)
    number, checksum = struct.unpack('>II', data[:8]) if len(data) >= 8 else (0, -1)
    if zlib.crc32(data[:4] + data[8:]) != checksum:
        corrupted += 1
        continue
    if number in seen: duplicates += 1
    elif number < most: reordered += 1
    seen.add(number)
    most = max(most, number)
print(json.dumps({'received': len(seen), 'duplicates': duplicates, 'corrupted': corrupted, 'reordered': reordered}))
`;

const SEND = `
import random, socket, struct, sys, time, zlib
address, port, count, rate, size, source = sys.argv[1], *map(int, sys.argv[2:6]), sys.argv[6]
udp = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
if source: udp.bind((source, 0))
body = random.Random(count).randbytes(65536)
begun = time.monotonic()
for number in range(count):
    at = number % 4096
    head, rest = struct.pack('>I', number), body[at:at + size - 8]
    try: udp.sendto(head + struct.pack('>I', zlib.crc32(head + rest)) + rest, (address, port))
    except OSError as error: print(error, file=sys.stderr)
    if number % 8 == 0:
        ahead = begun + number / rate - time.monotonic()
        if ahead > 0: time.sleep(ahead)
`;

export interface Numbered {
  sent: number;
  /** Different ones. */
  received: number;
  /** Came more than once. */
  duplicates: number;
  /** Not what was sent. */
  corrupted: number;
  /** Came after one that was sent later. */
  reordered: number;
}

export interface NumberedOptions {
  perSecond?: number;
  /** Of the payload. */
  bytes?: number;
  port?: number;
  /** Address of the sender; it may be one that the overlay does not allow. */
  source?: string;
  /** The receiver waits so long for what is still on its way. */
  idleMs?: number;
}

/** Numbered datagrams with checksums of their own from one to `address` of the other. */
export async function numbered(
  from: Namespace,
  to: Namespace,
  address: string,
  count: number,
  { perSecond = 5000, bytes = 200, port = 7002, source = '', idleMs = 300 }: NumberedOptions = {},
): Promise<Numbered> {
  await using receiver = to.spawn([PYTHON, '-c', RECEIVE, address, String(port), String(idleMs / 1000)]);
  await receiver.until(({ stdout }) => stdout.includes('ready'), 'the receiver');
  const words = [address, ...[port, count, perSecond, bytes].map(String), source];
  const sender = await from.exec([PYTHON, '-c', SEND, ...words], { timeoutMs: 60_000 + (2000 * count) / perSecond });
  if (sender.code !== 0) throw new Error(`numbered to ${address}: ${sender.stderr}`);
  receiver.stdin.end();
  const { stdout } = await receiver.ended;
  const [result] = lines(stdout) as [Omit<Numbered, 'sent'>];
  return { sent: count, ...result };
}

export interface Probed {
  sent: number;
  received: number;
  duplicates: number;
  /** Longest time between two answers, or from the start or to the end without one. */
  longestGapMs: number;
  /** Median and 99th percentile, by the clock of ping. */
  rttMs: { p50: number; p99: number };
}

/** Asks `address` every `everyMs` until `stop`, which tells what came back. */
export class Probe implements AsyncDisposable {
  readonly #child: Child;
  readonly #begun = Date.now() / 1000;

  constructor(from: Namespace, address: string, everyMs = 5) {
    // By its own clock a ping process that has to wait for a processor sends late, but then it also says so.
    this.#child = from.spawn(['ping', '-n', '-D', '-i', String(everyMs / 1000), address]);
  }

  async stop(): Promise<Probed> {
    this.#child.kill('SIGINT');
    const { stdout, stderr } = await this.#child.ended;
    const ended = Date.now() / 1000;
    const sent = /^(\d+) packets transmitted/m.exec(stdout)?.[1];
    if (sent === undefined) throw new Error(`probe: ${stdout.slice(-500)}${stderr}`);
    const answers = [...stdout.matchAll(/^\[(\d+\.\d+)\] \d+ bytes from .* icmp_seq=(\d+) .*time=([\d.]+) ms( \(DUP!\))?/gm)];
    let last = this.#begun;
    let longest = 0;
    for (const [, at] of answers) {
      longest = Math.max(longest, Number(at) - last);
      last = Number(at);
    }
    const numbers = answers.filter(([, , , , again]) => again === undefined).map(([, , number]) => Number(number));
    const times = answers.map(([, , , ms]) => Number(ms)).sort((a, b) => a - b);
    const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? Number.NaN;
    return {
      sent: Number(sent),
      received: numbers.length,
      duplicates: answers.length - numbers.length,
      longestGapMs: Math.max(longest, ended - last) * 1000,
      rttMs: { p50: at(0.5), p99: at(0.99) },
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#child[Symbol.asyncDispose]();
  }
}

function lines(text: string): unknown[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as unknown);
}
