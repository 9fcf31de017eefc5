import { expect, it } from 'vitest';
import { type LinkEvent, LinkEvent_Kind } from '../../src/gen/taplane/v1/interface_service.ts';
import { Links } from '../../src/interface/links.ts';
import { freshLink } from './model.ts';

const { ADDED, CHANGED, REMOVED } = LinkEvent_Kind;
const link = (index: number, fields = {}) => freshLink(`l${index}`, { index, alias: index === 2 ? 'taplane:two' : '', ...fields });

function table() {
  const told: LinkEvent[] = [];
  const ours = new Set(['taplane:two']);
  const links = new Links(
    (alias) => (ours.has(alias) ? 'interfaces/l2' : ''),
    (event) => told.push(event),
  );
  return { links, ours, told: () => told.splice(0).map(({ kind, ifindex, interface: name }) => [kind, ifindex, name]) };
}

it('tells what is new, what changed and what went, once each', () => {
  const { links, told } = table();
  links.replace([link(1), link(2)]);
  expect(told()).toEqual([
    [ADDED, 1, ''],
    [ADDED, 2, 'interfaces/l2'],
  ]);
  links.note(link(1), false);
  links.note(link(1, { address: Buffer.alloc(6), txQueueLength: 5 }), false);
  expect(told()).toEqual([]);
  for (const change of [{ up: true }, { up: true, carrier: true }, { mtu: 1400 }, { name: 'x' }]) links.note(link(1, change), false);
  expect(told()).toEqual([CHANGED, CHANGED, CHANGED, CHANGED].map((kind) => [kind, 1, '']));
  links.note(link(1), true);
  links.note(link(1), true);
  links.note(link(9), true); // never known
  expect(told()).toEqual([[REMOVED, 1, '']]);
});

it('takes in a full list after a loss: only the difference is told', () => {
  const { links, told } = table();
  links.replace([link(1), link(2), link(3)]);
  told();
  links.replace([link(2), link(3, { mtu: 9000 }), link(4)]);
  expect(told()).toEqual([
    [REMOVED, 1, ''],
    [CHANGED, 3, ''],
    [ADDED, 4, ''],
  ]);
  links.replace([link(2), link(3, { mtu: 9000 }), link(4)]);
  expect(told()).toEqual([]);
});

it('lists all, with their owners as of their last change', () => {
  const { links, ours, told } = table();
  links.replace([link(1), link(2)]);
  told();
  ours.clear();
  links.note(link(2), false);
  expect(told()).toEqual([[CHANGED, 2, '']]);
  expect(links.all().map(({ kind, link: name, interface: owner }) => [kind, name, owner])).toEqual([
    [ADDED, 'l1', ''],
    [ADDED, 'l2', ''],
  ]);
});
