// The tunnel of the protocol frames.

import { SysError } from '../../sys/sys-error.ts';
import type { OpenTunnel } from '../link/tunnel.ts';

export const openFrames: OpenTunnel = () => {
  throw new SysError('open frames', 95, 'not built yet');
};
