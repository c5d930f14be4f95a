/** The scenario vectors of ref §13.6, one after the other, with the descriptors of ref §13.1 as literal bytes. */
import { describe, expect, it, vi } from 'vitest';
import { Access, AddressSpace } from '../../src/memory/address-space.js';
import { ContextState, FunctionState, fromHex, Reg } from '../../src/spec/index.js';
import { CSB, record, status } from './expect.js';
import { Journal, Trace } from './journal.js';
import { copy } from './ops.js';
import { type ContextPlace, type Encode, LAYOUT, Rig, type RigOptions } from './rig.js';

const { STOP_SW, RUN, STOPG_SW, STOP_FN, ERR_FN } = ContextState;

/** Descriptors of ref §13.1; their completion blocks lie at 0x1000_00x0, which these rigs map. */
const G11 =
  '05030100ffffffff0000000000000000000000000100000000000000030000000000000000000000000000000000000000000000000000002000001000000000';
const G12 =
  '05000400000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000';
const G13 =
  '05030200000000000100010000000000000000000000000000000000000000000000000000000000000000000000000000000000000000004000001000000000';
const G14 =
  '05040200000000000100010000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100000000000000';
const G15 =
  '01060200010000000100010000000000000000000000000000000000000000000000000000000000000000000000000000000000000000006000001000000000';

const BLOCKS = 0x1000_0000;
/** Where the blocks lie in the rig's own memory. */
const BLOCKS_HERE = 0x10_3000;

function literal(hex: string): Encode {
  const bytes = fromHex(hex);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, 16);
  return (u32, word) => {
    u32.set(words, word);
    u32[word] &= ~1;
    return words[0];
  };
}

/** G11 with its 4 GiB shortened to 4096 bytes. */
const G11_4096 = literal(`05030100ff0f0000${G11.slice(16)}`);

function activated(options: RigOptions = {}) {
  const rig = new Rig({}, { pages: true, ...options });
  rig.map(BLOCKS_HERE, 4096, { at: BLOCKS });
  const admin = rig.activate();
  const block = (n: number, signal: number | bigint = 1) => {
    const at = BLOCKS_HERE + 0x20 * n;
    rig.bytes(at, 32).fill(0);
    rig.putU64(at, signal);
    return at;
  };
  return { rig, admin, block };
}

/** Source and destination of G11, one page each. */
function mapG11(rig: Rig, options = { destination: true }) {
  rig.map(LAYOUT.data, 4096, { at: 0x1_0000_0000 });
  if (options.destination) rig.map(LAYOUT.data + 0x1000, 4096, { at: 0x3_0000_0000 });
  rig.bytes(LAYOUT.data, 4096).fill(0x77);
}

/** Scenario 4 or 5: context 1 runs, AKey 0 raises vector 3, slots 0 and 1 hold a copy and an INTR. */
function copyAndInterrupt(options: { destination: boolean }) {
  const { rig, admin, block } = activated();
  mapG11(rig, options);
  const p = rig.running(1);
  rig.akey(p, 0, { vl: 1, iv: 1, intr_num: 3 });
  const csb = block(1);
  rig.write(p, 0, G11_4096, literal(G12));
  rig.claim(p, 2);
  return { rig, admin, block, p, csb };
}

function failedContext() {
  const all = copyAndInterrupt({ destination: false });
  all.rig.fn.ringDoorbell(1, 2);
  all.rig.drain();
  return all;
}

describe('ref §13.6', () => {
  it('ref §13.6 row 1 CTL0 = 3 in STOP: INIT, then ACTIVE, no memory access', () => {
    const trace = new Trace();
    const rig = new Rig({}, { tracer: trace });
    const at = vi.spyOn(AddressSpace.prototype, 'at');
    rig.setReg(Reg.CTL0, 3);
    rig.drain();
    expect(at).not.toHaveBeenCalled();
    vi.restoreAllMocks();
    expect(rig.reg(Reg.STS0)).toBe(2n);
    expect(trace.functionStates()).toEqual([FunctionState.INIT, FunctionState.ACTIVE]);
  });

  it('ref §13.6 row 2 doorbell[0] = 0 on an empty ring: Read_Index 0, RUN, no error', () => {
    const { rig, admin } = activated();
    rig.fn.writeDoorbell(0, 8, 0n);
    rig.drain();
    expect(rig.hex(admin.status, 16)).toBe(status(RUN, 0));
    expect([rig.records(), rig.interrupts]).toEqual([[], []]);
  });

  it('ref §13.6 row 3 G13: context 1 RUN, signal 0, er 0, slot byte 0 = 0x04, Read_Index 1, in the order state, signal, vl, Read_Index', () => {
    const { rig, admin, block } = activated();
    const p = rig.prepare(1);
    const csb = block(2);
    rig.write(admin, 0, literal(G13));
    rig.claim(admin, 1);
    const journal = new Journal(rig)
      .watch('state', () => rig.state(p))
      .watch('signal', () => rig.u64(csb))
      .watch('vl', () => rig.isValid(admin, 0))
      .watch('Read_Index', () => rig.readIndex(admin));
    rig.fn.writeDoorbell(0, 8, 1n);
    rig.drain();
    expect(journal.end()).toEqual(['state', 'signal', 'vl', 'Read_Index']);
    expect(rig.state(p)).toBe(RUN);
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.bytes(admin.ring, 1)[0]).toBe(0x04);
    expect(rig.hex(admin.status, 16)).toBe(status(RUN, 1));
  });

  it('ref §13.6 row 4 a copy and an INTR: data, signal, then interrupt 3; Read_Index 2', () => {
    const { rig, p, csb } = copyAndInterrupt({ destination: true });
    const journal = new Journal(rig).watch('data', () => rig.hex(LAYOUT.data + 0x1000, 4096)).watch('signal', () => rig.u64(csb));
    rig.fn.ringDoorbell(1, 2);
    rig.drain();
    expect(journal.end()).toEqual(['data', 'signal', 'interrupt 3']);
    expect(rig.bytes(LAYOUT.data + 0x1000, 4096).every((byte) => byte === 0x77)).toBe(true);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 2));
  });

  it('ref §13.6 row 5 destination unmapped: er, signal 0, record, state 0xf, Read_Index 1, INTR not executed, vector 0', () => {
    const { rig, p, csb } = failedContext();
    expect(rig.hex(csb, 32)).toBe(CSB.failed);
    expect(rig.records()).toEqual([record({ step: 10, sub: 1, re: 1, context: 1, index: 0, operand: 1 })]);
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 1));
    expect(rig.interrupts).toEqual([0]);
    expect(rig.isValid(p, 1)).toBe(true);
  });

  it('ref §13.6 row 6 G14, G15: state 2 then 0; the signal of G15 reaches 0 only after state 0', () => {
    const { rig, admin, block } = activated();
    const p = rig.running(1);
    const csb = block(3);
    const journal = new Journal(rig).watch('state', () => rig.state(p)).watch('signal', () => rig.u64(csb));
    const states: number[] = [];
    journal.watch('', () => states.push(rig.state(p)) && 0);
    rig.run(admin, literal(G14), literal(G15));
    expect(journal.end()).toEqual(['state', 'state', 'signal']);
    expect([...new Set(states)]).toEqual([RUN, STOPG_SW, STOP_SW]);
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it('ref §13.6 row 7 slot 0 not valid, slot 1 valid: nothing executes; then both, in order', () => {
    const { rig } = activated();
    const p = rig.running(1);
    rig.put(LAYOUT.data, [1]);
    rig.claim(p, 2);
    rig.write(p, 1, copy(LAYOUT.data + 1, LAYOUT.data + 2, 1));
    rig.fn.ringDoorbell(1, 2);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
    expect(rig.hex(LAYOUT.data, 3)).toBe('010000');
    rig.write(p, 0, copy(LAYOUT.data, LAYOUT.data + 1, 1));
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.hex(LAYOUT.data, 3)).toBe('010101');
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 2));
  });

  it('ref §13.6 row 8 signal preset 0xFF becomes 0xFE', () => {
    const { rig } = activated();
    const p = rig.running(1);
    const csb = rig.csb(p, 0, 0xff);
    rig.run(p, copy(LAYOUT.data, LAYOUT.data + 64, 64, { csb }));
    expect(rig.hex(csb, 32)).toBe('fe'.padEnd(64, '0'));
  });

  it('ref §13.6 row 9 two contexts share one block with signal 2: 0', () => {
    const { rig } = activated();
    const [p, q] = [rig.running(1), rig.running(2)];
    const csb = rig.csb(p, 0, 2);
    rig.run(p, copy(LAYOUT.data, LAYOUT.data + 64, 64, { csb }));
    expect(rig.u64(csb)).toBe(1n);
    rig.run(q, copy(LAYOUT.data, LAYOUT.data + 64, 64, { csb }));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it('ref §13.6 row 10 ERR_CFG off: ERR_STS 0, no interrupt, context still 0xf', () => {
    const { rig } = activated();
    rig.setReg(Reg.ERR_CFG, 0);
    const p = rig.running(1);
    rig.run(p, copy(0, 0, 1));
    expect([rig.reg(Reg.ERR_STS), rig.interrupts, rig.hex(p.status, 16)]).toEqual([0n, [], status(ERR_FN, 1)]);
  });

  it('ref §13.6 row 11 log of 64 entries full, ERR_STS cleared: ERR_STS 3, ERR_WRT unchanged, vector 0', () => {
    const { rig } = activated();
    rig.setReg(Reg.ERR_WRT, 64);
    const p = rig.running(1);
    rig.run(p, copy(0, 0, 1));
    expect([rig.reg(Reg.ERR_STS), rig.reg(Reg.ERR_WRT), rig.interrupts]).toEqual([3n, 64n, [0]]);
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 1));
  });

  it('ref §13.6 row 12 STOP_SF with contexts 0 and 1 RUN: STS0 3, then 0; both states 4; Read_Index final', () => {
    const { rig, admin } = activated();
    const p = rig.running(1);
    rig.run(p, copy(LAYOUT.data, LAYOUT.data + 64, 64));
    rig.setReg(Reg.CTL0, 1);
    expect(rig.reg(Reg.STS0)).toBe(3n);
    rig.drain();
    expect(rig.reg(Reg.STS0)).toBe(0n);
    expect([rig.hex(p.status, 16), rig.hex(admin.status, 16)]).toEqual([status(STOP_FN, 1), status(STOP_FN, 0)]);
  });

  it('ref §13.6 row 13 doorbell of a context in ERR_FN: L2, L1, CXT_CTL, CXT_STS are read and nothing else; no write, no record', () => {
    const { rig, p } = failedContext();
    const before = rig.snapshot();
    const records = rig.records();
    // What must not be read is not there; where nothing must be written nothing can be.
    for (const address of [p.writeIndex, p.ring, p.akeys]) rig.unmap(address);
    for (const address of [LAYOUT.l2, LAYOUT.l1, p.control, p.status]) rig.protect(address, Access.READ);
    const read = vi.spyOn(AddressSpace.prototype, 'find');
    rig.fn.ringDoorbell(1, 2);
    rig.drain();
    expect(read.mock.calls.map(([address]) => address)).toEqual([LAYOUT.l2, LAYOUT.l1 + 32, p.control, p.status]);
    vi.restoreAllMocks();
    expect(rig.records()).toEqual(records);
    expect(rig.snapshot().equals(before)).toBe(true);
  });

  it('ref §13.6 row 14 software stores RUN and rings: resumes at Read_Index 1, the INTR executes', () => {
    const { rig, p } = failedContext();
    rig.setState(p, RUN);
    rig.fn.ringDoorbell(1, 2);
    rig.drain();
    expect(rig.interrupts).toEqual([0, 3]);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 2));
  });

  it('ref §13.6 row 15 G13 with memory state STOPG_SW and no stop in progress: no wait, RUN, signal 0, er 0', () => {
    const { rig, admin, block } = activated();
    const p = rig.prepare(1, { state: STOPG_SW });
    const csb = block(2);
    rig.run(admin, literal(G13));
    expect([rig.hex(p.status, 16), rig.hex(csb, 32)]).toEqual([status(RUN, 0), CSB.done]);
  });

  it('ref §13.6 row 16 STOP_SF with the L1 entry of a running context zeroed: STS0 0, its CXT_STS untouched, no record', () => {
    const { rig, admin } = activated();
    const p = rig.running(1);
    rig.bytes(rig.l1Entry(1), 32).fill(0);
    rig.setReg(Reg.CTL0, 1);
    rig.drain();
    expect([rig.reg(Reg.STS0), rig.hex(p.status, 16), rig.records()]).toEqual([0n, status(RUN, 0), []]);
    expect(rig.state(admin)).toBe(STOP_FN);
  });

  it('ref §13.6 row 17 slot on a page without write permission: step 7 sub 2, div; no data, no signal, Read_Index unchanged, ERR_FN', () => {
    const { rig } = activated();
    const p = rig.running(1);
    rig.put(LAYOUT.data, [1, 2, 3]);
    rig.protect(p.ring, Access.READ);
    const csb = rig.csb(p);
    rig.run(p, copy(LAYOUT.data, LAYOUT.data + 64, 3, { csb }));
    expect(rig.records()).toEqual([record({ step: 7, sub: 2, context: 1, index: 0 })]);
    expect([rig.hex(LAYOUT.data + 64, 3), rig.hex(csb, 32)]).toEqual(['000000', CSB.armed]);
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 0));
  });

  it('ref §13.6 row 18 CXT_START of a context with L1.vl = 0: signal 0, er, record step 3 sub 3 re 0; context 0 stays RUN', () => {
    const { rig, admin, block } = activated();
    const csb = block(2);
    rig.run(admin, literal(G13));
    expect(rig.hex(csb, 32)).toBe(CSB.failed);
    expect(rig.records()).toEqual([record({ step: 3, sub: 3, re: 0, context: 1 })]);
    expect(rig.hex(admin.status, 16)).toBe(status(RUN, 1));
  });

  it('ref §13.6 row 19 CXT_START 1..3 with L1.vl = 0 for 2: 1 and 3 RUN, signal 0, er 0, no record', () => {
    const { rig, admin, block } = activated();
    const places: ContextPlace[] = [rig.prepare(1), rig.prepare(3)];
    const csb = block(2);
    rig.run(admin, literal(G13.replace('01000100', '01000300')));
    expect(places.map((p) => rig.state(p))).toEqual([RUN, RUN]);
    expect([rig.hex(csb, 32), rig.records()]).toEqual([CSB.done, []]);
  });

  it('ref §13.6 row 20 RESET in ERROR with group 7: CXT_L2 0, CTL2 as CAP1, fn_grp_id still 7', () => {
    const { rig } = activated();
    rig.setReg(Reg.CTL2, 0x0000_0008_0004_0000n);
    rig.setReg(Reg.CTL0, 0x7_0000_0003n);
    rig.fn.injectInternalError();
    expect(rig.reg(Reg.STS0)).toBe(5n);
    rig.setReg(Reg.CTL0, 0x7_0000_0000n);
    rig.drain();
    expect(rig.reg(Reg.STS0)).toBe(0n);
    expect(rig.reg(Reg.CXT_L2)).toBe(0n);
    expect(rig.reg(Reg.CTL2)).toBe(0x0000_0018_003f_800bn);
    expect(rig.reg(Reg.CTL0) >> 32n).toBe(7n);
  });
});
