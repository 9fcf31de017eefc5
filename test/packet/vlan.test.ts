import { describe, expect, it } from 'vitest';
import { insertVlanTag } from '../../src/packet/vlan.ts';
import { random } from '../harness/random.ts';
import { type Answer, answerTo, ethernet, hex } from './requests.ts';

const FRAME = ethernet('0800', hex('4500 0014'));
const insert =
  (tpid: number, tci: number): Answer =>
  (bytes, start, length, out) =>
    insertVlanTag(out, bytes, start, length, tpid, tci);

describe('a tag is put back', () => {
  it.each<[string, number, number, Buffer, string]>([
    ['of 802.1Q, VLAN 5, priority 7', 0x8100, 0xe005, FRAME, '020000000002 020000000001 8100 e005 0800 4500 0014'],
    [
      'of 802.1ad before another',
      0x88a8,
      0x0fff,
      ethernet('86dd', hex('60'), '8100 0001'),
      '020000000002 020000000001 88a8 0fff 8100 0001 86dd 60',
    ],
    ['of a frame of headers only', 0x8100, 0, ethernet('0800', hex('')), '020000000002 020000000001 8100 0000 0800'],
  ])('%s', (_, tpid, tci, frame, expected) => expect(answerTo(insert(tpid, tci), frame)).toEqual(hex(expected)));
});

it('not where there is no frame, or no room', () => {
  expect(answerTo(insert(0x8100, 1), FRAME.subarray(0, 13))).toBeUndefined();
  expect(answerTo(insert(0x8100, 1), FRAME, FRAME.length + 3)).toBeUndefined();
  expect(answerTo(insert(0x8100, 1), FRAME, FRAME.length + 4)).toHaveLength(FRAME.length + 4);
});

it('and what is taken off again is what was there', () => {
  const dice = random('tags');
  for (let round = 0; round < 2000; round++) {
    const frame = Buffer.from(dice.bytes(dice.integer(14, 200)));
    const tagged = answerTo(insert(dice.integer(0, 0xffff), dice.integer(0, 0xffff)), frame) as Buffer;
    expect(Buffer.concat([tagged.subarray(0, 12), tagged.subarray(16)])).toEqual(frame);
  }
});
