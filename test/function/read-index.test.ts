/** Option `readIndex=early`: vl and Read_Index move to the front. S-28, S-74. */
import { describe, expect, it } from 'vitest';
import { Access } from '../../src/memory/address-space.js';
import { ContextState, Reg } from '../../src/spec/index.js';
import { DATA, ready } from './data.js';
import { CSB, record, status } from './expect.js';
import { Journal } from './journal.js';
import { adminInterrupt, atomic, copy, FILTER, interrupt, nop, stop, sync } from './ops.js';
import type { ContextPlace, Rig } from './rig.js';

const { RUN, STOP_FN, ERR_FN } = ContextState;
const MIB = 0x10_0000;
const EARLY = { readIndex: 'early' } as const;

/** Watches everything that a descriptor of context 1 changes. */
function watch(rig: Rig, p: ContextPlace, csb: number): Journal {
  return new Journal(rig)
    .watch('er', () => rig.completion(csb).er)
    .watch('signal', () => rig.u64(csb))
    .watch('vl', () => rig.isValid(p, 0))
    .watch('read_index', () => rig.readIndex(p))
    .watch('state', () => rig.state(p))
    .watch('ERR_WRT', () => rig.reg(Reg.ERR_WRT));
}

describe('S-74 order of writes with readIndex=early', () => {
  it('S-74 success: vl; read_index; data; signal', () => {
    const { rig, p } = ready({}, EARLY);
    const csb = rig.csb(p);
    rig.bytes(DATA, 8).fill(0x11);
    rig.queue(p, copy(DATA, DATA + 64, 8, { csb }));
    const journal = watch(rig, p, csb).watch('data', () => rig.hex(DATA + 64, 8));
    rig.drain();
    expect(journal.end()).toEqual(['vl', 'read_index', 'data', 'signal']);
  });

  it('S-74 an interrupt comes after vl and read_index, and before its own signal', () => {
    const { rig, p } = ready({}, EARLY);
    rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 3 });
    const csb = rig.csb(p);
    rig.queue(p, interrupt(1, { csb }));
    const journal = watch(rig, p, csb);
    rig.drain();
    expect(journal.end()).toEqual(['vl', 'read_index', 'interrupt 3', 'signal']);
  });

  it('S-74 failure: vl; read_index; er; signal; state; log entry, which names the descriptor', () => {
    const { rig, p } = ready({}, EARLY);
    const csb = rig.csb(p);
    rig.queue(p, copy(1, DATA, 8, { csb }), nop());
    const journal = watch(rig, p, csb);
    rig.drain();
    const order = journal.end().filter((event) => !event.startsWith('interrupt'));
    expect(order).toEqual(['vl', 'read_index', 'er', 'signal', 'state', 'ERR_WRT']);
    expect(rig.records()).toEqual([record({ step: 10, sub: 1, context: 1, index: 0, operand: 0 })]);
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 1));
    expect(rig.isValid(p, 1)).toBe(true);
  });

  it('S-43 a completion block that cannot be written is logged with the index of its descriptor, too', () => {
    const { rig, p } = ready({}, EARLY);
    rig.run(p, nop(), copy(DATA, DATA + 64, 8, { csb: 64 }));
    expect(rig.records()).toEqual([record({ step: 8, sub: 1, context: 1, index: 1 })]);
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 2));
  });
});

describe('S-28 Read_Index says nothing about completion', () => {
  it('F-29 in the middle of a long copy the slot is free again, and its completion block still armed', () => {
    const { rig, p } = ready({}, EARLY);
    const csb = rig.csb(p);
    rig.queue(p, copy(DATA, DATA + MIB, MIB, { csb }));
    rig.fn.step(1);
    expect([rig.readIndex(p), rig.isValid(p, 0), rig.hex(csb, 32)]).toEqual([1, false, CSB.armed]);
    rig.drain();
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it('F-29 a driver that arms the block of a freed slot anew loses a completion', () => {
    const { rig, p } = ready({}, EARLY);
    const csb = rig.csb(p);
    rig.queue(p, copy(DATA, DATA + MIB, MIB, { csb }));
    rig.fn.step(1);
    rig.csb(p); // one block for each slot, and Read_Index says that the slot is free
    rig.queue(p, nop({ csb }));
    rig.drain();
    expect(rig.u64(csb)).toBe(0xffff_ffff_ffff_ffffn);
  });

  it('F-7 with clearValid=off vl stays, and Read_Index still moves first', () => {
    const { rig, p } = ready({}, { ...EARLY, clearValid: 'off' });
    rig.queue(p, copy(DATA, DATA + MIB, MIB));
    rig.fn.step(1);
    expect([rig.readIndex(p), rig.isValid(p, 0)]).toEqual([1, true]);
  });

  it('every operation of the base and atomic groups does what it does otherwise', () => {
    const { rig, p } = ready({}, EARLY);
    rig.bytes(DATA, 16).fill(3);
    rig.putU64(DATA + 128, 40n);
    rig.run(p, copy(DATA, DATA + 64, 16), atomic(0x02, 8, DATA + 128, { a: 2n }), nop());
    expect([rig.hex(DATA + 64, 16), rig.u64(DATA + 128), rig.readIndex(p)]).toEqual(['03'.repeat(16), 42n, 3]);
    expect(rig.records()).toEqual([]);
  });
});

describe('stops with readIndex=early', () => {
  const copying = () => {
    const { rig, p } = ready({}, EARLY);
    const csb = rig.csb(p);
    rig.queue(p, copy(DATA, DATA + MIB, MIB, { csb }), nop());
    rig.fn.step(1);
    return { rig, p, csb };
  };

  it('S-87 a soft stop waits for the descriptor and counts it once', () => {
    const { rig, p, csb } = copying();
    rig.setReg(Reg.CTL0, 1);
    rig.drain();
    expect([rig.hex(csb, 32), rig.hex(p.status, 16), rig.isValid(p, 1)]).toEqual([CSB.done, status(STOP_FN, 1), true]);
  });

  it('S-86 a hard stop gives it up: it is consumed, without completion, and counted once', () => {
    const { rig, p, csb } = copying();
    rig.setReg(Reg.CTL0, 2);
    rig.drain();
    expect([rig.hex(csb, 32), rig.hex(p.status, 16), rig.isValid(p, 1)]).toEqual([CSB.armed, status(STOP_FN, 1), true]);
  });

  it('S-85 admin operations are taken late, because a waiting one may be given up unconsumed', () => {
    const { rig, p } = copying();
    const admin = rig.place(0);
    rig.queue(admin, stop(1, 1), sync(FILTER.STOP, 1), adminInterrupt(3));
    rig.stepUntil(() => rig.readIndex(admin) === 1);
    rig.fn.step(1);
    expect([rig.readIndex(admin), rig.isValid(admin, 1)]).toEqual([1, true]);
    rig.drain();
    expect([rig.readIndex(admin), rig.interrupts, rig.readIndex(p)]).toEqual([3, [3], 1]);
  });

  it('S-75 where CXT_STS cannot be written nothing is taken, so nothing is lost', () => {
    const { rig, p } = ready({ pages: true }, EARLY);
    rig.protect(p.status, Access.READ);
    const csb = rig.csb(p);
    rig.run(p, nop({ csb }));
    expect([rig.hex(csb, 32), rig.isValid(p, 0), rig.readIndex(p)]).toEqual([CSB.armed, true, 0]);
    expect(rig.records()).toEqual([record({ step: 5, sub: 2, context: 1 })]);
    rig.protect(p.status, Access.READ_WRITE);
    rig.fn.ringDoorbell(1, 1);
    rig.drain();
    expect([rig.hex(csb, 32), rig.hex(p.status, 16)]).toEqual([CSB.done, status(RUN, 1)]);
  });
});
