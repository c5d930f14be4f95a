import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Prng } from '../src/prng.js';

const seeds = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });

describe('seeded random numbers', () => {
  it('the numbers of a seed never change: a seed in a bug report still shows the bug', () => {
    const random = new Prng(2025, 3);
    expect([random.next(), random.next(), random.next(), random.below(1000)]).toEqual([432_512_995, 3_709_598_544, 2_718_143_965, 915]);
  });

  it('a seed and stream repeat; another stream, or another high half of the seed, differs', () => {
    fc.assert(
      fc.property(seeds, fc.nat(1000), (seed, stream) => {
        const take = (s: number, n: number) => {
          const random = new Prng(s, n);
          return [random.next(), random.next(), random.next(), random.next()].join();
        };
        expect(take(seed, stream)).toBe(take(seed, stream));
        expect(take(seed, stream)).not.toBe(take(seed, stream + 1));
        expect(take(seed % 2 ** 32, stream)).not.toBe(take((seed % 2 ** 32) + 2 ** 32, stream));
      }),
    );
  });

  it('below() stays below, and reaches both ends', () => {
    const random = new Prng(1);
    const seen = new Set(Array.from({ length: 1000 }, () => random.below(7)));
    expect([...seen].sort()).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  it('a permutation holds every number once', () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 0, max: 300 }), (seed, count) => {
        const order = [...new Prng(seed).permutation(count)].sort((a, b) => a - b);
        expect(order).toEqual(Array.from({ length: count }, (_, i) => i));
      }),
    );
  });
});
