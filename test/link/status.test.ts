// What is told of a link, of what its lane says.

import { expect, it } from 'vitest';
import { AttachmentState, Attachment_Kind as Kind } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { type Condition, Condition_Status as Status } from '../../src/gen/taplane/v1/interface.ts';
import { LinkSpec, LinkStatus } from '../../src/gen/taplane/v1/link.ts';
import { Entry } from '../../src/link/entry.ts';
import { newRecord } from '../../src/link/record.ts';
import { judge } from '../../src/link/status.ts';
import { FRAMES, TCP } from './links.ts';

const joined = { device: { uid: 'u', interface: 't0' }, spec: { addresses: [], routes: [] }, isThere: true, mtu: 1500 } as never;

it('tells whether the files of TLS can be used, as the lane last said', () => {
  const tls = { certificateFile: '/c', privateKeyFile: '/k', caFile: '/a', peerName: '' };
  const spec = LinkSpec.fromPartial({ interface: 'interfaces/t0', protocol: FRAMES, transport: TCP, listen: ':1', tls });
  const entry = new Entry(newRecord('a', spec, {}, 0));
  const said = (status: Status, message: string) =>
    AttachmentState.fromPartial({
      uid: 'u',
      kind: Kind.LINK,
      attached: true,
      linkUid: entry.record.uid,
      link: LinkStatus.fromPartial({
        conditions: [
          { type: 'TlsUsable', status, reason: 'Why', message },
          { type: 'Ready', status: Status.FALSE },
        ],
      }),
    });
  const condition = (heard: AttachmentState | undefined): Partial<Condition> | undefined => {
    const { conditions } = judge(entry, heard, joined, 1000);
    expect(conditions.find(({ type }) => type === 'Ready')?.status).toBe(heard === undefined ? Status.FALSE : Status.TRUE);
    return conditions.find(({ type }) => type === 'TlsUsable');
  };
  expect(condition(undefined)).toBeUndefined();
  expect(condition(said(Status.FALSE, '/k: ENOENT'))).toMatchObject({ status: Status.FALSE, reason: 'Why', message: '/k: ENOENT' });
  expect(condition(undefined)).toMatchObject({ message: '/k: ENOENT' });
  expect(condition(said(Status.TRUE, ''))).toMatchObject({ status: Status.TRUE, message: '' });
  entry.record = { ...entry.record, spec: { ...spec, tls: undefined } };
  expect(condition(said(Status.TRUE, ''))).toBeUndefined();
});
