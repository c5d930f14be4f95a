/** Function states: every pair of state and request (ref §3.2), and the rules around them (ref §3.3). */
import { describe, expect, it, vi } from 'vitest';
import { AddressSpace } from '../../src/memory/address-space.js';
import { ContextState, FunctionRequest, FunctionState, Reg } from '../../src/spec/index.js';
import { CSB, record, status } from './expect.js';
import { Trace } from './journal.js';
import { copy, interrupt, nop } from './ops.js';
import { type ContextPlace, LAYOUT, Rig } from './rig.js';

const { STOP, INIT, ACTIVE, STOPG_SF, STOPG_HD, ERROR } = FunctionState;
const { RESET, STOP_SF, STOP_HD } = FunctionRequest;
const { RUN, STOP_SW, STOP_FN, ERR_FN } = ContextState;

/** Values that no register has after a reset. */
function markRegisters(rig: Rig): void {
  rig.setReg(Reg.GRP_ENUM, 2);
  rig.setReg(Reg.CTL2, 0x0000_0008_0020_4003n);
  rig.setReg(Reg.CXT_L2, LAYOUT.l2);
  rig.setReg(Reg.RKEY, 0x7003);
  rig.setReg(Reg.ERR_CTL, 1);
  rig.setReg(Reg.ERR_WRT, 5);
  rig.setReg(Reg.ERR_RD, 5);
  rig.setReg(Reg.ERR_CFG, LAYOUT.errorLog | 3);
}

const MARKED = [Reg.GRP_ENUM, Reg.CTL2, Reg.CXT_L2, Reg.RKEY, Reg.ERR_CTL, Reg.ERR_STS, Reg.ERR_CFG, Reg.ERR_WRT, Reg.ERR_RD];

function registers(rig: Rig): bigint[] {
  return MARKED.map((offset) => rig.reg(offset));
}

/** The function in a given state, its registers marked, group 7, with a long copy under way in context 1 where something runs. */
function inState(state: FunctionState): { rig: Rig; trace: Trace } {
  const trace = new Trace();
  const rig = new Rig({ initDelay: state === INIT ? 3 : 0 }, { tracer: trace });
  rig.setReg(Reg.CTL0, 0x7_0000_0001n); // STOP_SF in STOP is ignored
  markRegisters(rig);
  rig.prepare(0, { state: RUN });
  const request = (value: number) => rig.setReg(Reg.CTL0, 0x7_0000_0000n + BigInt(value));
  if (state !== STOP) request(3);
  if (state >= ACTIVE && state !== ERROR) {
    rig.fn.ringDoorbell(0, 0);
    const p = rig.running(1);
    rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x10_0000, 0x10_0000));
    rig.fn.step(1);
  }
  if (state === STOPG_SF) request(1);
  if (state === STOPG_HD) request(2);
  if (state === ERROR) rig.fn.injectInternalError();
  expect(rig.fn.state).toBe(state);
  trace.take();
  return { rig, trace };
}

describe('ref §3.2 transitions', () => {
  const cells: [string, FunctionState, FunctionRequest, FunctionState[], 'reset' | 'kept'][] = [
    ['ref §3.2 STOP × RESET: ignored', STOP, 0, [], 'kept'],
    ['ref §3.2 STOP × STOP_SF: ignored', STOP, 1, [], 'kept'],
    ['ref §3.2 STOP × STOP_HD: ignored', STOP, 2, [], 'kept'],
    ['ref §3.2 STOP × ACTIVE: INIT, ACTIVE', STOP, 3, [INIT, ACTIVE], 'kept'],
    ['ref §3.2 INIT × RESET: STOPG_HD, STOP', INIT, 0, [STOPG_HD, STOP], 'reset'],
    ['ref §3.2 INIT × STOP_SF: STOPG_SF, STOP', INIT, 1, [STOPG_SF, STOP], 'kept'],
    ['ref §3.2 INIT × STOP_HD: STOPG_HD, STOP', INIT, 2, [STOPG_HD, STOP], 'kept'],
    ['ref §3.2 INIT × ACTIVE: ignored, goes on to ACTIVE', INIT, 3, [ACTIVE], 'kept'],
    ['ref §3.2 ACTIVE × RESET: STOPG_HD, STOP', ACTIVE, 0, [STOPG_HD, STOP], 'reset'],
    ['ref §3.2 ACTIVE × STOP_SF: STOPG_SF, STOP', ACTIVE, 1, [STOPG_SF, STOP], 'kept'],
    ['ref §3.2 ACTIVE × STOP_HD: STOPG_HD, STOP', ACTIVE, 2, [STOPG_HD, STOP], 'kept'],
    ['ref §3.2 ACTIVE × ACTIVE: ignored', ACTIVE, 3, [], 'kept'],
    ['ref §3.2 STOPG_SF × RESET: STOPG_HD, STOP', STOPG_SF, 0, [STOPG_HD, STOP], 'reset'],
    ['ref §3.2 STOPG_SF × STOP_SF: ignored, goes on to STOP', STOPG_SF, 1, [STOP], 'kept'],
    ['ref §3.2 STOPG_SF × STOP_HD: STOPG_HD, STOP', STOPG_SF, 2, [STOPG_HD, STOP], 'kept'],
    ['ref §3.2 STOPG_SF × ACTIVE: ignored, goes on to STOP', STOPG_SF, 3, [STOP], 'kept'],
    ['ref §3.2 STOPG_HD × RESET: ignored, goes on to STOP', STOPG_HD, 0, [STOP], 'kept'],
    ['ref §3.2 STOPG_HD × STOP_SF: ignored, goes on to STOP', STOPG_HD, 1, [STOP], 'kept'],
    ['ref §3.2 STOPG_HD × STOP_HD: ignored, goes on to STOP', STOPG_HD, 2, [STOP], 'kept'],
    ['ref §3.2 STOPG_HD × ACTIVE: ignored, goes on to STOP', STOPG_HD, 3, [STOP], 'kept'],
    ['ref §3.2 ERROR × RESET: STOP', ERROR, 0, [STOP], 'reset'],
    ['ref §3.2 ERROR × STOP_SF: ignored', ERROR, 1, [], 'kept'],
    ['ref §3.2 ERROR × STOP_HD: ignored', ERROR, 2, [], 'kept'],
    ['ref §3.2 ERROR × ACTIVE: ignored', ERROR, 3, [], 'kept'],
  ];
  it.each(cells)('%s', (_title, from, request, states, fate) => {
    const { rig, trace } = inState(from);
    const before = registers(rig);
    rig.setReg(Reg.CTL0, 0x7_0000_0000n + BigInt(request));
    rig.drain();
    expect(trace.functionStates()).toEqual(states);
    expect(rig.fn.state).toBe(states.at(-1) ?? from);
    expect(registers(rig)).toEqual(fate === 'kept' ? before : registers(new Rig()));
    expect(rig.reg(Reg.CTL0)).toBe(0x7_0000_0000n + BigInt(request)); // read-back, also of ignored ones (S-90)
  });

  it('ref §3.2 ACTIVE: a function-level error leads to ERROR from INIT, ACTIVE, STOPG_SF and STOPG_HD, and from nowhere else', () => {
    for (const from of [INIT, ACTIVE, STOPG_SF, STOPG_HD]) {
      const { rig, trace } = inState(from);
      rig.fn.injectInternalError();
      rig.drain();
      expect(trace.functionStates()).toEqual([ERROR]);
    }
    for (const from of [STOP, ERROR]) {
      const { rig, trace } = inState(from);
      rig.fn.injectInternalError();
      rig.drain();
      expect(trace.take()).toEqual([]);
    }
  });
});

describe('ref §3.3 rules', () => {
  it('ref §3.3 rule 1 ACTIVE is there at the first poll after the request (O-28)', () => {
    const rig = new Rig();
    rig.setReg(Reg.CTL0, 3);
    expect(rig.reg(Reg.STS0)).toBe(2n);
  });

  it.each([1, 2, 7])('ref §3.3 rule 1 S-60 with initDelay %d the function stays so many steps in INIT', (initDelay) => {
    const rig = new Rig({ initDelay });
    rig.setReg(Reg.CTL0, 3);
    const seen: bigint[] = [];
    for (let i = 0; i <= initDelay; i++) {
      seen.push(rig.reg(Reg.STS0));
      rig.fn.step(1);
    }
    expect(seen).toEqual([...Array(initDelay).fill(1n), 2n]);
  });

  it('S-60 requests are applied in the order they were written', () => {
    const { rig, trace } = inState(STOP);
    for (const request of [3, 1, 2, 0]) rig.setReg(Reg.CTL0, request);
    rig.drain();
    expect(trace.functionStates()).toEqual([INIT, ACTIVE, STOPG_SF, STOPG_HD, STOP]);
  });

  it('O-7 ref §3.3 rule 2 RESET in STOP has no effect, immediately or later', () => {
    const rig = new Rig();
    rig.setReg(Reg.CTL0, RESET);
    markRegisters(rig);
    const before = registers(rig);
    rig.setReg(Reg.CTL0, RESET);
    rig.drain();
    expect(registers(rig)).toEqual(before);
    rig.setReg(Reg.CTL0, 3);
    rig.drain();
    expect(rig.fn.state).toBe(ACTIVE);
    expect(registers(rig)).toEqual(before);
  });

  it('S-11 ref §3.3 rule 3 RESET restores all RW registers and CTL0, except fn_grp_id and the read-back of fn_gsr', () => {
    const { rig } = inState(ACTIVE);
    rig.setReg(Reg.CTL0, 0x7_000a_bc17n); // fn_pasid, fn_pasid_vl, fn_err_intr_en; ACTIVE is ignored
    expect(rig.reg(Reg.CTL0)).toBe(0x7_000a_bc17n);
    rig.setReg(Reg.CTL0, 0x7_0000_0000n);
    rig.drain();
    expect(registers(rig)).toEqual(registers(new Rig()));
    expect(rig.reg(Reg.CTL0)).toBe(0x7_0000_0000n);
  });

  it('S-89 ref §3.3 rule 3 what is written while RESET is under way is lost, what is written after STOP shows stays', () => {
    const { rig } = inState(ACTIVE);
    rig.setReg(Reg.CTL0, 0x9_000a_bc14n); // RESET with other fields: they are lost, fn_grp_id is not
    expect(rig.fn.state).toBe(STOPG_HD);
    rig.setReg(Reg.CXT_L2, 0x1234_5000);
    rig.setReg(Reg.ERR_RD, 99);
    rig.stepUntil(() => rig.reg(Reg.STS0) === 0n);
    expect(registers(rig)).toEqual(registers(new Rig()));
    expect(rig.reg(Reg.CTL0)).toBe(0x9_0000_0000n);
    rig.setReg(Reg.CXT_L2, 0x1234_5000);
    rig.drain();
    expect(rig.reg(Reg.CXT_L2)).toBe(0x1234_5000n);
  });

  it('O-1 S-31 ref §3.3 rule 4 activation reads no table: it succeeds with CXT_L2 pointing at nothing', () => {
    const at = vi.spyOn(AddressSpace.prototype, 'at');
    for (const level2 of [0, LAYOUT.l2]) {
      const rig = new Rig();
      rig.setReg(Reg.CXT_L2, level2);
      rig.setReg(Reg.ERR_CFG, LAYOUT.errorLog | 3);
      rig.setReg(Reg.CTL0, 3);
      rig.drain();
      expect(rig.fn.state).toBe(ACTIVE);
      expect(rig.fn.counters.errors).toBe(0);
    }
    expect(at).not.toHaveBeenCalled();
    vi.restoreAllMocks();
  });

  it('ref §3.3 rule 5 activation by itself runs nothing: a context that says RUN and has work waits for its doorbell', () => {
    const rig = new Rig();
    const admin = rig.prepare(0, { state: RUN });
    rig.write(admin, 0, nop());
    rig.claim(admin, 1);
    rig.program();
    rig.setReg(Reg.CTL0, 3);
    expect(rig.fn.step(100)).toBe(0);
    expect(rig.isValid(admin, 0)).toBe(true);
    rig.fn.ringDoorbell(0, 0);
    rig.drain();
    expect(rig.readIndex(admin)).toBe(1);
  });

  it('ref §3.3 rule 6 soft stop: STOPG_FN, the fetched descriptor finishes with CSB and interrupt, Read_Index, STOP_FN, context 0 last', () => {
    const trace = new Trace();
    const rig = new Rig({}, { tracer: trace });
    const admin = rig.activate();
    const p = rig.running(1);
    const idle = rig.running(2);
    const csb = rig.csb(p);
    rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x10_0000, 0x10_0000, { csb }), nop({ csb: rig.csb(p, 1) }));
    rig.fn.step(1);
    trace.take();
    rig.setReg(Reg.CTL0, STOP_SF);
    rig.drain();
    const events = trace.take();
    expect(events.filter((event) => event.startsWith('cxt 1') || event.startsWith('done'))).toEqual(['cxt 1 6', 'done 1 0', 'cxt 1 4']);
    expect(events.slice(-3)).toEqual(['cxt 0 6', 'cxt 0 4', 'fn 0']);
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.hex(p.status, 16)).toBe(status(STOP_FN, 1));
    expect(rig.isValid(p, 1)).toBe(true);
    for (const context of [idle, admin]) expect(rig.hex(context.status, 16)).toBe(status(STOP_FN, 0));
  });

  it('ref §3.3 rule 6 a context that waits at a slot with vl = 0 stops at once', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.claim(p, 1);
    rig.fn.ringDoorbell(1, 1);
    rig.drain();
    rig.setReg(Reg.CTL0, STOP_SF);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(STOP_FN, 0));
    expect(rig.fn.state).toBe(STOP);
  });

  it('ref §3.3 rule 7 hard stop: the descriptor under way is abandoned without a completion, and Read_Index is past it', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const csb = rig.csb(p);
    rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x10_0000, 0x10_0000, { csb }), nop());
    rig.fn.step(1);
    rig.setReg(Reg.CTL0, STOP_HD);
    rig.drain();
    expect(rig.fn.state).toBe(STOP);
    expect(rig.hex(csb, 32)).toBe(CSB.armed);
    expect(rig.hex(p.status, 16)).toBe(status(STOP_FN, 1));
    expect([rig.isValid(p, 0), rig.isValid(p, 1)]).toEqual([false, true]);
  });

  it('ref §3.3 rule 8 in STOP nothing is accessed and nothing interrupts, whatever is written or rung', () => {
    const { rig } = inState(ACTIVE);
    const p = rig.place(1);
    rig.setReg(Reg.CTL0, STOP_SF);
    rig.drain();
    rig.setState(p, RUN);
    rig.write(p, 1, interrupt(0));
    const before = Buffer.from(rig.u8).toString('hex');
    const at = vi.spyOn(AddressSpace.prototype, 'at');
    for (let n = 0; n < 4; n++) rig.fn.ringDoorbell(n, 1);
    for (const offset of MARKED) rig.setReg(offset, rig.reg(offset));
    rig.drain();
    expect(at).not.toHaveBeenCalled();
    vi.restoreAllMocks();
    expect(Buffer.from(rig.u8).toString('hex') === before).toBe(true);
    expect(rig.interrupts).toEqual([]);
  });

  it('ref §3.3 rule 9 S-30 GSV_ERROR: contexts STOP_FN, a record with re = 2, the error vector if fn_err_intr_en', () => {
    for (const enabled of [false, true]) {
      const rig = new Rig();
      const admin = rig.activate();
      rig.setReg(Reg.ERR_CTL, 0);
      if (enabled) rig.setReg(Reg.CTL0, 0x13);
      const p = rig.running(1);
      rig.fn.injectInternalError();
      expect(rig.reg(Reg.STS0)).toBe(5n);
      expect(rig.records()).toEqual([record({ step: 1, re: 2 })]);
      for (const context of [admin, p]) expect(rig.hex(context.status, 16)).toBe(status(STOP_FN, 0));
      expect(rig.interrupts).toEqual(enabled ? [0] : []);
    }
  });

  it('ref §3.3 rule 9 in GSV_ERROR nothing runs any more, until RESET and a new activation', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.write(p, 0, nop());
    rig.claim(p, 1);
    rig.fn.injectInternalError();
    rig.fn.ringDoorbell(1, 1);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(STOP_FN, 0));
    rig.setReg(Reg.CTL0, RESET);
    expect(rig.fn.state).toBe(STOP);
    rig.program();
    rig.setReg(Reg.CTL0, 3);
    rig.setState(p, RUN);
    rig.fn.ringDoorbell(1, 1);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 1));
  });
});

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

  it('O-22 no transition of a function with 64 contexts takes more than a few hundred turns', () => {
    const rig = new Rig();
    rig.activate();
    const places: ContextPlace[] = [];
    for (let n = 1; n < 15; n++) places.push(rig.running(n));
    rig.setReg(Reg.CTL0, STOP_SF);
    expect(rig.stepUntil(() => rig.fn.state === STOP)).toBeLessThan(300);
    expect(places.map((p) => rig.state(p))).toEqual(places.map(() => STOP_FN));
  });

  it('O-28 INIT is over before STS0 can be read, by default', () => {
    const trace = new Trace();
    const rig = new Rig({}, { tracer: trace });
    rig.setReg(Reg.CTL0, 3);
    expect(trace.functionStates()).toEqual([INIT, ACTIVE]);
  });

  it.each([STOP, INIT, ACTIVE, STOPG_SF, STOPG_HD, ERROR])('S-46 S-107 function-level reset in state %d: as power-on, and no memory is touched', (from) => {
    const { rig } = inState(from);
    const before = Buffer.from(rig.u8).toString('hex');
    rig.fn.reset();
    rig.drain();
    expect(Buffer.from(rig.u8).toString('hex') === before).toBe(true);
    expect(rig.fn.state).toBe(STOP);
    expect(registers(rig)).toEqual(registers(new Rig()));
    expect(rig.reg(Reg.CTL0)).toBe(0n);
  });

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
