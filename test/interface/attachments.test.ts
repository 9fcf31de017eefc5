// What the data plane is told of interfaces, and what becomes of its answers.

import { describe, expect, it } from 'vitest';
import { type Attachment, Attachment_Kind, type AttachmentState } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import {
  Condition_Status,
  FlowMetering,
  type InterfaceSpec,
  InterfaceSpec_Carrier,
  PacketMirror,
  PacketMirrorStatus,
  ResponderSpec_Kind,
} from '../../src/gen/taplane/v1/interface.ts';
import { Attachments } from '../../src/interface/attachments.ts';
import { prepare } from '../../src/interface/canonical.ts';
import type { Metering } from '../../src/interface/data-plane.ts';
import { Entry } from '../../src/interface/entry.ts';
import { newRecord } from '../../src/interface/revision.ts';
import { responder, tap, tun } from './specs.ts';

const { KEEP } = InterfaceSpec_Carrier;
const { PARKING, RESPONDERS, METER } = Attachment_Kind;
const metering: Metering = { cluster: 'c', node: 'n', activeTimeout: 60, idleTimeout: 15, sampling: 1, tableEntries: 64 };
const { SINK, ARP } = ResponderSpec_Kind;
const turn = () => new Promise((resolve) => setImmediate(resolve));

function entry(name: string, spec: InterfaceSpec, index = 7): Entry {
  const made = new Entry(newRecord(name, prepare(spec), {}, 0), 0);
  made.index = index;
  return made;
}

/** A data plane that remembers what it was told, and says what it is given to say. */
function plane(entries: Entry[], metered?: Metering) {
  const told: Attachment[][] = [];
  const says = new Map<string, AttachmentState>();
  const mirrors = new Map<string, PacketMirrorStatus>();
  const held = new Map<string, { pid: number; what: string }>();
  let changes = 0;
  const attachments = new Attachments({
    dataPlane: {
      want: (wanted) => void told.push(wanted),
      attachment: (uid, kind) => says.get(`${uid} ${kind}`),
      holding: (uid) => held.get(uid),
    },
    mirrors: { status: (uid) => mirrors.get(uid) },
    metering: metered,
    changed: () => {
      changes += 1;
    },
    entries: () => entries,
    now: () => 1000,
  });
  const say = (one: Entry, kind: Attachment_Kind, attached: boolean, reason: string) =>
    says.set(`${one.record.uid} ${kind}`, { uid: one.record.uid, kind, attached, reason, responders: [], link: undefined, linkUid: '' });
  return { attachments, told, say, mirrors, held, changes: () => changes };
}

const conditions = (one: Entry) => one.conditions.list().map(({ type, status, reason, message }) => [type, status, reason, message]);

describe('the data plane is told', () => {
  it('of parking and responders, with the device as attaching must repeat it', async () => {
    const full = entry(
      't0',
      tap({
        carrier: KEEP,
        multiQueue: true,
        queues: 4,
        packetInfo: true,
        vnetHeader: true,
        networkNamespace: 'blue',
        responders: [responder(ARP, ['10.0.0.1'])],
      }),
    );
    const entries = [full, entry('t1', tun({ carrier: KEEP })), entry('t2', tun({ responders: [responder(SINK)] })), entry('t3', tun())];
    const { attachments, told } = plane(entries);
    attachments.start();
    await turn();
    expect(told[0]?.map(({ kind, device, responders }) => [device?.interface, kind, responders.map(({ id }) => id)])).toEqual([
      ['t0', PARKING, []],
      ['t0', RESPONDERS, ['arp']],
      ['t1', PARKING, []],
      ['t2', RESPONDERS, ['sink']],
    ]);
    const device = {
      uid: full.record.uid,
      interface: 't0',
      networkNamespace: 'blue',
      tap: true,
      multiQueue: true,
      packetInfo: true,
      vnetHeader: true,
      queues: 4,
    };
    expect(told[0]?.[0]?.device).toEqual(device);
    expect(told[0]?.[1]?.device).toEqual(device);
    expect(told[0]?.[2]?.device).toMatchObject({ tap: false, multiQueue: false, packetInfo: false, vnetHeader: false, queues: 1 });
  });

  it('first of all, also that there is nothing; then once a turn, only of what is new', async () => {
    const entries: Entry[] = [];
    const { attachments, told, changes } = plane(entries);
    attachments.touch();
    await turn();
    expect([told, changes()]).toEqual([[], 0]); // not all is known yet
    attachments.start();
    await turn();
    expect([told, changes()]).toEqual([[[]], 1]);
    const kept = entry('t0', tun({ carrier: KEEP }));
    entries.push(kept);
    for (let times = 0; times < 5; times++) attachments.touch();
    await turn();
    expect([told.length, changes()]).toEqual([2, 2]);
    attachments.touch();
    await turn();
    expect([told.length, changes()]).toEqual([2, 3]);
    kept.index = 0; // its device is gone
    attachments.touch();
    await turn();
    expect(told[2]).toEqual([]);
  });

  it('what was not told yet at the end, and nothing after it', async () => {
    const { attachments, told, changes } = plane([entry('t0', tun({ carrier: KEEP }))]);
    attachments.start();
    attachments.stop();
    expect(told.length).toBe(1);
    attachments.touch();
    await turn();
    expect([told.length, changes()]).toEqual([1, 0]);
  });
});

describe('conditions', () => {
  const spec = { carrier: KEEP, responders: [responder(SINK)], packetMirror: PacketMirror.create() };

  it('say what is attached, and why not', () => {
    const one = entry('t0', tun(spec));
    const { attachments, say, mirrors } = plane([one]);
    attachments.judge(one);
    expect(conditions(one)).toEqual([
      ['CarrierKept', Condition_Status.FALSE, 'NotParked', 'the data-plane process has not answered yet'],
      ['Responding', Condition_Status.FALSE, 'NotAttached', 'the data-plane process has not answered yet'],
      ['Mirroring', Condition_Status.FALSE, 'NotCopying', 'nothing copies its packets yet'],
    ]);
    say(one, PARKING, true, '');
    say(one, RESPONDERS, false, 'held by another program');
    mirrors.set(one.record.uid, PacketMirrorStatus.fromPartial({ active: true }));
    attachments.judge(one);
    expect(conditions(one)).toEqual([
      ['CarrierKept', Condition_Status.TRUE, 'Parked', ''],
      ['Responding', Condition_Status.FALSE, 'NotAttached', 'held by another program'],
      ['Mirroring', Condition_Status.TRUE, 'Copying', ''],
    ]);
    mirrors.set(one.record.uid, PacketMirrorStatus.fromPartial({ reason: 'NATS is away' }));
    say(one, RESPONDERS, true, '');
    attachments.judge(one);
    expect(conditions(one).slice(1)).toEqual([
      ['Responding', Condition_Status.TRUE, 'Attached', ''],
      ['Mirroring', Condition_Status.FALSE, 'NotCopying', 'NATS is away'],
    ]);
  });

  it('go when nothing is asked for any more', () => {
    const one = entry('t0', tun(spec));
    const { attachments } = plane([one]);
    attachments.judge(one);
    one.record = { ...one.record, spec: prepare(tun()) };
    attachments.judge(one);
    expect(conditions(one)).toEqual([]);
  });

  it('say so where there is no data plane', () => {
    const one = entry('t0', tun(spec));
    const alone = new Attachments({ dataPlane: undefined, mirrors: undefined, changed: undefined, entries: () => [one], now: () => 0 });
    alone.judge(one);
    expect(conditions(one)[0]).toEqual(['CarrierKept', Condition_Status.FALSE, 'NotParked', 'there is no data-plane process']);
    expect(alone.holding(one.record.uid, 1)).toBe('');
  });

  it('are news once, whatever it is that was said', () => {
    const one = entry('t0', tun(spec));
    const other = entry('t1', tun(spec));
    const { attachments, say, mirrors } = plane([one, other], metering);
    const news = () => [attachments.hasNews(one), attachments.hasNews(other)];
    expect(news()).toEqual([true, true]);
    expect(news()).toEqual([false, false]);
    for (const kind of [PARKING, RESPONDERS]) {
      say(one, kind, true, '');
      expect([...news(), ...news()]).toEqual([true, false, false, false]);
      say(one, kind, false, 'busy');
      expect([...news(), ...news()]).toEqual([true, false, false, false]);
    }
    // That metering has begun is what anybody expects.
    say(one, METER, true, '');
    expect(news()).toEqual([false, false]);
    for (const [attached, reason] of [
      [false, 'no capability'],
      [true, ''],
    ] as const) {
      say(one, METER, attached, reason);
      expect([...news(), ...news()]).toEqual([true, false, false, false]);
    }
    mirrors.set(other.record.uid, PacketMirrorStatus.fromPartial({ active: true }));
    expect([...news(), ...news()]).toEqual([false, true, false, false]);
    // Counts are no news.
    mirrors.set(other.record.uid, PacketMirrorStatus.fromPartial({ active: true, publishedFrames: 9n }));
    expect(news()).toEqual([false, false]);
  });

  it('tell of metering where it was asked for, and where it fails', () => {
    const usual = entry('t0', tun());
    const asked = entry('t1', tun({ flowMetering: FlowMetering.create() }));
    const off = entry('t2', tun({ flowMetering: FlowMetering.fromPartial({ disabled: true }) }));
    const all = [usual, asked, off];
    const { attachments, say } = plane(all, metering);
    const judged = () => {
      for (const one of all) attachments.judge(one);
      return all.map((one) => conditions(one).map(([, status, reason, message]) => [status, reason, message]));
    };
    const { TRUE, FALSE } = Condition_Status;
    expect(judged()).toEqual([[], [[FALSE, 'NotMetered', 'the data-plane process has not answered yet']], []]);
    for (const one of all) say(one, METER, false, 'no capability');
    expect(judged()).toEqual([[[FALSE, 'NotMetered', 'no capability']], [[FALSE, 'NotMetered', 'no capability']], []]);
    for (const one of all) say(one, METER, true, '');
    expect(judged()).toEqual([[], [[TRUE, 'Metered', '']], []]);
  });

  it('name a meter for each interface, by its own timeouts where it has some', async () => {
    const own = FlowMetering.fromPartial({ activeTimeout: 5, sampling: 7 });
    const all = [
      entry('t0', tun()),
      entry('t1', tun({ flowMetering: own })),
      entry('t2', tun({ flowMetering: { ...own, disabled: true } })),
    ];
    const { attachments, told } = plane(all, metering);
    attachments.start();
    await turn();
    expect(told[0]?.map(({ kind, device, meter }) => [kind, device?.interface, meter])).toEqual([
      [METER, 't0', { ...metering, link: '', labels: {} }],
      [METER, 't1', { ...metering, link: '', labels: {}, activeTimeout: 5, sampling: 7 }],
    ]);
  });
});

it('a mirror tells what it has done only where one is asked for', () => {
  const one = entry('t0', tun({ packetMirror: PacketMirror.create() }));
  const { attachments, mirrors } = plane([one]);
  expect(attachments.mirror(one.record)).toBeUndefined();
  const status = PacketMirrorStatus.fromPartial({ active: true, publishedFrames: 3n });
  mirrors.set(one.record.uid, status);
  expect(attachments.mirror(one.record)).toEqual(status);
  expect(attachments.mirror({ ...one.record, spec: prepare(tun()) })).toBeUndefined();
});

it('a holder is named only when it is the process of the data plane', () => {
  const one = entry('t0', tun());
  const { attachments, held } = plane([one]);
  expect(attachments.holding(one.record.uid, 42)).toBe('');
  held.set(one.record.uid, { pid: 42, what: 'responder, parking' });
  expect(attachments.holding(one.record.uid, 42)).toBe('responder, parking');
  expect(attachments.holding(one.record.uid, 43)).toBe('');
});
