// The tunnel of the protocol wireguard.

import { SysError } from '../../sys/sys-error.ts';
import type { OpenTunnel } from '../link/tunnel.ts';

export const openWireguard: OpenTunnel = () => {
  throw new SysError('open wireguard', 95, 'not built yet');
};
