/**
 * Programs in which the function is stopped after any turn, saved as JSON, and succeeded by another function over the same memory: ref §10.
 * What holds for one function holds for all of them together: after a soft stop each descriptor completes exactly once with the right
 * bytes, after a hard one at most once, and Read_Index says which.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FunctionState } from '../../../src/spec/index.js';
import { setups } from './estate.js';
import { Lockstep } from './lockstep.js';
import { type Event, programs } from './program.js';
import { Violation } from './reference-context.js';
import { event, options, World, type Event as WorldEvent } from './world.js';

const RUNS = Number(process.env.SDXI_RUNS ?? 0);

/** Each stop of the function is the end of it: a new one goes on, and the reference with it. */
class Moving extends Lockstep {
  static moves = 0;

  protected override stop(event: Event & { kind: 'stop' }): void {
    super.stop(event);
    if (this.fn.state !== FunctionState.STOP) return;
    const json = JSON.stringify(this.fn.snapshot());
    this.fn = this.another();
    this.fn.restore(JSON.parse(json));
    if (JSON.stringify(this.fn.snapshot()) !== json) throw new Violation('a restored function is another one');
    this.follow();
    this.compare();
    Moving.moves++;
  }
}

const stop: fc.Arbitrary<Event> = fc.record({
  kind: fc.constant('stop' as const),
  hard: fc.boolean(),
  reset: fc.constant(false),
  steps: fc.nat(6),
  escalate: fc.boolean(),
});

const move: fc.Arbitrary<WorldEvent> = fc.record({ kind: fc.constant('move' as const), hard: fc.boolean(), steps: fc.nat(6) });

/** A program with some of these events in between. */
const strewn = <T>(program: fc.Arbitrary<T[]>, some: fc.Arbitrary<T>): fc.Arbitrary<T[]> =>
  fc.tuple(program, fc.array(fc.tuple(fc.nat(60), some), { minLength: 1, maxLength: 6 })).map(([events, extra]) => {
    const all = [...events];
    for (const [at, one] of extra) all.splice(at % (all.length + 1), 0, one);
    return all;
  });

describe('functions that move (ref §10)', () => {
  it('ref §10 small descriptors, compared with a sequential reference', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(
        setups({ contexts: 3, large: 0 }),
        strewn(programs({ contexts: 3, large: false, events: 30 }), stop),
        fc.constantFrom({}, { qos: 'on', pollInvalid: 'on' } as const),
        (setup, events, choice) => {
          Moving.run(setup, events, {}, choice);
        },
      ),
      { numRuns: RUNS || 60 },
    );
    expect(Moving.moves).toBeGreaterThan(RUNS || 60);
  });

  it('ref §10 descriptors of several slices, which a soft stop finishes and a hard one abandons', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(setups({ contexts: 2, large: 2 }), strewn(programs({ contexts: 2, large: true, events: 20 }), stop), (setup, events) => {
        Moving.run(setup, events);
      }),
      { numRuns: RUNS || 30 },
    );
  });

  it('ref §10 under random options, with CXT_START.RS for those in STOP_FN: each descriptor completes once', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(
        options,
        fc.nat(7),
        strewn(fc.array(event, { minLength: 3, maxLength: 30, size: 'max' }), move),
        (config, sequential, events) => {
          const world = new World(config, sequential);
          for (const one of events) world.apply(one);
          world.finish();
        },
      ),
      { numRuns: RUNS || 15 },
    );
  });
});
