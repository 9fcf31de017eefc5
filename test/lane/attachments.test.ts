// What a lane holds, found by the link that it is: links that change their devices, in whatever order they are told of.

import { expect, it } from 'vitest';
import { Attachment, Attachment_Kind, Device, LinkSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { LinkSpec, LinkSpec_Protocol as Protocol } from '../../src/gen/taplane/v1/link.ts';
import { Attachments } from '../../src/lane/attachments.ts';
import { Devices } from '../../src/lane/devices.ts';
import { Meters } from '../../src/lane/meters.ts';

/** A link that joins a device which is not there. */
function joins(deviceUid: string, linkUid: string): Attachment {
  return Attachment.fromPartial({
    kind: Attachment_Kind.LINK,
    device: Device.fromPartial({ uid: deviceUid, interface: 'taplane-none' }),
    link: LinkSetup.fromPartial({
      uid: linkUid,
      spec: LinkSpec.fromPartial({ protocol: Protocol.FRAMES, listen: '127.0.0.1:0', peers: [{ endpoint: '127.0.0.1:9' }] }),
    }),
  });
}

it.each([
  ['in the order of the devices', [joins('a', 'two'), joins('b', 'one')]],
  ['in the other order', [joins('b', 'one'), joins('a', 'two')]],
])('finds links that have changed places, told %s', (_, after) => {
  for (const before of [[joins('a', 'one')], [joins('a', 'one'), joins('b', 'two')]]) {
    const devices = new Devices();
    const attachments = new Attachments(devices, new Meters());
    try {
      attachments.set(before);
      attachments.set(after);
      for (const { linkUid } of attachments.states()) expect(attachments.link(linkUid)?.uid).toBe(linkUid);
      expect(attachments.states()).toHaveLength(2);
      attachments.set([]);
      for (const uid of ['one', 'two']) expect(attachments.link(uid)).toBeUndefined();
    } finally {
      attachments.close();
      devices.close();
    }
  }
});
