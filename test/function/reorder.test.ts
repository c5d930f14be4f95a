/** Option `reorder`: unfenced descriptors complete out of order. S-105, F-39, ref §6.3. */
import { describe, expect, it } from 'vitest';
import { ContextState, FunctionState, Reg } from '../../src/spec/index.js';
import { DATA } from './data.js';
import { CSB, record, status } from './expect.js';
import { Trace } from './journal.js';
import { akeyUpdate, contextUpdate, copy, FILTER, FLAG, interrupt, nop, start, stop, sync, writeImmediate } from './ops.js';
import { type ContextPlace, type Encode, type Preparation, Rig, type RigOptions } from './rig.js';

const { STOP_SW, RUN, STOP_FN, ERR_FN } = ContextState;
const MIB = 0x10_0000;
const SLICE = 0x4_0000;

/** Context 1 runs; its CXT_CTL.se is 0, because 1 would keep everything in order. */
function ready(config = {}, options: RigOptions & Preparation = {}) {
  const trace = new Trace();
  const rig = new Rig({ reorder: 'on', seed: 1, ...config }, { tracer: trace, ...options });
  const admin = rig.activate();
  const p = rig.running(1, { ...options, control: { se: 0, ...options.control } });
  trace.take();
  return { rig, admin, p, trace };
}

/** Indexes of context 1 in the order in which they were done. */
const order = (trace: Trace) =>
  trace
    .take()
    .filter((event) => /^(done|fail) 1 /.test(event))
    .map((event) => Number(event.split(' ')[2]));

const nops = (count: number, flags = 0): Encode[] => Array.from({ length: count }, () => nop({ flags }));
const ascending = (count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i);

describe('F-39 unfenced descriptors complete out of order', () => {
  it('F-39 each completes once, and not in the order of the ring', () => {
    const { rig, p, trace } = ready();
    rig.run(p, ...nops(40));
    const done = order(trace);
    expect(done).not.toEqual(ascending(40));
    expect(done.toSorted((a, b) => a - b)).toEqual(ascending(40));
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 40));
  });

  it('the same seed gives the same order, another one another', () => {
    const run = (seed: number) => {
      const { rig, p, trace } = ready({ seed });
      rig.run(p, ...nops(40));
      return order(trace);
    };
    expect(run(7)).toEqual(run(7));
    expect(run(7)).not.toEqual(run(8));
  });

  it('F-39 copies: a later one can be done while an earlier one is not', () => {
    const late = ascending(20).some((seed) => {
      const { rig, p } = ready({ seed });
      const csbs = [rig.csb(p, 0), rig.csb(p, 1)];
      rig.bytes(DATA, 8).fill(0x77);
      rig.queue(p, copy(DATA, DATA + 64, 8, { csb: csbs[0] }), copy(DATA, DATA + 128, 8, { csb: csbs[1] }));
      rig.fn.step(1);
      if (rig.u64(csbs[0]) === 0n) return false;
      expect([rig.hex(csbs[1], 32), rig.hex(DATA + 128, 8), rig.hex(DATA + 64, 8)]).toEqual([CSB.done, '77'.repeat(8), '00'.repeat(8)]);
      // Read_Index moves only over finished descriptors without gaps; the slot that is done is free of vl already.
      expect([rig.readIndex(p), rig.isValid(p, 0), rig.isValid(p, 1)]).toEqual([0, true, false]);
      rig.drain();
      expect([rig.readIndex(p), rig.isValid(p, 0)]).toEqual([2, false]);
      return true;
    });
    expect(late).toBe(true);
  });

  it('S-105 Read_Index moves only over finished descriptors without gaps', () => {
    const { rig, p, trace } = ready();
    rig.queue(p, ...nops(30));
    const done = new Set<number>();
    rig.stepUntil(() => {
      for (const index of order(trace)) done.add(index);
      let gap = 0;
      while (done.has(gap)) gap++;
      expect(rig.readIndex(p)).toBe(gap);
      return gap === 30;
    });
  });

  it('the ring wraps', () => {
    const { rig, p, trace } = ready({}, { readIndex: 1020 });
    rig.run(p, ...nops(10));
    expect(order(trace).toSorted((a, b) => a - b)).toEqual(ascending(10, 1020));
    expect(rig.readIndex(p)).toBe(1030);
  });

  it('a slot with vl = 0 holds up what lies behind it, and nothing else (O-18)', () => {
    const { rig, p } = ready();
    rig.claim(p, 5);
    rig.write(p, 0, ...nops(2));
    rig.write(p, 3, ...nops(2));
    rig.fn.ringDoorbell(1, 5);
    rig.drain();
    expect([rig.readIndex(p), rig.isValid(p, 3)]).toEqual([2, true]);
    rig.write(p, 2, nop());
    rig.fn.ringDoorbell(1, 5);
    rig.drain();
    expect(rig.readIndex(p)).toBe(5);
  });
});

describe('ref §6.3 what keeps its place', () => {
  const seeds = ascending(12);

  it.each([
    ['fe', FLAG.FE],
    ['rb', FLAG.RB],
  ])('ref §6.3 %s: all earlier descriptors have completed before this one', (_name, flag) => {
    for (const seed of seeds) {
      const { rig, p, trace } = ready({ seed });
      rig.run(p, ...nops(5), nop({ flags: flag }), ...nops(5));
      const done = order(trace);
      const fenced = done.indexOf(5);
      expect(done.slice(0, 5).every((index) => index < 5)).toBe(true);
      expect(fenced).toBeGreaterThanOrEqual(5);
      expect(done).toHaveLength(11);
    }
  });

  it('ref §6.3 se: writes of earlier descriptors are visible before any write of this one; later ones may overtake it', () => {
    let overtaken = false;
    for (const seed of seeds) {
      const { rig, p, trace } = ready({ seed });
      rig.run(p, ...nops(4), nop({ flags: FLAG.SE }), ...nops(3));
      const done = order(trace);
      expect(ascending(4).every((index) => done.indexOf(index) < done.indexOf(4))).toBe(true);
      overtaken ||= done.indexOf(5) < done.indexOf(4);
    }
    expect(overtaken).toBe(true);
  });

  it('ref §4.4 CXT_CTL.se makes every descriptor sequential', () => {
    for (const seed of seeds) {
      const { rig, p, trace } = ready({ seed }, { control: { se: 1 } });
      rig.run(p, ...nops(20));
      expect(order(trace)).toEqual(ascending(20));
    }
  });

  it('ref §6.3 an interrupt with fe comes after all earlier completion blocks', () => {
    for (const seed of seeds) {
      const { rig, p } = ready({ seed });
      rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 3 });
      const csbs = ascending(6).map((n) => rig.csb(p, n));
      rig.onInterrupt = () => expect(csbs.map((csb) => rig.hex(csb, 32))).toEqual(csbs.map(() => CSB.done));
      rig.run(p, ...csbs.map((csb) => nop({ csb })), interrupt(1, { flags: FLAG.FE }));
      expect(rig.interrupts).toEqual([3]);
    }
  });

  it('ref §5.6 context 0 does everything in order', () => {
    const { rig, admin, trace } = ready();
    rig.run(admin, ...nops(30));
    const done = trace.take().filter((event) => event.startsWith('done 0 '));
    expect(done).toEqual(ascending(30).map((index) => `done 0 ${index}`));
  });
});

describe('S-105 errors', () => {
  /** Eight descriptors with blocks of their own; one of them fails; two more wait behind. */
  function failing(seed: number, at: number, config = {}) {
    const made = ready({ seed, ...config });
    const { rig, p } = made;
    const csbs = ascending(10).map((n) => rig.csb(p, n));
    rig.run(p, ...csbs.map((csb, n) => (n === at ? copy(1, DATA, 8, { csb }) : nop({ csb }))));
    return { ...made, csbs };
  }

  it('S-105 what is in flight finishes, nothing new is taken, Read_Index = last taken + 1, and the record names the failing one', () => {
    for (const seed of ascending(20)) {
      const { rig, p, csbs } = failing(seed, 3);
      const read = rig.readIndex(p);
      expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, read));
      expect(read).toBeGreaterThanOrEqual(8);
      csbs.forEach((csb, n) => {
        expect(rig.hex(csb, 32)).toBe(n === 3 ? CSB.failed : n < read ? CSB.done : CSB.armed);
        expect(rig.isValid(p, n)).toBe(n >= read);
      });
      expect(rig.records()).toEqual([record({ step: 10, sub: 1, context: 1, index: 3, operand: 0 })]);
    }
  });

  it('S-105 two that fail in one flight leave two records', () => {
    const { rig, p } = ready();
    rig.run(p, copy(1, DATA, 8), copy(1, DATA, 8));
    expect(rig.records().toSorted()).toEqual([0, 1].map((index) => record({ step: 10, sub: 1, context: 1, index, operand: 0 })).toSorted());
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 2));
  });

  it('S-105 CXT_START.RS goes on behind what was taken', () => {
    const { rig, admin, p, csbs } = failing(5, 0);
    rig.run(admin, start(1, 1, { resume: true }));
    expect(csbs.slice(1).map((csb) => rig.hex(csb, 32))).toEqual(csbs.slice(1).map(() => CSB.done));
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 10));
  });

  it('S-43 a block that cannot be written is an error like any other', () => {
    const { rig, p } = ready();
    rig.run(p, nop({ csb: 64 }), nop({ csb: rig.csb(p) }));
    expect(rig.records()).toEqual([record({ step: 8, sub: 1, context: 1, index: 0 })]);
    expect([rig.hex(p.status, 16), rig.hex(rig.csb(p, 1), 32)]).toEqual([status(ERR_FN, 2), CSB.armed]);
  });

  it('S-76 a slot that cannot be read is met when nothing is in flight any more', () => {
    const { rig, p } = ready({}, { pages: true });
    rig.unmap(p.ring + 4096);
    rig.claim(p, 66);
    rig.write(p, 0, ...nops(64));
    rig.fn.ringDoorbell(1, 66);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 64));
    expect(rig.records()).toEqual([record({ step: 7, sub: 1, context: 1, index: 64 })]);
  });

  it('S-102 a slot that vanishes while its descriptor is in flight: done, logged, and not run again', () => {
    const { rig, p } = ready({}, { pages: true });
    const csb = rig.csb(p);
    rig.queue(p, copy(DATA, DATA + MIB, MIB, { csb }));
    rig.fn.step(1);
    rig.unmap(p.ring);
    rig.drain();
    expect([rig.hex(csb, 32), rig.hex(p.status, 16)]).toEqual([CSB.done, status(ERR_FN, 1)]);
    expect(rig.records()).toEqual([record({ step: 7, sub: 1, context: 1, index: 0 })]);
  });
});

describe('stops with descriptors in flight', () => {
  /** Copies of four slices each; some of them are in flight. */
  function busy(config = {}) {
    const made = ready(config);
    const { rig, p } = made;
    const csbs = ascending(10).map((n) => rig.csb(p, n));
    rig.queue(p, ...csbs.map((csb, n) => copy(DATA + n * 16, DATA + 2 * MIB + n * 16, n === 9 ? 16 : 2 * SLICE, { csb })));
    rig.fn.step(1);
    return { ...made, csbs };
  }
  const states = (rig: Rig, csbs: number[]) => csbs.map((csb) => (rig.u64(csb) === 0n ? 'done' : 'armed'));

  const softStops: [string, (rig: Rig, admin: ContextPlace) => void, number][] = [
    ['CXT_STOP', (rig, admin) => rig.queue(admin, stop(1, 1), sync(FILTER.STOP, 1)), STOP_SW],
    ['STOP_SF', (rig) => rig.setReg(Reg.CTL0, 1), STOP_FN],
  ];
  it.each(softStops)('ref §3.3 rule 6, %s: what was fetched finishes, nothing new is taken', (_name, request, state) => {
    const { rig, admin, p, csbs } = busy();
    request(rig, admin);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(state, 8));
    expect(states(rig, csbs)).toEqual([...Array(8).fill('done'), 'armed', 'armed']);
    expect(rig.isValid(p, 8)).toBe(true);
  });

  it('S-86 hard: everything in flight is consumed without completion', () => {
    const { rig, p, csbs } = busy();
    rig.setReg(Reg.CTL0, 2);
    rig.drain();
    expect(rig.fn.state).toBe(FunctionState.STOP);
    expect(rig.hex(p.status, 16)).toBe(status(STOP_FN, 8));
    expect(states(rig, csbs)).toEqual(Array(10).fill('armed'));
    expect(ascending(10).map((n) => rig.isValid(p, n))).toEqual([...Array(8).fill(false), true, true]);
    expect(rig.records()).toEqual([]);
  });

  it('S-64 an error while it stops softly: ERR_FN, and the function still reaches STOP', () => {
    const { rig, p } = ready();
    rig.queue(p, copy(DATA, DATA + MIB, MIB), copy(1, DATA, 8));
    rig.fn.step(1);
    rig.setReg(Reg.CTL0, 1);
    rig.drain();
    expect(rig.fn.state).toBe(FunctionState.STOP);
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 2));
  });

  it('ref §3.3 rule 9 GSV_ERROR: what is in flight is given up, and does not run again', () => {
    const { rig, p, csbs } = busy();
    rig.fn.injectInternalError();
    expect(rig.fn.state).toBe(FunctionState.ERROR);
    expect(rig.hex(p.status, 16)).toBe(status(STOP_FN, 8));
    expect(states(rig, csbs)).toEqual(Array(10).fill('armed'));
  });

  it('ref §8.3 an internal error of the context: the same', () => {
    const { rig, p } = busy();
    rig.fn.injectInternalError(1);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 8));
  });

  it('S-108 CXT_UPD: what is in flight finishes in the old ring, then the new tables hold', () => {
    const { rig, admin, p } = busy();
    const q = rig.place(2);
    const csb = rig.csb(admin);
    rig.prepare(1, { state: RUN, control: { se: 0, ds_ring_ptr: BigInt(q.ring) } });
    rig.putU64(p.writeIndex, 9);
    rig.write(q, 8, writeImmediate(DATA, [0xab]));
    rig.queue(admin, contextUpdate(1), sync(FILTER.CXT, 1, 1, { csb }));
    rig.drain();
    expect([rig.u64(csb), rig.readIndex(p), rig.u8[rig.at(DATA)], rig.isValid(p, 8)]).toEqual([0n, 9, 0xab, true]);
  });

  it('ref §4.11 SYNC.AKEY waits for the one in execution only: the others have not looked at their keys', () => {
    const { rig, admin, p } = busy();
    const csb = rig.csb(admin);
    rig.queue(admin, akeyUpdate(1, 1, [0, 0]), sync(FILTER.AKEY, 1, 1, { keys: [0, 0], csb }));
    rig.stepUntil(() => rig.u64(csb) === 0n);
    expect(rig.readIndex(p)).toBeLessThan(8);
  });
});

describe('S-28 reorder with readIndex=early', () => {
  it('S-28 Read_Index runs ahead of everything in flight, and each descriptor completes once', () => {
    const { rig, p } = ready({ readIndex: 'early' });
    const csbs = ascending(20).map((n) => rig.csb(p, n));
    rig.queue(p, ...csbs.map((csb) => copy(DATA, DATA + MIB, 2 * SLICE, { csb })));
    rig.fn.step(1);
    expect([rig.readIndex(p), rig.isValid(p, 7), rig.isValid(p, 8)]).toEqual([8, false, true]);
    rig.drain();
    expect(csbs.map((csb) => rig.hex(csb, 32))).toEqual(csbs.map(() => CSB.done));
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 20));
  });

  it('S-86 a hard stop gives up what was taken, and no more', () => {
    const { rig, p } = ready({ readIndex: 'early' });
    rig.queue(p, ...ascending(10).map(() => copy(DATA, DATA + MIB, MIB)));
    rig.fn.step(1);
    rig.setReg(Reg.CTL0, 2);
    rig.drain();
    expect([rig.hex(p.status, 16), rig.isValid(p, 8)]).toEqual([status(STOP_FN, 8), true]);
  });
});
