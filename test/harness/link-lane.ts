// A lane of the test's own that runs links in a namespace, told what to do as an agent would; and the devices for it.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Attachment, Attachment_Kind, type AttachmentState, Device, type LinkSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import {
  type LinkPeer,
  LinkSpec,
  type LinkStatus,
  type LinkDrops_Reason as Reason,
  LinkStatus_State as State,
} from '../../src/gen/taplane/v1/link.ts';
import { ProbeLinkRequest, type ProbeLinkResponse } from '../../src/gen/taplane/v1/link_service.ts';
import { connectLane } from '../../src/rpc/lane-client.ts';
import type { Namespace } from './namespace.ts';
import type { Child } from './process.ts';

const TAPLANE = join(import.meta.dirname, '..', '..', 'bin', 'taplane');

export interface DeviceOptions {
  tap?: boolean;
  /** Super-frames; without it every frame is of its own. */
  vnetHeader?: boolean;
  addresses?: string[];
  mtu?: number;
}

/** Makes a device as the agent would, marked and up; answers how a lane is told of it. */
export function linkDevice(ns: Namespace, name: string, options: DeviceOptions = {}): Device {
  const { tap = false, vnetHeader = true, addresses = [], mtu } = options;
  const uid = `uid-${name}`;
  ns.ip(`tuntap add dev ${name} mode ${tap ? 'tap' : 'tun'} ${vnetHeader ? 'vnet_hdr' : ''}`);
  ns.ip(`link set dev ${name} alias taplane:${uid} ${mtu === undefined ? '' : `mtu ${mtu}`}`);
  for (const address of addresses) ns.ip(`address add ${address} dev ${name} ${address.includes(':') ? 'nodad' : ''}`);
  ns.ip(`link set dev ${name} up`);
  return Device.fromPartial({ uid, interface: name, tap, vnetHeader });
}

export interface Linked {
  device: Device;
  spec: Partial<Omit<LinkSpec, 'peers'>> & { peers?: Partial<LinkPeer>[] };
  setup?: Partial<Omit<LinkSetup, 'spec'>>;
}

export class LinkLane implements AsyncDisposable {
  readonly #folder: string;
  readonly #child: Child;
  readonly #client: ReturnType<typeof connectLane>;

  private constructor(folder: string, child: Child) {
    this.#folder = folder;
    this.#child = child;
    this.#client = connectLane(join(folder, 'lane.sock'), 10_000);
  }

  static async start(ns: Namespace): Promise<LinkLane> {
    const folder = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-`));
    const child = ns.spawn([TAPLANE, 'lane', '--socket', join(folder, 'lane.sock')]);
    const lane = new LinkLane(folder, child);
    await child.until(({ stderr }) => stderr.includes('lane ready'), 'the lane');
    return lane;
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Declares these links and no others. Answers their states at once, whatever they are. */
  async hold(...links: Linked[]): Promise<AttachmentState[]> {
    const attachments = links.map(({ device, spec, setup }) =>
      Attachment.fromPartial({
        kind: Attachment_Kind.LINK,
        device,
        link: { uid: `link-${device.uid}`, generation: 1n, ...setup, spec: LinkSpec.fromPartial(spec) },
      }),
    );
    return (await this.#client.setAttachments(attachments, true)).attachments;
  }

  async states(): Promise<AttachmentState[]> {
    return (await this.#client.getLane()).attachments;
  }

  /** Of the first link. */
  async status(): Promise<LinkStatus> {
    const status = (await this.states())[0]?.link;
    if (status === undefined) throw new Error('the lane holds no link');
    return status;
  }

  /** Waits until the status of the first link is as `wanted` says. */
  async until(wanted: (status: LinkStatus) => boolean, timeoutMs = 20_000): Promise<LinkStatus> {
    for (const deadline = performance.now() + timeoutMs; ; await sleep(10)) {
      const status = await this.status();
      if (wanted(status)) return status;
      if (performance.now() > deadline) {
        const text = JSON.stringify(status, (_, value) => (typeof value === 'bigint' ? Number(value) : value));
        throw new Error(`the link is not so within ${timeoutMs} ms: ${text}\n${this.#child.stderr}`);
      }
    }
  }

  async untilUp(): Promise<LinkStatus> {
    return this.until(({ state }) => state === State.UP);
  }

  /** Probes a peer of the link of a device, to the end; every message. */
  async probe(device: Device, request: Partial<ProbeLinkRequest>): Promise<ProbeLinkResponse[]> {
    const said: ProbeLinkResponse[] = [];
    const asked = ProbeLinkRequest.fromPartial({ name: 'links/l', ...request });
    const stop = AbortSignal.timeout(60_000);
    for await (const message of this.#client.probePeer(`link-${device.uid}`, asked, stop)) said.push(message);
    return said;
  }

  /** As a crash. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#child.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.close();
    await this.#child[Symbol.asyncDispose]();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Packets of a link that went nowhere for this reason. */
export function dropped(status: LinkStatus, reason: Reason): number {
  return Number(status.drops.find((drops) => drops.reason === reason)?.packets ?? 0n);
}
