import fc from 'fast-check';
import { describe, it } from 'vitest';
import { setups } from './estate.js';
import { Lockstep } from './lockstep.js';
import { programs } from './program.js';

/** `SDXI_RUNS=5000` for a longer look. */
const RUNS = Number(process.env.SDXI_RUNS ?? 0);

describe('random programs, compared with a sequential reference after every step', () => {
  it('small descriptors, three contexts', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(setups({ contexts: 3, large: 0 }), programs({ contexts: 3, large: false, events: 50 }), (setup, events) => {
        Lockstep.run(setup, events);
      }),
      { numRuns: RUNS || 150 },
    );
  });

  it('descriptors of several slices, two contexts', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(setups({ contexts: 2, large: 2 }), programs({ contexts: 2, large: true, events: 40 }), (setup, events) => {
        Lockstep.run(setup, events);
      }),
      { numRuns: RUNS || 60 },
    );
  });
});
