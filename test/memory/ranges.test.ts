import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RangeAllocator } from '../../src/memory/ranges.js';

const START = 100;
const END = 400;

const request = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      length: fc.integer({ min: 1, max: 60 }),
      alignment: fc.constantFrom(1, 2, 8, 64),
      phase: fc.integer({ min: -300, max: 300 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ free: fc.nat() }) },
);

describe('RangeAllocator against one bit per unit', () => {
  it('hands out the first range that fits, aligned, disjoint, and takes everything back', () => {
    fc.assert(
      fc.property(fc.array(request, { minLength: 1, maxLength: 80 }), (requests) => {
        const allocator = new RangeAllocator(START, END);
        const used = Array.from({ length: END }, (_, i) => i < START);
        const held: { start: number; length: number }[] = [];
        for (const entry of requests) {
          if ('free' in entry) {
            if (held.length === 0) continue;
            const [{ start, length }] = held.splice(entry.free % held.length, 1);
            allocator.free(start, length);
            used.fill(false, start, start + length);
          } else {
            const { length, alignment, phase } = entry;
            let expected = -1;
            for (let at = START; at + length <= END && expected < 0; at++) {
              if ((at - phase) % alignment === 0 && !used.slice(at, at + length).includes(true)) expected = at;
            }
            expect(allocator.allocate(length, alignment, phase)).toBe(expected);
            if (expected < 0) continue;
            held.push({ start: expected, length });
            used.fill(true, expected, expected + length);
          }
          expect(allocator.available).toBe(used.filter((taken) => !taken).length);
          expect(allocator.isWhole(START, END)).toBe(held.length === 0);
        }
        for (const { start, length } of held) allocator.free(start, length);
        expect(allocator.isWhole(START, END)).toBe(true);
        expect(allocator.allocate(END - START)).toBe(START);
        expect(allocator.allocate(1)).toBe(-1);
      }),
      { numRuns: 300 },
    );
  });
});

it('takes exactly what is asked for, or nothing', () => {
  fc.assert(
    fc.property(fc.array(fc.record({ start: fc.integer({ min: 80, max: 420 }), length: fc.integer({ min: 1, max: 60 }) })), (wanted) => {
      const allocator = new RangeAllocator(START, END);
      const used = Array.from({ length: END }, (_, i) => i < START);
      const held: { start: number; length: number }[] = [];
      for (const { start, length } of wanted) {
        const free = start + length <= END && !used.slice(start, start + length).includes(true);
        expect(allocator.take(start, length)).toBe(free);
        if (!free) continue;
        used.fill(true, start, start + length);
        held.push({ start, length });
      }
      expect(allocator.available).toBe(used.filter((unit) => !unit).length);
      for (const { start, length } of held) allocator.free(start, length);
      expect(allocator.isWhole(START, END)).toBe(true);
    }),
  );
});
