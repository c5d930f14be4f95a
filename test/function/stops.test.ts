/** Stopping at difficult moments: S-75, S-80, S-85, S-86, S-87, and what a stop leaves for the next start. */
import { describe, expect, it } from 'vitest';
import { Access } from '../../src/memory/address-space.js';
import { ContextState, FunctionState, Reg } from '../../src/spec/index.js';
import { CSB, record, status } from './expect.js';
import { adminInterrupt, copy, FILTER, interrupt, nop, repcopy, start, stop, sync } from './ops.js';
import { type ContextPlace, LAYOUT, Rig, type RigOptions } from './rig.js';

const { STOP_SW, RUN, STOP_FN, STOPG_FN } = ContextState;
const { STOP, STOPG_SF } = FunctionState;
const MIB = 0x10_0000;
const SLICE = 0x4_0000;

/** Context 1, or another one, after the first of four slices of a copy; a NOP is behind it. */
function copying(options: RigOptions & { context?: number } = {}) {
  const rig = new Rig({ maxContext: 255 }, options);
  const admin = rig.activate();
  const p = rig.running(options.context ?? 1);
  const csb = rig.csb(p);
  rig.bytes(LAYOUT.data, MIB).fill(0x5a);
  rig.queue(p, copy(LAYOUT.data, LAYOUT.data + MIB, MIB, { csb }), nop({ csb: rig.csb(p, 1) }));
  rig.fn.step(1);
  return { rig, admin, p, csb };
}

/** Bytes that have arrived. */
const arrived = (rig: Rig) => rig.bytes(LAYOUT.data + MIB, MIB).lastIndexOf(0x5a) + 1;

const requests: [string, (rig: Rig, admin: ContextPlace) => void, ContextState][] = [
  ['function STOP_SF', (rig) => rig.setReg(Reg.CTL0, 1), STOP_FN],
  ['CXT_STOP', (rig, admin) => rig.queue(admin, stop(1, 1)), STOP_SW],
];
const hardRequests: [string, (rig: Rig, admin: ContextPlace) => void, ContextState][] = [
  ['function STOP_HD', (rig) => rig.setReg(Reg.CTL0, 2), STOP_FN],
  ['RESET', (rig) => rig.setReg(Reg.CTL0, 0), STOP_FN],
  ['CXT_STOP with hs = 1', (rig, admin) => rig.queue(admin, stop(1, 1, { hard: true })), STOP_SW],
];

describe('S-87 a soft stop during a long descriptor waits for its end', () => {
  it.each(requests)('S-87 %s: the copy is complete, its block signalled, and nothing after it has run', (_name, request, state) => {
    const { rig, admin, p, csb } = copying();
    request(rig, admin);
    rig.drain();
    expect(arrived(rig)).toBe(MIB);
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.hex(p.status, 16)).toBe(status(state, 1));
    expect(rig.isValid(p, 1)).toBe(true);
  });

  it('S-87 while it waits STS0 shows STOPG_SF and the state STOPG_FN; STOP_HD cuts it short', () => {
    const { rig, p, csb } = copying();
    rig.setReg(Reg.CTL0, 1);
    rig.fn.step(1);
    expect([rig.fn.state, rig.state(p)]).toEqual([STOPG_SF, STOPG_FN]);
    rig.setReg(Reg.CTL0, 2);
    rig.drain();
    expect(rig.fn.state).toBe(STOP);
    expect(arrived(rig)).toBeLessThan(MIB);
    expect(rig.hex(csb, 32)).toBe(CSB.armed);
    expect(rig.hex(p.status, 16)).toBe(status(STOP_FN, 1));
  });

  it.each(requests)(
    'S-87 %s, then a start: work goes on behind the copy, nothing is lost and nothing runs twice',
    (_name, request, state) => {
      const { rig, admin, p } = copying();
      request(rig, admin);
      rig.drain();
      rig.bytes(LAYOUT.data + MIB, MIB).fill(0);
      if (rig.fn.state === STOP) {
        rig.setReg(Reg.CTL0, 3);
        rig.setState(admin, RUN);
      }
      expect(rig.state(p)).toBe(state);
      rig.run(admin, start(1, 1, { resume: true }));
      expect(rig.hex(p.status, 16)).toBe(status(RUN, 2));
      expect(rig.hex(p.csbs + 32, 32)).toBe(CSB.done);
      expect(arrived(rig)).toBe(0);
    },
  );
});

describe('S-86 a hard stop abandons the descriptor in execution', () => {
  it.each(hardRequests)('S-86 %s: consumed, no er, no signal, no record; data partly written', (_name, request, state) => {
    const { rig, admin, p, csb } = copying();
    request(rig, admin);
    rig.drain();
    expect(arrived(rig)).toBeGreaterThanOrEqual(SLICE);
    expect(arrived(rig)).toBeLessThan(MIB);
    expect(rig.hex(csb, 32)).toBe(CSB.armed);
    expect(rig.hex(p.status, 16)).toBe(status(state, 1));
    expect([rig.isValid(p, 0), rig.isValid(p, 1)]).toEqual([false, true]);
    expect([rig.records(), rig.interrupts]).toEqual([[], []]);
    expect(rig.fn.counters.descriptors).toBeGreaterThanOrEqual(1);
  });

  it('S-86 a REPCOPY in execution', () => {
    const { rig, p, csb } = copying();
    rig.drain();
    const next = rig.csb(p, 5);
    rig.queue(p, repcopy(LAYOUT.data, LAYOUT.data + MIB, MIB, { csb: next }));
    rig.fn.step(1);
    rig.setReg(Reg.CTL0, 2);
    rig.drain();
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.hex(next, 32)).toBe(CSB.armed);
    expect(rig.hex(p.status, 16)).toBe(status(STOP_FN, 3));
  });

  it('S-86 a SYNC of context 0 that waits is consumed by a function hard stop', () => {
    const { rig, admin } = copying();
    const csb = rig.csb(admin);
    rig.queue(admin, stop(1, 1), sync(FILTER.STOP, 1, 1, { csb }));
    rig.stepUntil(() => rig.readIndex(admin) === 1);
    for (let i = 0; i < 2; i++) rig.fn.step(1); // a slice, and the SYNC is taken
    rig.setReg(Reg.CTL0, 2);
    rig.drain();
    expect(rig.hex(csb, 32)).toBe(CSB.armed);
    expect(rig.hex(admin.status, 16)).toBe(status(STOP_FN, 2));
    expect(rig.isValid(admin, 1)).toBe(false);
  });
});

describe('S-85 a soft stop while context 0 waits', () => {
  it('S-85 in SYNC.STOP: the others stop first, which satisfies it', () => {
    const { rig, admin, p, csb } = copying();
    const done = rig.csb(admin);
    rig.queue(admin, stop(1, 1), sync(FILTER.STOP, 1, 1, { csb: done }), adminInterrupt(5));
    rig.stepUntil(() => rig.readIndex(admin) === 1);
    for (let i = 0; i < 2; i++) rig.fn.step(1); // a slice, and the SYNC is taken
    rig.setReg(Reg.CTL0, 1);
    rig.drain();
    expect(rig.fn.state).toBe(STOP);
    expect([rig.hex(csb, 32), rig.hex(done, 32)]).toEqual([CSB.done, CSB.done]);
    expect(rig.hex(p.status, 16)).toBe(status(STOP_FN, 1));
    expect(rig.hex(admin.status, 16)).toBe(status(STOP_FN, 2));
    expect(rig.isValid(admin, 2)).toBe(true);
    expect(rig.interrupts).toEqual([]);
  });

  it('S-85 in a CXT_START that waits for a stop: given up unconsumed, nothing is started, and it runs after the next start', () => {
    const { rig, admin, p } = copying();
    const q = rig.prepare(2);
    const done = rig.csb(admin);
    rig.queue(admin, stop(1, 1), start(1, 2, { csb: done }));
    rig.stepUntil(() => rig.readIndex(admin) === 1);
    rig.fn.step(1);
    rig.setReg(Reg.CTL0, 1);
    rig.drain();
    expect(rig.fn.state).toBe(STOP);
    expect([rig.state(p), rig.state(q)]).toEqual([STOP_FN, STOP_SW]);
    expect(rig.hex(admin.status, 16)).toBe(status(STOP_FN, 1));
    expect(rig.isValid(admin, 1)).toBe(true);
    expect([rig.hex(done, 32), rig.records()]).toEqual([CSB.armed, []]);
    rig.setReg(Reg.CTL0, 3);
    rig.setState(admin, RUN);
    rig.fn.ringDoorbell(0, 0);
    rig.drain();
    expect(rig.hex(done, 32)).toBe(CSB.done);
    expect([rig.state(p), rig.state(q)]).toEqual([RUN, RUN]);
  });

  it('S-85 a CXT_START in the middle of a long range starts nothing any more', () => {
    const rig = new Rig({ maxContext: 1000 });
    const admin = rig.activate();
    const q = rig.prepare(200);
    const done = rig.csb(admin);
    rig.queue(admin, start(1, 1000, { csb: done }));
    rig.fn.step(1); // 64 of them
    rig.setReg(Reg.CTL0, 1);
    rig.drain();
    expect([rig.fn.state, rig.state(q), rig.isValid(admin, 0)]).toEqual([STOP, STOP_SW, true]);
    expect([rig.hex(admin.status, 16), rig.hex(done, 32)]).toEqual([status(STOP_FN, 0), CSB.armed]);
  });
});

describe('S-80 tables of a running context are invalid or unreadable when it must be stopped', () => {
  /** A context whose tables context 0 does not need. */
  const N = 130;
  const spoils: [string, (rig: Rig, p: ContextPlace) => void][] = [
    ['L2 entry zeroed', (rig) => rig.bytes(rig.l2Entry(N), 8).fill(0)],
    ['L1 table not mapped', (rig) => rig.unmap(LAYOUT.l1Upper)],
    ['L1 entry zeroed', (rig) => rig.bytes(rig.l1Entry(N), 32).fill(0)],
    ['CXT_CTL zeroed', (rig, p) => rig.bytes(p.control, 64).fill(0)],
    ['CXT_CTL not mapped', (rig, p) => rig.unmap(p.control)],
    ['CXT_CTL not readable', (rig, p) => rig.protect(p.control, Access.WRITE)],
  ];
  const stops: [string, (rig: Rig, admin: ContextPlace) => void][] = [
    ['CXT_STOP', (rig, admin) => rig.run(admin, stop(N, N), sync(FILTER.STOP, N))],
    ['CXT_STOP hs = 1', (rig, admin) => rig.run(admin, stop(N, N, { hard: true }), sync(FILTER.STOP, N))],
    ['STOP_SF', (rig) => rig.setReg(Reg.CTL0, 1)],
    ['STOP_HD', (rig) => rig.setReg(Reg.CTL0, 2)],
  ];
  for (const busy of [false, true]) {
    describe.each(spoils)(`S-80 %s, ${busy ? 'in the middle of a copy' : 'idle'}`, (_name, spoil) => {
      it.each(stops)('S-80 %s: no write, no record, the stop completes', (_stop, request) => {
        const { rig, admin, p } = copying({ pages: true, context: N });
        if (!busy) rig.drain();
        const before = rig.hex(p.status, 16);
        spoil(rig, p);
        request(rig, admin);
        rig.drain();
        expect(rig.hex(p.status, 16)).toBe(before);
        expect(rig.records()).toEqual([]);
        if (Number(rig.reg(Reg.CTL0) & 3n) < 3) expect(rig.fn.state).toBe(STOP);
        else expect(rig.readIndex(admin)).toBe(2);
      });
    });
  }
});

describe('S-75 CXT_STS can be read but not written', () => {
  it('S-75 what the descriptor did stands; a later doorbell loads the old Read_Index and waits: nothing runs twice', () => {
    const rig = new Rig({}, { pages: true });
    rig.activate();
    const p = rig.running(1);
    rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 4 });
    rig.protect(p.status, Access.READ);
    rig.run(p, interrupt(1, { csb: rig.csb(p) }), interrupt(1));
    expect(rig.records()).toEqual([record({ step: 5, sub: 2, context: 1 })]);
    expect(rig.interrupts).toEqual([4, 0]);
    expect(rig.hex(p.csbs, 32)).toBe(CSB.done);
    for (let i = 0; i < 3; i++) {
      rig.fn.ringDoorbell(1, 2);
      rig.drain();
    }
    expect(rig.interrupts).toEqual([4, 0]);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
    expect(rig.isValid(p, 1)).toBe(true);
  });

  it('S-75 CXT_START of it: er, step 5, re 0', () => {
    const rig = new Rig({}, { pages: true });
    const admin = rig.activate();
    for (const state of [RUN, STOP_SW]) {
      const p = rig.prepare(1, { state });
      rig.protect(p.status, Access.READ);
      const csb = rig.csb(admin);
      const at = Number(rig.reg(Reg.ERR_WRT));
      rig.run(admin, start(1, 1, { csb }));
      expect(rig.hex(csb, 32)).toBe(CSB.failed);
      expect(rig.records().slice(at)).toEqual([record({ step: 5, sub: 2, re: 0, context: 1 })]);
      rig.protect(p.status, Access.READ_WRITE);
    }
  });

  it.each([
    ['CXT_STOP', (rig: Rig, admin: ContextPlace) => rig.run(admin, stop(1, 1), sync(FILTER.STOP, 1))],
    ['STOP_SF', (rig: Rig) => rig.setReg(Reg.CTL0, 1)],
  ])('S-75 %s of it: a record, and the stop completes', (_name, request) => {
    const rig = new Rig({}, { pages: true });
    const admin = rig.activate();
    const p = rig.running(1);
    rig.protect(p.status, Access.READ);
    request(rig, admin);
    rig.drain();
    expect(rig.records()).toEqual([record({ step: 5, sub: 2, context: 1 })]);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
    if (_name === 'STOP_SF') expect(rig.fn.state).toBe(STOP);
    else expect(rig.readIndex(admin)).toBe(2);
  });

  it('S-75 a doorbell that was in line when the context left the running set is gone with it: the next one loads', () => {
    const rig = new Rig({}, { pages: true });
    const admin = rig.activate();
    const p = rig.running(1);
    rig.protect(p.status, Access.READ);
    rig.queue(admin, stop(1, 1));
    rig.queue(p, nop({ csb: rig.csb(p) }), nop());
    rig.drain();
    expect(rig.records()).toEqual([record({ step: 5, sub: 2, context: 1 })]);
    expect(rig.isValid(p, 0)).toBe(true);
    rig.protect(p.status, Access.READ_WRITE);
    rig.fn.ringDoorbell(1, 2);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 2));
  });
});

describe('S-88 order inside a context is unaffected by slices', () => {
  it('S-88 descriptors behind a long copy see all of it', () => {
    const { rig, p } = copying();
    rig.run(p, copy(LAYOUT.data + 2 * MIB - 1, LAYOUT.data + 2 * MIB, 1, { csb: rig.csb(p, 2) }));
    expect(rig.bytes(LAYOUT.data + 2 * MIB, 1)[0]).toBe(0x5a);
    expect(rig.readIndex(p)).toBe(3);
  });

  it('S-88 two long copies of two contexts share the function slice by slice', () => {
    const { rig, p } = copying();
    const q = rig.prepare(2, { state: RUN });
    rig.queue(q, copy(LAYOUT.data, LAYOUT.data + 2 * MIB, MIB));
    const ahead: number[] = [];
    while (rig.fn.step(1) > 0) {
      const second = rig.bytes(LAYOUT.data + 2 * MIB, MIB).lastIndexOf(0x5a) + 1;
      if (second < MIB) ahead.push((arrived(rig) - second) / SLICE);
    }
    expect(Math.max(...ahead)).toBeLessThanOrEqual(2);
    expect([rig.readIndex(p), rig.readIndex(q)]).toEqual([2, 1]);
  });
});
