/** A function in each of its states, for tests of requests, resets and doorbells. */
import { expect } from 'vitest';
import { ContextState, FunctionState, Reg } from '../../src/spec/index.js';
import { Trace } from './journal.js';
import { copy } from './ops.js';
import { LAYOUT, Rig } from './rig.js';

const { STOP, INIT, ACTIVE, STOPG_SF, STOPG_HD, ERROR } = FunctionState;
const { RUN } = ContextState;

/** Values that no register has after a reset. */
export function markRegisters(rig: Rig): void {
  rig.setReg(Reg.GRP_ENUM, 2);
  rig.setReg(Reg.CTL2, 0x0000_0008_0020_4003n);
  rig.setReg(Reg.CXT_L2, LAYOUT.l2);
  rig.setReg(Reg.RKEY, 0x7003);
  rig.setReg(Reg.ERR_CTL, 1);
  rig.setReg(Reg.ERR_WRT, 5);
  rig.setReg(Reg.ERR_RD, 5);
  rig.setReg(Reg.ERR_CFG, LAYOUT.errorLog | 3);
}

export const MARKED = [Reg.GRP_ENUM, Reg.CTL2, Reg.CXT_L2, Reg.RKEY, Reg.ERR_CTL, Reg.ERR_STS, Reg.ERR_CFG, Reg.ERR_WRT, Reg.ERR_RD];

export function registers(rig: Rig): bigint[] {
  return MARKED.map((offset) => rig.reg(offset));
}

/** The export function in a given state, its registers marked, group 7, with a long copy under way in context 1 where something runs. */
export function inState(state: FunctionState): { rig: Rig; trace: Trace } {
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
