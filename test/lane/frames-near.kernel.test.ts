// Frames over UDP between link-local addresses of IPv6, which a device has to be named for.

import { expect, it } from 'vitest';
import { LinkSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { LinkSpec, LinkSpec_Protocol as Protocol, LinkStatus_State as State } from '../../src/gen/taplane/v1/link.ts';
import { FramesOverUdp } from '../../src/lane/frames/frames-udp.ts';
import { VNET_HEADER_BYTES } from '../../src/packet/vnet-header.ts';
import { inNamespace } from '../../src/sys/marked-tun.ts';
import { SOON } from '../harness/bound.ts';
import { createCable, createNamespace, type Namespace } from '../harness/namespace.ts';

function end(ns: Namespace, device: string, listen: string, endpoint: string): { tunnel: FramesOverUdp; written: Buffer[] } {
  const written: Buffer[] = [];
  const write = (bytes: Buffer, start: number, length: number) => {
    written.push(Buffer.from(bytes.subarray(start + VNET_HEADER_BYTES, start + length)));
    return 0 as const;
  };
  const spec = LinkSpec.fromPartial({ protocol: Protocol.FRAMES, listen, bindDevice: device, peers: [{ endpoint }] });
  const needs = { device: { ethernet: true, offload: false, write }, now: () => performance.now() };
  const tunnel = inNamespace(ns.name, () => new FramesOverUdp(LinkSetup.fromPartial({ uid: 'link', spec }), needs));
  return { tunnel, written };
}

it('passes both ways', async () => {
  await using near = createNamespace();
  await using far = createNamespace();
  createCable({ namespace: near, device: 'e0', address: '192.0.2.1/24' }, { namespace: far, device: 'e1', address: '192.0.2.2/24' });
  near.ip('address add fe80::a/64 dev e0 nodad');
  far.ip('address add fe80::b/64 dev e1 nodad');
  const [one, two] = [end(near, 'e0', '[fe80::a]:6000', '[fe80::b]:6000'), end(far, 'e1', '[fe80::b]:6000', '[fe80::a]:6000')];
  try {
    const frame = Buffer.alloc(60, 7);
    const bytes = Buffer.concat([Buffer.alloc(VNET_HEADER_BYTES), frame]);
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const) {
      from.tunnel.take(bytes, 0, bytes.length);
      from.tunnel.flush();
      await expect.poll(() => to.tunnel.state(), SOON).toMatchObject({ state: State.UP, drops: [] });
      expect(to.written).toEqual([frame]);
    }
  } finally {
    one.tunnel.close();
    two.tunnel.close();
  }
});
