// Who may begin a TLS handshake, with a clock that the test moves.

import { expect, it } from 'vitest';
import { HandshakeGate, OF_ALL, OF_SOURCE } from '../../src/lane/frames/handshake-gate.ts';
import { socketAddress } from '../../src/sys/socket-address.ts';

const v4 = (index: number, port = 9) => socketAddress(Uint8Array.of(10, index >> 16, (index >> 8) & 255, index & 255), port);
const v6 = (network: number, host: number) =>
  socketAddress(
    Uint8Array.from({ length: 16 }, (_, at) => (at === 7 ? network : at === 15 ? host : 0x20)),
    9,
  );

it('lets so many of one source begin, whatever their ports, and others meanwhile', () => {
  const gate = new HandshakeGate();
  const begun = (nowMs: number) => Array.from({ length: 100 }, (_, port) => gate.admits(v4(1, port), nowMs)).filter(Boolean).length;
  expect(begun(0)).toBe(OF_SOURCE.burst);
  expect(begun(10)).toBe(0);
  expect(gate.admits(v4(2), 10)).toBe(true);
  expect(begun(1010)).toBe(OF_SOURCE.aSecond);
  // A network of IPv6 is one source: whoever has one address of it has them all.
  expect(Array.from({ length: 100 }, (_, host) => gate.admits(v6(1, host), 2000)).filter(Boolean)).toHaveLength(OF_SOURCE.burst);
  expect(gate.admits(v6(2, 1), 2000)).toBe(true);
});

it('lets so many of all sources begin, and who has shown who it is besides', () => {
  const gate = new HandshakeGate();
  const friend = v4(0xfffff);
  gate.know(friend);
  let begun = 0;
  let source = 0;
  let friends = 0;
  for (let nowMs = 0; nowMs < 10_000; nowMs++) {
    for (let count = 0; count < 5; count++) if (gate.admits(v4(++source), nowMs)) begun++;
    if (nowMs % 1000 === 0 && gate.admits(friend, nowMs)) friends++;
  }
  expect(begun).toBeGreaterThanOrEqual(OF_ALL.burst + 9 * OF_ALL.aSecond);
  expect(begun).toBeLessThanOrEqual(OF_ALL.burst + 10 * OF_ALL.aSecond);
  expect(friends).toBe(10);
});

it('keeps a bounded number of those that have shown who they are, the latest', () => {
  const gate = new HandshakeGate();
  for (let index = 0; index < 1000; index++) gate.know(v4(index));
  // Nobody else may begin any more.
  for (let index = 2000; index < 2100; index++) gate.admits(v4(index), 0);
  const admitted = Array.from({ length: 1000 }, (_, index) => gate.admits(v4(index), 0));
  expect(admitted.indexOf(true)).toBe(1000 - 64);
  expect(admitted.filter(Boolean)).toHaveLength(64);
});
