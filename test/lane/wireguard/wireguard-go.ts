// Debian's wireguard-go in a namespace, told what to do by `wg`; and a transfer to check what passes a tunnel.

import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MacMaker } from '../../../src/lane/wireguard/cookie.ts';
import { INITIATION_BYTES, timestamp } from '../../../src/lane/wireguard/messages.ts';
import { keyPair, remote, writeInitiation } from '../../../src/lane/wireguard/noise.ts';
import type { Namespace } from '../../harness/namespace.ts';
import type { Child } from '../../harness/process.ts';

const START_MS = 20_000;
let last = 0;

export interface GoPeer {
  publicKey: Buffer;
  allowed: string[];
  endpoint?: string;
  presharedKey?: Buffer;
  /** Seconds. */
  keepalive?: number;
}

export class WireguardGo implements AsyncDisposable {
  /** Of the device; its control socket is in a folder that all namespaces share. */
  readonly device = `wg${process.pid}x${++last}`;
  readonly #namespace: Namespace;
  readonly #folder = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-wg-`));
  #child: Child | undefined;

  constructor(namespace: Namespace) {
    this.#namespace = namespace;
  }

  /** Anew, with nothing of before. */
  async start(privateKey: Buffer, port: number, addresses: string[], peers: GoPeer[]): Promise<void> {
    this.#child = this.#namespace.spawn(['wireguard-go', '-f', this.device], { env: { WG_PROCESS_FOREGROUND: '1', LOG_LEVEL: 'verbose' } });
    for (const deadline = performance.now() + START_MS; (await this.#namespace.exec(['wg', 'show', this.device])).code !== 0; ) {
      if (performance.now() > deadline) throw new Error(`wireguard-go does not start: ${this.#child.stdout}${this.#child.stderr}`);
      await sleep(20);
    }
    this.set('private-key', this.#file('private', privateKey), 'listen-port', String(port));
    for (const peer of peers) this.setPeer(peer);
    for (const address of addresses) {
      this.#namespace.ip(`address add ${address} dev ${this.device} ${address.includes(':') ? 'nodad' : ''}`);
    }
    this.#namespace.ip(`link set dev ${this.device} mtu 1420 up`);
  }

  /** `wg set DEVICE ...`. */
  set(...words: string[]): void {
    this.#namespace.run('wg', 'set', this.device, ...words);
  }

  setPeer({ publicKey, allowed, endpoint, presharedKey, keepalive }: GoPeer): void {
    const words = ['peer', publicKey.toString('base64'), 'allowed-ips', allowed.join(',')];
    if (endpoint !== undefined) words.push('endpoint', endpoint);
    if (presharedKey !== undefined) words.push('preshared-key', this.#file('preshared', presharedKey));
    if (keepalive !== undefined) words.push('persistent-keepalive', String(keepalive));
    this.set(...words);
  }

  removePeer(publicKey: Buffer): void {
    this.set('peer', publicKey.toString('base64'), 'remove');
  }

  /** `wg show DEVICE WHAT` of the only peer. */
  show(what: 'endpoints' | 'latest-handshakes' | 'transfer'): string {
    return this.#namespace.run('wg', 'show', this.device, what).trim().split('\t').slice(1).join(' ');
  }

  /** How often it has said this since it started. */
  said(text: string): number {
    return `${this.#child?.stdout}${this.#child?.stderr}`.split(text).length - 1;
  }

  /** As a crash. */
  async kill(): Promise<void> {
    await this.#child?.[Symbol.asyncDispose]();
    this.#child = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
    rmSync(`/var/run/wireguard/${this.device}.sock`, { force: true });
  }

  #file(name: string, key: Buffer): string {
    const path = join(this.#folder, name);
    writeFileSync(path, key.toString('base64'), { mode: 0o600 });
    return path;
  }
}

const FLOOD = `
import socket, sys, time
message, address, port = bytes.fromhex(sys.argv[1]), sys.argv[2], int(sys.argv[3])
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.setsockopt(socket.IPPROTO_UDP, 103, len(message)) # UDP_SEGMENT, linux/udp.h
while True:
    for _ in range(10):
        out.sendto(message * 64, (address, port))
        time.sleep(0.0005)
    time.sleep(0.3)
`;

/** Handshakes of a stranger who knows the public key of the other end: 640 in a moment, three times a second, until it is disposed. */
export function flood(from: Namespace, to: Buffer, address: string, port: number): Child {
  const stranger = keyPair(randomBytes(32));
  const end = remote(stranger, to, Buffer.alloc(32));
  const message = Buffer.alloc(INITIATION_BYTES);
  if (end === undefined) throw new Error('a key of low order');
  writeInitiation(message, stranger, end, 1, keyPair(randomBytes(32)), timestamp(1n, 1));
  new MacMaker(to).sign(message, 0);
  return from.spawn(['/usr/bin/python3', '-c', FLOOD, message.toString('hex'), address, String(port)]);
}
