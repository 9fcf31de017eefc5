// Which links take whoever connects: one answer for policy, which looks at what a request says (`access/demands.ts`), and for changes, which look at
// what a change of a part makes of a link (`changes.ts`). Pure.

import { type LinkSpec, LinkSpec_Protocol as Protocol, LinkSpec_Transport as Transport } from '../gen/taplane/v1/link.ts';

/** A server of frames over TCP without TLS takes whoever connects, peers named or not. */
export function takesAnybody({ protocol, transport, listen, tls }: LinkSpec): boolean {
  return protocol === Protocol.FRAMES && transport === Transport.TCP && listen !== '' && tls === undefined;
}
