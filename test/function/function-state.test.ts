/** Function states: every pair of state and request (ref §3.2), and the rules around them (ref §3.3). */
import { describe, expect, it, vi } from 'vitest';
import { AddressSpace } from '../../src/memory/address-space.js';
import { ContextState, FunctionRequest, FunctionState, Reg } from '../../src/spec/index.js';
import { CSB, record, status } from './expect.js';
import { Trace } from './journal.js';
import { copy, interrupt, nop } from './ops.js';
import { LAYOUT, Rig } from './rig.js';
import { inState, MARKED, markRegisters, registers } from './states.js';

const { STOP, INIT, ACTIVE, STOPG_SF, STOPG_HD, ERROR } = FunctionState;
const { RESET, STOP_SF, STOP_HD } = FunctionRequest;
const { RUN, STOP_FN } = ContextState;

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
    const before = rig.snapshot();
    const at = vi.spyOn(AddressSpace.prototype, 'at');
    for (let n = 0; n < 4; n++) rig.fn.ringDoorbell(n, 1);
    for (const offset of MARKED) rig.setReg(offset, rig.reg(offset));
    rig.drain();
    expect(at).not.toHaveBeenCalled();
    vi.restoreAllMocks();
    expect(rig.snapshot().equals(before)).toBe(true);
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
