/** What the obligations of ref §11.5 and the decisions of ref §14 add to the function states. */
import { describe, expect, it } from 'vitest';
import { ContextState, FunctionRequest, FunctionState, Reg } from '../../src/spec/index.js';
import { CSB, record, status } from './expect.js';
import { Trace } from './journal.js';
import { copy, FILTER, interrupt, nop, start, stop, sync } from './ops.js';
import { LAYOUT, Rig } from './rig.js';
import { inState, markRegisters, registers } from './states.js';

const { STOP, INIT, ACTIVE, STOPG_SF, STOPG_HD, ERROR } = FunctionState;
const { RESET, STOP_SF } = FunctionRequest;
const { RUN, STOP_SW, STOP_FN, ERR_FN } = ContextState;

describe('obligations and decisions about function states', () => {
  it('O-6 repeating the request in force is harmless: ACTIVE by read-modify-write of CTL0, STOP_SF on every poll', () => {
    const { rig, trace } = inState(ACTIVE);
    for (let i = 0; i < 5; i++) rig.setReg(Reg.CTL0, rig.reg(Reg.CTL0) | 0x10n);
    rig.fn.step(1);
    expect(trace.functionStates()).toEqual([]);
    for (let i = 0; rig.fn.state !== STOP; i++) {
      expect(i).toBeLessThan(100);
      rig.setReg(Reg.CTL0, (rig.reg(Reg.CTL0) & ~3n) | 1n);
      rig.fn.step(1);
    }
    rig.setReg(Reg.CTL0, (rig.reg(Reg.CTL0) & ~3n) | 1n);
    rig.drain();
    expect(trace.functionStates()).toEqual([STOPG_SF, STOP]);
  });

  it.each([STOP, INIT, ACTIVE, STOPG_SF, STOPG_HD, ERROR])('O-8 CTL0 = 0 in state %d leads to STOP, and clears the group', (from) => {
    const { rig } = inState(from);
    rig.setReg(Reg.CTL0, 0);
    rig.drain();
    expect(rig.fn.state).toBe(STOP);
    expect(rig.reg(Reg.CTL0)).toBe(0n);
  });

  it('S-90 an ACTIVE that was ignored while the function stopped takes effect when it is written again in STOP', () => {
    const { rig, trace } = inState(STOPG_SF);
    rig.setReg(Reg.CTL0, 3);
    rig.drain();
    expect(rig.reg(Reg.CTL0) & 3n).toBe(3n);
    expect(trace.functionStates()).toEqual([STOP]);
    rig.setReg(Reg.CTL0, rig.reg(Reg.CTL0));
    expect(trace.functionStates()).toEqual([INIT, ACTIVE]);
  });

  it('S-90 a RESET that was ignored in STOPG_HD does not reset anything', () => {
    const { rig } = inState(STOPG_HD);
    const before = registers(rig);
    rig.setReg(Reg.CTL0, 0x7_0000_0000n);
    rig.drain();
    expect(registers(rig)).toEqual(before);
  });

  it('S-90 a RESET resets once: the stop after the next activation keeps the registers, also when a function-level reset came in between', () => {
    for (const reset of [false, true]) {
      const { rig } = inState(ACTIVE);
      rig.setReg(Reg.CTL0, RESET);
      if (reset) rig.fn.reset();
      rig.drain();
      markRegisters(rig);
      const before = registers(rig);
      rig.setReg(Reg.CTL0, 3);
      rig.setReg(Reg.CTL0, STOP_SF);
      rig.drain();
      expect(rig.fn.state).toBe(STOP);
      expect(registers(rig)).toEqual(before);
    }
  });

  it('O-2 S-10 a doorbell that comes in INIT is acted upon in ACTIVE, however often and with whatever value it was rung', () => {
    const rig = new Rig({ initDelay: 3 });
    const places = [0, 1, 2].map((n) => rig.prepare(n, { state: RUN }));
    for (const p of places) {
      rig.write(p, 0, nop());
      rig.claim(p, 1);
    }
    rig.program();
    rig.setReg(Reg.CTL0, 3);
    rig.fn.ringDoorbell(0, 1);
    rig.fn.writeDoorbell(0x1000, 8, 0n);
    rig.fn.writeDoorbell(0x1000, 8, 77n);
    rig.fn.step(1);
    expect(rig.fn.state).toBe(INIT);
    expect(rig.readIndex(places[0])).toBe(0);
    rig.drain();
    expect(places.map((p) => rig.readIndex(p))).toEqual([1, 1, 0]);
  });

  it('S-10 doorbells are dropped in STOP, STOPG_SF, STOPG_HD and ERROR, and not remembered', () => {
    for (const from of [STOP, STOPG_SF, STOPG_HD, ERROR]) {
      const { rig } = inState(from);
      const p = rig.prepare(3, { state: RUN });
      rig.write(p, 0, nop());
      rig.claim(p, 1);
      const dropped = rig.fn.counters.doorbellsDropped;
      rig.fn.ringDoorbell(3, 1);
      expect(rig.fn.counters.doorbellsDropped).toBe(dropped + 1);
      rig.drain();
      if (from === ERROR) rig.setReg(Reg.CTL0, RESET);
      rig.program();
      rig.setReg(Reg.CTL0, 3);
      rig.drain();
      expect(rig.fn.state).toBe(ACTIVE);
      expect(rig.readIndex(p)).toBe(0);
    }
  });

  it('S-71 doorbells of an INIT that ends in STOP or ERROR are forgotten', () => {
    for (const leave of [(rig: Rig) => rig.setReg(Reg.CTL0, STOP_SF), (rig: Rig) => rig.fn.injectInternalError()]) {
      const rig = new Rig({ initDelay: 2 });
      const p = rig.prepare(0, { state: RUN });
      rig.write(p, 0, nop());
      rig.claim(p, 1);
      rig.program();
      rig.setReg(Reg.CTL0, 3);
      rig.fn.ringDoorbell(0, 1);
      leave(rig);
      rig.drain();
      rig.setReg(Reg.CTL0, RESET);
      rig.drain();
      rig.program();
      rig.setReg(Reg.CTL0, 3);
      rig.drain();
      expect(rig.fn.state).toBe(ACTIVE);
      expect(rig.readIndex(p)).toBe(0);
    }
  });

  it('O-22 activation, starts and stops take a few turns for each context, never a wait', () => {
    const rig = new Rig();
    const admin = rig.prepare(0, { state: RUN });
    const places = Array.from({ length: 14 }, (_, n) => rig.prepare(n + 1));
    rig.program();
    rig.setReg(Reg.CTL0, 3);
    expect(rig.fn.state).toBe(ACTIVE);
    const csb = rig.csb(admin, 0, 3);
    rig.queue(admin, start(1, 14, { csb }), stop(1, 7, { csb }), sync(FILTER.STOP, 1, 14, { csb }));
    expect(rig.stepUntil(() => rig.u64(csb) === 0n)).toBeLessThan(60);
    expect(places.map((p) => rig.state(p))).toEqual([...Array(7).fill(STOP_SW), ...Array(7).fill(RUN)]);
    rig.setReg(Reg.CTL0, STOP_SF);
    expect(rig.stepUntil(() => rig.fn.state === STOP)).toBeLessThan(60);
    expect(places.map((p) => rig.state(p))).toEqual([...Array(7).fill(STOP_SW), ...Array(7).fill(STOP_FN)]);
  });

  it('O-28 INIT is over before STS0 can be read, by default', () => {
    const trace = new Trace();
    const rig = new Rig({}, { tracer: trace });
    rig.setReg(Reg.CTL0, 3);
    expect(trace.functionStates()).toEqual([INIT, ACTIVE]);
  });

  it.each([STOP, INIT, ACTIVE, STOPG_SF, STOPG_HD, ERROR])(
    'S-46 S-107 function-level reset in state %d: as power-on, and no memory is touched',
    (from) => {
      const { rig } = inState(from);
      const before = rig.snapshot();
      rig.fn.reset();
      rig.drain();
      expect(rig.snapshot().equals(before)).toBe(true);
      expect(rig.fn.state).toBe(STOP);
      expect(registers(rig)).toEqual(registers(new Rig()));
      expect(rig.reg(Reg.CTL0)).toBe(0n);
    },
  );

  it('S-107 fn_grp_id returns to its configured value; CXT_STS goes on saying RUN, and a doorbell starts such a context again', () => {
    const rig = new Rig({ groupId: 5 });
    rig.activate();
    rig.setReg(Reg.CTL0, 0x9_0000_0003n);
    const p = rig.running(1);
    rig.fn.reset();
    expect(rig.reg(Reg.CTL0)).toBe(0x5_0000_0000n);
    expect(rig.state(p)).toBe(RUN);
    rig.program();
    rig.setReg(Reg.CTL0, 3);
    rig.run(p, nop());
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 1));
  });

  it('S-46 S-71 a function-level reset empties the doorbell latches', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.prepare(1, { state: RUN });
    rig.queue(p, nop());
    rig.fn.reset();
    rig.program();
    rig.setReg(Reg.CTL0, 3);
    rig.drain();
    expect(rig.readIndex(p)).toBe(0);
  });

  it('S-46 S-71 a function-level reset in INIT forgets the doorbells that came early', () => {
    const rig = new Rig({ initDelay: 2 });
    const p = rig.prepare(0, { state: RUN });
    rig.write(p, 0, nop());
    rig.claim(p, 1);
    rig.program();
    rig.setReg(Reg.CTL0, 3);
    rig.fn.ringDoorbell(0, 1);
    rig.fn.reset();
    rig.program();
    rig.setReg(Reg.CTL0, 3);
    rig.drain();
    expect([rig.fn.state, rig.readIndex(p)]).toEqual([ACTIVE, 0]);
  });

  it('S-71 latches are emptied when STOP is reached: what was rung before a stop waits for a new doorbell', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.prepare(1, { state: RUN });
    rig.queue(p, nop());
    rig.setReg(Reg.CTL0, STOP_SF);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
    rig.setReg(Reg.CTL0, 3);
    rig.drain();
    expect(rig.readIndex(p)).toBe(0);
    rig.fn.ringDoorbell(1, 1);
    rig.drain();
    expect(rig.readIndex(p)).toBe(1);
  });

  it('S-91 unreadable and invalid tables are errors of the context, CXT_L2 = 0 included: never GSV_ERROR', () => {
    const rig = new Rig();
    rig.setReg(Reg.ERR_CFG, LAYOUT.errorLog | 3);
    rig.setReg(Reg.CTL0, 3);
    for (const n of [0, 1, 63]) rig.fn.ringDoorbell(n, 0);
    rig.drain();
    expect(rig.fn.state).toBe(ACTIVE);
    expect(rig.records()).toEqual([0, 1, 63].map((context) => record({ step: 2, sub: 1, context })));
  });

  it('S-92 the log and the entry into GSV_ERROR are two sources of vector 0, the log first', () => {
    const sources: [number, number, number[]][] = [
      // intr_en of the log, fn_err_intr_en, messages
      [0, 0, []],
      [1, 0, [0]],
      [0, 1, [0]],
      [1, 1, [0, 0]],
    ];
    for (const [log, entry, messages] of sources) {
      const rig = new Rig();
      rig.activate();
      rig.setReg(Reg.ERR_CTL, log);
      rig.setReg(Reg.CTL0, 3 | (entry << 4));
      const states: bigint[] = [];
      rig.onInterrupt = () => states.push(rig.reg(Reg.STS0));
      rig.fn.injectInternalError();
      expect(rig.interrupts).toEqual(messages);
      if (log + entry === 2) expect(states).toEqual([2n, 5n]);
    }
    const rig = new Rig();
    rig.activate({ log: false });
    rig.setReg(Reg.CTL0, 0x13);
    rig.fn.injectInternalError();
    expect(rig.interrupts).toEqual([0]); // whatever ERR_CFG.en says
  });

  it('S-92 setting intr_en while sts is 1 sends nothing', () => {
    const rig = new Rig();
    rig.activate();
    rig.setReg(Reg.ERR_CTL, 0);
    rig.run(rig.running(1), copy(0, 0, 1));
    expect(rig.reg(Reg.ERR_STS)).toBe(1n);
    rig.setReg(Reg.ERR_CTL, 1);
    rig.drain();
    expect(rig.interrupts).toEqual([]);
  });

  it('S-63 the interrupts of completed descriptors are delivered before STOP is visible', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 9 });
    const seen: [number, bigint][] = [];
    rig.onInterrupt = (vector) => seen.push([vector, rig.reg(Reg.STS0)]);
    rig.queue(p, interrupt(1), interrupt(1), interrupt(1));
    rig.fn.step(2);
    rig.setReg(Reg.CTL0, STOP_SF);
    rig.drain();
    expect(seen).toEqual([
      [9, 2n],
      [9, 2n],
    ]);
    expect(rig.hex(p.status, 16)).toBe(status(STOP_FN, 2));
  });

  it('S-64 an error while the function stops softly: ERR_FN, and STOP is reached all the same', () => {
    const rig = new Rig({}, { pages: true });
    rig.activate();
    const p = rig.running(1);
    const csb = rig.csb(p);
    rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x10_0000, 0x10_0000, { csb }));
    rig.unmap(LAYOUT.data + 0x1f_f000);
    rig.fn.step(1);
    rig.setReg(Reg.CTL0, STOP_SF);
    rig.drain();
    expect(rig.fn.state).toBe(STOP);
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 1));
    expect(rig.hex(csb, 32)).toBe(CSB.failed);
    expect(rig.records()).toEqual([record({ step: 10, sub: 1, context: 1, index: 0, operand: 1 })]);
  });

  it('S-79 a context that says RUN but was never rung or started is not in the running set: a stop leaves it alone', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.prepare(1, { state: RUN });
    const q = rig.prepare(2, { state: STOP_SW });
    rig.fn.ringDoorbell(2, 0);
    rig.drain();
    rig.setReg(Reg.CTL0, STOP_SF);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
    expect(rig.hex(q.status, 16)).toBe(status(STOP_SW, 0));
  });
});
