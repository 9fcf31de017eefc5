// Classic BPF programs for tests: an assembler, and random programs that the kernel and Taplane must take alike.

import type { Random } from '../harness/random.ts';

/** code, jt, jf, k of a struct sock_filter. */
export type Instruction = [code: number, jt: number, jf: number, k: number];

export function assemble(program: readonly Instruction[]): Buffer {
  const bytes = Buffer.alloc(program.length * 8);
  for (const [index, [code, jt, jf, k]] of program.entries()) {
    bytes.writeUInt16LE(code, index * 8);
    bytes.writeUInt8(jt, index * 8 + 2);
    bytes.writeUInt8(jf, index * 8 + 3);
    bytes.writeUInt32LE(k, index * 8 + 4);
  }
  return bytes;
}

const LOADS = [0x20, 0x28, 0x30, 0xb1];
const INDIRECT = [0x40, 0x48, 0x50];
const ARITHMETIC = [0x04, 0x14, 0x24, 0x34, 0x44, 0x54, 0x94, 0xa4];
const SHIFTS = [0x64, 0x74];
const CONDITIONS = [0x15, 0x25, 0x35, 0x45];
const SINGLE = [0x00, 0x01, 0x80, 0x81, 0x84, 0x87];
const MEMORY = [0x02, 0x03, 0x60, 0x61];

/** Every operation of bpf_check_classic() in net/core/filter.c. */
export const CODES = new Set([
  ...LOADS,
  ...INDIRECT,
  ...[...ARITHMETIC, ...SHIFTS, ...CONDITIONS].flatMap((code) => [code, code | 8]),
  ...SINGLE,
  ...MEMORY,
  ...[0x05, 0x06, 0x07, 0x16],
]);

/**
 * A program of about `size` operations that loads. It stays away from the two places where libpcap, which Taplane follows, and the
 * kernel differ: X is always below 64 where it is used as an offset or a count of bits. To keep that so, jumps lead to where a group of
 * instructions begins.
 */
export function randomProgram(random: Random, size: number): Instruction[] {
  const offset = () => random.pick([0, 1, 2, 3, 9, 12, 14, 23, random.integer(0, 70)]);
  const value = () => random.pick([0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, random.integer(0, 255), random.integer(0, 2 ** 32 - 1)]);
  const words = Array.from({ length: 4 }, () => random.integer(0, 15));
  // Every word is stored first, so that every load of it is good.
  const groups: Instruction[][] = words.map((word) => [[random.pick([0x02, 0x03]), 0, 0, word]]);
  const makers: (() => Instruction[])[] = [
    () => [[random.pick(LOADS), 0, 0, offset()]],
    () => [
      [0x01, 0, 0, random.integer(0, 63)],
      [random.pick(INDIRECT), 0, 0, offset()],
    ],
    () => [
      [0xb1, 0, 0, offset()],
      [random.pick(INDIRECT), 0, 0, offset()],
    ],
    () => [[random.pick(ARITHMETIC), 0, 0, value() || 1]],
    () => [[random.pick(ARITHMETIC) | 8, 0, 0, 0]],
    () => [[random.pick(SHIFTS), 0, 0, random.integer(0, 31)]],
    () => [
      [0x01, 0, 0, random.integer(0, 31)],
      [random.pick(SHIFTS) | 8, 0, 0, 0],
    ],
    () => [[random.pick(SINGLE), 0, 0, value()]],
    () => [[0x07, 0, 0, 0]],
    () => [[random.pick(MEMORY), 0, 0, random.pick(words)]],
    () => [[random.pick(CONDITIONS) | random.pick([0, 8]), random.integer(0, 3), random.integer(0, 3), value()]],
    () => [[random.pick(CONDITIONS), random.integer(0, 3), random.integer(0, 3), random.integer(0, 255)]],
    () => [[0x05, 0, 0, random.integer(0, 2)]],
  ];
  for (let count = 0; count < size; count += 1) groups.push(random.pick(makers)());
  // Returns in some places, and at the end.
  for (let count = random.integer(0, size / 20); count > 0; count -= 1) {
    groups.splice(random.integer(words.length, groups.length), 0, [[random.pick([0x06, 0x16]), 0, 0, value()]]);
  }
  groups.push([[random.pick([0x06, 0x16, 0x16]), 0, 0, value()]]);
  return linked(groups);
}

/** Turns jumps over a number of groups into jumps over a number of instructions, none of them out of the program. */
function linked(groups: Instruction[][]): Instruction[] {
  const starts: number[] = [];
  let next = 0;
  for (const group of groups) {
    starts.push(next);
    next += group.length;
  }
  const over = (from: number, count: number) =>
    (starts[Math.min(from + 1 + count, groups.length - 1)] as number) - (starts[from] as number) - 1;
  return groups.flatMap((group, index) =>
    group.map(([code, jt, jf, k]): Instruction => {
      if (code === 0x05) return [code, 0, 0, over(index, k)];
      return (code & 7) === 5 ? [code, over(index, jt), over(index, jf), k] : [code, jt, jf, k];
    }),
  );
}
