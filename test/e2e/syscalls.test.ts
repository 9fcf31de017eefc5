// SIGKILL at each system call of create, delete and address-add that reaches the disk or the kernel's network: before the first,
// before the second, and so on until the operation ends unharmed; where time is short before a half of them.

import { expect, it } from 'vitest';
import { AddAddressRequest, ListInterfacesRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import type { TaplaneClient } from '../../src/rpc/client.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { bound } from '../harness/bound.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { random } from '../harness/random.ts';
import { killAt } from '../harness/strace.ts';
import { cidrs, links } from '../harness/truth.ts';
import { creation, deletion, TUN } from './specs.ts';

/** The calls that change the disk or the kernel. */
const SYSCALLS = ['ioctl', 'sendto', 'pwrite64', 'fsync', 'openat'];
const MOST = 60;
/** The first of each, then every one; where time is short every second, beginning anywhere. */
const STRIDE = bound(1, 2);

interface Operation {
  name: string;
  /** Runs with no device `k0`, or with one when `present`. */
  present: boolean;
  run(client: TaplaneClient): Promise<unknown>;
  /** What may be found after: absent, or the addresses of the device. */
  before: string[] | undefined;
  after: string[] | undefined;
}

const spec = { mode: TUN, up: true, addresses: [{ cidr: '10.70.0.1/24' }] };

const operations: Operation[] = [
  {
    name: 'create',
    present: false,
    run: ({ interfaces }) => interfaces.create(creation('k0', spec)),
    before: undefined,
    after: ['10.70.0.1/24'],
  },
  { name: 'delete', present: true, run: ({ interfaces }) => interfaces.delete(deletion('k0')), before: ['10.70.0.1/24'], after: undefined },
  {
    name: 'add address',
    present: true,
    run: ({ interfaces }) =>
      interfaces.addAddress(AddAddressRequest.fromPartial({ name: 'interfaces/k0', address: { cidr: '10.71.0.1/24' } })),
    before: ['10.70.0.1/24'],
    after: ['10.70.0.1/24', '10.71.0.1/24'],
  },
];

it.each(operations)(
  '$name survives SIGKILL before each of its system calls',
  async (operation) => {
    await using ns = createNamespace();
    await using agent = await startAgent({ namespace: ns, env: { UV_THREADPOOL_SIZE: '1' } });
    const fired: Record<string, number> = {};
    const second = random('syscalls').integer(1, STRIDE);
    for (const syscall of SYSCALLS) {
      for (let n = 1; ; n += n === 1 ? second : STRIDE) {
        expect(n).toBeLessThan(MOST);
        await prepare(agent, operation.present);
        const client = agent.client();
        await client.node.getNode(); // connected, so that only the operation itself is counted
        let acknowledged = false;
        await using kill = await killAt(agent.pid, syscall, n);
        await operation.run(client).then(
          () => {
            acknowledged = true;
          },
          (error: { code?: string }) => expect(error.code).toMatch(/UNAVAILABLE|CANCELLED/),
        );
        if (acknowledged) {
          // What is left to do after the answer is done before these are answered; without strace it dies no more.
          for (let turn = 0; turn < 3; turn++) await answers(client);
          await kill[Symbol.asyncDispose]();
          if (await answers(client)) break;
        }
        expect(await kill.fired(20_000), `the fault at ${syscall} ${n}`).toBe(true);
        fired[syscall] = n;
        await agent.ended();
        await agent.restart();
        await compare(agent, ns, operation, acknowledged, `${syscall} ${n}`);
      }
    }
    console.log(
      `${operation.name}: killed before ${Object.entries(fired)
        .map(([syscall, count]) => `${count} ${syscall}`)
        .join(', ')}`,
    );
    // Void unless the operation was really cut in the kernel and on the disk.
    expect(fired['sendto']).toBeGreaterThan(0);
    expect(fired['pwrite64']).toBeGreaterThan(0);
    expect(fired['fsync']).toBeGreaterThan(0);
  },
  300_000,
);

/** Asks for what needs no call of the kernel or the disk. */
async function answers({ interfaces }: TaplaneClient): Promise<boolean> {
  const code = await interfaces.get({ name: 'interfaces/none' }).then(
    () => 'OK',
    (error: { code: string }) => error.code,
  );
  return code === 'NOT_FOUND';
}

async function prepare(agent: Agent, present: boolean): Promise<void> {
  const { interfaces } = agent.client();
  await interfaces.delete({ ...deletion('k0'), allowMissing: true });
  if (present) await interfaces.create(creation('k0', spec));
}

async function compare(agent: Agent, ns: Namespace, operation: Operation, acknowledged: boolean, where: string): Promise<void> {
  const { interfaces } = await agent.client().interfaces.list(ListInterfacesRequest.fromPartial({}));
  const told = interfaces[0]?.spec?.addresses.map(({ cidr }) => cidr).sort();
  expect(acknowledged ? [operation.after] : [operation.before, operation.after], where).toContainEqual(told);
  const device = links(ns).find(({ ifname }) => ifname !== 'lo');
  expect(
    device === undefined
      ? undefined
      : cidrs(ns, 'k0')
          .filter((cidr) => !cidr.includes(':'))
          .sort(),
    where,
  ).toEqual(told);
  if (device !== undefined) expect(device.flags, where).toContain('UP');
}
