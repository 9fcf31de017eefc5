import { describe, expect, it } from 'vitest';
import { InterfaceSpec, InterfaceSpec_Drift, InterfaceSpec_Mode } from '../../src/gen/taplane/v1/interface.ts';
import { applyMask } from '../../src/interface/update-mask.ts';
import { address, tap, tun } from './specs.ts';

const before = {
  spec: tap({ up: true, mtu: 1400, owner: '1000', addresses: [address('10.0.0.1/24')], sysctls: { 'ipv4/rp_filter': '1' } }),
  labels: { a: '1' },
};
const update = (patch: Partial<InterfaceSpec> | undefined, mask: string[] | undefined, labels: Record<string, string> = {}) =>
  applyMask(before, { spec: patch && InterfaceSpec.fromPartial(patch), labels }, mask);

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
    const names = Object.keys({ ...InterfaceSpec.fromPartial({}), mtu: 0, txQueueLength: 0, flowMetering: 0 }).map((key) =>
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
