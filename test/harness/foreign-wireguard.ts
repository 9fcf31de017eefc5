// wireguard-go and wg of Debian as the other end of a wireguard link. Its control sockets lie in one folder for all namespaces: device names are
// unique on the machine.

import type { Namespace } from './namespace.ts';
import { type Child, run } from './process.ts';

let last = 0;

export interface WireguardPeer {
  publicKey: string;
  /** `address:port`; without one the peer has to speak first. */
  endpoint?: string;
  allowed: readonly string[];
  keepalive?: number;
  presharedKey?: string;
}

export interface WireguardGoOptions {
  /** As `wg genkey` makes it. */
  privateKey: string;
  port: number;
  /** With prefix lengths. */
  addresses: readonly string[];
  peers: readonly WireguardPeer[];
  mtu?: number;
}

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

export class WireguardGo implements AsyncDisposable {
  readonly device: string;
  readonly namespace: Namespace;
  readonly #child: Child;

  constructor(namespace: Namespace, device: string) {
    this.namespace = namespace;
    this.device = device;
    this.#child = namespace.spawn(['wireguard-go', '-f', device], {
      env: { LOG_LEVEL: 'error', WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD: '1' },
    });
  }

  /** In place of all that was set. */
  async set({ privateKey, port, peers }: Pick<WireguardGoOptions, 'privateKey' | 'port' | 'peers'>): Promise<void> {
    const lines = ['[Interface]', `PrivateKey = ${privateKey}`, `ListenPort = ${port}`];
    for (const peer of peers) {
      lines.push('[Peer]', `PublicKey = ${peer.publicKey}`, `AllowedIPs = ${peer.allowed.join(', ')}`);
      if (peer.endpoint !== undefined) lines.push(`Endpoint = ${peer.endpoint}`);
      if (peer.keepalive !== undefined) lines.push(`PersistentKeepalive = ${peer.keepalive}`);
      if (peer.presharedKey !== undefined) lines.push(`PresharedKey = ${peer.presharedKey}`);
    }
    // It opens a file by name, and a socket, which our end of its standard input is, has none.
    const command = `cat | wg setconf ${this.device} /dev/stdin`;
    const { code, stderr } = await this.namespace.exec(['sh', '-c', command], { input: `${lines.join('\n')}\n` });
    if (code !== 0) throw new Error(`wg setconf ${this.device}: ${stderr}${this.#child.stderr}`);
  }

  async start({ addresses, mtu = 1420, ...settings }: WireguardGoOptions): Promise<void> {
    const deadline = performance.now() + 10_000;
    // Its device is there a moment before it answers.
    for (;;) {
      const { code } = await this.namespace.exec(['wg', 'show', this.device]);
      if (code === 0) break;
      if (performance.now() > deadline || !this.#child.isRunning) throw new Error(`wireguard-go ${this.device}: ${this.#child.stderr}`);
    }
    await this.set(settings);
    for (const address of addresses) this.namespace.ip(`address add ${address} dev ${this.device}${address.includes(':') ? ' nodad' : ''}`);
    this.namespace.ip(`link set dev ${this.device} mtu ${mtu} up`);
  }

  /** When the last handshake with a peer was completed, seconds since 1970; 0: never. */
  async lastHandshake(publicKey: string): Promise<number> {
    const { stdout } = await this.namespace.exec(['wg', 'show', this.device, 'latest-handshakes']);
    const line = stdout.split('\n').find((text) => text.startsWith(publicKey));
    return Number(line?.split('\t')[1] ?? 0);
  }

  /** Where it thinks that a peer is. */
  async endpoint(publicKey: string): Promise<string | undefined> {
    const { stdout } = await this.namespace.exec(['wg', 'show', this.device, 'endpoints']);
    return stdout
      .split('\n')
      .find((text) => text.startsWith(publicKey))
      ?.split('\t')[1];
  }

  get pid(): number {
    return this.#child.pid;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#child[Symbol.asyncDispose]();
  }
}

/** Up, with its addresses and peers. */
export async function startWireguardGo(namespace: Namespace, options: WireguardGoOptions): Promise<WireguardGo> {
  const peer = new WireguardGo(namespace, `wg${process.pid}-${++last}`);
  try {
    await peer.start(options);
    return peer;
  } catch (error) {
    await peer[Symbol.asyncDispose]();
    throw error;
  }
}
