/** Loading a context (ref §6.2, table): what is read, from which address space, in which order, and when. */
import { describe, expect, it } from 'vitest';
import { Access } from '../../src/memory/address-space.js';
import { ContextState, CXT_CTL, Reg } from '../../src/spec/index.js';
import { CSB, failed, notConsumed, provoke, record, status } from './expect.js';
import { contextUpdate, copy, functionUpdate, interrupt, nop, start, stop } from './ops.js';
import { type ContextPlace, LAYOUT, PAGE, Rig } from './rig.js';

const { RUN, STOP_SW, STOP_FN, STOPG_SW, STOPG_FN, ERR_FN } = ContextState;

/** Everything that a load can trip over, in the order of ref §6.2; each later fault is there from the beginning. */
const FAULTS: [string, number, (rig: Rig, p: ContextPlace) => void, (rig: Rig, p: ContextPlace) => void][] = [
  ['row 1: L2', 2, (rig) => rig.unmap(LAYOUT.l2), (rig) => rig.map(LAYOUT.l2)],
  ['row 2: L1', 3, (rig) => rig.unmap(LAYOUT.l1), (rig) => rig.map(LAYOUT.l1)],
  ['row 3: CXT_CTL', 4, (rig, p) => rig.unmap(p.control), (rig, p) => rig.map(p.control)],
  ['row 4: CXT_STS', 5, (rig, p) => rig.unmap(p.status), (rig, p) => rig.map(p.status)],
  ['row 5: Write_Index', 6, (rig, p) => rig.unmap(p.writeIndex), (rig, p) => rig.map(p.writeIndex)],
  ['main loop: the slot', 7, (rig, p) => rig.unmap(p.ring), (rig, p) => rig.map(p.ring)],
];

describe('ref §6.2 load', () => {
  it('S-69 reads are made in the order of the table: of many faults the first one is reported', () => {
    const rig = new Rig({}, { pages: true });
    rig.program();
    rig.setReg(Reg.CTL0, 3);
    const p = rig.prepare(1, { state: RUN });
    rig.write(p, 0, nop());
    rig.claim(p, 1);
    for (const [, , harm] of FAULTS) harm(rig, p);
    for (const [name, step, , heal] of FAULTS) {
      const before = rig.records().length;
      rig.fn.injectInternalError(1);
      rig.fn.reset(); // so that each doorbell may log (S-36)
      rig.program();
      rig.setReg(Reg.ERR_WRT, before);
      rig.setReg(Reg.CTL0, 3);
      rig.fn.ringDoorbell(1, 1);
      rig.drain();
      const index = step === 7 ? 0 : undefined;
      expect([name, rig.records().slice(before)]).toEqual([name, [record({ step, sub: 1, context: 1, index })]]);
      heal(rig, p);
      if (step >= 5) rig.setState(p, RUN);
    }
    rig.fn.ringDoorbell(1, 1);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 1));
  });

  it.each([STOP_SW, STOPG_SW, STOP_FN, STOPG_FN, ERR_FN])('S-33 S-69 with state 0x%x the load ends after CXT_STS: neither Write_Index nor ring is read, nothing is written', (state) => {
    const rig = new Rig({}, { pages: true });
    rig.activate();
    const p = rig.prepare(1, { state });
    rig.claim(p, 1);
    rig.unmap(p.writeIndex);
    rig.unmap(p.ring);
    rig.protect(p.status, Access.READ);
    const before = Buffer.from(rig.u8).toString('hex');
    for (let i = 0; i < 3; i++) {
      rig.fn.ringDoorbell(1, i);
      rig.drain();
    }
    expect(rig.records()).toEqual([]);
    expect(rig.interrupts).toEqual([]);
    expect(Buffer.from(rig.u8).toString('hex') === before).toBe(true);
  });

  it('S-36 doorbells of an unusable context log one record until a load succeeds, then one again', () => {
    const rig = new Rig({}, { pages: true });
    rig.activate();
    const p = rig.prepare(1, { state: RUN });
    const ring = () => {
      rig.fn.ringDoorbell(1, 0);
      rig.drain();
      return rig.records().length;
    };
    const spoil = (valid: boolean) => rig.bytes(p.control, 1).fill(valid ? 0x31 : 0x30);
    spoil(false);
    expect([ring(), ring(), ring()]).toEqual([1, 1, 1]);
    rig.unmap(LAYOUT.l1); // another cause, but no success in between
    expect(ring()).toBe(1);
    rig.map(LAYOUT.l1);
    spoil(true);
    expect([ring(), ring()]).toEqual([1, 1]);
    spoil(false);
    expect([ring(), ring()]).toEqual([2, 2]);
    expect(rig.records()[1]).toBe(record({ step: 4, sub: 3, context: 1 }));
  });

  it('S-36 the storm of one context does not silence another one', () => {
    const rig = new Rig();
    rig.activate();
    for (let i = 0; i < 5; i++) for (const n of [5, 6, 7]) rig.fn.ringDoorbell(n, i);
    rig.drain();
    for (const n of [7, 6, 5]) rig.fn.ringDoorbell(n, 0);
    rig.drain();
    expect(rig.records()).toEqual([5, 6, 7].map((context) => record({ step: 3, sub: 3, context })));
  });

  it('O-15 an entry found invalid is not remembered: the next doorbell after software has made it valid starts the context', () => {
    const spoilers: ((rig: Rig, p: ContextPlace) => number)[] = [
      (rig) => rig.at(rig.l2Entry(1)),
      (rig) => rig.at(rig.l1Entry(1)),
      (rig, p) => rig.at(p.control),
      (rig, p) => rig.at(p.akeys),
    ];
    for (const [n, place] of spoilers.entries()) {
      const rig = new Rig();
      rig.activate();
      const p = rig.prepare(1, { state: RUN });
      rig.u8[place(rig, p)] &= ~1;
      rig.run(p, copy(LAYOUT.data, LAYOUT.data + 64, 8));
      expect(rig.records().length).toBe(1);
      rig.u8[place(rig, p)] |= 1;
      if (n === 3) {
        rig.setState(p, RUN); // an AKey: the descriptor has failed and is consumed
        rig.run(p, copy(LAYOUT.data, LAYOUT.data + 64, 8));
      } else {
        rig.fn.ringDoorbell(1, 1);
        rig.drain();
      }
      expect(rig.hex(p.status, 16)).toBe(status(RUN, n === 3 ? 2 : 1));
      expect(rig.records().length).toBe(1);
    }
  });

  it('O-27 an L1 entry that is valid before its CXT_CTL is no error until the context is started or rung', () => {
    const rig = new Rig();
    const admin = rig.activate();
    const p = rig.prepare(1, { state: RUN });
    rig.u8[rig.at(p.control)] &= ~1;
    rig.run(admin, nop(), contextUpdate(1), stop(1, 1));
    expect(rig.records()).toEqual([]);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.records()).toEqual([record({ step: 4, sub: 3, context: 1 })]);
  });

  it('O-30 L2[0] and one L1 table are enough for 128 contexts', () => {
    const rig = new Rig({ maxContext: 127 });
    rig.activate();
    expect(rig.u64(LAYOUT.l2 + 8)).toBe(0n);
    for (const n of [1, 64, 127]) {
      const p = rig.running(n);
      rig.run(p, nop());
      expect([n, rig.hex(p.status, 16)]).toEqual([n, status(RUN, 1)]);
    }
  });

  it('ref §4.1 L2 index is bits 15:7, L1 index bits 6:0', () => {
    const rig = new Rig({ maxContext: 0xffff });
    rig.activate();
    for (const n of [128, 129, 255]) {
      const p = rig.running(n);
      rig.run(p, nop());
      expect([n, rig.hex(p.status, 16)]).toEqual([n, status(RUN, 1)]);
    }
    // The last entry of the last table.
    rig.putU64(LAYOUT.l2 + 511 * 8, BigInt(LAYOUT.l1Upper) | 1n);
    const p = rig.place(255);
    rig.run({ ...p, number: 0xffff }, nop());
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 2));
  });

  it('S-61 max_cxt lowered below a running context: it goes on until it is stopped, but new doorbells are ignored', () => {
    const rig = new Rig();
    const admin = rig.activate();
    const p = rig.running(5);
    const [first, second] = [rig.csb(p, 0), rig.csb(p, 1)];
    rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x10_0000, 0x10_0000, { csb: first }), nop({ csb: second }));
    rig.fn.step(1);
    rig.setReg(Reg.CTL2, 0x0000_0018_0004_800bn);
    rig.drain();
    expect([first, second].map((at) => rig.hex(at, 32))).toEqual([CSB.done, CSB.done]);
    rig.run(p, nop());
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 2));
    rig.run(admin, stop(5, 5));
    expect(rig.hex(p.status, 16)).toBe(status(STOP_SW, 2));
    expect(rig.records()).toEqual([]);
  });

  it('S-70 each load takes Read_Index from memory, also after idle', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.run(p, nop(), nop());
    expect(rig.readIndex(p)).toBe(2);
    rig.putU64(p.status + 8, 5);
    rig.putU64(p.writeIndex, 5);
    const csb = rig.csb(p);
    rig.run(p, nop({ csb }));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 6));
  });

  it('S-70 while a context runs, the state byte in memory is not looked at', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x10_0000, 0x10_0000), nop());
    rig.fn.step(1);
    rig.setState(p, STOP_SW);
    rig.drain();
    expect(rig.readIndex(p)).toBe(2);
  });

  it('S-70 a load that finds a context of the running set in another state drops it silently', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.setState(p, STOP_SW);
    rig.run(p, nop());
    expect(rig.hex(p.status, 16)).toBe(status(STOP_SW, 0));
    rig.setReg(Reg.CTL0, 1);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(STOP_SW, 0)); // not in the running set any more (S-79)
    expect(rig.records()).toEqual([]);
  });

  it('ref §4.11 a table entry that changes is read again at the next load, without any update operation', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const q = rig.place(2);
    rig.putFields(CXT_CTL, p.control, {
      vl: 1,
      ds_ring_ptr: BigInt(q.ring),
      ds_ring_sz: 2048,
      cxt_sts_ptr: BigInt(p.status),
      write_index_ptr: BigInt(p.writeIndex),
    });
    const csb = rig.csb(p);
    rig.write(q, 0, nop({ csb }));
    rig.claim(p, 1);
    rig.fn.ringDoorbell(1, 1);
    rig.drain();
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });
});

describe('address spaces of the structures (ref §7.3)', () => {
  const OWN = 0x12345;
  const FUNCTION = 0xfffff;
  /** Function-level structures at 1 GiB in the space of fn_pasid, the context's own at 2 GiB in that of cxt_pasid, nothing else. */
  const FN_SHIFT = 0x4000_0000;
  const CXT_SHIFT = 0x8000_0000;

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
      const mapped = (at: number, pasid: number) => rig.memory.bind(pasid).map(at, PAGE, Access.READ_WRITE, rig.window, rig.at(LAYOUT.data));
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
    const before = Buffer.from(rig.u8).toString('hex');
    rig.setReg(Reg.CTL0, BigInt(3 | 4 | (0x99 << 8)));
    rig.fn.ringDoorbell(1, 2);
    rig.drain();
    expect(rig.interrupts).toEqual([8, 9]);
    expect(other.hex(p.status, 16)).toBe(status(RUN, 2));
    expect(Buffer.from(rig.u8).toString('hex') === before).toBe(true);
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

describe('limits of rings and indexes', () => {
  it.each([
    [0, false],
    [1023, false],
    [1024, true],
    [1025, true],
    [1500, true],
    [2048, true],
    [2049, false],
    [0xffff_ffff, false],
  ])('S-40 a ring of %d descriptors, limit 2048, is usable: %s', (ringEntries, usable) => {
    const rig = new Rig({ maxRing: 1 });
    rig.activate();
    const p = rig.running(1, { ringEntries });
    if (!usable) {
      expect(rig.records()).toEqual([record({ step: 4, sub: 3, context: 1 })]);
      return;
    }
    // Over the end of the ring.
    for (let i = 0; i < ringEntries + 3; i += 1) {
      rig.write(p, i, nop());
      rig.claim(p, 1);
      if (i % 500 === 0 || i >= ringEntries) {
        rig.fn.ringDoorbell(1, i + 1);
        rig.drain();
      }
    }
    expect(rig.hex(p.status, 16)).toBe(status(RUN, ringEntries + 3));
  });

  it.each([22, 23, 31])('S-78 with max_ds_ring_sz = %d rings have up to 2^32 − 1 descriptors; 0 is not 2^32', (maxRing) => {
    const rig = new Rig({ maxRing });
    const admin = rig.activate();
    const p = rig.prepare(1, { state: RUN, ringEntries: 0xffff_ffff });
    // Read_Index in the last slot, which lies 256 GiB further on.
    rig.map(LAYOUT.data, PAGE, { at: p.ring + 0xffff_fffe * 64 - (PAGE - 64) });
    rig.putU64(p.status + 8, 0xffff_fffe);
    rig.putU64(p.writeIndex, 0xffff_fffe + 2);
    const csbs = [rig.csb(p, 0), rig.csb(p, 1)];
    const word = rig.at(LAYOUT.data + PAGE - 64) / 4;
    rig.u32[word] = nop({ csb: csbs[0] })(rig.u32, word);
    rig.write(p, 0, nop({ csb: csbs[1] }));
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(csbs.map((at) => rig.hex(at, 32))).toEqual([CSB.done, CSB.done]);
    expect(rig.readIndex(p)).toBe(0x1_0000_0000);
    rig.prepare(2, { ringEntries: 0 });
    const csb = rig.csb(admin);
    rig.run(admin, start(2, 2, { csb }));
    expect(rig.records()).toEqual([record({ step: 4, sub: 3, re: 0, context: 2 })]);
  });

  it('S-77 of a ring over many pages only the page of the slot being taken matters', () => {
    const rig = new Rig({}, { pages: true });
    rig.activate();
    const p = rig.running(1);
    for (let page = 1; page < 16; page++) rig.unmap(p.ring + page * PAGE);
    for (let i = 0; i < 64; i++) rig.write(p, i, nop());
    rig.claim(p, 65);
    rig.fn.ringDoorbell(1, 65);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 64));
    expect(rig.records()).toEqual([record({ step: 7, sub: 1, context: 1, index: 64 })]);
    rig.map(p.ring + PAGE);
    rig.write(p, 64, nop());
    rig.setState(p, RUN);
    rig.fn.ringDoorbell(1, 65);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 65));
  });

  it('S-77 S-103 a slot address beyond 2^53 or 2^64 is not mapped, and the end of the ring is not checked at load', () => {
    for (const base of [0xffff_ffff_ffff_ffc0n, 0x0020_0000_0000_0000n, 0x001f_ffff_ffff_ffc0n]) {
      const rig = new Rig();
      rig.activate();
      const p = rig.running(1, { control: { ds_ring_ptr: base } });
      expect(rig.records()).toEqual([]);
      expect(provoke(rig, p, (csb) => nop({ csb }))).toEqual(notConsumed({ step: 7, sub: 1, context: 1, index: 0 }));
    }
  });

  it('S-103 Read_Index of 2^53 is step 5 / sub 3, Write_Index of 2^53 is step 6 / sub 3', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.putU64(p.status + 8, 2n ** 53n);
    rig.putU64(p.writeIndex, 2n ** 53n);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 2n ** 53n));
    const q = rig.running(2);
    rig.putU64(q.status + 8, 2n ** 53n - 1n);
    rig.putU64(q.writeIndex, 2n ** 53n);
    rig.fn.ringDoorbell(2, 0);
    rig.drain();
    expect(rig.hex(q.status, 16)).toBe(status(ERR_FN, 2n ** 53n - 1n));
    expect(rig.records()).toEqual([record({ step: 5, sub: 3, context: 1 }), record({ step: 6, sub: 3, context: 2 })]);
  });

  it.each([
    ['CXT_L2', (rig: Rig) => rig.setReg(Reg.CXT_L2, 2n ** 53n), 2],
    ['lv01_ptr', (rig: Rig) => rig.putU64(rig.l2Entry(1), 2n ** 53n | 1n), 3],
    ['cxt_ctl_ptr', (rig: Rig) => rig.putU64(rig.l1Entry(1), 2n ** 63n | 3n), 4],
  ])('S-103 a %s from 2^53 on is not translatable', (_title, harm, step) => {
    const rig = new Rig();
    rig.activate();
    rig.prepare(1, { state: RUN });
    harm(rig);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.records()).toEqual([record({ step, sub: 1, context: 1 })]);
  });

  it('S-103 CXT_STS and Write_Index from 2^53 on are not translatable', () => {
    const rig = new Rig();
    rig.activate();
    rig.running(1, { control: { cxt_sts_ptr: 2n ** 60n } });
    const q = rig.running(2, { control: { write_index_ptr: 0xffff_ffff_ffff_fff8n } });
    expect(rig.records()).toEqual([record({ step: 5, sub: 1, context: 1 }), record({ step: 6, sub: 1, context: 2 })]);
    expect(rig.hex(q.status, 16)).toBe(status(ERR_FN, 0));
  });

  it('S-65 a Write_Index that software lowers while the context runs is noticed as WI < RI, and only so', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x10_0000, 0x10_0000), nop(), nop());
    rig.fn.step(1);
    rig.putU64(p.writeIndex, 1); // above Read_Index: no error, and nothing runs beyond
    rig.drain();
    expect([rig.records(), rig.hex(p.status, 16)]).toEqual([[], status(RUN, 1)]);
    rig.putU64(p.writeIndex, 0);
    rig.fn.ringDoorbell(1, 0);
    rig.drain();
    expect(rig.records()).toEqual([record({ step: 6, sub: 3, context: 1 })]);
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 1));
  });

  it('S-47 bus mastering off while ACTIVE: every access is a data access failure, of unmapped addresses too', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x10_0000, 0x10_0000, { csb: rig.csb(p) }));
    rig.fn.step(1);
    rig.memory.setBlocked(true);
    rig.drain();
    // Neither the copy, its block, its slot nor the log can be reached.
    expect([rig.reg(Reg.ERR_STS), rig.reg(Reg.ERR_WRT), rig.fn.state]).toEqual([9n, 0n, 2]);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 0));
    for (const at of [LAYOUT.data, 0, 2 ** 53]) expect(rig.memory.own.refusal(at, 1)).toBe('refused');
    expect(rig.memory.bind(9).refusal(0, 1)).toBe('refused');
    rig.memory.setBlocked(false);
    expect(rig.memory.own.refusal(2 ** 53, 1)).toBe('unmapped');
    rig.fn.ringDoorbell(1, 1);
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 1)); // from memory, as if nothing had been
  });

  it('S-108 a reload that fails is an error of that context as at any load', () => {
    for (const update of [contextUpdate(1), functionUpdate()]) {
      const rig = new Rig();
      const admin = rig.activate();
      const p = rig.running(1);
      rig.queue(p, copy(LAYOUT.data, LAYOUT.data + 0x10_0000, 0x10_0000), nop());
      rig.fn.step(1);
      rig.bytes(rig.l1Entry(1), 32).fill(0);
      rig.run(admin, update);
      expect(rig.records()).toEqual([record({ step: 3, sub: 3, context: 1 })]);
      expect(rig.hex(p.status, 16)).toBe(status(RUN, 1));
      expect(rig.isValid(p, 1)).toBe(true);
    }
  });

  it('S-41 a buffer crossing the end of what is mapped fails with step 10 / sub 1', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    const end = LAYOUT.base + LAYOUT.bytes;
    expect(provoke(rig, p, (csb) => copy(end - 4, LAYOUT.data, 5, { csb }))).toEqual(failed({ step: 10, sub: 1, context: 1, index: 0, operand: 0 }));
  });
});
