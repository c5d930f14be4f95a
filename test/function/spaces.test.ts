/** Which address space each structure and operand lies in: ref §7.1, §7.3, S-12, S-49, S-109. */
import { describe, expect, it } from 'vitest';
import { Access } from '../../src/memory/address-space.js';
import { ContextState, Reg } from '../../src/spec/index.js';
import { CSB, record, status } from './expect.js';
import { contextUpdate, copy, interrupt, nop } from './ops.js';
import { LAYOUT, PAGE, Rig } from './rig.js';

const { RUN } = ContextState;

describe('address spaces of the structures (ref §7.3)', () => {
  const OWN = 0x12345;
  const FUNCTION = 0xfffff;
  /** Function-level structures at 256 GiB in the space of fn_pasid, the context's own at 512 GiB in that of cxt_pasid, nothing else. */
  const FN_SHIFT = 0x40_0000_0000;
  const CXT_SHIFT = 0x80_0000_0000;

  function split(pasids: { fn: boolean; cxt: boolean }) {
    const rig = new Rig({}, { map: false });
    const [fn, cxt] = [pasids.fn ? FUNCTION : -1, pasids.cxt ? OWN : pasids.fn ? FUNCTION : -1];
    rig.map(LAYOUT.base, LAYOUT.bytes, { at: LAYOUT.base + FN_SHIFT, pasid: fn });
    rig.map(LAYOUT.base, LAYOUT.bytes, { at: LAYOUT.base + CXT_SHIFT, pasid: cxt });
    const far = (address: number, shift: number) => BigInt(address + shift);
    const p = rig.prepare(1, { state: RUN });
    rig.putU64(rig.l2Entry(1), far(LAYOUT.l1, FN_SHIFT) | 1n);
    rig.prepare(1, {
      state: RUN,
      l1: {
        cxt_ctl_ptr: far(p.control, FN_SHIFT),
        akey_ptr: far(p.akeys, FN_SHIFT),
        ...(pasids.cxt ? { pv: 1, cxt_pasid: OWN } : { cxt_pasid: 0x777 }),
      },
      control: {
        ds_ring_ptr: far(p.ring, CXT_SHIFT),
        cxt_sts_ptr: far(p.status, CXT_SHIFT),
        write_index_ptr: far(p.writeIndex, CXT_SHIFT),
      },
    });
    rig.putU64(rig.l2Entry(1), far(LAYOUT.l1, FN_SHIFT) | 1n);
    rig.setReg(Reg.CXT_L2, far(LAYOUT.l2, FN_SHIFT));
    rig.setReg(Reg.ERR_CFG, far(LAYOUT.errorLog, FN_SHIFT) | 3n);
    rig.setReg(Reg.CTL0, BigInt(3 | (pasids.fn ? 4 : 0) | (FUNCTION << 8)));
    return { rig, p };
  }

  it.each([
    { fn: false, cxt: false },
    { fn: false, cxt: true },
    { fn: true, cxt: false },
    { fn: true, cxt: true },
  ])('S-12 tables and AKeys in the space of the function, ring, CXT_STS, Write_Index and CSB in that of the context: %o', (pasids) => {
    const { rig, p } = split(pasids);
    const csb = rig.csb(p);
    rig.akey(p, 3, { vl: 1, iv: 1, intr_num: 8 });
    rig.run(p, nop({ csb: csb + CXT_SHIFT }), interrupt(3));
    expect(rig.records()).toEqual([]);
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 2));
    expect(rig.interrupts).toEqual([8]);
  });

  it('S-12 the error log lies in the space of the function', () => {
    const { rig, p } = split({ fn: true, cxt: true });
    rig.run(p, nop({ csb: 0 }));
    expect(rig.records()).toEqual([record({ step: 8, sub: 1, context: 1, index: 0 })]);
  });

  it('O-25 ref §7.1 an AKey with pv goes through its PASID, one without through cxt_pasid, else through the function itself', () => {
    for (const cxt of [false, true]) {
      const { rig, p } = split({ fn: true, cxt });
      const user = rig.memory.bind(0x42);
      const mapped = (at: number, pasid: number) =>
        rig.memory.bind(pasid).map(at, PAGE, Access.READ_WRITE, rig.window, rig.at(LAYOUT.data));
      user.map(0x7f00_0000_1000, PAGE, Access.READ_WRITE, rig.window, rig.at(LAYOUT.data) + PAGE);
      mapped(0x1000, cxt ? OWN : -1);
      rig.akey(p, 0, { vl: 1 });
      rig.akey(p, 1, { vl: 1, pv: 1, pasid: 0x42 });
      rig.bytes(LAYOUT.data, 2 * PAGE).fill(0);
      rig.put(LAYOUT.data, [1, 2, 3]);
      rig.run(p, copy(0x1000, 0x7f00_0000_1ffd, 3, { akey0: 0, akey1: 1 }));
      expect(rig.records()).toEqual([]);
      expect([...rig.bytes(LAYOUT.data + 2 * PAGE - 3, 3)]).toEqual([1, 2, 3]);
    }
  });

  it.each([0, 1, 8])(
    'ref §7.1 akey_sz = %d: the last entry counts, and the one behind the table does not, whatever memory holds there',
    (akey_sz) => {
      const rig = new Rig({ opGroups: 0x18 });
      rig.activate();
      const p = rig.running(1, { l1: { akey_sz, akey_ptr: BigInt(LAYOUT.data) } });
      const entries = 256 << akey_sz;
      rig.u32.fill(0, rig.at(LAYOUT.data) / 4, rig.at(LAYOUT.data) / 4 + entries * 4);
      for (const index of [entries - 1, entries]) rig.akey({ ...p, akeys: LAYOUT.data }, index, { vl: 1, iv: 1, intr_num: 7 });
      rig.run(p, interrupt(entries - 1));
      expect(rig.interrupts).toEqual([7]);
      if (entries > 0xffff) return; // an index has 16 bits
      rig.run(p, interrupt(entries));
      expect(rig.records()).toEqual([record({ step: 11, sub: 3, context: 1, index: 1, operand: 0 })]);
    },
  );

  it.each([
    ['fn_pasid', { fn: true, cxt: false }, FUNCTION, record({ step: 2, sub: 1, context: 1 })],
    ['cxt_pasid', { fn: false, cxt: true }, OWN, record({ step: 5, sub: 1, context: 1 })],
  ])('S-109 %s that the platform does not know: not translatable', (_title, pasids, pasid, expected) => {
    const { rig, p } = split(pasids);
    rig.memory.unbind(pasid);
    rig.setReg(Reg.ERR_CFG, pasids.fn ? 0 : BigInt(LAYOUT.errorLog + FN_SHIFT) | 3n);
    rig.run(p, nop());
    if (pasids.fn) expect(rig.fn.counters.errors).toBe(1);
    else expect(rig.records()).toEqual([expected]);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
  });

  it('S-49 CXT_L2 written while ACTIVE holds for the next load', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x10_0000, 0x10_0000), nop());
    rig.fn.step(1);
    rig.setReg(Reg.CXT_L2, 0x5000_0000);
    rig.drain();
    expect(rig.readIndex(p)).toBe(2); // it was loaded before
    rig.run(p, nop());
    expect(rig.records()).toEqual([record({ step: 2, sub: 1, context: 1 })]);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 2));
  });

  it('S-49 fn_pasid written while ACTIVE holds for the next load, for tables, keys, and the structures of contexts without a PASID', () => {
    const { rig, p } = split({ fn: false, cxt: false });
    rig.akey(p, 3, { vl: 1, iv: 1, intr_num: 8 });
    rig.run(p, interrupt(3));
    // The space of the new PASID holds other memory at the same addresses.
    const other = new Rig();
    const twin = rig.memory.bind(0x99);
    twin.map(LAYOUT.base + FN_SHIFT, LAYOUT.bytes, Access.READ_WRITE, other.window, 0);
    twin.map(LAYOUT.base + CXT_SHIFT, LAYOUT.bytes, Access.READ_WRITE, other.window, 0);
    other.u8.set(rig.u8);
    other.akey(p, 3, { vl: 1, iv: 1, intr_num: 9 });
    other.write(p, 1, interrupt(3, { csb: other.csb(p) + CXT_SHIFT }));
    other.claim(p, 1);
    const before = rig.snapshot();
    rig.setReg(Reg.CTL0, BigInt(3 | 4 | (0x99 << 8)));
    rig.fn.ringDoorbell(1, 2);
    rig.drain();
    expect(rig.interrupts).toEqual([8, 9]);
    expect(other.hex(p.status, 16)).toBe(status(RUN, 2));
    expect(rig.snapshot().equals(before)).toBe(true);
  });

  it('S-49 cxt_pasid changed by CXT_UPD: ring, CXT_STS, Write_Index and CSB are found in the new space only', () => {
    const rig = new Rig();
    const admin = rig.activate();
    const p = rig.running(1);
    rig.run(p, nop({ csb: rig.csb(p) }));
    const other = new Rig();
    rig.memory.bind(5).map(LAYOUT.base, LAYOUT.bytes, Access.READ_WRITE, other.window, 0);
    other.u8.set(rig.u8);
    const csb = other.csb(p);
    other.write(p, 1, nop({ csb }), nop({ csb: other.csb(p, 1) }));
    other.claim(p, 2);
    rig.prepare(1, { state: RUN, readIndex: 1, l1: { pv: 1, cxt_pasid: 5 } });
    rig.run(admin, contextUpdate(1));
    rig.csb(p);
    const before = rig.hex(p.control, LAYOUT.contextBytes);
    rig.fn.ringDoorbell(1, 3);
    rig.drain();
    expect([other.hex(csb, 32), other.hex(p.status, 16)]).toEqual([CSB.done, status(RUN, 3)]);
    expect(rig.hex(p.control, LAYOUT.contextBytes) === before).toBe(true);
  });
});
