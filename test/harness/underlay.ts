// What overlays run over in tests: hosts in namespaces of their own, each with a subnet of IPv4 and of IPv6, joined by a router in another.
//
//   host 0  u0 --------- h0  router  h1 --------- u0  host 1
//   host 2  u0 -- a [wire] b -- h2          (`wired`: an Impairment carries what passes; nothing does before it runs)
//
//   await using net = createUnderlay({ hosts: 2 });
//   net.host(0).namespace.run('ping', '-c', '1', net.host(1).address4);

import { createCable, createNamespace, type Namespace } from './namespace.ts';

const PYTHON = '/usr/bin/python3';
/** Before all rules that the kernel has by itself, which begin at 0 but for looking up what is local. */
const PARTITION = 10;
const NO_ANSWERS = 5;

/** Without these the kernel hands over super-frames with half a checksum, as no wire carries them: ETHTOOL_S{RX,TX}CSUM, SG, TSO, GSO, GRO. */
const PLAIN = `
import ctypes, fcntl, socket, struct, sys
plug = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for device in sys.argv[1:]:
    for command in (0x1f, 0x24, 0x2c, 0x19, 0x17, 0x15): # linux/ethtool.h
        value = ctypes.create_string_buffer(struct.pack('II', command, 0), 8)
        fcntl.ioctl(plug, 0x8946, struct.pack('16sP16x', device.encode(), ctypes.addressof(value))) # SIOCETHTOOL
`;

export interface UnderlayHost {
  readonly index: number;
  readonly namespace: Namespace;
  /** Its only device but loopback. */
  readonly device: string;
  /** Without prefix length. Change when it roams. */
  readonly address4: string;
  readonly address6: string;
  readonly gateway4: string;
  readonly gateway6: string;
}

export interface UnderlayOptions {
  hosts: number;
  /** Of every device. */
  mtu?: number;
  /** Hosts that are joined by a wire: two devices, `a` at the host and `b` at the router, in a namespace of its own. */
  wired?: readonly number[];
}

type Mutable<Thing> = { -readonly [Key in keyof Thing]: Thing[Key] };

export class Underlay implements AsyncDisposable {
  readonly router: Namespace;
  readonly #hosts: Mutable<UnderlayHost>[] = [];
  readonly #wires = new Map<number, Namespace>();
  readonly #moves = new Map<number, number>();

  constructor(router: Namespace) {
    this.router = router;
  }

  host(index: number): UnderlayHost {
    const host = this.#hosts[index];
    if (host === undefined) throw new Error(`underlay: no host ${index}`);
    return host;
  }

  /** Where the wire of a host is, with the devices `a` and `b`. */
  wire(index: number): Namespace {
    const wire = this.#wires.get(index);
    if (wire === undefined) throw new Error(`underlay: host ${index} has no wire`);
    return wire;
  }

  /** The longest packet that the router passes on, both ways. It tells the sender of longer ones, unless `filterTooBig`. 0: as devices take. */
  setPathMtu(bytes: number): void {
    const limit = bytes === 0 ? '' : ` mtu ${bytes}`;
    for (const { index } of this.#hosts) {
      this.router.ip(`-4 route replace ${subnet4(index)}0/24 dev h${index} proto kernel scope link src ${subnet4(index)}1${limit}`);
      this.router.ip(`-6 route replace ${subnet6(index)}/64 dev h${index} proto kernel metric 256${limit}`);
    }
  }

  /** Whether all that the router would say itself goes nowhere: what it passes on does not care. */
  filterTooBig(on: boolean): void {
    for (const family of ['-4', '-6']) this.router.ip(`${family} rule ${on ? 'add' : 'del'} iif lo priority ${NO_ANSWERS} blackhole`);
  }

  /** Nothing reaches the host, and nothing that it sends reaches others; nobody is told. */
  partition(index: number): void {
    this.#cut(index, 'add');
  }

  heal(index: number): void {
    this.#cut(index, 'del');
  }

  /** The host has other addresses from now on. */
  roam(index: number): void {
    const host = this.host(index) as Mutable<UnderlayHost>;
    const move = (this.#moves.get(index) ?? 2) + 1;
    this.#moves.set(index, move);
    const [old4, old6] = [host.address4, host.address6];
    host.address4 = `${subnet4(index)}${move}`;
    host.address6 = `${subnet6(index)}${move}`;
    host.namespace.ip(`address del ${old4}/24 dev u0`);
    host.namespace.ip(`address del ${old6}/64 dev u0`);
    host.namespace.ip(`address add ${host.address4}/24 dev u0`);
    host.namespace.ip(`address add ${host.address6}/64 dev u0 nodad`);
    host.namespace.ip(`-4 route replace default via ${host.gateway4}`);
    host.namespace.ip(`-6 route replace default via ${host.gateway6}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const namespace of [...this.#hosts.map(({ namespace }) => namespace), ...this.#wires.values(), this.router]) {
      namespace[Symbol.dispose]();
    }
  }

  /** Of `createUnderlay`. */
  add(mtu: number, wired: boolean): void {
    const index = this.#hosts.length;
    const namespace = createNamespace();
    const host = {
      index,
      namespace,
      device: 'u0',
      address4: `${subnet4(index)}2`,
      address6: `${subnet6(index)}2`,
      gateway4: `${subnet4(index)}1`,
      gateway6: `${subnet6(index)}1`,
    };
    this.#hosts.push(host);
    const [near, far] = [
      { namespace, device: 'u0' },
      { namespace: this.router, device: `h${index}` },
    ];
    if (wired) {
      const wire = createNamespace();
      this.#wires.set(index, wire);
      wire.run('sh', '-c', 'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6');
      createCable(near, { namespace: wire, device: 'a' });
      createCable({ namespace: wire, device: 'b' }, far);
      for (const device of ['a', 'b']) wire.ip(`link set dev ${device} mtu ${mtu}`);
      wire.run(PYTHON, '-c', PLAIN, 'a', 'b');
      for (const { namespace: at, device } of [near, far]) at.run(PYTHON, '-c', PLAIN, device);
    } else createCable(near, far);
    for (const [end, last] of [
      [near, 2],
      [far, 1],
    ] as const) {
      end.namespace.ip(`link set dev ${end.device} mtu ${mtu}`);
      end.namespace.ip(`address add ${subnet4(index)}${last}/24 dev ${end.device}`);
      end.namespace.ip(`address add ${subnet6(index)}${last}/64 dev ${end.device} nodad`);
    }
    namespace.ip(`-4 route add default via ${host.gateway4}`);
    namespace.ip(`-6 route add default via ${host.gateway6}`);
  }

  #cut(index: number, what: 'add' | 'del'): void {
    this.host(index);
    for (const [family, subnet] of [
      ['-4', `${subnet4(index)}0/24`],
      ['-6', `${subnet6(index)}/64`],
    ]) {
      this.router.ip(`${family} rule ${what} iif h${index} priority ${PARTITION} blackhole`);
      this.router.ip(`${family} rule ${what} to ${subnet} priority ${PARTITION} blackhole`);
    }
  }
}

/** All up, with addresses that are usable at once; at most 250 hosts. */
export function createUnderlay({ hosts, mtu = 1500, wired = [] }: UnderlayOptions): Underlay {
  const net = new Underlay(createNamespace());
  try {
    net.router.run('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding');
    for (let index = 0; index < hosts; index++) net.add(mtu, wired.includes(index));
    return net;
  } catch (error) {
    void net[Symbol.asyncDispose]();
    throw error;
  }
}

function subnet4(index: number): string {
  return `198.18.${index + 1}.`;
}

function subnet6(index: number): string {
  return `2001:db8:${index + 1}::`;
}
