// The tunnel of the protocol vxlan.

import { SysError } from '../../sys/sys-error.ts';
import type { OpenTunnel } from '../link/tunnel.ts';

export const openVxlan: OpenTunnel = () => {
  throw new SysError('open vxlan', 95, 'not built yet');
};
