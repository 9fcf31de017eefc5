// The traffic on real devices: they count every frame of it once, and the kernel adds nothing, though it has addresses that it could answer
// with. Bytes are whole frames, of a TAP with the link header.

import { expect, it } from 'vitest';
import { everything } from './flow-traffic.ts';
import { TAP_WIRE, TUN_WIRE, VLAN_WIRE, type Wire } from './frame-layers.ts';
import { createNamespace } from './namespace.ts';

const PYTHON = '/usr/bin/python3';

/** Writes inbound frames into a device, sends outbound ones through it, in their order; tells what came out, and what sysfs counts. */
const DRIVER = `
import fcntl, json, os, select, socket, struct, sys, time
name, kind = sys.argv[1], sys.argv[2]
fd = os.open('/dev/net/tun', os.O_RDWR)
IFF = {'tun': 1, 'tap': 2}[kind] | 0x1000 # without packet information
fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH22x', name.encode(), IFF))
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
out.bind((name, 0))
came = []
def drain(seconds):
    while select.select([fd], [], [], seconds)[0]: came.append(os.read(fd, 65536).hex())
def counts():
    return [int(open(f'/sys/class/net/{name}/statistics/{d}_packets').read()) for d in ('rx', 'tx')] + \\
           [int(open(f'/sys/class/net/{name}/statistics/{d}_bytes').read()) for d in ('rx', 'tx')]
os.system(f'ip link set {name} up')
time.sleep(0.2)
drain(1.5)
came, before = [], counts()
for direction, text in json.load(sys.stdin):
    frame = bytes.fromhex(text)
    if direction == 'inbound': os.write(fd, frame)
    else: out.send(frame)
    drain(0)
drain(1)
print(json.dumps({'came': came, 'counted': [b - a for a, b in zip(before, counts())]}))
`;

/** Membership reports come when the kernel likes: hop-by-hop options, to ff02::16. */
const isReport = (frame: string) => /^(.{28})?6.{11}00.{34}ff02(00){13}16/.test(frame);

it.each([
  ['TUN', TUN_WIRE],
  ['TAP', TAP_WIRE],
  ['TAP with two VLAN tags', VLAN_WIRE],
] as [string, Wire][])('a %s counts each frame once, and nothing is answered', async (_, wire) => {
  const kind = wire.ethernet === undefined ? 'tun' : 'tap';
  await using ns = createNamespace();
  ns.run('sh', '-c', 'echo 0 > /proc/sys/net/ipv6/conf/default/router_solicitations');
  ns.ip(`tuntap add dev dev0 mode ${kind}`);
  // Neighbours of the peer: answers would find a way.
  ns.ip('address add 198.51.100.1/24 dev dev0');
  ns.ip('address add 2001:db8:1::1/64 dev dev0 nodad');
  const sent = everything(wire).concat(everything(wire, 'outbound'));
  const input = JSON.stringify(sent.map(({ from, frame }) => [from, frame.toString('hex')]));
  const { code, stdout, stderr } = await ns.exec([PYTHON, '-c', DRIVER, 'dev0', kind], { input });
  expect([code, stderr]).toEqual([0, '']);
  const { came, counted } = JSON.parse(stdout) as { came: string[]; counted: number[] };
  const of = (direction: string) => sent.filter(({ from }) => from === direction).map(({ frame }) => frame);
  const [inbound, outbound] = [of('inbound'), of('outbound')];
  expect(came.filter((frame) => !isReport(frame))).toEqual(outbound.map((frame) => frame.toString('hex')));
  const bytes = (frames: readonly Buffer[]) => frames.reduce((sum, { length }) => sum + length, 0);
  const reports = came.filter(isReport).map((frame) => Buffer.from(frame, 'hex'));
  expect(counted).toEqual([inbound.length, came.length, bytes(inbound), bytes(outbound) + bytes(reports)]);
});
