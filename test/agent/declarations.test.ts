// What lanes are told, put together from two owners.

import { expect, it } from 'vitest';
import { Declarations } from '../../src/agent/declarations.ts';
import { Attachment, Attachment_Kind as Kind } from '../../src/gen/taplane/lane/v1/lane_service.ts';

const meter = (uid: string): Attachment => Attachment.fromPartial({ kind: Kind.METER, device: { uid }, meter: { node: 'n' } });
const parking = (uid: string): Attachment => Attachment.fromPartial({ kind: Kind.PARKING, device: { uid } });
const link = (uid: string, name: string): Attachment => Attachment.fromPartial({ kind: Kind.LINK, device: { uid }, link: { name } });

function declared() {
  const told: Attachment[][] = [];
  return { told, declarations: new Declarations((attachments) => told.push(attachments)) };
}

it.each(['interfaces first', 'links first'])('nothing is told before both have spoken: %s', (order) => {
  const { told, declarations } = declared();
  if (order === 'interfaces first') declarations.fromInterfaces([parking('a')]);
  else declarations.fromLinks([link('a', 'links/x')]);
  expect(told).toEqual([]);
  if (order === 'interfaces first') declarations.fromLinks([link('a', 'links/x')]);
  else declarations.fromInterfaces([parking('a')]);
  expect(told.map((all) => all.map(({ kind }) => kind))).toEqual([[Kind.PARKING, Kind.LINK]]);
});

it('the meter of a joined device names the link, and no other does', () => {
  const { told, declarations } = declared();
  const [a, b] = [meter('a'), meter('b')];
  declarations.fromInterfaces([a, parking('a'), b]);
  declarations.fromLinks([link('a', 'links/x')]);
  expect(told.at(-1)?.map(({ meter: setup }) => setup?.link)).toEqual(['links/x', undefined, '', undefined]);
  // The same again is the same object; what is not joined passes as it is.
  const [first, , second] = told.at(-1) ?? [];
  declarations.fromInterfaces([a, b]);
  expect(
    told
      .at(-1)
      ?.slice(0, 2)
      .map((one, index) => one === [first, second][index]),
  ).toEqual([true, true]);
  declarations.fromLinks([link('a', 'links/y')]);
  expect(told.at(-1)?.[0]?.meter).toMatchObject({ node: 'n', link: 'links/y' });
  declarations.fromLinks([]);
  expect(told.at(-1)).toEqual([a, b]);
});
