/**
 * Random programs under random options. With `reorder` and `readIndex=early` nobody can foretell the memory after each turn, but
 * this holds in any case: no byte changes but those that operations name, each descriptor completes exactly once (at most once if
 * a hard stop finds it in flight), fences hold, and Read_Index ≤ Write_Index.
 */
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { event, options, World } from './world.js';

const RUNS = Number(process.env.SDXI_RUNS ?? 0);

describe('random programs under random options (ref §14.3)', () => {
  it('S-105 each descriptor completes once, within its bytes, behind its fences', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(options, fc.nat(7), fc.array(event, { minLength: 3, maxLength: 40, size: 'max' }), (config, sequential, events) => {
        const world = new World(config, sequential);
        for (const event of events) world.apply(event);
        world.finish();
      }),
      { numRuns: RUNS || 50 },
    );
  });
});
