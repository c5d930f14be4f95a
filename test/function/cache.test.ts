/** What the function keeps copies of, and what drops them: option `cache`, ref §4.11. */
import { describe, expect, it } from 'vitest';
import { ContextState, FunctionState, Reg } from '../../src/spec/index.js';
import { CSB, record, status } from './expect.js';
import { akeyUpdate, contextUpdate, copy, FILTER, functionUpdate, interrupt, nop, start, stop, sync } from './ops.js';
import { type ContextPlace, LAYOUT, Rig, type RigOptions } from './rig.js';

const { STOP_SW, RUN, STOP_FN } = ContextState;
const MIB = 0x10_0000;

type Mode = 'none' | 'start' | 'sticky';
const COPYING = ['start', 'sticky'] as const;

/** Context 1 has run one descriptor and is idle. */
function warm(cache: Mode, options: RigOptions = {}) {
  const rig = new Rig({ cache, maxContext: 255 }, options);
  const admin = rig.activate();
  const p = rig.running(1);
  rig.run(p, nop());
  return { rig, admin, p };
}

/** The same context number, stopped and made anew with another ring; context 2's place lends it. @returns where a NOP waits now */
function recreate(rig: Rig, admin: ContextPlace, p: ContextPlace): { ring: ContextPlace; csb: number } {
  rig.run(admin, stop(1, 1), sync(FILTER.STOP, 1));
  const ring = rig.place(2);
  rig.prepare(1, { state: STOP_SW, control: { ds_ring_ptr: BigInt(ring.ring) } });
  const csb = rig.csb(p);
  rig.write(ring, 0, nop({ csb }));
  rig.putU64(p.writeIndex, 1);
  return { ring, csb };
}

describe('F-11 a context is made anew under the same number', () => {
  it.each<[Mode, boolean]>([
    ['none', true],
    ['start', true],
    ['sticky', false],
  ])('F-11 cache=%s, without CXT_UPD: the new ring is used: %s', (cache, fresh) => {
    const { rig, admin, p } = warm(cache);
    const { csb } = recreate(rig, admin, p);
    rig.run(admin, start(1, 1));
    expect(rig.hex(csb, 32)).toBe(fresh ? CSB.done : CSB.armed);
    expect(rig.state(p)).toBe(RUN);
  });

  it.each([
    ['the level-2 entry', 1],
    ['the level-1 entry', 2],
    ['CXT_CTL', 4],
  ])('F-11 cache=sticky, CXT_UPD for %s and SYNC: what it names and all below it is read again', (_title, cflags) => {
    const { rig, admin, p } = warm('sticky');
    const { csb } = recreate(rig, admin, p);
    rig.run(admin, contextUpdate(1, 1, { cflags }), sync(FILTER.CXT, 1), start(1, 1));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it('F-11 cache=sticky: a CXT_UPD of other contexts drops nothing of this one', () => {
    const { rig, admin, p } = warm('sticky');
    const { csb } = recreate(rig, admin, p);
    rig.run(admin, contextUpdate(2, 63), sync(FILTER.CXT, 1), start(1, 1));
    expect(rig.hex(csb, 32)).toBe(CSB.armed);
  });

  it('ref §4.11 cache=sticky: a level-1 table that moves is not seen before its CXT_UPD', () => {
    const { rig, admin, p } = warm('sticky');
    // The old table stays as it is; in the new one context 1 has no entry.
    rig.putU64(rig.l2Entry(1), BigInt(LAYOUT.l1Upper) | 1n);
    rig.run(p, nop());
    expect(rig.readIndex(p)).toBe(2);
    rig.run(admin, contextUpdate(1, 1, { cflags: 1 }));
    rig.run(p, nop());
    expect(rig.readIndex(p)).toBe(2);
    expect(rig.records()).toEqual([record({ step: 3, sub: 3, context: 1 })]);
  });

  it('ref §4.11 cache=sticky keeps copies over a stop of the function, cache=start does not', () => {
    for (const cache of COPYING) {
      const { rig, p } = warm(cache);
      rig.setReg(Reg.CTL0, 1);
      rig.drain();
      expect(rig.state(p)).toBe(STOP_FN);
      const ring = rig.place(2);
      rig.prepare(1, { state: RUN, control: { ds_ring_ptr: BigInt(ring.ring) } });
      const csb = rig.csb(p);
      rig.write(ring, 0, nop({ csb }));
      rig.putU64(p.writeIndex, 1);
      rig.setReg(Reg.CTL0, 3);
      rig.fn.ringDoorbell(1, 1);
      rig.drain();
      expect([cache, rig.hex(csb, 32)]).toEqual([cache, cache === 'start' ? CSB.done : CSB.armed]);
    }
  });

  it('ref §4.11 a stop of the function drops what was known of context 0: nobody could announce a change', () => {
    const { rig, admin } = warm('sticky');
    rig.setReg(Reg.CTL0, 1);
    rig.drain();
    const ring = rig.place(2);
    rig.prepare(0, { state: RUN, control: { ds_ring_ptr: BigInt(ring.ring) } });
    const csb = rig.csb(admin);
    rig.write(ring, 0, nop({ csb }));
    rig.putU64(admin.writeIndex, 1);
    rig.setReg(Reg.CTL0, 3);
    rig.fn.ringDoorbell(0, 1);
    rig.drain();
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it('S-107 a function-level reset forgets all copies', () => {
    const { rig, admin, p } = warm('sticky');
    const { csb } = recreate(rig, admin, p);
    rig.fn.reset();
    rig.setState(p, RUN);
    rig.program();
    rig.setReg(Reg.CTL0, 3);
    rig.fn.ringDoorbell(1, 1);
    rig.drain();
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });
});

describe('F-12 an AKey entry changes', () => {
  /** Key 1 has raised vector 5, and now names vector 6. */
  function rekeyed(cache: Mode) {
    const made = warm(cache);
    const { rig, p } = made;
    rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 5 });
    rig.run(p, interrupt(1));
    expect(rig.interrupts.splice(0)).toEqual([5]);
    rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 6 });
    return made;
  }

  it.each<[Mode, number]>([
    ['none', 6],
    ['start', 6],
    ['sticky', 5],
  ])('F-12 cache=%s, without AKEY_UPD: an idle context raises vector %d', (cache, vector) => {
    const { rig, p } = rekeyed(cache);
    rig.run(p, interrupt(1));
    expect(rig.interrupts).toEqual([vector]);
  });

  it('F-12 cache=sticky: CXT_UPD is not the update of a key, AKEY_UPD is, and only of the keys and contexts that it names', () => {
    const { rig, admin, p } = rekeyed('sticky');
    rig.run(admin, contextUpdate(1, 1, { cflags: 7 }), akeyUpdate(2, 63, [0, 255]), akeyUpdate(1, 1, [2, 255]), akeyUpdate(0, 0, [0, 255]));
    rig.run(p, interrupt(1));
    rig.run(admin, akeyUpdate(1, 1, [1, 1]), sync(FILTER.AKEY, 1, 1, { keys: [1, 1] }));
    rig.run(p, interrupt(1));
    expect(rig.interrupts).toEqual([5, 6]);
  });

  it('ref §4.11 cache=start: while the context runs, its keys are copies', () => {
    const { rig, p } = warm('start');
    rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 5 });
    rig.onInterrupt = () => rig.akey(p, 1, { vl: 1, iv: 1, intr_num: 6 });
    rig.run(p, interrupt(1), interrupt(1));
    rig.run(p, interrupt(1));
    expect(rig.interrupts).toEqual([5, 5, 6]);
  });
});

describe('O-15 entries with vl = 0 are not kept', () => {
  it.each(COPYING)('O-15 cache=%s: L2, L1 and CXT_CTL are found as soon as they are valid', (cache) => {
    const rig = new Rig({ cache, maxContext: 255 });
    rig.activate();
    const p = rig.prepare(130, { state: RUN });
    rig.putU64(p.writeIndex, 1);
    rig.write(p, 0, nop());
    const entries = [rig.l2Entry(130), rig.l1Entry(130), p.control];
    for (const entry of entries) rig.u8[rig.at(entry)] &= 0xfe;
    for (const entry of entries) {
      rig.fn.ringDoorbell(130, 1);
      rig.drain();
      expect(rig.readIndex(p)).toBe(0);
      rig.u8[rig.at(entry)] |= 1;
    }
    rig.fn.ringDoorbell(130, 1);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 1));
  });

  it.each(COPYING)('O-15 cache=%s: a key that was not valid is read again at its next use', (cache) => {
    const { rig, admin, p } = warm(cache);
    rig.run(p, interrupt(3));
    expect(rig.records()).toEqual([record({ step: 11, sub: 3, context: 1, index: 1, operand: 0 })]);
    rig.akey(p, 3, { vl: 1, iv: 1, intr_num: 9 });
    rig.run(admin, start(1, 1, { resume: true }));
    rig.run(p, interrupt(3));
    expect(rig.interrupts).toContain(9);
  });
});

describe('S-80 tables are gone when the context must be stopped', () => {
  const spoils: [string, (rig: Rig, p: ContextPlace) => void][] = [
    ['L1 entry zeroed', (rig, p) => rig.bytes(rig.l1Entry(p.number), 32).fill(0)],
    ['CXT_CTL zeroed', (rig, p) => rig.bytes(p.control, 64).fill(0)],
    ['CXT_CTL not mapped', (rig, p) => rig.unmap(p.control)],
  ];
  describe.each(COPYING)('S-80 cache=%s: the old pointers are used', (cache) => {
    it.each(spoils)('S-80 %s: CXT_STOP writes the old CXT_STS', (_title, spoil) => {
      const { rig, admin, p } = warm(cache, { pages: true });
      spoil(rig, p);
      rig.run(admin, stop(1, 1), sync(FILTER.STOP, 1));
      expect(rig.hex(p.status, 16)).toBe(status(STOP_SW, 1));
      expect(rig.records()).toEqual([]);
    });

    it.each(spoils)('S-80 %s: so does a stop of the function in the middle of a copy', (_title, spoil) => {
      const { rig, p } = warm(cache, { pages: true });
      rig.queue(p, copy(LAYOUT.data, LAYOUT.data + MIB, MIB));
      rig.fn.step(1);
      spoil(rig, p);
      rig.setReg(Reg.CTL0, 1);
      rig.drain();
      expect(rig.fn.state).toBe(FunctionState.STOP);
      expect(rig.hex(p.status, 16)).toBe(status(STOP_FN, 2));
    });
  });
});

describe('S-49 CXT_L2 and fn_pasid change while the function is ACTIVE', () => {
  const L2 = LAYOUT.data;

  it.each<[Mode, boolean]>([
    ['none', true],
    ['start', false],
    ['sticky', false],
  ])('S-49 cache=%s: a new CXT_L2 holds for the next load: %s; FN_UPD makes it hold', (cache, atOnce) => {
    const { rig, admin, p } = warm(cache);
    // The same table at another place, but without the entry of context 1's level.
    rig.put(L2, rig.bytes(LAYOUT.l2, 4096));
    rig.put(LAYOUT.data + 0x1000, rig.bytes(LAYOUT.l1, 4096));
    rig.putU64(L2, BigInt(LAYOUT.data + 0x1000) | 1n);
    rig.bytes(LAYOUT.data + 0x1000 + 32, 32).fill(0);
    rig.setReg(Reg.CXT_L2, L2);
    rig.run(p, nop());
    expect(rig.readIndex(p)).toBe(atOnce ? 1 : 2);
    rig.run(admin, functionUpdate(), sync(FILTER.FN));
    rig.run(p, nop());
    expect(rig.readIndex(p)).toBe(atOnce ? 1 : 2);
    expect(rig.records()).toEqual([record({ step: 3, sub: 3, context: 1 })]);
  });

  it.each(COPYING)('S-49 cache=%s: a new fn_pasid waits for FN_UPD, too', (cache) => {
    const { rig, admin, p } = warm(cache);
    rig.map(LAYOUT.base, LAYOUT.bytes, { pasid: 7 });
    rig.setReg(Reg.CTL0, 3 | 4 | (8 << 8)); // a PASID that nobody knows
    rig.run(p, nop());
    expect(rig.readIndex(p)).toBe(2);
    rig.setReg(Reg.CTL0, 3 | 4 | (7 << 8));
    rig.run(admin, functionUpdate());
    rig.memory.own.unmap(LAYOUT.base, LAYOUT.bytes);
    rig.run(p, nop());
    expect(rig.readIndex(p)).toBe(3);
  });
});

describe('ref §4.11 SYNC in cache modes', () => {
  it.each(COPYING)('ref §4.11 cache=%s: SYNC.AKEY waits for a copy that began under the old key', (cache) => {
    const { rig, admin, p } = warm(cache);
    rig.queue(p, copy(LAYOUT.data, LAYOUT.data + MIB, MIB));
    rig.fn.step(1);
    const csb = rig.csb(admin);
    rig.queue(admin, akeyUpdate(1, 1, [0, 0]), sync(FILTER.AKEY, 1, 1, { keys: [0, 0], csb }));
    rig.stepUntil(() => rig.u64(csb) === 0n);
    expect(rig.readIndex(p)).toBe(2);
  });

  it.each(COPYING)('S-108 cache=%s: a running context of a CXT_UPD reads its tables again before its next descriptor', (cache) => {
    const { rig, admin, p } = warm(cache);
    const q = rig.place(2);
    rig.queue(p, copy(LAYOUT.data, LAYOUT.data + MIB, MIB), nop());
    rig.fn.step(1);
    rig.prepare(1, { state: RUN, readIndex: 1, control: { ds_ring_ptr: BigInt(q.ring) } });
    rig.putU64(p.writeIndex, 3);
    const fresh = rig.csb(p, 5);
    rig.write(q, 2, nop({ csb: fresh }));
    const csb = rig.csb(admin);
    rig.queue(admin, contextUpdate(1), sync(FILTER.CXT, 1, 1, { csb }));
    rig.drain();
    expect([rig.hex(csb, 32), rig.hex(fresh, 32)]).toEqual([CSB.done, CSB.done]);
    expect(rig.isValid(p, 2)).toBe(true);
  });
});
