import fc from 'fast-check';
import { describe, it } from 'vitest';
import { setups } from './estate.js';
import { Lockstep } from './lockstep.js';
import { programs } from './program.js';

/** `SDXI_RUNS=5000 npx vitest run test/function/property` takes a longer look. */
const RUNS = Number(process.env.SDXI_RUNS ?? 0);

/**
 * After every turn: what the function did was allowed and had to be done. After every step: all bytes, granted or not, the
 * error log and the interrupts are those of the reference, and Read_Index ≤ Write_Index. At rest: nothing is left undone. Each
 * descriptor thus completes exactly once; one that a hard stop finds under way at most once, and Read_Index says which.
 */
describe('random programs, compared with a sequential reference', () => {
  it('small descriptors, three contexts', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(setups({ contexts: 3, large: 0 }), programs({ contexts: 3, large: false, events: 50 }), (setup, events) => {
        Lockstep.run(setup, events);
      }),
      { numRuns: RUNS || 200 },
    );
  });

  it('descriptors of several slices, two contexts', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(setups({ contexts: 2, large: 2 }), programs({ contexts: 2, large: true, events: 40 }), (setup, events) => {
        Lockstep.run(setup, events);
      }),
      { numRuns: RUNS || 120 },
    );
  });

  // These options change when something is looked at and whose turn it is, not what a turn does.
  it('weighted turns, and slots that are looked at without a doorbell', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(setups({ contexts: 3, large: 0 }), programs({ contexts: 3, large: false, events: 50 }), (setup, events) => {
        Lockstep.run(setup, events, {}, { qos: 'on', pollInvalid: 'on' });
      }),
      { numRuns: RUNS || 100 },
    );
  });
});
