// One link in a lane: the port of its device, the tunnel of its protocol, and what becomes of both.
//
//   waiting --port attached, tunnel open--> running --device gone--> running (the port comes back by itself)
//      ^------- again(): what cannot be changed in place -------'
//      '-- a socket that cannot be had is tried again every RETRY_MS

import { setInterval as every } from 'node:timers';
import type { AttachmentState, Device, LinkSetup } from '../../gen/taplane/lane/v1/lane_service.ts';
import { LinkStatus, LinkSpec_Protocol as Protocol, LinkStatus_State as State } from '../../gen/taplane/v1/link.ts';
import { SysError } from '../../sys/sys-error.ts';
import { openFrames } from '../frames/frames.ts';
import type { Port, PortConsumer } from '../port.ts';
import { openVxlan } from '../vxlan/vxlan.ts';
import { openWireguard } from '../wireguard/wireguard.ts';
import type { LinkDevice, OpenTunnel, Tunnel } from './tunnel.ts';

const RETRY_MS = 1000;

const PROTOCOLS: Record<number, OpenTunnel> = {
  [Protocol.FRAMES]: openFrames,
  [Protocol.VXLAN]: openVxlan,
  [Protocol.WIREGUARD]: openWireguard,
};

export class Link implements PortConsumer {
  readonly superFrames = true;
  readonly #port: Port;
  readonly #device: LinkDevice;
  readonly #retry: NodeJS.Timeout;
  #setup: LinkSetup;
  #tunnel: Tunnel | undefined;
  #reason = '';

  constructor(port: Port, device: Device, setup: LinkSetup) {
    this.#port = port;
    this.#setup = setup;
    this.#device = { ethernet: device.tap, offload: device.vnetHeader, write: port.writeSuper };
    this.#open();
    port.addConsumer(this, true);
    this.#retry = every(() => {
      if (this.#tunnel === undefined) this.#open();
    }, RETRY_MS);
    this.#retry.unref();
  }

  get uid(): string {
    return this.#setup.uid;
  }

  take(bytes: Buffer, start: number, length: number): void {
    this.#tunnel?.take(bytes, start, length);
  }

  flush(): void {
    this.#tunnel?.flush();
  }

  again(setup: LinkSetup): void {
    const isSame = setup.uid === this.#setup.uid;
    this.#setup = setup;
    if (isSame && this.#tunnel?.again(setup) === true) return;
    this.#tunnel?.close();
    this.#tunnel = undefined;
    this.#open();
  }

  state(): Pick<AttachmentState, 'attached' | 'reason' | 'link' | 'linkUid'> {
    const { uid, generation } = this.#setup;
    const isHeld = this.#port.attached;
    const said = this.#tunnel?.state() ?? { state: State.WAITING, reason: this.#reason };
    const waits = isHeld ? said : { ...said, state: State.WAITING, reason: this.#port.reason };
    const link = LinkStatus.fromPartial({ ...waits, observedGeneration: generation });
    return { attached: isHeld && this.#tunnel !== undefined, reason: isHeld ? this.#reason : this.#port.reason, link, linkUid: uid };
  }

  get tunnel(): Tunnel | undefined {
    return this.#tunnel;
  }

  release(): void {
    clearInterval(this.#retry);
    this.#port.removeConsumer(this);
    this.#tunnel?.close();
    this.#tunnel = undefined;
  }

  #open(): void {
    const open = PROTOCOLS[this.#setup.spec?.protocol ?? 0];
    try {
      if (open === undefined) throw new SysError('open link', 95, 'the lane does not know this protocol');
      this.#tunnel = open(this.#setup, { device: this.#device, now: () => performance.now(), changed: () => {} });
      this.#reason = '';
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#reason = error.message;
    }
  }
}
