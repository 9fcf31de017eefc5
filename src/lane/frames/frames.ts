// The tunnel of the protocol frames, over what is asked for.

import { LinkSpec_Transport as Transport } from '../../gen/taplane/v1/link.ts';
import type { OpenTunnel } from '../link/tunnel.ts';
import { FramesOverTcp } from './frames-tcp.ts';
import { FramesOverUdp } from './frames-udp.ts';

export const openFrames: OpenTunnel = (setup, needs) =>
  setup.spec?.transport === Transport.TCP ? new FramesOverTcp(setup, needs) : new FramesOverUdp(setup, needs);
