/** Random programs over memory that a watch stands before: the same bytes as over memory itself, and no change that is not told. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { setups } from '../function/property/estate.js';
import { programs } from '../function/property/program.js';
import { LoggedLockstep, ShadowedLockstep } from '../function/property/shadowed.js';
import { event, options, World } from '../function/property/world.js';
import { everyRig, PageLog } from '../function/shadow.js';

const RUNS = Number(process.env.SDXI_RUNS ?? 0);

describe('random programs over a copy of the memory', () => {
  it('small descriptors, compared with a sequential reference', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(
        setups({ contexts: 3, large: 0 }),
        programs({ contexts: 3, large: false, events: 50 }),
        fc.constantFrom({}, { qos: 'on', pollInvalid: 'on' } as const),
        (setup, events, choice) => {
          ShadowedLockstep.run(setup, events, {}, choice);
        },
      ),
      { numRuns: RUNS || 80 },
    );
  });

  it('descriptors of several slices', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(setups({ contexts: 2, large: 2 }), programs({ contexts: 2, large: true, events: 40 }), (setup, events) => {
        ShadowedLockstep.run(setup, events);
      }),
      { numRuns: RUNS || 40 },
    );
  });

  it('S-105 random options', { timeout: 600_000 }, () => {
    everyRig.shadowed = true;
    try {
      fc.assert(
        fc.property(options, fc.nat(7), fc.array(event, { minLength: 3, maxLength: 40, size: 'max' }), (config, sequential, events) => {
          const world = new World(config, sequential);
          for (const one of events) world.apply(one);
          world.finish();
        }),
        { numRuns: RUNS || 30 },
      );
    } finally {
      everyRig.shadowed = false;
    }
  });
});

describe('a watch that notes what changes', () => {
  it('every page that changed was reported', { timeout: 600_000 }, () => {
    LoggedLockstep.reports = 0;
    fc.assert(
      fc.property(setups({ contexts: 3, large: 1 }), programs({ contexts: 3, large: true, events: 40 }), (setup, events) => {
        LoggedLockstep.run(setup, events);
      }),
      { numRuns: RUNS || 60 },
    );
    expect(LoggedLockstep.reports).toBeGreaterThan(100);
  });

  it('under random options, over all memory', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(options, fc.nat(7), fc.array(event, { minLength: 3, maxLength: 30, size: 'max' }), (config, sequential, events) => {
        const world = new World(config, sequential);
        const { rig } = world;
        const log = new PageLog();
        rig.memory.setWatch(log);
        const step = rig.fn.step.bind(rig.fn);
        rig.fn.step = (budget) => {
          log.pages.clear();
          const before = rig.snapshot();
          const turns = step(budget);
          for (let at = 0; at < before.length; at += 4096) {
            const changed = before.compare(rig.u8, at, at + 4096, at, at + 4096) !== 0;
            if (changed && !log.pages.has(rig.addressOf(at))) throw new Error(`page ${at / 4096} changed and was not reported`);
          }
          return turns;
        };
        for (const one of events) world.apply(one);
        world.finish();
      }),
      { numRuns: RUNS || 8 },
    );
  });
});
