// The interface contract in memory, for tests of the wire and of the command line: names, specs, etags, plans in `ip` lines and
// watches are real; there is no kernel behind them. Not a model of the rules: it refuses only what these tests need refused.

import { EventEmitter, on } from 'node:events';
import { invalidFields, TaplaneError } from '../../src/errors.ts';
import {
  Interface,
  InterfaceSpec_Mode,
  InterfaceStatus,
  InterfaceStatus_OperState,
  InterfaceStatus_State,
  PlanStep_Action,
} from '../../src/gen/taplane/v1/interface.ts';
import type { WatchInterfacesResponse } from '../../src/gen/taplane/v1/interface_service.ts';
import { LogLevel, Node, SetLogLevelResponse } from '../../src/gen/taplane/v1/node_service.ts';
import type { Interfaces } from '../../src/interface/contract.ts';
import type { NodeFacts } from '../../src/rpc/node-service.ts';

export interface MemoryInterfaces extends Interfaces {
  /** Watches in progress. */
  watching(): number;
  /** Every request, by method, in order. */
  readonly calls: { method: string; request: unknown }[];
  /** Ends every watch with this error. */
  breakWatches(error: TaplaneError): void;
}

const CREATED = { seconds: 1_700_000_000n, nanos: 0 };

export function memoryInterfaces(): MemoryInterfaces {
  const stored = new Map<string, Interface>();
  const events = new EventEmitter().setMaxListeners(0);
  const calls: { method: string; request: unknown }[] = [];
  let watching = 0;
  let version = 0;

  const note = (method: string, request: unknown) => calls.push({ method, request });
  const found = (name: string): Interface => {
    const one = stored.get(name);
    if (!one) throw new TaplaneError('NOT_FOUND', 'INTERFACE_NOT_FOUND', `get ${name}: there is no such interface`, { metadata: { name } });
    return structuredClone(one);
  };
  const tell = ($case: 'added' | 'modified' | 'deleted', value: Interface) => {
    version += 1;
    events.emit('event', { event: { $case, value }, resumeToken: String(version) } satisfies WatchInterfacesResponse);
  };
  const finish = (name: string, wanted: Interface, validateOnly: boolean): Interface => {
    const before = stored.get(name);
    const answer = { ...wanted, ...derived(name, wanted, (before?.generation ?? 0n) + 1n), plan: planned(name, before, wanted) };
    if (validateOnly) return answer;
    stored.set(name, { ...answer, plan: [] });
    tell(before ? 'modified' : 'added', { ...answer, plan: [] });
    return answer;
  };

  return {
    calls,
    watching: () => watching,
    breakWatches: (error) => void events.emit('error', error),
    async create(request) {
      note('create', request);
      const id = request.interfaceId.replace('%d', '0');
      const spec = request.interface?.spec;
      const violations = [];
      if (!/^[A-Za-z0-9][\w.-]{0,14}$/.test(id))
        violations.push({ field: 'interface_id', description: `${JSON.stringify(id)} is not a device name` });
      if (spec?.mtu !== undefined && spec.mtu < 68)
        violations.push({ field: 'interface.spec.mtu', description: `${spec.mtu} is below 68` });
      if (violations.length > 0) throw invalidFields(violations);
      if (stored.has(`interfaces/${id}`))
        throw new TaplaneError('ALREADY_EXISTS', 'INTERFACE_EXISTS', `create interface ${id}: the name is taken`, {
          metadata: { name: id },
        });
      return finish(`interfaces/${id}`, Interface.create({ ...request.interface, uid: `uid-${id}` }), request.validateOnly);
    },
    async get(request) {
      note('get', request);
      return found(request.name);
    },
    async list(request) {
      note('list', request);
      const all = [...stored.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
      const matching = all.filter((one) => Object.entries(request.labelSelector).every(([key, value]) => one.labels[key] === value));
      const start = Number(request.pageToken || 0);
      const end = start + Math.min(request.pageSize || 500, 1000);
      return { interfaces: matching.slice(start, end), nextPageToken: end < matching.length ? String(end) : '' };
    },
    async update(request) {
      note('update', request);
      const given = request.interface ?? Interface.create();
      const current =
        request.allowMissing && !stored.has(given.name) ? Interface.create({ name: given.name, spec: {} }) : found(given.name);
      if (given.etag !== '' && given.etag !== current.etag)
        throw new TaplaneError('ABORTED', 'ETAG_MISMATCH', `update ${given.name}: it has changed meanwhile`);
      const next = structuredClone(current);
      for (const path of request.updateMask ?? []) {
        const [head, key] = path.split('.');
        if (head === '*') Object.assign(next, { spec: given.spec, labels: given.labels });
        else if (head === 'labels') next.labels = given.labels;
        else if (next.spec && given.spec && key)
          Object.assign(next.spec, { [camel(key)]: given.spec[camel(key) as keyof typeof given.spec] });
      }
      return finish(given.name, next, request.validateOnly);
    },
    async delete(request) {
      note('delete', request);
      if (request.allowMissing && !stored.has(request.name)) return { plan: [] };
      const one = found(request.name);
      const plan = [{ action: PlanStep_Action.DELETE, object: 'link', command: `ip link delete ${id(request.name)}` }];
      if (request.validateOnly) return { plan };
      stored.delete(request.name);
      tell('deleted', one);
      return { plan };
    },
    async *watch(request, signal) {
      note('watch', request);
      watching += 1;
      try {
        const live = on(events, 'event', { signal }) as AsyncIterable<[WatchInterfacesResponse]>;
        if (request.resumeToken === '') {
          for (const value of stored.values())
            if (request.name === '' || request.name === value.name)
              yield { event: { $case: 'added', value }, resumeToken: String(version) };
          yield { event: { $case: 'synced', value: {} }, resumeToken: String(version) };
        }
        for await (const [event] of live) yield event;
      } finally {
        watching -= 1;
      }
    },
    async addAddress(request) {
      note('addAddress', request);
      const one = found(request.name);
      if (request.address && !one.spec?.addresses.some((a) => a.cidr === request.address?.cidr)) one.spec?.addresses.push(request.address);
      return finish(request.name, one, request.validateOnly);
    },
    async removeAddress(request) {
      note('removeAddress', request);
      const one = found(request.name);
      const left = one.spec?.addresses.filter((address) => address.cidr !== request.address?.cidr) ?? [];
      if (one.spec && left.length === one.spec.addresses.length)
        throw new TaplaneError(
          'NOT_FOUND',
          'ADDRESS_NOT_FOUND',
          `remove address ${request.address?.cidr}: ${id(request.name)} does not have it`,
        );
      if (one.spec) one.spec.addresses = left;
      return finish(request.name, one, request.validateOnly);
    },
    async addRoute(request) {
      note('addRoute', request);
      const one = found(request.name);
      if (request.route) one.spec?.routes.push(request.route);
      return finish(request.name, one, request.validateOnly);
    },
    async removeRoute(request) {
      note('removeRoute', request);
      const one = found(request.name);
      if (one.spec) one.spec.routes = one.spec.routes.filter((route) => route.destination !== request.route?.destination);
      return finish(request.name, one, request.validateOnly);
    },
    async adopt(request) {
      note('adopt', request);
      throw new TaplaneError('FAILED_PRECONDITION', 'NOT_PERSISTENT', `adopt ${request.interfaceId}: the device is not persistent`, {
        preconditions: [{ type: 'DEVICE', subject: request.interfaceId, description: 'make it persistent: ip tuntap add' }],
      });
    },
  };
}

export function memoryNode(): NodeFacts {
  return {
    setLogLevel: ({ level }) => SetLogLevelResponse.create({ level, configuredLevel: LogLevel.INFO }),
    async *supportBundle() {
      yield Buffer.from('a bundle');
    },
    getNode: async () =>
      Node.create({
        name: 'node-a',
        cluster: 'default',
        version: '0.1.0',
        nodeVersion: '24.21.0',
        kernelRelease: '6.18.0',
        architecture: 'x86_64',
        pid: 4242,
        startTime: CREATED,
        interfaceCount: 1,
        capabilities: ['CAP_NET_ADMIN'],
        kernelFeatures: { tunDevice: true, ipv6: true },
        nats: { state: 1 },
        conditions: [{ type: 'Ready', status: 1, reason: 'Started', message: 'answers calls' }],
      }),
  };
}

function derived(name: string, one: Interface, generation: bigint) {
  const spec = one.spec;
  const status = InterfaceStatus.create({
    state: InterfaceStatus_State.ACTIVE,
    ifindex: 7,
    up: spec?.up ?? false,
    operState: InterfaceStatus_OperState.DOWN,
    effectiveMtu: spec?.mtu ?? 1500,
    effectiveMacAddress: spec?.mode === InterfaceSpec_Mode.TAP ? '02:00:00:00:00:01' : '',
    addresses: spec?.addresses ?? [],
  });
  return { name, generation, etag: `"${generation}"`, createTime: CREATED, updateTime: CREATED, status };
}

function planned(name: string, before: Interface | undefined, after: Interface) {
  const device = id(name);
  const lines: [keyof typeof PlanStep_Action, string, string][] = [];
  const mode = after.spec?.mode === InterfaceSpec_Mode.TAP ? 'tap' : 'tun';
  if (!before) lines.push(['ADD', 'link', `ip tuntap add ${device} mode ${mode}`]);
  if (after.spec?.mtu !== before?.spec?.mtu) lines.push(['CHANGE', 'link', `ip link set ${device} mtu ${after.spec?.mtu}`]);
  const had = new Set(before?.spec?.addresses.map((address) => address.cidr));
  for (const { cidr } of after.spec?.addresses ?? [])
    if (!had.has(cidr)) lines.push(['ADD', 'address', `ip addr add ${cidr} dev ${device}`]);
  return lines.map(([action, object, command]) => ({ action: PlanStep_Action[action] as 1 | 2 | 3, object, command }));
}

const id = (name: string) => name.slice('interfaces/'.length);
const camel = (snake: string) => snake.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
