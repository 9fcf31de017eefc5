// Community IDs against the baseline that the specification publishes, and the laws that they keep.

import { describe, expect, it } from 'vitest';
import { CommunityId, icmpCounterpart } from '../../src/packet/community-id.ts';
import { random, seed } from '../harness/random.ts';

console.log(`TAPLANE_SEED=${seed}`);

/** Bytes of an address, the slow way. */
function address(text: string): Buffer {
  if (!text.includes(':')) return Buffer.from(text.split('.').map(Number));
  const [head = '', tail = ''] = text.split('::');
  const groups = (part: string) => part.split(':').filter((group) => group !== '');
  const [before, after] = [groups(head), groups(tail)];
  const middle = Array.from({ length: 8 - before.length - after.length }, () => '0');
  return Buffer.from([...before, ...middle, ...after].map((group) => group.padStart(4, '0')).join(''), 'hex');
}

const NODE_A = 'fe80::200:86ff:fe05:80da';
const NODE_B = 'fe80::260:97ff:fe07:69ea';
const HOST = '3ffe:507:0:1:200:86ff:fe05:80da';
const MAIL = ['2001:470:e5bf:dead:4957:2174:e82c:4887', '2607:f8b0:400c:c03::1a'] as const;

type Vector = [
  kind: string,
  protocol: number,
  source: string,
  destination: string,
  first: number,
  second: number,
  id: string,
  seed1: string,
];

/** Baseline of the specification: of ICMP type and code, as they stand in the packet; -1 without ports. The last two: by seed 0 and seed 1. */
const BASELINE: Vector[] = [
  ['neighbour solicitation', 58, NODE_A, NODE_B, 135, 0, '1:dGHyGvjMfljg6Bppwm3bg0LO8TY=', '1:kHa1FhMYIT6Ym2Vm2AOtoOARDzY='],
  ['its advertisement', 58, NODE_B, NODE_A, 136, 0, '1:dGHyGvjMfljg6Bppwm3bg0LO8TY=', '1:kHa1FhMYIT6Ym2Vm2AOtoOARDzY='],
  ['solicitation the other way', 58, NODE_B, NODE_A, 135, 0, '1:zavyT/cezQr1fmImYCwYnMXbgck=', '1:2hSqmsDZ2kdcY9kbiUzOEBic0iM='],
  ['its advertisement', 58, NODE_A, NODE_B, 136, 0, '1:zavyT/cezQr1fmImYCwYnMXbgck=', '1:2hSqmsDZ2kdcY9kbiUzOEBic0iM='],
  ['time exceeded', 58, '3ffe:501:1800:2345::2', HOST, 3, 0, '1:2ObVBgIn28oZvibYZhZMBgh7WdQ=', '1:lVEtCZpYu84Xqaa++3lXFyuu2n4='],
  ['unreachable', 58, '3ffe:501:410:0:2c0:dfff:fe47:33e', HOST, 1, 4, '1:hLZd0XGWojozrvxqE0dWB1iM6R0=', '1:W8MHwXpWzpoSTD+cGcaJr4u0ys8='],
  ['echo request', 58, HOST, '3ffe:501:0:1001::2', 128, 0, '1:+TW+HtLHvV1xnGhV1lv7XoJrqQg=', '1:GfZxjAkDk2MkegpBYHV6tadtFXQ='],
  ['echo reply', 58, '3ffe:501:0:1001::2', HOST, 129, 0, '1:+TW+HtLHvV1xnGhV1lv7XoJrqQg=', '1:GfZxjAkDk2MkegpBYHV6tadtFXQ='],
  ['router solicitation', 58, NODE_A, 'ff02::2', 133, 0, '1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0=', '1:L7Ka0ZMYu+J3bL4ulW2PrqyXNo8='],
  ['router advertisement', 58, NODE_B, 'ff02::1', 134, 0, '1:pkvHqCL88/tg1k4cPigmZXUtL00=', '1:K/ee5UCqAMAQXDorP5nSa2CGLjc='],
  ['echo request', 1, '192.168.0.89', '192.168.0.1', 8, 0, '1:X0snYXpgwiv9TZtqg64sgzUn6Dk=', '1:03g6IloqVBdcZlPyX8r0hgoE7kA='],
  ['echo reply', 1, '192.168.0.1', '192.168.0.89', 0, 0, '1:X0snYXpgwiv9TZtqg64sgzUn6Dk=', '1:03g6IloqVBdcZlPyX8r0hgoE7kA='],
  ['time exceeded', 1, '10.0.0.1', '10.0.0.2', 11, 0, '1:YHxtAirCG//0OzkcVAukqKQN9xM=', '1:XjUibYHaafLQ3pxQeiMI8g25q20='],
  ['TCP on IPv6', 6, MAIL[0], MAIL[1], 63943, 25, '1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=', '1:eJYTW6AOzFLlSUoESovMjnu7rMw='],
  ['its answer', 6, MAIL[1], MAIL[0], 25, 63943, '1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=', '1:eJYTW6AOzFLlSUoESovMjnu7rMw='],
  ['SCTP', 132, '192.168.170.8', '192.168.170.56', 7, 7, '1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=', '1:5w3ZRjeKBzqT3zsaEECDGjUbYeg='],
  ['its answer', 132, '192.168.170.56', '192.168.170.8', 7, 7, '1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=', '1:5w3ZRjeKBzqT3zsaEECDGjUbYeg='],
  ['TCP', 6, '128.232.110.120', '66.35.250.204', 34855, 80, '1:LQU9qZlK+B5F3KDmev6m5PMibrg=', '1:3V71V58M3Ksw/yuFALMcW0LAHvc='],
  ['its answer', 6, '66.35.250.204', '128.232.110.120', 80, 34855, '1:LQU9qZlK+B5F3KDmev6m5PMibrg=', '1:3V71V58M3Ksw/yuFALMcW0LAHvc='],
  ['UDP', 17, '192.168.1.52', '8.8.8.8', 54585, 53, '1:d/FP5EW3wiY1vCndhwleRRKHowQ=', '1:Q9We8WO3piVF8yEQBNJF4uiSVrI='],
  ['its answer', 17, '8.8.8.8', '192.168.1.52', 53, 54585, '1:d/FP5EW3wiY1vCndhwleRRKHowQ=', '1:Q9We8WO3piVF8yEQBNJF4uiSVrI='],
  ['RSVP', 46, '10.1.12.1', '10.1.12.2', -1, -1, '1:KHlLkgoJW7ifUTyTSgyVfkFHzKw=', '1:rYir8gphR31noO9iDRQmF/BteEI='],
  ['its answer', 46, '10.1.12.2', '10.1.12.1', -1, -1, '1:KHlLkgoJW7ifUTyTSgyVfkFHzKw=', '1:rYir8gphR31noO9iDRQmF/BteEI='],
];

/** One object for all, so that what a call leaves behind would show in the next. */
const seed0 = new CommunityId();
const seed1 = new CommunityId(1);

function idOf(ids: CommunityId, protocol: number, source: Buffer, destination: Buffer, first: number, second: number): string {
  // Neither at the start of the buffer nor side by side.
  const bytes = Buffer.concat([Buffer.alloc(3, 0xaa), destination, Buffer.alloc(5, 0xbb), source]);
  const size = source.length as 4 | 16;
  return ids.hash(bytes, 8 + size, 3, size, protocol, first, second);
}

describe('the baseline of the specification', () => {
  it.each(BASELINE)('%s of protocol %i from %s to %s', (_, protocol, source, destination, first, second, id, other) => {
    expect(idOf(seed0, protocol, address(source), address(destination), first, second)).toBe(id);
    expect(idOf(seed1, protocol, address(source), address(destination), first, second)).toBe(other);
  });
});

describe('laws', () => {
  const any = random('community-id');
  const host = (size: number) => Buffer.from(any.bytes(size));

  it('both directions have one ID, also between ports of one address, and other ports another', () => {
    for (let count = 0; count < 500; count++) {
      const size = any.pick([4, 16]);
      const [a, b] = [host(size), host(size)];
      const to = any.pick([a, b]);
      const protocol = any.pick([6, 17, 132]);
      const [p, q] = [any.integer(0, 65534), any.integer(0, 65534)];
      const id = idOf(seed0, protocol, a, to, p, q);
      expect(idOf(seed0, protocol, to, a, q, p)).toBe(id);
      expect(idOf(seed0, protocol, a, to, p + 1, q + 1)).not.toBe(id);
      expect(id).toMatch(/^1:[\w+/]{27}=$/);
    }
  });

  it('protocols without ports, DCCP and UDP-Lite among them, ignore them; unknown ports make another ID', () => {
    const [a, b] = [host(4), host(4)];
    for (const protocol of [2, 33, 46, 47, 50, 89, 136, 255]) {
      expect(idOf(seed0, protocol, a, b, 1, 2)).toBe(idOf(seed0, protocol, b, a, -1, -1));
    }
    for (const protocol of [1, 6, 17, 58, 132]) expect(idOf(seed0, protocol, a, b, 0, 0)).not.toBe(idOf(seed0, protocol, a, b, -1, -1));
  });

  it('ICMP that goes one way keeps its direction and code; a pair does not care for its code', () => {
    const [a, b] = [host(4), host(4)];
    for (const [protocol, type] of [
      [1, 3],
      [58, 1],
    ] as const) {
      expect(idOf(seed0, protocol, a, b, type, 1)).not.toBe(idOf(seed0, protocol, b, a, type, 1));
      expect(idOf(seed0, protocol, a, b, type, 1)).not.toBe(idOf(seed0, protocol, a, b, type, 2));
    }
    expect(idOf(seed0, 1, a, b, 8, 1)).toBe(idOf(seed0, 1, b, a, 0, 2));
  });

  it('counterparts are mutual, and there are 10 of ICMP and 12 of ICMPv6', () => {
    for (const [v6, pairs] of [
      [false, 10],
      [true, 12],
    ] as const) {
      const types = Array.from({ length: 256 }, (_, type) => type).filter((type) => icmpCounterpart(type, v6) >= 0);
      expect(types).toHaveLength(pairs);
      for (const type of types) expect(icmpCounterpart(icmpCounterpart(type, v6), v6)).toBe(type);
    }
    expect([icmpCounterpart(8, false), icmpCounterpart(3, false), icmpCounterpart(8, true)]).toEqual([0, -1, -1]);
  });

  it('refuses a seed of more than 16 bits', () => {
    for (const bad of [-1, 65536, 1.5, Number.NaN]) expect(() => new CommunityId(bad)).toThrow(RangeError);
  });
});
