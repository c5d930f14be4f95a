/**
 * A function that is frozen at any moment, saved, and gone on with by another one over a copy of its memory. What software sees in the end
 * is what it sees of a function that was never frozen: all bytes, completion blocks, indexes, interrupts, and records.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { FunctionConfig } from '../../src/function/config.js';
import { setups } from '../function/property/estate.js';
import { Lockstep } from '../function/property/lockstep.js';
import { programs } from '../function/property/program.js';
import { Violation } from '../function/property/reference-context.js';
import { event, options, World, type Event as WorldEvent } from '../function/property/world.js';
import { LAYOUT, type Rig } from '../function/rig.js';

const RUNS = Number(process.env.SDXI_RUNS ?? 0);

const freeze: fc.Arbitrary<WorldEvent> = fc.record({
  kind: fc.constant('freeze' as const),
  steps: fc.nat(9),
  budget: fc.constantFrom(1, 3, 64),
  twice: fc.boolean(),
  back: fc.oneof({ weight: 3, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
});

const sync: fc.Arbitrary<WorldEvent> = fc.oneof(
  fc.record({ kind: fc.constant('sync' as const), filter: fc.constantFrom(0, 1, 2, 4) }),
  fc.record({ kind: fc.constant('range' as const), from: fc.constantFrom(0, 1, 2, 3) }),
);

/** Hard stops abandon what they meet, and that is a matter of moments. */
const gentle = (one: WorldEvent): WorldEvent => ('hard' in one ? { ...one, hard: false } : one);

const program = fc
  .array(fc.oneof({ weight: 8, arbitrary: event }, { weight: 1, arbitrary: sync }, { weight: 2, arbitrary: freeze }), {
    minLength: 4,
    maxLength: 30,
    size: 'max',
  })
  .map((events) => events.map(gentle));

function played(config: Partial<FunctionConfig>, sequential: number, events: WorldEvent[]): World {
  const world = new World(config, sequential);
  for (const one of events) world.apply(one);
  // What was asked of context 0 is done before anybody looks who has to be started.
  world.rig.drain();
  world.finish();
  return world;
}

/** Everything but the order in which records of several contexts came, and how often {@link World.finish} had to start contexts. */
function outcome(rig: Rig) {
  const memory = rig.snapshot();
  const admin = rig.place(0);
  expect(rig.readIndex(admin)).toBe(Number(rig.u64(admin.writeIndex)));
  memory.fill(0, rig.at(LAYOUT.contexts), rig.at(LAYOUT.contexts) + LAYOUT.contextBytes);
  memory.fill(0, rig.at(LAYOUT.errorLog), rig.at(LAYOUT.errorLog) + 0x2000);
  return { memory, records: rig.records().sort(), interrupts: [...rig.interrupts].filter((vector) => vector > 0).sort() };
}

/** The function is frozen and succeeded by another one over the same memory, and the reference goes on with it. */
class Freezing extends Lockstep {
  static moves = 0;
  private steps = 0;

  override step(budget: number): number {
    const turns = super.step(budget);
    if (++this.steps % 3 === 0) this.move(1 + (budget % 5));
    return turns;
  }

  private move(budget: number): void {
    const { state } = this.fn;
    while (!this.fn.freeze(budget)) this.compare();
    const json = JSON.stringify(this.fn.snapshot());
    this.compare();
    if (this.fn.state !== state) throw new Violation('freezing changed the state of the function');
    this.fn = this.another();
    this.fn.restore(JSON.parse(json));
    if (JSON.stringify(this.fn.snapshot()) !== json) throw new Violation('a restored function is another one');
    this.fn.thaw();
    this.follow();
    this.compare();
    Freezing.moves++;
  }
}

describe('functions that are frozen and moved (S-125)', () => {
  it('S-125 the end is that of a function which was never frozen', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(options, fc.nat(7), program, (config, sequential, events) => {
        const moved = outcome(played(config, sequential, events).rig);
        const stayed = outcome(
          played(
            config,
            sequential,
            events.filter(({ kind }) => kind !== 'freeze'),
          ).rig,
        );
        expect(moved.interrupts).toEqual(stayed.interrupts);
        expect(moved.records).toEqual(stayed.records);
        expect(Buffer.compare(moved.memory, stayed.memory)).toBe(0);
      }),
      { numRuns: RUNS || 40 },
    );
  });

  it('S-125 small descriptors and hostile software, compared with a sequential reference', { timeout: 600_000 }, () => {
    Freezing.moves = 0;
    fc.assert(
      fc.property(
        setups({ contexts: 3, large: 0 }),
        programs({ contexts: 3, large: false, events: 50 }),
        fc.constantFrom({}, { qos: 'on', pollInvalid: 'on' } as const),
        (setup, events, choice) => {
          Freezing.run(setup, events, {}, choice);
        },
      ),
      { numRuns: RUNS || 60 },
    );
    expect(Freezing.moves).toBeGreaterThan(RUNS || 60);
  });

  it('S-125 descriptors of several slices, compared with a sequential reference', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(setups({ contexts: 2, large: 2 }), programs({ contexts: 2, large: true, events: 40 }), (setup, events) => {
        Freezing.run(setup, events);
      }),
      { numRuns: RUNS || 40 },
    );
  });

  it('S-125 with hard stops in between: each descriptor completes at most once, and Read_Index says which', { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(
        options,
        fc.nat(7),
        fc.array(fc.oneof({ weight: 8, arbitrary: event }, { weight: 1, arbitrary: sync }, { weight: 2, arbitrary: freeze }), {
          minLength: 4,
          maxLength: 30,
          size: 'max',
        }),
        (config, sequential, events) => {
          played(config, sequential, events);
        },
      ),
      { numRuns: RUNS || 20 },
    );
  });
});
