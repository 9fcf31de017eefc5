// Events without a kernel: what is made of what watchers hear, and what becomes of events when the disk fails.

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type NodeEvents, nodeEvents } from '../../src/agent/events.ts';
import type { Outgoing } from '../../src/flow/contract.ts';
import { Event, Event_Kind as Kind } from '../../src/gen/taplane/v1/event.ts';
import { Condition_Status, Interface } from '../../src/gen/taplane/v1/interface.ts';
import { Link, LinkStatus_State as State } from '../../src/gen/taplane/v1/link.ts';
import { ProbeResult } from '../../src/gen/taplane/v1/link_service.ts';
import type { WatchEvent } from '../../src/interface/broadcast.ts';
import type { LinkEvent } from '../../src/link/manager.ts';

const warnings: { fields: object; message: string }[] = [];
const warn = (fields: object, message: string) => void warnings.push({ fields, message });
const log = { debug() {}, info() {}, warn, error: warn };
let taken: Outgoing[] = [];
let full = false;
let puts = 0;
const exporter = {
  put(messages: readonly Outgoing[]) {
    puts++;
    if (full) throw new Error('disk full');
    taken.push(...messages);
  },
};
let events: NodeEvents;

beforeEach(() => {
  taken = [];
  warnings.length = 0;
  full = false;
  puts = 0;
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setImmediate', 'clearImmediate', 'performance'] });
  events = nodeEvents({ exporter, cluster: 'c', node: 'n', log, epoch: '0123456789abcdef', now: () => 1_700_000_000_123 });
});
afterEach(() => {
  vi.useRealTimers();
});

const turn = () => vi.advanceTimersByTime(0);
const decoded = () => taken.map(({ payload }) => Event.decode(payload));
const names = () => taken.map(({ name }) => name);

function tell($case: 'added' | 'modified' | 'deleted', ready: boolean | string, more: object = {}, steps: string[] = []): void {
  const Ready = {
    type: 'Ready',
    status: ready === true ? Condition_Status.TRUE : Condition_Status.FALSE,
    reason: ready === true ? 'AsSpecified' : 'Drifted',
    message: ready === true ? '' : String(ready),
  };
  const value = Interface.fromPartial({
    name: 'interfaces/tun0',
    uid: 'u1',
    etag: 'a',
    labels: { team: 'x' },
    status: { conditions: [Ready] },
    plan: steps.map((command) => ({ command })),
    ...more,
  });
  events.told({ $case, value } as WatchEvent);
  turn();
}

test('a message carries the event, its number, and an id of epoch and number', () => {
  tell('added', true, {}, ['ip tuntap add']);
  expect(taken.map(({ payload: _, ...rest }) => rest)).toEqual([
    { kind: 'event', name: 'interface-created', id: '0123456789abcdef:1', epoch: '0123456789abcdef', firstSequence: 1n, records: 1 },
    { kind: 'event', name: 'interface-ready', id: '0123456789abcdef:2', epoch: '0123456789abcdef', firstSequence: 2n, records: 1 },
  ]);
  expect(decoded()[0]).toMatchObject({
    cluster: 'c',
    node: 'n',
    epoch: '0123456789abcdef',
    sequence: 1n,
    time: { seconds: 1_700_000_000n, nanos: 123_000_000 },
    kind: Kind.INTERFACE_CREATED,
    resource: 'interfaces/tun0',
    uid: 'u1',
    labels: { team: 'x' },
    steps: [{ command: 'ip tuntap add' }],
  });
});

test('every kind has a name that suits a subject', () => {
  events.agentStarted();
  events.agentStopping('SIGTERM');
  events.laneRestarted('lane-0', 'pid 1 died');
  turn();
  expect(names()).toEqual(['agent-started', 'agent-stopping', 'lane-restarted']);
  expect(decoded().map(({ message }) => message)).toEqual(['', 'SIGTERM', 'lane-0: pid 1 died']);
});

test('readiness: transitions only, never one twice in a row', () => {
  tell('added', true);
  tell('modified', 'mtu 1400');
  tell('modified', 'mtu 1500');
  tell('modified', 'mtu 1500');
  tell('modified', true);
  tell('modified', true);
  expect(names()).toEqual(['interface-created', 'interface-ready', 'interface-degraded', 'interface-ready']);
  expect(decoded()[2]?.message).toBe('Drifted: mtu 1400');
});

test('what was there at the start says nothing while it is well, and is degraded when it is not', () => {
  tell('modified', true);
  tell('modified', true, { uid: 'u2' });
  expect(names()).toEqual([]);
  tell('modified', 'gone', { uid: 'u3' });
  expect(names()).toEqual(['interface-degraded']);
});

describe('links', () => {
  const linkTold = ($case: 'added' | 'modified' | 'deleted', state: State, more: object = {}): string[] => {
    const value = Link.fromPartial({
      name: 'links/west',
      uid: 'l1',
      etag: 'a',
      labels: { to: 'b' },
      status: { state, reason: 'why' },
      ...more,
    });
    taken = [];
    events.linkTold({ $case, value } as LinkEvent);
    turn();
    return names();
  };

  test('come up, go down, change and go; a data plane that says nothing is no news', () => {
    expect(linkTold('added', State.UNSPECIFIED)).toEqual(['link-created']);
    expect(linkTold('modified', State.CONNECTING)).toEqual([]);
    expect(linkTold('modified', State.UP)).toEqual(['link-up']);
    expect(linkTold('modified', State.UP)).toEqual([]);
    expect(linkTold('modified', State.UNSPECIFIED)).toEqual([]);
    expect(linkTold('modified', State.WAITING)).toEqual(['link-down']);
    expect(decoded()[0]).toMatchObject({ kind: Kind.LINK_DOWN, resource: 'links/west', uid: 'l1', labels: { to: 'b' }, message: 'why' });
    expect(linkTold('modified', State.CONNECTING, { etag: 'b' })).toEqual(['link-updated']);
    expect(linkTold('deleted', State.CONNECTING)).toEqual(['link-deleted']);
  });

  test('that were there at the start are taken as up until they show otherwise', () => {
    expect(linkTold('modified', State.UNSPECIFIED)).toEqual([]);
    expect(linkTold('modified', State.UP)).toEqual([]);
    expect(linkTold('modified', State.CONNECTING)).toEqual(['link-down']);
  });

  test('and what a probe has measured is told', () => {
    const probe = ProbeResult.fromPartial({ name: 'links/west', peer: '192.0.2.1:1', sent: 10, received: 9 });
    events.linkProbed(probe, { uid: 'l1', labels: {} });
    turn();
    expect(decoded()[0]).toMatchObject({ kind: Kind.LINK_PROBED, resource: 'links/west', uid: 'l1', probe: { sent: 10, received: 9 } });
  });
});

test('an update has another etag; a repair the same one, and steps', () => {
  tell('added', true);
  tell('modified', true, { etag: 'b' }, ['ip link set mtu']);
  tell('modified', true, { etag: 'b' }, ['ip link set mtu']);
  expect(names().slice(2)).toEqual(['interface-updated', 'interface-repaired']);
  expect(decoded()[3]?.steps.map(({ command }) => command)).toEqual(['ip link set mtu']);
});

test('a repair that is not enough is a degradation with its steps', () => {
  tell('added', true);
  tell('modified', 'half', {}, ['step']);
  tell('modified', true, {}, ['another']);
  expect(names().slice(2)).toEqual(['interface-degraded', 'interface-repaired', 'interface-ready']);
  expect(decoded()[2]?.steps).toHaveLength(1);
});

test('after a deletion the same name starts anew', () => {
  tell('added', 'no');
  tell('deleted', 'no');
  tell('added', true, { uid: 'u2' });
  expect(names()).toEqual(['interface-created', 'interface-degraded', 'interface-deleted', 'interface-created', 'interface-ready']);
});

test('steps and messages beyond all measure are cut, and said to be', () => {
  tell('added', 'x'.repeat(100_000), {}, Array<string>(1000).fill('ip route add 10.0.0.0/24 dev tun0'));
  const [first, second] = decoded();
  expect(first?.steps).toHaveLength(256);
  expect(first?.message).toBe('744 more steps');
  expect(second?.message.length).toBeLessThan(5000);
});

test('what happens in a turn is handed over at once', () => {
  for (let i = 0; i < 50; i++) events.agentStarted();
  turn();
  expect([puts, taken.length]).toEqual([1, 50]);
});

test('a full disk: nothing is thrown, one complaint a minute, and all comes in order when there is room', () => {
  full = true;
  for (let second = 0; second < 90; second++) {
    events.agentStarted(String(second));
    vi.advanceTimersByTime(1000);
  }
  expect(warnings).toHaveLength(2);
  expect(warnings[0]).toMatchObject({ message: 'events not stored; tried again', fields: { waiting: 1, lost: 0, failures: 1 } });
  // Not for each event: 1, 2, 4, 8, 16, 30 s.
  expect(puts).toBeLessThan(9);
  expect(events.stats()).toMatchObject({ stored: 0, waiting: 90, lost: 0 });
  full = false;
  vi.advanceTimersByTime(30_000);
  expect(decoded().map(({ sequence }) => sequence)).toEqual(Array.from({ length: 90 }, (_, index) => BigInt(index + 1)));
  expect(events.stats()).toMatchObject({ stored: 90, waiting: 0 });
});

test('more than a thousand waiting events drop the oldest, and the numbers show the gap', () => {
  full = true;
  for (let i = 0; i < 1500; i++) events.agentStarted();
  turn();
  full = false;
  vi.advanceTimersByTime(1000);
  expect(taken).toHaveLength(1000);
  expect([taken[0]?.firstSequence, taken.at(-1)?.firstSequence]).toEqual([501n, 1500n]);
  expect(events.stats()).toMatchObject({ lost: 500 });
});

test('large events are bounded in bytes too', () => {
  full = true;
  const steps = Array<string>(256).fill(`ip route add ${'x'.repeat(200)}`);
  for (let i = 0; i < 200; i++) tell('modified', true, {}, steps);
  expect(events.stats().waiting).toBeLessThan(80);
  expect(events.stats().lost).toBeGreaterThan(100);
});

test('closing tries once more, at once, and then nothing is told', () => {
  full = true;
  events.agentStarted();
  turn();
  full = false;
  events.agentStopping();
  events.close();
  expect(names()).toEqual(['agent-started', 'agent-stopping']);
  events.agentStarted();
  turn();
  vi.advanceTimersByTime(60_000);
  expect(names()).toHaveLength(2);
  expect(vi.getTimerCount()).toBe(0);
});

test('without an exporter nothing happens', () => {
  const none = nodeEvents({ cluster: 'c', node: 'n', log });
  none.agentStarted();
  none.told({ $case: 'synced', value: {} });
  none.close();
  expect(none.stats()).toEqual({ stored: 0, waiting: 0, lost: 0, failures: 0 });
});
