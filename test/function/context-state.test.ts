/** Context states: the table of ref §6.5, and the start table of ref §5.6. */
import { describe, expect, it } from 'vitest';
import { ContextState, FunctionState, Reg } from '../../src/spec/index.js';
import { CSB, record, status } from './expect.js';
import { Trace } from './journal.js';
import { copy, nop, start, stop, sync } from './ops.js';
import { type ContextPlace, LAYOUT, Rig } from './rig.js';

const { STOP_SW, RUN, STOPG_SW, STOP_FN, STOPG_FN, ERR_FN } = ContextState;
const MIB = 0x10_0000;
const longCopy = (csb?: number) => copy(LAYOUT.data, LAYOUT.data + MIB, MIB, { csb });

function traced() {
  const trace = new Trace();
  const rig = new Rig({}, { tracer: trace });
  const admin = rig.activate();
  return { rig, trace, admin };
}

/** States written for context 1 since the trace was last taken. */
function states(trace: Trace): number[] {
  return trace
    .take()
    .filter((event) => event.startsWith('cxt 1 '))
    .map((event) => Number(event.slice(6)));
}

/** Context 1 in the middle of a copy of several slices. */
function copying() {
  const { rig, trace, admin } = traced();
  const p = rig.running(1);
  const csb = rig.csb(p);
  rig.queue(p, longCopy(csb), nop());
  rig.fn.step(1);
  expect(rig.readIndex(p)).toBe(0);
  trace.take();
  return { rig, trace, admin, p, csb };
}

describe('ref §6.5 context state machine', () => {
  it.each([
    ['STOP_SW with CXT_START.NM', STOP_SW, false],
    ['STOP_SW with CXT_START.RS', STOP_SW, true],
    ['STOP_FN with CXT_START.NM', STOP_FN, false],
    ['STOP_FN with CXT_START.RS', STOP_FN, true],
    ['ERR_FN with CXT_START.RS', ERR_FN, true],
  ])('ref §6.5 row 1 %s: RUN', (_title, state, resume) => {
    const { rig, trace, admin } = traced();
    const p = rig.prepare(1, { state });
    rig.run(admin, start(1, 1, { resume }));
    expect(states(trace)).toEqual([RUN]);
    rig.run(p, nop());
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 1));
  });

  it.each([STOP_SW, STOP_FN, ERR_FN])(
    'ref §6.5 row 2 O-10 state %d, software stores RUN and rings: the function picks it up at the doorbell',
    (state) => {
      const { rig } = traced();
      const p = rig.prepare(1, { state });
      rig.run(p, nop());
      expect(rig.hex(p.status, 16)).toBe(status(state, 0));
      rig.setState(p, RUN);
      rig.drain();
      expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
      rig.fn.ringDoorbell(1, 1);
      rig.drain();
      expect(rig.hex(p.status, 16)).toBe(status(RUN, 1));
    },
  );

  it('ref §6.5 row 3 RUN with CXT_STOP: STOPG_SW, then STOP_SW', () => {
    const { rig, trace, admin } = traced();
    const p = rig.running(1);
    trace.take();
    rig.run(admin, stop(1, 1));
    expect(states(trace)).toEqual([STOPG_SW, STOP_SW]);
    rig.run(p, nop());
    expect(rig.hex(p.status, 16)).toBe(status(STOP_SW, 0));
  });

  it('ref §6.5 row 4 STOPG_SW with CXT_STOP hs = 1: the stop is hurried', () => {
    const { rig, trace, admin, p, csb } = copying();
    rig.queue(admin, stop(1, 1));
    rig.stepUntil(() => rig.state(p) === STOPG_SW);
    rig.queue(admin, stop(1, 1, { hard: true }));
    const steps = rig.stepUntil(() => rig.state(p) === STOP_SW);
    expect(steps).toBeLessThan(4);
    expect(states(trace)).toEqual([STOPG_SW, STOP_SW]);
    expect(rig.hex(csb, 32)).toBe(CSB.armed);
    expect(rig.hex(p.status, 16)).toBe(status(STOP_SW, 1));
  });

  it.each([
    ['STOP_SF', 1],
    ['STOP_HD', 2],
  ])('ref §6.5 row 5 RUN with function %s: STOPG_FN, then STOP_FN', (_title, request) => {
    const { rig, trace, p } = copying();
    rig.setReg(Reg.CTL0, request);
    rig.drain();
    expect(states(trace)).toEqual([STOPG_FN, STOP_FN]);
    expect(rig.hex(p.status, 16)).toBe(status(STOP_FN, 1));
  });

  it.each([
    ['STOP_SF', 1, CSB.done],
    ['STOP_HD', 2, CSB.armed],
  ])('ref §6.5 row 6 STOPG_SW with function %s: STOPG_FN, then STOP_FN', (_title, request, block) => {
    const { rig, trace, admin, p, csb } = copying();
    rig.queue(admin, stop(1, 1));
    rig.stepUntil(() => rig.state(p) === STOPG_SW);
    rig.setReg(Reg.CTL0, request);
    rig.drain();
    expect(states(trace)).toEqual([STOPG_SW, STOPG_FN, STOP_FN]);
    expect(rig.hex(csb, 32)).toBe(block);
    expect(rig.fn.state).toBe(FunctionState.STOP);
  });

  it('ref §6.5 row 7 RUN with an error: ERR_FN', () => {
    const { rig, trace } = traced();
    const p = rig.running(1);
    trace.take();
    rig.run(p, copy(0, 0, 1));
    expect(states(trace)).toEqual([ERR_FN]);
  });

  it.each([
    ['STOPG_SW', (rig: Rig, admin: ContextPlace) => rig.queue(admin, stop(1, 1)), [STOPG_SW, ERR_FN]],
    ['STOPG_FN', (rig: Rig) => rig.setReg(Reg.CTL0, 1), [STOPG_FN, ERR_FN]],
  ])('ref §6.5 row 7 %s with an error: ERR_FN', (_title, begin, expected) => {
    const trace = new Trace();
    const rig = new Rig({}, { tracer: trace, pages: true });
    const admin = rig.activate();
    const p = rig.running(1);
    rig.unmap(LAYOUT.data + 2 * MIB - 4096);
    rig.queue(p, longCopy());
    rig.fn.step(1);
    trace.take();
    begin(rig, admin);
    rig.drain();
    expect(states(trace)).toEqual(expected);
    expect(rig.records()).toEqual([record({ step: 10, sub: 1, context: 1, index: 0, operand: 1 })]);
  });

  it('ref §6.5 row 8 S-32 ERR_FN: software repairs and stores STOP_SW; Read_Index is where it was left, or where software puts it', () => {
    for (const readIndex of [1, 2]) {
      const { rig, admin } = traced();
      const p = rig.running(1);
      const later = [rig.csb(p, 1), rig.csb(p, 2)];
      rig.run(p, copy(0, 0, 1), nop({ csb: later[0] }), nop({ csb: later[1] }));
      expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 1));
      rig.setState(p, STOP_SW);
      rig.putU64(p.status + 8, readIndex);
      rig.drain();
      expect(rig.hex(p.status, 16)).toBe(status(STOP_SW, readIndex));
      rig.run(admin, start(1, 1));
      expect(rig.hex(p.status, 16)).toBe(status(RUN, 3));
      expect(later.map((at) => rig.hex(at, 32))).toEqual([readIndex === 1 ? CSB.done : CSB.armed, CSB.done]);
    }
  });

  it.each([
    ['idle', false],
    ['in the middle of a copy', true],
  ])('ref §6.5 row 9 RUN, %s, with a function error: STOP_FN', (_title, busy) => {
    const { rig, trace } = traced();
    const p = rig.running(1);
    if (busy) rig.queue(p, longCopy());
    rig.fn.step(1);
    trace.take();
    rig.fn.injectInternalError();
    rig.drain();
    expect(states(trace)).toEqual([STOP_FN]);
    expect(rig.hex(p.status, 16)).toBe(status(STOP_FN, 0));
  });

  it('ref §6.5 row 9 a context whose tables have become invalid is left alone by a function error', () => {
    const { rig } = traced();
    const p = rig.running(1);
    rig.bytes(rig.l1Entry(1), 32).fill(0);
    rig.fn.injectInternalError();
    expect(rig.fn.state).toBe(FunctionState.ERROR);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
  });

  it('ref §6.5 row 10 function-level reset in the middle of a copy: memory untouched, the function forgets the context', () => {
    const { rig, trace, p, csb } = copying();
    const before = rig.snapshot();
    rig.fn.reset();
    rig.drain();
    expect(rig.snapshot().equals(before)).toBe(true);
    expect(states(trace)).toEqual([]);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
    rig.program();
    rig.setReg(Reg.CTL0, 3);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.hex(csb, 32)).toBe(CSB.done); // it begins again, from memory alone
  });

  it('ref §6.5 on reaching a stopped state the final Read_Index was written before the state', () => {
    for (const request of [stop(1, 1), stop(1, 1, { hard: true })]) {
      const { rig, admin, p } = copying();
      rig.queue(admin, request);
      rig.stepUntil(() => rig.state(p) === STOP_SW);
      expect(rig.readIndex(p)).toBe(1);
    }
  });
});

describe('ref §5.6 CXT_START by state', () => {
  /** What stands in memory, and what .NM and .RS make of it. */
  const table: [string, ContextState, 'run' | 'refused', 'run' | 'refused'][] = [
    ['STOP_SW', STOP_SW, 'run', 'run'],
    ['RUN', RUN, 'run', 'run'],
    ['STOPG_SW', STOPG_SW, 'run', 'run'],
    ['STOP_FN', STOP_FN, 'run', 'run'],
    ['STOPG_FN', STOPG_FN, 'run', 'run'],
    ['ERR_FN', ERR_FN, 'refused', 'run'],
  ];
  for (const operation of ['.NM', '.RS'] as const) {
    it.each(table)(`ref §5.6 ${operation} of a context in %s`, (_name, state, normal, resume) => {
      const { rig, admin } = traced();
      const p = rig.prepare(1, { state, readIndex: 7 });
      const [csb, work] = [rig.csb(admin), rig.csb(p)];
      rig.write(p, 7, nop({ csb: work }));
      rig.claim(p, 1);
      rig.run(admin, start(1, 1, { resume: operation === '.RS', csb }));
      const runs = (operation === '.RS' ? resume : normal) === 'run';
      // Read_Index is taken from memory, and Write_Index is looked at once without any doorbell.
      expect(rig.hex(p.status, 16)).toBe(runs ? status(RUN, 8) : status(state, 7));
      expect(rig.hex(csb, 32)).toBe(runs ? CSB.done : CSB.failed);
      expect(rig.hex(work, 32)).toBe(runs ? CSB.done : CSB.armed);
      expect(rig.records()).toEqual(runs ? [] : [record({ step: 5, sub: 3, re: 0, context: 1 })]);
    });
  }

  it('S-25 .RS may leave ERR_FN: work goes on behind the failed descriptor', () => {
    const { rig, admin } = traced();
    const p = rig.running(1);
    const csb = rig.csb(p);
    rig.run(p, copy(0, 0, 1), nop({ csb }));
    expect(rig.state(p)).toBe(ERR_FN);
    rig.run(admin, start(1, 1, { resume: true }));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 2));
  });

  it.each([
    ['soft', false, [STOPG_SW, STOP_SW, RUN]],
    ['hard', true, [STOPG_SW, STOP_SW, RUN]],
  ])('ref §5.6 a start waits for a %s stop that is under way, then goes by the resulting state', (_title, hard, expected) => {
    const { rig, trace, admin, p } = copying();
    const csb = rig.csb(admin);
    rig.queue(admin, stop(1, 1, { hard }), start(1, 1, { csb }));
    rig.drain();
    expect(states(trace)).toEqual(expected);
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 2));
  });

  it('ref §5.6 a start that waited is refused when the stop ended in ERR_FN', () => {
    const rig = new Rig({}, { pages: true });
    const admin = rig.activate();
    const p = rig.running(1);
    rig.unmap(LAYOUT.data + 2 * MIB - 4096);
    rig.queue(p, longCopy());
    rig.fn.step(1);
    const csb = rig.csb(admin);
    rig.run(admin, stop(1, 1), start(1, 1, { csb }));
    expect(rig.state(p)).toBe(ERR_FN);
    expect(rig.hex(csb, 32)).toBe(CSB.failed);
    expect(rig.records()).toEqual([
      record({ step: 10, sub: 1, context: 1, index: 0, operand: 1 }),
      record({ step: 5, sub: 3, re: 0, context: 1 }),
    ]);
  });

  it('S-81 STOPG_SW and STOPG_FN in memory without a stop in progress: a doorbell ignores them, SYNC.STOP does not wait', () => {
    for (const state of [STOPG_SW, STOPG_FN]) {
      const { rig, admin } = traced();
      const p = rig.prepare(1, { state });
      rig.run(p, nop());
      expect(rig.hex(p.status, 16)).toBe(status(state, 0));
      const csb = rig.csb(admin);
      rig.run(admin, sync(1, 1, 1, { csb }));
      expect(rig.hex(csb, 32)).toBe(CSB.done);
      expect(rig.records()).toEqual([]);
    }
  });

  it('O-9 CXT_START of a context that already runs succeeds and examines Write_Index', () => {
    for (const loaded of [false, true]) {
      const { rig, admin } = traced();
      const p = rig.prepare(1, { state: RUN });
      if (loaded) {
        rig.fn.ringDoorbell(1, 0);
        rig.drain();
      }
      rig.write(p, 0, nop());
      rig.claim(p, 1);
      const csb = rig.csb(admin);
      rig.run(admin, start(1, 1, { csb }));
      expect(rig.hex(csb, 32)).toBe(CSB.done);
      expect(rig.hex(p.status, 16)).toBe(status(RUN, 1));
    }
  });

  it('ref §5.6 db_value is treated as if written to each doorbell, whatever it says', () => {
    const { rig, admin } = traced();
    const places = [1, 2].map((n) => rig.prepare(n));
    for (const p of places) {
      rig.write(p, 0, nop());
      rig.claim(p, 1);
    }
    rig.run(admin, start(1, 2, { doorbell: 0x1122_3344_5566_7788n }));
    expect(places.map((p) => rig.hex(p.status, 16))).toEqual([status(RUN, 1), status(RUN, 1)]);
  });

  it('ref §5.6 the completion comes after the state byte', () => {
    const { rig, admin } = traced();
    const p = rig.prepare(1);
    const csb = rig.csb(admin);
    rig.queue(admin, start(1, 1, { csb }));
    rig.stepUntil(() => rig.completion(csb).signal === 0n);
    expect(rig.state(p)).toBe(RUN);
  });
});
