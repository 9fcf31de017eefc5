import { describe, expect, it } from 'vitest';
import type { TaplaneError } from '../../src/errors.ts';
import { Interface } from '../../src/gen/taplane/v1/interface.ts';
import type { WatchInterfacesResponse } from '../../src/gen/taplane/v1/interface_service.ts';
import { interfaceBroadcast, type WatchEvent } from '../../src/interface/broadcast.ts';
import type { Broadcast } from '../../src/resource/broadcast.ts';

const BACKLOG = 8192;
const all = () => true;
const added = (name: string): WatchEvent => ({ $case: 'added', value: Interface.fromPartial({ name }) });
const text = ({ event }: WatchInterfacesResponse): string => (event?.$case === 'added' ? event.value.name : (event?.$case ?? 'nothing'));

function watch(
  broadcast: Broadcast<WatchEvent>,
  { token = '', snapshot = [] as WatchEvent[], wanted = all as (event: WatchEvent) => boolean } = {},
) {
  const abort = new AbortController();
  const events = broadcast.watch(token, () => snapshot, wanted, abort.signal);
  return {
    events,
    abort: () => abort.abort(),
    async take(count: number): Promise<WatchInterfacesResponse[]> {
      const taken: WatchInterfacesResponse[] = [];
      while (taken.length < count) {
        const { value, done } = await events.next();
        if (done) throw new Error(`ended after ${taken.length}`);
        taken.push(value);
      }
      return taken;
    },
  };
}

async function reason(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'none',
    (error: TaplaneError) => error.reason,
  );
}

describe('a watcher', () => {
  it('gets a snapshot, synced, and every change after it in order', async () => {
    const broadcast = interfaceBroadcast('e', 4);
    broadcast.publish(added('before'));
    const one = watch(broadcast, { snapshot: [added('a'), added('b')] });
    const [first, second, synced] = await one.take(3);
    expect([first, second, synced].map((item) => item && [text(item), item.resumeToken])).toEqual([
      ['a', ''],
      ['b', ''],
      ['synced', 'e.1'],
    ]);
    broadcast.publish(added('c'));
    broadcast.publish(added('d'));
    expect((await one.take(2)).map((item) => [text(item), item.resumeToken])).toEqual([
      ['c', 'e.2'],
      ['d', 'e.3'],
    ]);
    one.abort();
    expect((await one.events.next()).done).toBe(true);
  });

  it('misses nothing that happens while it reads the snapshot', async () => {
    const broadcast = interfaceBroadcast('e', 4);
    const one = watch(broadcast, { snapshot: [added('a')] });
    await one.take(1);
    broadcast.publish(added('c'));
    expect((await one.take(2)).map(text)).toEqual(['synced', 'c']);
    one.abort();
  });

  it('goes on after its token, without a snapshot', async () => {
    const broadcast = interfaceBroadcast('e', 4);
    for (const name of ['a', 'b', 'c']) broadcast.publish(added(name));
    const one = watch(broadcast, { token: 'e.1', snapshot: [added('never')] });
    expect((await one.take(2)).map(text)).toEqual(['b', 'c']);
    const nothing = watch(broadcast, { token: 'e.3' });
    const coming = nothing.take(1);
    broadcast.publish(added('d'));
    expect((await coming).map(text)).toEqual(['d']);
    for (const watcher of [one, nothing]) watcher.abort();
  });

  it('is told only what it wants', async () => {
    const broadcast = interfaceBroadcast('e', 4);
    const one = watch(broadcast, { wanted: (event) => event.$case !== 'added' || event.value.name === 'b' });
    await one.take(1);
    for (const name of ['a', 'b']) broadcast.publish(added(name));
    expect((await one.take(1)).map((item) => [text(item), item.resumeToken])).toEqual([['b', 'e.2']]);
    one.abort();
  });

  it.each([
    ['other.1', 'RESUME_TOKEN_TOO_OLD'],
    ['e.4', 'RESUME_TOKEN_TOO_OLD'], // of the future
    ['e', 'INVALID_FIELDS'],
    ['e.', 'INVALID_FIELDS'],
    ['e.1.1', 'INVALID_FIELDS'],
    ['e.-1', 'INVALID_FIELDS'],
    ['e.1e1', 'INVALID_FIELDS'],
    ['e.9999999999999999999', 'INVALID_FIELDS'],
    ['.', 'INVALID_FIELDS'],
  ])('with the token %s is refused: %s', async (token, expected) => {
    const broadcast = interfaceBroadcast('e', 4);
    for (const name of ['a', 'b', 'c']) broadcast.publish(added(name));
    expect(await reason(watch(broadcast, { token }).take(1))).toBe(expected);
    expect(broadcast.watchers).toBe(0);
  });

  it('with a token that fell out of the history is told so; the oldest that is kept still works', async () => {
    const broadcast = interfaceBroadcast('e', 4);
    for (let count = 1; count <= 40_000; count++) broadcast.publish(added(String(count)));
    expect(await reason(watch(broadcast, { token: 'e.1' }).take(1))).toBe('RESUME_TOKEN_TOO_OLD');
    const recent = watch(broadcast, { token: `e.${40_000 - BACKLOG}` });
    expect((await recent.take(1)).map(text)).toEqual([String(40_000 - BACKLOG + 1)]);
    recent.abort();
  });
});

describe('a watcher that does not read', () => {
  it('is ended, alone, with what waited before the gap and nothing after it; it may resume without a loss', async () => {
    const broadcast = interfaceBroadcast('e', 4);
    const slow = watch(broadcast);
    const quick = watch(broadcast);
    await slow.take(1);
    await quick.take(1);
    const heard: string[] = [];
    const reading = (async () => {
      for await (const item of quick.events) heard.push(text(item));
    })();
    const total = BACKLOG + 100;
    for (let count = 1; count <= total; count++) {
      broadcast.publish(added(String(count)));
      if (count % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    // It begins to read, and more comes while it does: that must not hide the gap.
    const got = (await slow.take(10)).map(text);
    broadcast.publish(added('after the gap'));
    let last = '';
    const rest = (async () => {
      for await (const item of slow.events) {
        got.push(text(item));
        last = item.resumeToken;
      }
    })();
    expect(await reason(rest)).toBe('WATCHER_TOO_SLOW');
    expect(got).toEqual(Array.from({ length: BACKLOG }, (_, index) => String(index + 1)));
    const resumed = watch(broadcast, { token: last });
    expect((await resumed.take(total - BACKLOG + 1)).map(text).at(0)).toBe(String(BACKLOG + 1));

    await new Promise((resolve) => setImmediate(resolve));
    expect(heard).toHaveLength(total + 1);
    for (const watcher of [quick, resumed]) watcher.abort();
    await reading;
  });
});

describe('watchers', () => {
  it('are as many as allowed, and free their place when they abort, return or fail', async () => {
    const broadcast = interfaceBroadcast('e', 3);
    const three = [watch(broadcast), watch(broadcast), watch(broadcast)];
    for (const one of three) await one.take(1);
    expect(await reason(watch(broadcast).take(1))).toBe('TOO_MANY_WATCHERS');
    const [first, second, third] = three;
    const waiting = first?.events.next();
    first?.abort();
    expect((await waiting)?.done).toBe(true);
    await second?.events.return(undefined);
    expect(broadcast.watchers).toBe(1);
    const failing = broadcast.watch(
      '',
      () => {
        throw new Error('snapshot');
      },
      all,
      new AbortController().signal,
    );
    await expect(failing.next()).rejects.toThrow('snapshot');
    expect(broadcast.watchers).toBe(1);
    third?.abort();
    await third?.events.next();
    expect(broadcast.watchers).toBe(0);
  });

  it('that have aborted before they begin get nothing', async () => {
    const broadcast = interfaceBroadcast('e', 1);
    const events = broadcast.watch('e.0', () => [], all, AbortSignal.abort());
    expect((await events.next()).done).toBe(true);
    expect(broadcast.watchers).toBe(0);
  });
});

describe('large events', () => {
  // An interface with a thousand routes: 40 kB and more each.
  const large = (index: number): WatchEvent => {
    const routes = Array.from({ length: 1000 }, (_, at) => ({ destination: `10.${at >> 8}.${at & 255}.0/24`, gateway: '192.0.2.1' }));
    return { $case: 'modified', value: Interface.fromPartial({ name: `interfaces/big${index}`, spec: { routes } }) };
  };

  it('are kept within bounds of bytes: by history, which then begins later, and by a watcher that does not read', async () => {
    const broadcast = interfaceBroadcast('e', 4);
    const idle = watch(broadcast);
    await idle.take(1);
    const count = 2000;
    const heapBefore = process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
    for (let index = 0; index < count; index++) broadcast.publish(large(index));
    const grown = process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers - heapBefore;
    // All of them would be over 80 MB encoded and several times that as objects; garbage not yet collected is in this figure.
    expect(grown).toBeLessThan(400e6);
    expect(await reason(watch(broadcast, { token: 'e.1' }).take(1))).toBe('RESUME_TOKEN_TOO_OLD');
    const [late] = await watch(broadcast, { token: `e.${count - 10}` }).take(1);
    expect(late?.event).toMatchObject({ $case: 'modified', value: { name: `interfaces/big${count - 10}` } });
    expect(await reason(idle.take(count))).toBe('WATCHER_TOO_SLOW');
  });
});
