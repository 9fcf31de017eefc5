import { expect, it } from 'vitest';
import { covers, eventSubject, flowSubject, packetSubject, token } from '../../src/nats/subject.ts';
import { random } from '../harness/random.ts';

it.each([
  ['default', 'default'],
  ['A-z_09', 'A-z_09'],
  ['node.example', 'node=2Eexample'],
  ['a*b>c d', 'a=2Ab=3Ec=20d'],
  ['=', '=3D'],
  ['ü', '=C3=BC'],
  ['\r\n\0', '=0D=0A=00'],
  ['', '='],
])('%j is the token %s', (text, wanted) => expect(token(text)).toBe(wanted));

it('is a subject of six tokens whatever the names are', () => {
  expect(packetSubject('default', 'node.example', 'eth0.5')).toBe('taplane.v1.default.node=2Eexample.packet.eth0=2E5');
  expect(packetSubject('', '', '')).toBe('taplane.v1.=.=.packet.=');
});

it('gives two names two tokens, without anything that NATS or a line of its protocol gives a meaning to', () => {
  const dice = random('subjects');
  const alphabet = ['a', 'B', '.', '*', '>', ' ', '\t', '=', '2', 'E', '-', '_', 'é', '𝄞', '\r'];
  const names = new Map<string, string>();
  for (let round = 0; round < 5000; round++) {
    const name = Array.from({ length: dice.integer(0, 6) }, () => dice.pick(alphabet)).join('');
    const made = token(name);
    expect(made).toMatch(/^[A-Za-z0-9_=-]+$/);
    expect(names.get(made) ?? name, `${made} is the token of two names`).toBe(name);
    names.set(made, name);
    // And it can be read back.
    const bytes = Buffer.from(
      made.replace(/=([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
      'latin1',
    );
    if (name !== '') expect(bytes.toString('utf8')).toBe(name);
  }
  expect(names.size).toBeGreaterThan(1000);
});

it('names the subjects of flows and events', () => {
  expect(flowSubject('default', 'node.example', 'eth0.5')).toBe('taplane.v1.default.node=2Eexample.flow.eth0=2E5');
  expect(eventSubject('default', 'n', 'interface-created')).toBe('taplane.v1.default.n.event.interface-created');
});

it.each([
  ['taplane.v1.*.*.flow.>', 'taplane.v1.c.n.flow.>', true],
  ['taplane.>', 'taplane.v1.c.n.flow.>', true],
  ['taplane.v1.c.n.flow.t0', 'taplane.v1.c.n.flow.>', false],
  ['taplane.v1.*.*.flow.*', 'taplane.v1.c.n.flow.>', false],
  ['taplane.v1.*.*.flow.*', 'taplane.v1.c.n.flow.t0', true],
  ['taplane.v1.x.*.flow.>', 'taplane.v1.c.n.flow.>', false],
  ['taplane.v1', 'taplane.v1.c', false],
])('%s covers %s: %s', (pattern, subject, wanted) => expect(covers(pattern, subject)).toBe(wanted));
