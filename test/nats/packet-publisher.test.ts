// The publisher against a real nats-server: what comes through, what waits, and what is refused while the server stands still or is gone.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { connectNats, type NatsLink } from '../../src/nats/connection.ts';
import { type PacketPublisher, packetPublisher, type Refusal } from '../../src/nats/packet-publisher.ts';
import { eventually, freePort, natsBinary, type RealNats, startNats } from './real-nats.ts';

const silent = { debug: () => {}, info: () => {}, warn: () => {} };
const SUBJECT = 'taplane.v1.default.n1.packet.t0';
const WAIT_MS = 20_000;

/** A subscriber of other make: the text protocol over TCP. Keeps the first four bytes of every message, and its length. */
class Subscriber implements Disposable {
  readonly numbers: number[] = [];
  readonly lengths: number[] = [];
  ready = false;
  readonly #socket: Socket;
  #rest = Buffer.alloc(0);

  constructor(port: number) {
    this.#socket = connect(port, '127.0.0.1');
    this.#socket.write(`CONNECT {"verbose":false}\r\nSUB ${SUBJECT} 1\r\nPING\r\n`);
    this.#socket.on('error', () => {});
    this.#socket.on('data', (piece) => {
      this.#rest = Buffer.concat([this.#rest, piece]);
      while (this.#step());
    });
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  #step(): boolean {
    const end = this.#rest.indexOf('\r\n');
    if (end < 0) return false;
    const words = this.#rest.toString('latin1', 0, end).split(' ');
    const length = words[0] === 'MSG' ? Number(words.at(-1)) + 2 : 0;
    if (this.#rest.length < end + 2 + length) return false;
    if (words[0] === 'PING') this.#socket.write('PONG\r\n');
    if (words[0] === 'PONG') this.ready = true;
    if (length > 0) {
      this.numbers.push(this.#rest.readUInt32BE(end + 2));
      this.lengths.push(length - 2);
    }
    this.#rest = this.#rest.subarray(end + 2 + length);
    return true;
  }
}

describe.skipIf(!natsBinary)('with a real nats-server (needs one in the PATH)', () => {
  let folder: string;
  let port: number;
  let nats: RealNats | undefined;
  let link: NatsLink;
  let publisher: PacketPublisher;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'taplane-publisher-'));
    port = await freePort();
    nats = await startNats(port);
    link = connectNats({ mode: `nats://127.0.0.1:${port}`, name: 'taplane/test', stateDir: folder, log: silent });
    publisher = packetPublisher(() => link.connection());
    await connected();
  });
  afterEach(async () => {
    await link.close();
    await nats?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const connected = () => eventually(() => link.connection() !== undefined, 'the connection', WAIT_MS);

  async function subscribe(): Promise<Subscriber> {
    const subscriber = new Subscriber(port);
    await eventually(() => subscriber.ready, 'the subscription', WAIT_MS);
    return subscriber;
  }

  const publish = (number: number, bytes: number): Refusal | undefined => {
    const payload = Buffer.alloc(bytes);
    payload.writeUInt32BE(number);
    return publisher.publish(SUBJECT, payload);
  };

  test('publishes in order, and takes no message that the server would not', async () => {
    using subscriber = await subscribe();
    const most = link.connection()?.info?.max_payload ?? 0;
    expect(most).toBe(1024 * 1024);
    for (let number = 0; number < 100; number++) expect(publish(number, 1000 + number)).toBeUndefined();
    expect(publish(100, most - 1023)).toBe('too-large');
    expect(publish(101, most - 1024)).toBeUndefined();
    await eventually(() => subscriber.numbers.length >= 101, 'all messages', WAIT_MS);
    expect(subscriber.numbers).toEqual([...Array(100).keys(), 101]);
    expect(subscriber.lengths).toEqual([...Array.from({ length: 100 }, (_, number) => 1000 + number), most - 1024]);
  });

  /** A signal takes its time: until then the server reads on. */
  async function standStill(): Promise<void> {
    nats?.child.kill('SIGSTOP');
    const state = (): string | undefined => readFileSync(`/proc/${nats?.child.pid}/stat`, 'utf8').split(') ')[1]?.[0];
    await eventually(() => state() === 'T', 'the server stands still', WAIT_MS);
  }

  test('lets 4 MiB wait for a server that stands still, refuses the rest, and goes on', async () => {
    using subscriber = await subscribe();
    const bytes = 32_768;
    const accepted: number[] = [];
    const refusals = new Map<Refusal, number>();
    const offer = (number: number): void => {
      const refusal = publish(number, bytes);
      if (refusal === undefined) accepted.push(number);
      else refusals.set(refusal, (refusals.get(refusal) ?? 0) + 1);
    };
    await standStill();
    try {
      for (let number = 0; number < 2000; number++) {
        offer(number);
        // So that the library has its turn: it must not take more because of it.
        if (number % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
      }
      expect(accepted).toEqual([...Array(128).keys()]);
      expect([...refusals]).toEqual([['no-room', 2000 - 128]]);
    } finally {
      nats?.child.kill('SIGCONT');
    }
    await eventually(() => subscriber.numbers.length >= 128, 'what waited', WAIT_MS);
    let next = 5000;
    await eventually(() => publish(next++, bytes) === undefined, 'room again', WAIT_MS);
    await eventually(() => subscriber.numbers.length >= 129, 'the next message', WAIT_MS);
    expect(subscriber.numbers).toEqual([...accepted, next - 1]);
    // All the room has come back, not some of it.
    expect(publish(9000, 8)).toBeUndefined();
    await eventually(() => subscriber.numbers.at(-1) === 9000, 'the last message', WAIT_MS);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await standStill();
    try {
      let count = 0;
      while (publish(count, bytes) === undefined) count++;
      expect(count).toBe(128);
    } finally {
      nats?.child.kill('SIGCONT');
    }
  });

  test('refuses while there is no connection, and starts with all its room on the next', async () => {
    nats?.child.kill('SIGSTOP');
    while (publish(0, 32_768) === undefined);
    await nats?.stop('SIGKILL');
    await eventually(() => link.connection() === undefined, 'the end of the connection', WAIT_MS);
    expect(publish(1, 8)).toBe('no-connection');
    nats = await startNats(port);
    await connected();
    using subscriber = await subscribe();
    for (let number = 0; number < 100; number++) expect(publish(number, 32_768)).toBeUndefined();
    await eventually(() => subscriber.numbers.length >= 100, 'all messages', WAIT_MS);
    expect(subscriber.numbers).toEqual([...Array(100).keys()]);
  });
});

test('without a connection refuses everything', () => {
  expect(packetPublisher(() => undefined).publish(SUBJECT, Buffer.alloc(8))).toBe('no-connection');
});
