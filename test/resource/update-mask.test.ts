import { describe, expect, it } from 'vitest';
import {
  InterfaceSpec,
  InterfaceSpec_Drift,
  InterfaceSpec_Mode,
  PacketMirror,
  ResponderSpec_Kind,
} from '../../src/gen/taplane/v1/interface.ts';
import { SPEC_FIELDS } from '../../src/interface/spec-fields.ts';
import { applyMask } from '../../src/resource/update-mask.ts';
import { address, responder, tap, tun } from '../interface/specs.ts';

const before = {
  spec: tap({ up: true, mtu: 1400, owner: '1000', addresses: [address('10.0.0.1/24')], sysctls: { 'ipv4/rp_filter': '1' } }),
  labels: { a: '1' },
};
const update = (patch: Partial<InterfaceSpec> | undefined, mask: string[] | undefined, labels: Record<string, string> = {}) =>
  applyMask(SPEC_FIELDS, before, { spec: patch && InterfaceSpec.fromPartial(patch), labels }, mask);

describe('an update', () => {
  it.each<[string, Partial<InterfaceSpec> | undefined, string[] | undefined, Partial<InterfaceSpec>]>([
    [
      'without a mask takes what is set',
      { mtu: 1300, drift: InterfaceSpec_Drift.IGNORE },
      undefined,
      { mtu: 1300, drift: InterfaceSpec_Drift.IGNORE },
    ],
    ['without a mask cannot unset', { up: false, owner: '', addresses: [], sysctls: {} }, [], {}],
    ['takes a named field, set or not', { mtu: 1300 }, ['spec.up', 'spec.owner'], { up: false, owner: '' }],
    ['takes an optional field away', {}, ['spec.mtu'], { mtu: undefined }],
    ['takes 0 for an optional field that is set', { txQueueLength: 0 }, ['spec.tx_queue_length'], { txQueueLength: 0 }],
    ['empties lists and maps', {}, ['spec.addresses', 'spec.sysctls'], { addresses: [], sysctls: {} }],
    [
      'takes the whole spec',
      { mode: InterfaceSpec_Mode.TUN },
      ['spec'],
      { ...tun(), mtu: undefined, txQueueLength: undefined, flowMetering: undefined },
    ],
    ['changes nothing without a spec', undefined, undefined, {}],
  ])('%s', (_, patch, mask, changed) => {
    const { spec, labels, violations } = update(patch, mask);
    expect(violations).toEqual([]);
    expect(spec).toEqual({ ...before.spec, ...changed });
    expect(labels).toEqual({ a: '1' });
  });

  it('knows every field of the spec by its name in the API', () => {
    const names = Object.keys({ ...InterfaceSpec.fromPartial({}), mtu: 0, txQueueLength: 0, flowMetering: 0, packetMirror: 0 }).map((key) =>
      key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    );
    expect(names).toContain('network_namespace');
    expect(
      update(
        {},
        names.map((name) => `spec.${name}`),
      ).violations,
    ).toEqual([]);
  });

  it('takes responders and a mirror, whose presence alone means something', () => {
    const [sink, echo] = [responder(ResponderSpec_Kind.SINK), responder(ResponderSpec_Kind.ICMP_ECHO)];
    const mirror = PacketMirror.create({ filter: 'udp' });
    const full = { spec: tun({ responders: [sink], packetMirror: mirror }), labels: {} };
    const updated = (patch: Partial<InterfaceSpec>, mask?: string[]) => {
      const { spec, violations } = applyMask(SPEC_FIELDS, full, { spec: InterfaceSpec.fromPartial(patch), labels: {} }, mask);
      expect(violations).toEqual([]);
      return [spec.responders.map(({ id }) => id), spec.packetMirror];
    };
    expect(updated({ up: true })).toEqual([['sink'], mirror]);
    expect(updated({ responders: [echo] })).toEqual([['icmp-echo'], mirror]);
    // An empty message asks for a mirror by default, which is not the same as saying nothing.
    expect(updated({ packetMirror: PacketMirror.create() })).toEqual([['sink'], PacketMirror.create()]);
    expect(updated({}, ['spec.packet_mirror'])).toEqual([['sink'], undefined]);
    expect(updated({}, ['spec.responders'])).toEqual([[], mirror]);
    expect(updated({ packetMirror: PacketMirror.create() }, ['spec.packet_mirror'])).toEqual([['sink'], PacketMirror.create()]);
    expect(updated({ responders: [echo], packetMirror: mirror }, ['spec.up'])).toEqual([['sink'], mirror]);
    expect(updated({}, ['spec'])).toEqual([[], undefined]);
  });

  it('replaces everything by *, and only alone', () => {
    expect(update({ mtu: 1 }, ['*'], { b: '2' })).toEqual({
      spec: InterfaceSpec.fromPartial({ mtu: 1 }),
      labels: { b: '2' },
      violations: [],
    });
    expect(update({}, ['*', 'labels']).violations.map(({ field }) => field)).toEqual(['update_mask.paths[0]']);
  });

  it('takes labels whole', () => {
    expect(update({}, ['labels'], { b: '2' }).labels).toEqual({ b: '2' });
    expect(update({}, ['labels']).labels).toEqual({});
    expect(update({}, undefined, { b: '2' }).labels).toEqual({ b: '2' });
  });

  it('names every unknown path', () => {
    const paths = [
      'spec.mtu',
      'mtu',
      'spec.',
      'spec.txQueueLength',
      'spec.addresses.cidr',
      'status',
      '',
      'spec.__proto__',
      'spec.constructor',
    ];
    expect(update({}, paths).violations.map(({ field }) => field)).toEqual(
      paths.slice(1).map((_, index) => `update_mask.paths[${index + 1}]`),
    );
  });

  it('does not touch what it was given', () => {
    const copy = structuredClone(before);
    update({ mtu: 1, addresses: [] }, ['spec']);
    expect(before).toEqual(copy);
  });
});
