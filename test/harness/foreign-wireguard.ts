// wireguard-go and wg of Debian as the other end of a wireguard link. Its control sockets lie in one folder for all namespaces: device names are
// unique on the machine.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Namespace } from './namespace.ts';
import { type Child, run } from './process.ts';

const START_MS = 20_000;
let last = 0;

export interface WireguardKeys {
  /** Base64. */
  privateKey: string;
  publicKey: string;
}

/** Made by `wg`. */
export async function wireguardKeys(): Promise<WireguardKeys> {
  const privateKey = (await run(['wg', 'genkey'])).stdout.trim();
  const publicKey = (await run(['wg', 'pubkey'], { input: `${privateKey}\n` })).stdout.trim();
  return { privateKey, publicKey };
}

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
  readonly #logLevel: string;
  #child: Child | undefined;

  /** `isVerbose`: it says what it does, for `said`. */
  constructor(namespace: Namespace, isVerbose = false) {
    this.#namespace = namespace;
    this.#logLevel = isVerbose ? 'verbose' : 'error';
  }

  /** While it runs. */
  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Anew, with nothing of before. */
  async start(privateKey: Buffer, port: number, addresses: string[], peers: GoPeer[]): Promise<void> {
    this.#child = this.#namespace.spawn(['wireguard-go', '-f', this.device], {
      env: { WG_PROCESS_FOREGROUND: '1', WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD: '1', LOG_LEVEL: this.#logLevel },
    });
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
