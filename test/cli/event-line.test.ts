import { expect, test } from 'vitest';
import { eventLines } from '../../src/cli/event-line.ts';
import { InterfaceSpec_Mode, InterfaceStatus_State } from '../../src/gen/taplane/v1/interface.ts';
import { WatchInterfacesResponse } from '../../src/gen/taplane/v1/interface_service.ts';

const event = ($case: 'added' | 'modified' | 'deleted', uid: string, repairs: bigint, ...commands: string[]) =>
  WatchInterfacesResponse.fromPartial({
    event: {
      $case,
      value: {
        name: 'interfaces/tun0',
        uid,
        spec: { mode: InterfaceSpec_Mode.TUN, addresses: [{ cidr: '10.9.9.9/24' }] },
        status: { state: InterfaceStatus_State.ACTIVE, up: true, effectiveMtu: 1400, repairs, addresses: [{ cidr: '10.0.0.1/24' }] },
        plan: commands.map((command) => ({ command })),
      },
    },
  });
const NOW = 'tun0 tun active up no-carrier mtu=1400 10.0.0.1/24';

test('a line tells what was run, and whether it was a repair', () => {
  const line = eventLines();
  const mtu = 'ip link set dev tun0 mtu 1400';
  expect(line(event('added', 'a', 3n))).toBe(`added ${NOW}`);
  expect(line(event('modified', 'a', 3n, mtu, 'ip route add 10.1.0.0/16 dev tun0'))).toBe(
    `modified ${NOW} ran: ${mtu}; ip route add 10.1.0.0/16 dev tun0`,
  );
  expect(line(event('modified', 'a', 4n, mtu))).toBe(`modified ${NOW} repaired: ${mtu}`);
  expect(line(event('modified', 'a', 4n))).toBe(`modified ${NOW}`);
  expect(line(event('modified', 'a', 5n))).toBe(`modified ${NOW} repaired`);
  expect(line(event('deleted', 'a', 5n, 'ip link delete dev tun0'))).toBe('deleted tun0 ran: ip link delete dev tun0');
});

test('without an earlier event of the same interface nobody knows what was a repair', () => {
  const line = eventLines();
  expect(line(event('modified', 'a', 4n, 'x'))).toBe(`modified ${NOW} ran: x`);
  expect(line(event('modified', 'b', 9n, 'x'))).toBe(`modified ${NOW} ran: x`);
  line(event('deleted', 'a', 4n));
  expect(line(event('added', 'a', 5n, 'x'))).toBe(`added ${NOW} ran: x`);
});
