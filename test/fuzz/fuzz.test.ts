/** The fuzzer itself: the same seed does the same, and it sees what a wrong function does. `npm run fuzz` runs it for long. */
import { describe, expect, it } from 'vitest';
import { runCase } from './case.js';
import { FuzzFailure, type FuzzMemory } from './memory.js';

const LOG = 0x2000;

/** Fails in one of the first cases. */
function firstFailure(plant: Parameters<typeof runCase>[1]): string {
  for (let seed = 0; seed < 40; seed++) {
    try {
      runCase(seed, plant);
    } catch (error) {
      expect(error).toBeInstanceOf(FuzzFailure);
      return (error as Error).message;
    }
  }
  return 'nothing was found';
}

describe('the fuzzer', () => {
  it('finds nothing in the function, and does the same under the same seed', () => {
    const reports = [1, 2, 3, 4].map((seed) => runCase(seed));
    for (const [i, report] of reports.entries()) expect(runCase(i + 1)).toEqual(report);
  });

  it('sees a byte that is written outside of what was granted', () => {
    const message = firstFailure({
      ports: (ports, memory) => ({
        ...ports,
        interrupts: {
          vectors: ports.interrupts.vectors,
          raise: () => {
            memory.bytes[0x1f_0001] ^= 1;
          },
        },
      }),
    });
    expect(message).toMatch(/^stray write: byte 0x1f0001/);
    expect(message).toContain('last operations:');
  });

  it('sees a write to memory that was taken away', () => {
    // The page of the error log, while nobody maps it.
    const touch = (memory: FuzzMemory) => {
      if (!memory.grants.some(({ position }) => position === LOG)) memory.bytes[LOG] ^= 1;
    };
    const message = firstFailure({
      ports: (ports, memory) => ({ ...ports, interrupts: { vectors: ports.interrupts.vectors, raise: () => touch(memory) } }),
    });
    expect(message).toMatch(/^stray write: byte 0x2000/);
  });

  it('sees a function that throws, and one that never rests', () => {
    const raise = () => {
      throw new RangeError('planted');
    };
    const thrown = firstFailure({ ports: (ports) => ({ ...ports, interrupts: { vectors: ports.interrupts.vectors, raise } }) });
    expect(thrown).toMatch(/^planted/);
    const restless = firstFailure({
      fn: (fn) => {
        fn.step = () => 1;
      },
    });
    expect(restless).toMatch(/come to rest|stays in state/);
  });
});
