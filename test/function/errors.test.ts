/** The condition table of ref §8.3 for contexts that run, row by row. */
import { describe, expect, it } from 'vitest';
import { Access } from '../../src/memory/address-space.js';
import { ContextState, Reg } from '../../src/spec/index.js';
import { type Aftermath, CSB, failed, notConsumed, provoke } from './expect.js';
import { adminInterrupt, atomic, copy, descriptor, FLAG, interrupt, nop, repcopy, start, stop, sync, writeImmediate } from './ops.js';
import { type ContextPlace, type Encode, LAYOUT, Rig } from './rig.js';

const { RUN } = ContextState;

/** An address where nothing is mapped. */
const NOWHERE = 0x5000_0000;
const SOURCE = LAYOUT.data;
const TARGET = LAYOUT.data + 0x1_0000;

/** Context 1 runs and takes one descriptor with three behind it. */
function breakDescriptor(
  encode: (csb: number, p: ContextPlace) => Encode,
  harm: (rig: Rig, p: ContextPlace) => void = () => {},
): Aftermath {
  const rig = new Rig({}, { pages: true });
  rig.activate();
  const p = rig.running(1);
  harm(rig, p);
  return provoke(rig, p, (csb) => encode(csb, p));
}

describe('ref §8.3 contexts that run', () => {
  it.each([
    ['a COPY without a completion block', undefined],
    ['a COPY with one', 0],
  ])('ref §8.3 row 5 CXT_STS that cannot be written any more, under %s: what it did stands, memory goes on saying RUN', (_title, block) => {
    const rig = new Rig({}, { pages: true });
    rig.activate();
    const p = rig.running(1);
    rig.bytes(SOURCE, 64).fill(7);
    rig.protect(p.status, Access.READ);
    const after = provoke(rig, p, (csb) => copy(SOURCE, TARGET, 64, block === undefined ? {} : { csb }));
    const csb = block === undefined ? CSB.armed : CSB.done;
    expect(after).toEqual({ ...notConsumed({ step: 5, sub: 2, context: 1 }, RUN), valid: false, csb });
    expect(rig.bytes(TARGET, 64).every((byte) => byte === 7)).toBe(true);
  });

  it('ref §8.3 row 5 CXT_STS whose mapping has gone', () => {
    const after = breakDescriptor(
      (csb) => nop({ csb }),
      (rig, p) => rig.unmap(p.status),
    );
    // The doorbell of an idle context loads it again, so that it is the read that fails.
    expect(after).toEqual(notConsumed({ step: 5, sub: 1, context: 1 }, RUN));
  });

  it.each([
    ['is not mapped', 1, (rig: Rig, p: ContextPlace) => rig.unmap(p.ring)],
    ['cannot be read', 2, (rig: Rig, p: ContextPlace) => rig.protect(p.ring, Access.WRITE)],
    ['cannot be written', 2, (rig: Rig, p: ContextPlace) => rig.protect(p.ring, Access.READ)],
  ])('ref §8.3 row 8 ring slot that %s', (_title, sub, harm) => {
    expect(breakDescriptor((csb) => copy(SOURCE, TARGET, 64, { csb }), harm)).toEqual(notConsumed({ step: 7, sub, context: 1, index: 0 }));
  });

  const malformed: [string, (csb: number) => Encode][] = [
    ['ref §8.3 row 9 unknown type 0x000', (csb) => descriptor(0x000, 0x01, { csb })],
    ['ref §8.3 row 9 unknown type 0x005', (csb) => descriptor(0x005, 0x00, { csb })],
    ['ref §8.3 row 9 type of error records 0x7f7', (csb) => descriptor(0x7f7, 0x00, { csb })],
    ['ref §8.3 row 9 unknown subtype of the base group', (csb) => descriptor(0x001, 0x05, { csb })],
    ['ref §8.3 row 9 subtype 0 of the base group', (csb) => descriptor(0x001, 0x00, { csb })],
    ['ref §8.3 row 9 hole 0x04 of the atomic group', (csb) => atomic(0x04, 8, TARGET, { csb })],
    ['ref §8.3 row 9 unknown subtype of the atomic group', (csb) => atomic(0x0f, 8, TARGET, { csb })],
    ['ref §8.3 row 9 unknown subtype of the interrupt group', (csb) => descriptor(0x004, 0x01, { csb })],
    ['ref §8.3 row 9 admin operation outside context 0', (csb) => stop(1, 1, { csb })],
    ['ref §8.3 row 9 FN_UPD outside context 0', (csb) => descriptor(0x002, 0x00, { csb })],
    ['ref §8.3 row 9 ch = 1 on a NOP', (csb) => nop({ csb, flags: FLAG.CH })],
    ['ref §8.3 row 9 ch = 1 on a COPY', (csb) => copy(SOURCE, TARGET, 64, { csb, flags: FLAG.CH })],
    ['ref §8.3 row 9 WRT_IMM of 33 bytes', (csb) => writeImmediate(TARGET, [1], { csb, size: 33 })],
    ['ref §8.3 row 9 WRT_IMM of 4 GiB', (csb) => writeImmediate(TARGET, [1], { csb, size: 2 ** 32 })],
    ['ref §8.3 row 9 atomic of 1 byte', (csb) => atomic(0x02, 1, TARGET, { csb })],
    ['ref §8.3 row 9 atomic of 16 bytes', (csb) => atomic(0x02, 16, TARGET, { csb })],
    ['ref §8.3 row 9 atomic of 4 GiB', (csb) => atomic(0x02, 2 ** 32, TARGET, { csb })],
    ['ref §8.3 row 13 atomic of 8 bytes at an address of 4', (csb) => atomic(0x02, 8, TARGET + 4, { csb })],
    ['ref §8.3 row 13 atomic of 4 bytes at an address of 2', (csb) => atomic(0x02, 4, TARGET + 2, { csb })],
    ['ref §8.3 row 13 return data of 8 bytes at an address of 4', (csb) => atomic(0x02, 8, TARGET, { csb, returned: TARGET + 12 })],
    ['ref §8.3 row 13 return data of 4 bytes at an odd address', (csb) => atomic(0x02, 4, TARGET, { csb, returned: TARGET + 9 })],
  ];
  it.each(malformed)('%s', (_title, encode) => {
    expect(breakDescriptor(encode)).toEqual(failed({ step: 7, sub: 3, context: 1, index: 0 }));
  });

  it.each([
    ['CAP1.opb_000_cap', { opGroups: 0 }, {}, undefined],
    ['CTL2.opb_000_avl', {}, {}, 0x0000_0000_003f_800bn],
    ['L1.opb_000_enb', {}, { opb_000_enb: 0 }, undefined],
  ])('ref §8.3 row 9 a group that %s does not name', (_title, config, l1, ctl2) => {
    for (const encode of [(csb: number) => atomic(0x02, 8, TARGET, { csb }), (csb: number) => interrupt(0, { csb })]) {
      const rig = new Rig(config, { pages: true });
      rig.activate();
      if (ctl2 !== undefined) rig.setReg(Reg.CTL2, ctl2);
      const p = rig.running(1, { l1 });
      rig.akey(p, 0, { vl: 1, iv: 1, intr_num: 3 });
      expect(provoke(rig, p, encode)).toEqual(failed({ step: 7, sub: 3, context: 1, index: 0 }));
    }
  });

  it.each([
    ['COPY', copy],
    ['REPCOPY', repcopy],
  ])('ref §8.3 row 9 %s above the size limit, before any lookup', (_title, operation) => {
    const rig = new Rig({ maxBuffer: 0 }, { pages: true });
    rig.activate();
    const p = rig.running(1);
    // Neither its key nor its addresses would do, but nobody looks at them (S-42, S-44).
    const after = provoke(rig, p, (csb) => operation(NOWHERE, NOWHERE, 2 ** 21 + 1, { csb, akey0: 0xffff, akey1: 0xffff }));
    expect(after).toEqual(failed({ step: 7, sub: 3, context: 1, index: 0 }));
  });

  it.each([
    ['CXT_START', start(3, 2)],
    ['CXT_STOP', stop(3, 2)],
    ['SYNC', sync(1, 3, 2)],
    ['SYNC with filter 5', sync(5, 0, 0)],
    ['ADM_INTR of a vector that is not there', adminInterrupt(66)],
  ])('ref §8.3 row 9 malformed admin descriptor: %s', (_title, encode) => {
    const rig = new Rig({}, { pages: true });
    const admin = rig.activate();
    const after = provoke(rig, admin, (csb) => (u32, word) => {
      const header = encode(u32, word);
      u32[word + 14] = csb;
      return header;
    });
    expect(after).toEqual(failed({ step: 7, sub: 3, context: 0, index: 0 }));
  });

  it.each([
    ['is not mapped', 1, (rig: Rig, p: ContextPlace) => rig.unmap(p.csbs)],
    ['cannot be written', 2, (rig: Rig, p: ContextPlace) => rig.protect(p.csbs, Access.READ)],
    ['cannot be read', 2, (rig: Rig, p: ContextPlace) => rig.protect(p.csbs, Access.WRITE)],
  ])('ref §8.3 row 10 completion block that %s: the data has moved, the block is not touched', (_title, sub, harm) => {
    const rig = new Rig({}, { pages: true });
    rig.activate();
    const p = rig.running(1);
    rig.bytes(SOURCE, 8).fill(9);
    harm(rig, p);
    const after = provoke(rig, p, (csb) => copy(SOURCE, TARGET, 8, { csb }));
    expect(after).toEqual({ ...failed({ step: 8, sub, context: 1, index: 0 }), csb: CSB.armed });
    expect(rig.bytes(TARGET, 8).every((byte) => byte === 9)).toBe(true);
  });

  it('ref §8.3 row 10 completion block above 2^53 is not mapped', () => {
    const after = breakDescriptor(() => nop({ csb: 0xffff_ffff_ffff_ffe0n }));
    expect(after).toEqual({ ...failed({ step: 8, sub: 1, context: 1, index: 0 }), csb: CSB.armed });
  });
});

describe('ref §8.3 keys and buffers', () => {
  const keyUsers: [string, number, (csb: number, akey: number) => Encode][] = [
    ['source of a COPY', 0, (csb, akey) => copy(SOURCE, TARGET, 8, { csb, akey0: akey })],
    ['destination of a COPY', 1, (csb, akey) => copy(SOURCE, TARGET, 8, { csb, akey1: akey })],
    ['source of a REPCOPY', 0, (csb, akey) => repcopy(SOURCE, TARGET, 8, { csb, akey0: akey })],
    ['destination of a REPCOPY', 1, (csb, akey) => repcopy(SOURCE, TARGET, 8, { csb, akey1: akey })],
    ['destination of a WRT_IMM', 0, (csb, akey) => writeImmediate(TARGET, [1, 2, 3], { csb, akey0: akey })],
    ['target of an atomic', 0, (csb, akey) => atomic(0x02, 8, TARGET, { csb, akey0: akey })],
    ['return data of an atomic', 1, (csb, akey) => atomic(0x02, 8, TARGET, { csb, akey1: akey, returned: TARGET + 8 })],
    ['key of an INTR', 0, (csb, akey) => interrupt(akey, { csb })],
  ];
  describe.each(keyUsers)('%s', (_title, operand, encode) => {
    it.each([
      ['beyond the table', 11, 3, 256, undefined],
      ['65535', 11, 3, 0xffff, undefined],
      ['with vl = 0', 11, 3, 5, undefined],
      ['in a table that is not mapped', 11, 1, 5, (rig: Rig, p: ContextPlace) => rig.unmap(p.akeys)],
      ['in a table that cannot be read', 11, 2, 5, (rig: Rig, p: ContextPlace) => rig.protect(p.akeys, Access.WRITE)],
      ['of a function that is not there', 12, 3, 6, undefined],
    ])('ref §8.3 row 11 AKey %s', (_key, step, sub, akey, harm) => {
      const rig = new Rig({}, { pages: true });
      rig.activate();
      const p = rig.running(1);
      rig.akey(p, 0, { vl: 1, iv: 1, intr_num: 3 });
      rig.akey(p, 5, { vl: 0, iv: 1, intr_num: 3 });
      rig.akey(p, 6, { vl: 1, iv: 1, tgt_sfunc: 0x1234, rkey: 0 });
      harm?.(rig, p);
      // With the table gone, the first lookup is that of operand 0 (S-44).
      const buf = harm ? 0 : operand;
      expect(provoke(rig, p, (csb) => encode(csb, akey))).toEqual(failed({ step, sub, context: 1, index: 0, operand: buf }));
      expect(rig.interrupts).toEqual([0]);
    });
  });

  it.each([
    ['INTR whose key has iv = 0', { vl: 1 }],
    ['INTR whose vector is not there', { vl: 1, iv: 1, intr_num: 66 }],
  ])('ref §8.3 row 11 %s', (_title, fields) => {
    const after = breakDescriptor(
      (csb) => interrupt(2, { csb }),
      (rig, p) => rig.akey(p, 2, fields),
    );
    expect(after).toEqual(failed({ step: 11, sub: 3, context: 1, index: 0, operand: 0 }));
  });

  const HOLE = LAYOUT.data + 0x2_0000;
  const buffers: [string, number, number, (csb: number) => Encode][] = [
    ['ref §8.3 row 12 source of a COPY', 10, 0, (csb) => copy(HOLE, TARGET, 8, { csb })],
    ['ref §8.3 row 12 destination of a COPY', 10, 1, (csb) => copy(SOURCE, HOLE, 8, { csb })],
    ['ref §8.3 row 12 source of a REPCOPY', 10, 0, (csb) => repcopy(HOLE, TARGET, 8, { csb })],
    ['ref §8.3 row 12 end of the source of a REPCOPY', 10, 0, (csb) => repcopy(HOLE - 4088, TARGET, 8, { csb })],
    ['ref §8.3 row 12 destination of a REPCOPY', 10, 1, (csb) => repcopy(SOURCE, HOLE, 8, { csb })],
    ['ref §8.3 row 12 destination of a WRT_IMM', 10, 0, (csb) => writeImmediate(HOLE, [1], { csb })],
    ['ref §8.3 row 12 target of an atomic', 10, 0, (csb) => atomic(0x02, 8, HOLE, { csb })],
    ['ref §8.3 row 14 return data of an atomic', 9, 1, (csb) => atomic(0x02, 8, TARGET, { csb, returned: HOLE })],
  ];
  it.each(buffers)('%s that is not mapped', (_title, step, operand, encode) => {
    const after = breakDescriptor(encode, (rig) => rig.unmap(HOLE));
    expect(after).toEqual(failed({ step, sub: 1, context: 1, index: 0, operand }));
  });
  it.each(buffers)('%s that may not be accessed this way', (_title, step, operand, encode) => {
    // Sources are made write-only, all others read-only.
    const source = operand === 0 && /source/.test(_title);
    const after = breakDescriptor(encode, (rig) => rig.protect(HOLE, source ? Access.WRITE : Access.READ));
    expect(after).toEqual(failed({ step, sub: 2, context: 1, index: 0, operand }));
  });
  it('ref §8.3 row 12 target of an atomic that cannot be read', () => {
    const after = breakDescriptor(
      (csb) => atomic(0x02, 8, HOLE, { csb }),
      (rig) => rig.protect(HOLE, Access.WRITE),
    );
    expect(after).toEqual(failed({ step: 10, sub: 2, context: 1, index: 0, operand: 0 }));
  });
  it('ref §8.3 row 12 a PASID that the platform does not know', () => {
    const after = breakDescriptor(
      (csb) => copy(SOURCE, TARGET, 8, { csb, akey1: 1 }),
      (rig, p) => rig.akey(p, 1, { vl: 1, pv: 1, pasid: 77 }),
    );
    expect(after).toEqual(failed({ step: 10, sub: 1, context: 1, index: 0, operand: 1 }));
  });
});
