import { describe, expect, it } from 'vitest';
import { RepairBudget } from '../../src/interface/entry.ts';

describe('the budget of repairs', () => {
  it('gives twenty at once, then one a second, and never more than twenty', () => {
    const budget = new RepairBudget(0);
    const taken = (nowMs: number) => {
      let count = 0;
      while (budget.take(nowMs)) count += 1;
      return count;
    };
    expect(taken(0)).toBe(20);
    expect(taken(999)).toBe(0);
    expect(taken(1000)).toBe(1);
    expect(taken(4500)).toBe(3);
    expect(taken(5000)).toBe(1); // the half second before counts
    expect(taken(3_600_000)).toBe(20);
  });

  it('does not mind a clock that goes back', () => {
    const budget = new RepairBudget(1_000_000);
    for (let count = 0; count < 20; count++) budget.take(1_000_000);
    expect(budget.take(0)).toBe(false);
    expect(budget.left(0)).toBe(0);
    expect(budget.take(1000)).toBe(true);
  });
});
