// For any two specs: the plan from one to the other, run on the model, leaves nothing to do, harms nothing foreign, and can be
// taken back.

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Actual, nothing, plan } from '../../src/interface/plan.ts';
import { commandLine } from '../../src/interface/step.ts';
import { undo } from '../../src/interface/undo.ts';
import { applyToModel, desiredOf, picture } from './model.ts';
import { anySpec } from './specs.ts';

const runs = { numRuns: 600 };
const bothModes = fc.constantFrom<'tun' | 'tap'>('tun', 'tap').chain((mode) => fc.tuple(anySpec(mode), anySpec(mode)));
/** A kernel has a value for every setting. */
const blank: Actual = { ...nothing, sysctls: new Map(['ipv4/forwarding', 'ipv4/rp_filter', 'ipv6/accept_ra'].map((key) => [key, '0'])) };
const created = (spec: Parameters<typeof desiredOf>[0]): Actual => applyToModel(blank, plan(desiredOf(spec), nothing));

it('a plan leaves nothing to do', () => {
  fc.assert(
    fc.property(bothModes, fc.boolean(), fc.boolean(), ([first, second], promotesSecondaries, keepsAddresses) => {
      const before = { ...created(first), promotesSecondaries, keepsAddresses };
      expect(plan(desiredOf(first), before)).toEqual([]);
      const after = applyToModel(before, plan(desiredOf(second), before, desiredOf(first)));
      expect(plan(desiredOf(second), after).map(commandLine)).toEqual([]);
    }),
    runs,
  );
});

it('a plan repairs whatever others took away or changed', () => {
  const harm = fc.record({
    keep: fc.func(fc.boolean()),
    mtu: fc.constantFrom(1500, 1281),
    up: fc.boolean(),
    alias: fc.constantFrom('', 'theirs'),
  });
  fc.assert(
    fc.property(bothModes, harm, ([spec], { keep, mtu, up, alias }) => {
      const good = created(spec);
      const some = <T>(items: T[]): T[] => items.filter((_, index) => keep(index, items.length));
      const harmed: Actual = {
        ...good,
        link: good.link && { ...good.link, mtu, up, alias },
        addresses: some(good.addresses),
        routes: up ? some(good.routes) : [],
        neighbours: some(good.neighbours),
        controller: '',
      };
      const repaired = applyToModel(harmed, plan(desiredOf(spec), harmed));
      expect(plan(desiredOf(spec), repaired).map(commandLine)).toEqual([]);
    }),
    runs,
  );
});

it('what others put on the device stays, unless the link goes down', () => {
  fc.assert(
    fc.property(bothModes, ([first, second]) => {
      const own = created(first);
      const foreign = desiredOf({
        ...first,
        addresses: [
          { cidr: '10.0.1.255/16', peer: '', scope: 0, validLifetime: 0 },
          { cidr: '192.0.2.1/24', peer: '', scope: 0, validLifetime: 0 },
        ],
      });
      const [address, other] = foreign.addresses.map((item) => ({ ...item, index: 7, flags: 0, protocol: 0 }));
      if (address === undefined || other === undefined || own.link === undefined) throw new Error('no addresses');
      const theirs = applyToModel(own, [
        { kind: 'add-address', name: own.link.name, address, replace: false },
        { kind: 'add-address', name: own.link.name, address: other, replace: false },
      ]);
      const after = applyToModel(theirs, plan(desiredOf(second), theirs, desiredOf(first)));
      expect(after.addresses.filter((item) => item.protocol === 0)).toHaveLength(2);
    }),
    runs,
  );
});

it('steps undone in reverse, and the old plan after them, restore what was', () => {
  fc.assert(
    fc.property(bothModes, fc.nat(30), ([one, second], cut) => {
      // The kernel cannot take an owner back, only give another.
      const first = { ...one, owner: '5' };
      const before = created(first);
      const steps = plan(desiredOf(second), before, desiredOf(first));
      const ran = steps.slice(0, cut);
      let model = applyToModel(before, ran);
      for (const step of ran.toReversed()) {
        const back = undo(step, before);
        if (back === undefined) continue;
        try {
          model = applyToModel(model, [back]);
        } catch {
          // The engine goes on too: what the kernel dropped is put back by the plan below.
        }
      }
      model = applyToModel(model, plan(desiredOf(first), model, desiredOf(second)));
      expect(picture(model)).toEqual(picture(before));
    }),
    runs,
  );
});

it('creation undone leaves nothing', () => {
  fc.assert(
    fc.property(anySpec('tap'), fc.nat(30), (spec, cut) => {
      const ran = plan(desiredOf(spec), nothing).slice(0, Math.max(1, cut));
      const back = ran.toReversed().flatMap((step) => undo(step, nothing) ?? []);
      expect(back.at(-1)).toMatchObject({ kind: 'delete-link', name: 'tap0' });
    }),
  );
});
