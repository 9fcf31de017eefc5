// One link in a lane: the port of its device, the tunnel of its protocol, and what becomes of both. Neither waits for the other: a device that
// comes later, or comes back, finds the tunnel as it is, and a tunnel that cannot be had now is tried again.
//
//   waiting --tunnel open--> open --device there--> joined --device gone--> open (the port comes back by itself)
//      ^-- what cannot be changed in place: closed, and opened at once --'
//
// After `release` it holds nothing.

import type { AttachmentState, Device, LinkSetup } from '../../gen/taplane/lane/v1/lane_service.ts';
import { LinkStatus, LinkSpec_Protocol as Protocol, LinkStatus_State as State } from '../../gen/taplane/v1/link.ts';
import { SysError } from '../../sys/sys-error.ts';
import { openFrames } from '../frames/frames.ts';
import type { Port, PortConsumer } from '../port.ts';
import { openVxlan } from '../vxlan/vxlan.ts';
import { openWireguard } from '../wireguard/wireguard.ts';
import type { LinkDevice, OpenTunnel, Tunnel } from './tunnel.ts';

const RETRY_MS = 250;
const EOPNOTSUPP = 95;

const PROTOCOLS: Record<number, OpenTunnel> = {
  [Protocol.FRAMES]: openFrames,
  [Protocol.VXLAN]: openVxlan,
  [Protocol.WIREGUARD]: openWireguard,
};

export class Link implements PortConsumer {
  readonly superFrames = true;
  readonly #port: Port;
  readonly #device: LinkDevice;
  #setup: LinkSetup;
  #tunnel: Tunnel | undefined;
  #retry: NodeJS.Timeout | undefined;
  /** Why there is no tunnel. */
  #reason = '';

  constructor(port: Port, device: Device, setup: LinkSetup) {
    this.#port = port;
    this.#setup = setup;
    this.#device = { ethernet: device.tap, offload: device.vnetHeader, write: port.writeSuper };
    this.#open();
    port.addConsumer(this, true);
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

  /** It is declared again, maybe changed, maybe another link. */
  again(setup: LinkSetup): void {
    const isSame = setup.uid === this.#setup.uid;
    this.#setup = setup;
    if (isSame && this.#tunnel?.again(setup) === true) return;
    this.#close();
    this.#open();
  }

  state(): Pick<AttachmentState, 'attached' | 'reason' | 'link' | 'linkUid'> {
    const { uid, generation } = this.#setup;
    const { attached: isHeld, reason: deviceReason } = this.#port;
    const said = this.#tunnel?.state() ?? { state: State.WAITING, reason: this.#reason };
    const status = isHeld ? said : { ...said, state: State.WAITING, reason: deviceReason };
    return {
      attached: isHeld && this.#tunnel !== undefined,
      reason: isHeld ? this.#reason : deviceReason,
      link: LinkStatus.fromPartial({ ...status, observedGeneration: generation }),
      linkUid: uid,
    };
  }

  get tunnel(): Tunnel | undefined {
    return this.#tunnel;
  }

  release(): void {
    this.#port.removeConsumer(this);
    this.#close();
  }

  #close(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#tunnel?.close();
    this.#tunnel = undefined;
    this.#reason = '';
  }

  #open(): void {
    const open = PROTOCOLS[this.#setup.spec?.protocol ?? 0];
    try {
      if (open === undefined) throw new SysError('open link', EOPNOTSUPP, 'the lane does not know this protocol');
      this.#tunnel = open(this.#setup, { device: this.#device, now: () => performance.now() });
      this.#reason = '';
    } catch (error) {
      // Also what no tunnel should throw: the other links of the lane go on.
      this.#reason = error instanceof Error ? `${error.message}${cureOf(error)}` : 'cannot be opened';
      this.#retry = setTimeout(() => this.#open(), RETRY_MS);
      this.#retry.unref();
    }
  }
}

/** What to do about an errno of a socket that is the setup's fault. */
const CURES: Record<string, string> = {
  EADDRINUSE: 'another link or program has this port; choose another one to listen on',
  EADDRNOTAVAIL: 'this node does not have that address; listen on one of its own, or on all',
  ENODEV: 'there is no such device to bind to',
};

function cureOf(error: Error): string {
  const cure = error instanceof SysError ? CURES[error.code] : undefined;
  return cure === undefined ? '' : `: ${cure}`;
}
