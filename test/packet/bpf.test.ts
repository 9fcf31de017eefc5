// Programs by hand, with what they must answer; programs that must be refused; random ones, which must end whatever they do.

import { describe, expect, it } from 'vitest';
import { BadProgram, loadBpf, MAX_INSTRUCTIONS, runBpf } from '../../src/packet/bpf.ts';
import { random, seed } from '../harness/random.ts';
import { assemble, CODES, type Instruction, randomProgram } from './bpf-programs.ts';

// linux/bpf_common.h
const LD_IMM = 0x00;
const LDX_IMM = 0x01;
const RET_K = 0x06;
const RET_A = 0x16;
const TAX = 0x07;
const TXA = 0x87;
const JA = 0x05;

const packet = Uint8Array.from({ length: 64 }, (_, index) => 0x80 + index);

/** What a program answers for the 60 bytes from the fourth on; the wire had 1500. */
function answer(...program: Instruction[]): number {
  return runBpf(loadBpf(assemble(program)), packet, 4, 60, 1500);
}

describe('loads', () => {
  it.each([
    ['ld [0]', 0x20, 0, 0x84858687],
    ['ld [56]', 0x20, 56, 0xbcbdbebf],
    ['ld [57], beyond the end', 0x20, 57, 0],
    ['ldh [1]', 0x28, 1, 0x8586],
    ['ldh [58]', 0x28, 58, 0xbebf],
    ['ldh [59], beyond the end', 0x28, 59, 0],
    ['ldb [59]', 0x30, 59, 0xbf],
    ['ldb [60], beyond the end though not beyond the buffer', 0x30, 60, 0],
    ['ldb [2147483647]', 0x30, 0x7fffffff, 0],
    ['ld #4294967295', 0x00, 0xffffffff, 0xffffffff],
    ['ld len', 0x80, 0, 1500],
  ])('%s', (_, code, k, expected) => {
    expect(answer([code, 0, 0, k], [RET_A, 0, 0, 0])).toBe(expected);
  });

  it.each([
    ['ld [x + 2]', 0x40, 3, 2, 0x898a8b8c],
    ['ld [x + 2], the last', 0x40, 54, 2, 0xbcbdbebf],
    ['ld [x + 2], beyond the end', 0x40, 55, 2, 0],
    ['ldh [x + 2]', 0x48, 56, 2, 0xbebf],
    ['ldh [x + 2], beyond the end', 0x48, 57, 2, 0],
    ['ldb [x + 2]', 0x50, 57, 2, 0xbf],
    ['ldb [x + 2], beyond the end', 0x50, 58, 2, 0],
    ['ldb [x + 2], x negative', 0x50, 0xffffffff, 2, 0],
    ['ldh [x + 2], x negative', 0x48, 0xffffffff, 2, 0],
    ['ld [x + 2147483647], which would wrap', 0x40, 0x80000001, 0x7fffffff, 0],
  ])('%s', (_, code, x, k, expected) => {
    expect(answer([LDX_IMM, 0, 0, x], [code, 0, 0, k], [RET_A, 0, 0, 0])).toBe(expected);
  });

  it.each([
    ['ldx len', 0x81, 0, 1500],
    ['ldxb 4*([3]&0xf)', 0xb1, 3, 28],
    ['ldxb 4*([60]&0xf), beyond the end', 0xb1, 60, 0],
  ])('%s', (_, code, k, expected) => {
    expect(answer([code, 0, 0, k], [TXA, 0, 0, 0], [RET_A, 0, 0, 0])).toBe(expected);
  });

  it('of scratch memory give what was stored', () => {
    const [st, stx, ldMem, ldxMem] = [0x02, 0x03, 0x60, 0x61];
    expect(answer([LD_IMM, 0, 0, 7], [st, 0, 0, 15], [LD_IMM, 0, 0, 0], [ldMem, 0, 0, 15], [RET_A, 0, 0, 0])).toBe(7);
    expect(answer([LDX_IMM, 0, 0, 9], [stx, 0, 0, 0], [LDX_IMM, 0, 0, 1], [ldxMem, 0, 0, 0], [TXA, 0, 0, 0], [RET_A, 0, 0, 0])).toBe(9);
  });

  it('begin with both registers at 0', () => {
    expect(answer([RET_A, 0, 0, 0])).toBe(0);
    expect(answer([LD_IMM, 0, 0, 5], [TXA, 0, 0, 0], [RET_A, 0, 0, 0])).toBe(0);
  });

  it('of an empty packet are out of range', () => {
    for (const code of [0x20, 0x28, 0x30]) {
      expect(
        runBpf(
          loadBpf(
            assemble([
              [code, 0, 0, 0],
              [RET_K, 0, 0, 1],
            ]),
          ),
          new Uint8Array(0),
          0,
          0,
          0,
        ),
      ).toBe(0);
    }
  });
});

describe('arithmetic', () => {
  const top = 0x80000000;
  const all = 0xffffffff;
  const cases: [string, number, number, number, number][] = [
    ['add', 0x04, all, 2, 1],
    ['sub', 0x14, 1, 2, all],
    ['mul', 0x24, 0x12345678, 0x9abcdef1, Number((0x12345678n * 0x9abcdef1n) & 0xffffffffn)],
    ['div', 0x34, all, 2, 0x7fffffff],
    ['div by what is above 2^31', 0x34, all, top, 1],
    ['div of less', 0x34, top - 1, top, 0],
    ['mod', 0x94, all, 10, 5],
    ['mod by what is above 2^31', 0x94, all, 0xfffffffe, 1],
    ['or', 0x44, top, 1, 0x80000001],
    ['and', 0x54, all, 0xf0f0f0f0, 0xf0f0f0f0],
    ['xor', 0xa4, all, 0x0f0f0f0f, 0xf0f0f0f0],
    ['lsh', 0x64, 1, 31, top],
    ['rsh', 0x74, top, 31, 1],
    ['rsh by 0', 0x74, all, 0, all],
  ];
  it.each(cases)('%s', (_, code, a, b, expected) => {
    expect(answer([LD_IMM, 0, 0, a], [code, 0, 0, b], [RET_A, 0, 0, 0]), 'with a constant').toBe(expected);
    expect(answer([LD_IMM, 0, 0, a], [LDX_IMM, 0, 0, b], [code | 8, 0, 0, 0], [RET_A, 0, 0, 0]), 'with X').toBe(expected);
  });

  it.each([
    ['div x', 0x3c],
    ['mod x', 0x9c],
  ])('%s by zero accepts nothing', (_, code) => {
    expect(answer([LD_IMM, 0, 0, 5], [code, 0, 0, 0], [RET_K, 0, 0, 1])).toBe(0);
  });

  it.each([32, 33, 64, 0xffffffff])('shifts by %i bits in X give 0', (bits) => {
    for (const code of [0x6c, 0x7c]) {
      expect(answer([LD_IMM, 0, 0, 0xffffffff], [LDX_IMM, 0, 0, bits], [code, 0, 0, 0], [RET_A, 0, 0, 0])).toBe(0);
    }
  });

  it.each([
    [1, 0xffffffff],
    [0, 0],
    [0x80000000, 0x80000000],
  ])('neg of %i', (a, expected) => {
    expect(answer([LD_IMM, 0, 0, a], [0x84, 0, 0, 0], [RET_A, 0, 0, 0])).toBe(expected);
  });

  it('tax and txa', () => {
    expect(answer([LD_IMM, 0, 0, 0xfedcba98], [TAX, 0, 0, 0], [LD_IMM, 0, 0, 0], [TXA, 0, 0, 0], [RET_A, 0, 0, 0])).toBe(0xfedcba98);
  });
});

describe('jumps', () => {
  it.each([
    ['jeq', 0x15, 0xffffffff, 0xffffffff, true],
    ['jeq', 0x15, 5, 6, false],
    ['jeq', 0x15, 6, 5, false],
    ['jgt', 0x25, 0x80000000, 1, true],
    ['jgt', 0x25, 1, 0x80000000, false],
    ['jgt', 0x25, 7, 7, false],
    ['jge', 0x35, 7, 7, true],
    ['jge', 0x35, 0xffffffff, 0x7fffffff, true],
    ['jge', 0x35, 0x7fffffff, 0xffffffff, false],
    ['jset', 0x45, 0x80000001, 0x80000000, true],
    ['jset', 0x45, 0x0f, 0xf0, false],
  ])('%s (0x%x) of %i and %i: %s', (_, code, a, b, taken) => {
    const rest: Instruction[] = [
      [RET_K, 0, 0, 99],
      [RET_K, 0, 0, 1],
      [RET_K, 0, 0, 2],
    ];
    expect(answer([LD_IMM, 0, 0, a], [code, 1, 2, b], ...rest), 'with a constant').toBe(taken ? 1 : 2);
    expect(answer([LD_IMM, 0, 0, a], [LDX_IMM, 0, 0, b], [code | 8, 1, 2, 0], ...rest), 'with X').toBe(taken ? 1 : 2);
  });

  it('go as far as a whole program', () => {
    const between = Array.from({ length: MAX_INSTRUCTIONS - 2 }, (): Instruction => [RET_K, 0, 0, 1]);
    expect(answer([JA, 0, 0, between.length], ...between, [RET_K, 0, 0, 0xffffffff])).toBe(0xffffffff);
    expect(answer([0x15, 255, 0, 0], ...between.slice(0, 255), [RET_K, 0, 0, 3])).toBe(3);
  });
});

describe('a bad program', () => {
  const end: Instruction = [RET_K, 0, 0, 1];
  const load: Instruction = [LD_IMM, 0, 0, 1];
  it.each<[string, Instruction[], RegExp]>([
    ['without an instruction', [], /no instruction/],
    ['that is too long', Array.from({ length: MAX_INSTRUCTIONS + 1 }, () => end), /4097 instructions/],
    ['that does not end with a return', [end, load], /instruction 1: the last returns nothing/],
    ['with an operation that there is not', [[0x0e, 0, 0, 0], end], /instruction 0: no such operation 0xe/],
    ['with an operation beyond a byte', [[0x100, 0, 0, 0], end], /no such operation 0x100/],
    ['that jumps out', [[JA, 0, 0, 1], end], /instruction 0: jumps out/],
    ['that jumps back', [load, [JA, 0, 0, 0xfffffffe], end], /instruction 1: jumps out/],
    ['that jumps out when a condition holds', [[0x15, 1, 0, 0], end], /jumps out/],
    ['that jumps out when a condition does not hold', [[0x2d, 0, 1, 0], end], /jumps out/],
    ['that stores A in word 16', [[0x02, 0, 0, 16], end], /scratch word 16/],
    ['that stores X in word 16', [[0x03, 0, 0, 16], end], /scratch word 16/],
    ['that loads word 16', [[0x60, 0, 0, 16], end], /scratch word 16/],
    ['that loads word 2^32 - 1 into X', [[0x61, 0, 0, 0xffffffff], end], /scratch word 4294967295/],
    ['that loads a word that it has not stored', [load, [0x60, 0, 0, 3], end], /instruction 1: loads scratch word 3/],
    ['that stores a word on one of two ways only', [[0x15, 0, 1, 0], [0x02, 0, 0, 3], [0x61, 0, 0, 3], end], /instruction 2: loads/],
    ['that loads a word without a store where nothing comes', [end, [0x60, 0, 0, 3], end], /instruction 1: loads/],
    ['that divides by 0', [[0x34, 0, 0, 0], end], /divides by zero/],
    ['that takes the rest of a division by 0', [[0x94, 0, 0, 0], end], /divides by zero/],
    ['that shifts left by 32', [[0x64, 0, 0, 32], end], /shifts by 32/],
    ['that shifts right by 2^32 - 1', [[0x74, 0, 0, 0xffffffff], end], /shifts by/],
    ['that asks for the mark of the socket buffer', [[0x20, 0, 0, 0xfffff014], end], /offset -4076 is not in the packet/],
    ['that loads from a negative place', [[0x30, 0, 0, 0xfff00000], end], /offset -1048576/],
    ['that loads from a negative place beside X', [[0x48, 0, 0, 0x80000000], end], /offset -2147483648/],
    ['that takes a header length from a negative place', [[0xb1, 0, 0, 0xffffffff], end], /offset -1 /],
  ])('%s is refused', (_, program, message) => {
    expect(() => loadBpf(assemble(program))).toThrow(message);
    expect(() => loadBpf(assemble(program))).toThrow(BadProgram);
  });

  it('of bytes that are no whole instruction is refused', () => {
    expect(() => loadBpf(assemble([end]).subarray(0, 7))).toThrow(/7 bytes/);
  });

  it.each<[string, Instruction[]]>([
    ['both ways have stored the word', [[0x15, 0, 2, 0], [0x02, 0, 0, 3], [JA, 0, 0, 1], [0x03, 0, 0, 3], [0x61, 0, 0, 3], end]],
    ['the load follows what leaves another way', [[0x15, 0, 2, 0], [0x02, 0, 0, 3], [JA, 0, 0, 1], [JA, 0, 0, 1], [0x61, 0, 0, 3], end]],
    ['a division by X', [[0x3c, 0, 0, 0], end]],
  ])('is not one with this: %s', (_, program) => {
    expect(() => loadBpf(assemble(program))).not.toThrow();
  });

  it('is any with an operation that is not among those of the kernel', () => {
    for (let code = 0; code < 0x1000; code += 1) {
      const program = assemble([[0x02, 0, 0, 1], [code, 0, 0, 1], end]);
      if (CODES.has(code)) expect(() => loadBpf(program), `0x${code.toString(16)}`).not.toThrow(/no such/);
      else expect(() => loadBpf(program), `0x${code.toString(16)}`).toThrow(/no such/);
    }
  });
});

it(`a program is a copy, read from wherever its bytes lie`, () => {
  const bytes = Buffer.concat([Buffer.alloc(3), assemble([[RET_K, 0, 0, 42]])]).subarray(3);
  const program = loadBpf(bytes);
  bytes.fill(0);
  expect(runBpf(program, packet, 0, 64, 64)).toBe(42);
});

it(`random programs end, throw nothing, and answer the same again (TAPLANE_SEED=${seed})`, () => {
  const choose = random('bpf');
  const answers = new Set<number>();
  let loaded = 0;
  for (let round = 0; round < 20_000; round += 1) {
    const bytes = assemble(randomProgram(choose, choose.integer(1, 60)));
    // One in four is broken somewhere, which most often is refused.
    if (round % 4 === 0) bytes[choose.integer(0, bytes.length - 1)] = choose.integer(0, 255);
    let program: ReturnType<typeof loadBpf>;
    try {
      program = loadBpf(bytes);
    } catch (error) {
      expect(error).toBeInstanceOf(BadProgram);
      continue;
    }
    loaded += 1;
    const start = choose.integer(0, 10);
    const captured = choose.integer(0, packet.length - start);
    const result = runBpf(program, packet, start, captured, 1500);
    expect(Number.isInteger(result) && result >= 0 && result < 2 ** 32).toBe(true);
    expect(runBpf(program, packet.slice(start, start + captured), 0, captured, 1500)).toBe(result);
    answers.add(result);
  }
  expect(loaded).toBeGreaterThan(10_000);
  expect(answers.size).toBeGreaterThan(500);
});
