// Events of the real manager, on devices in a fresh namespace, and of real lanes, as an exporter gets them.

import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type NodeEvents, nodeEvents } from '../../src/agent/events.ts';
import { Lanes } from '../../src/agent/lanes.ts';
import type { Outgoing } from '../../src/flow/contract.ts';
import { Event } from '../../src/gen/taplane/v1/event.ts';
import { InterfaceSpec_Carrier, InterfaceSpec_Drift, InterfaceSpec_Mode } from '../../src/gen/taplane/v1/interface.ts';
import { CreateInterfaceRequest, UpdateInterfaceRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { type InterfaceManager, openInterfaces } from '../../src/interface/manager.ts';
import { endLanes } from '../harness/lanes.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { until } from '../kernel/managed.ts';

const log = { debug() {}, info() {}, warn() {}, error() {} };

/** A manager whose devices are in a namespace of their own, and what it told the exporter. */
class Node implements AsyncDisposable {
  readonly ns: Namespace = createNamespace();
  readonly folder = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-events-`));
  readonly runtimeDir = join(this.folder, 'run');
  readonly taken: Outgoing[] = [];
  manager!: InterfaceManager;
  events!: NodeEvents;
  lanes: Lanes | undefined;

  async start(withLanes = false): Promise<void> {
    const events = nodeEvents({ exporter: { put: (messages) => void this.taken.push(...messages) }, cluster: 'c', node: 'n', log });
    this.events = events;
    const limits = { interfaces: 16, watchers: 4 };
    if (withLanes) {
      const changed = () => this.manager.laneChanged();
      this.lanes = new Lanes({ runtimeDir: this.runtimeDir, count: 1, log, changed, restarted: events.laneRestarted });
    }
    this.manager = await openInterfaces({
      stateDir: this.folder,
      limits,
      policy: { allowDefaultRoutes: false },
      log,
      told: events.told,
      ...(this.lanes && { dataPlane: this.lanes }),
    });
    await this.manager.start();
  }

  async stop(): Promise<void> {
    await this.manager.stop();
    await this.lanes?.stop();
    this.events.close();
  }

  create(interfaceId: string, spec: object) {
    const full = { mode: InterfaceSpec_Mode.TUN, networkNamespace: this.ns.name, mtu: 1400, up: true, ...spec };
    return this.manager.create(CreateInterfaceRequest.fromPartial({ interfaceId, interface: { spec: full, labels: { team: 'x' } } }));
  }

  update(name: string, spec: object, updateMask: string[]) {
    return this.manager.update(UpdateInterfaceRequest.fromPartial({ interface: { name: `interfaces/${name}`, spec }, updateMask }));
  }

  get told(): Event[] {
    return this.taken.map(({ payload }) => Event.decode(payload));
  }

  /** Waits until exactly these have come since the last call, and some time for one too many. */
  async expect(...names: string[]): Promise<Event[]> {
    await until(() => this.taken.length >= names.length, `${names.join()}; came: ${this.taken.map(({ name }) => name).join()}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const told = this.told;
    expect(this.taken.splice(0).map(({ name }) => name)).toEqual(names);
    return told;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await endLanes(this.runtimeDir);
    this.ns[Symbol.dispose]();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

test('the life of an interface', async () => {
  await using node = new Node();
  await node.start();
  const { uid } = await node.create('tun0', {});
  const [born] = await node.expect('interface-created', 'interface-ready');
  expect(born).toMatchObject({ resource: 'interfaces/tun0', uid, labels: { team: 'x' }, sequence: 1n });
  expect(born?.steps.map(({ command }) => command).join()).toContain('tun0');

  await node.update('tun0', { mtu: 1300 }, ['spec.mtu']);
  const [updated] = await node.expect('interface-updated');
  expect(updated?.steps.map(({ command }) => command)).toEqual([expect.stringContaining('mtu 1300')]);
  // The same again changes nothing and says nothing.
  await node.update('tun0', { mtu: 1300 }, ['spec.mtu']);
  await node.expect();

  node.ns.ip('link set dev tun0 mtu 1200');
  const [repaired] = await node.expect('interface-repaired');
  expect(repaired?.steps.map(({ command }) => command)).toEqual([expect.stringContaining('mtu 1300')]);
  node.ns.ip('link del tun0');
  await node.expect('interface-repaired');

  await node.manager.delete({ name: 'interfaces/tun0', etag: '', allowMissing: false, validateOnly: false, requestId: '' });
  const [gone] = await node.expect('interface-deleted');
  expect(gone).toMatchObject({ resource: 'interfaces/tun0', uid, labels: { team: 'x' } });
  expect(gone?.sequence).toBe(6n);
});

test('degraded once, with the reason, and ready again; nothing at the next start', async () => {
  await using node = new Node();
  await node.start();
  await node.create('tun1', { drift: InterfaceSpec_Drift.REPORT });
  await node.create('tun2', { ephemeral: true });
  await node.expect('interface-created', 'interface-ready', 'interface-created', 'interface-ready');
  node.ns.ip('link set dev tun1 mtu 1200');
  const [degraded] = await node.expect('interface-degraded');
  expect(degraded?.message).toMatch(/^Drifted: differs from its spec; to repair: .*mtu 1400/);
  node.ns.ip('link set dev tun1 mtu 1201');
  await node.expect();
  node.ns.ip('link set dev tun1 mtu 1400');
  await node.expect('interface-ready');
  // Of a stop only what goes with it is told.
  await node.stop();
  await node.expect('interface-deleted');
  const before = node.events;
  await node.start();
  await node.expect();
  expect(node.events).not.toBe(before);
  node.ns.ip('link set dev tun1 mtu 1200');
  const [again] = await node.expect('interface-degraded');
  expect(again?.sequence).toBe(1n);
});

test('an interface that changed while the agent was away is told of at its start', async () => {
  await using node = new Node();
  await node.start();
  await node.create('tun3', { drift: InterfaceSpec_Drift.REPORT });
  await node.expect('interface-created', 'interface-ready');
  await node.stop();
  node.ns.ip('link set dev tun3 mtu 1200');
  await node.start();
  await node.expect('interface-degraded');
});

test('a lane that dies is told of once, with the reason; one that ends in order is not', async () => {
  await using node = new Node();
  await node.start(true);
  await node.create('tun4', { carrier: InterfaceSpec_Carrier.KEEP });
  const attached = () => node.lanes?.describe()[0];
  await until(() => attached()?.attachments === 1 && attached()?.pid, 'the lane');
  node.taken.length = 0;
  const pid = attached()?.pid as number;
  process.kill(pid, 'SIGKILL');
  await until(() => attached()?.pid && attached()?.pid !== pid, 'another lane');
  await until(() => node.taken.some(({ name }) => name === 'lane-restarted'), 'the event');
  await new Promise((resolve) => setTimeout(resolve, 700));
  const told = node.told.filter((_, index) => node.taken[index]?.name === 'lane-restarted');
  expect(told.map(({ message, resource }) => [message, resource])).toEqual([
    [`lane-0: pid ${pid} died (SIGKILL); pid ${attached()?.pid} has taken its place`, ''],
  ]);
  node.taken.length = 0;
  const second = attached()?.pid as number;
  await node.manager.delete({ name: 'interfaces/tun4', etag: '', allowMissing: false, validateOnly: false, requestId: '' });
  await until(() => !existsSync(`/proc/${second}`), 'the end of the lane', 60_000);
  await node.create('tun4', { carrier: InterfaceSpec_Carrier.KEEP });
  await until(() => attached()?.attachments === 1, 'the lane again');
  expect(attached()?.pid).not.toBe(second);
  expect(node.taken.map(({ name }) => name)).not.toContain('lane-restarted');
});
