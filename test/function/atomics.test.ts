/** The atomic group (ref §5.4, S-23, S-24): every operation, width and edge value against a model in BigInt. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ContextState } from '../../src/spec/index.js';
import { CSB, failed, provoke, record, status } from './expect.js';
import { atomic, FLAG, nop } from './ops.js';
import { LAYOUT, PAGE, Rig } from './rig.js';

const TARGET = LAYOUT.data;
const RETURNED = LAYOUT.data + 0x1000;

const signed = (value: bigint, width: number) => BigInt.asIntN(width, value);
/** The table of ref §5.4, written down again. */
const MODEL: [string, number, (m: bigint, a: bigint, b: bigint, w: number) => bigint][] = [
  ['SWAP', 0x01, (_m, a) => a],
  ['UADD', 0x02, (m, a, _b, w) => BigInt.asUintN(w, m + a)],
  ['USUB', 0x03, (m, a, _b, w) => BigInt.asUintN(w, m - a)],
  ['AND', 0x05, (m, a) => m & a],
  ['OR', 0x06, (m, a) => m | a],
  ['XOR', 0x07, (m, a) => m ^ a],
  ['SMIN', 0x08, (m, a, _b, w) => (signed(a, w) < signed(m, w) ? a : m)],
  ['SMAX', 0x09, (m, a, _b, w) => (signed(a, w) > signed(m, w) ? a : m)],
  ['UMIN', 0x0a, (m, a) => (a < m ? a : m)],
  ['UMAX', 0x0b, (m, a) => (a > m ? a : m)],
  ['UCLAMPI', 0x0c, (m, a) => (m < a ? m + 1n : a)],
  ['UCLAMPD', 0x0d, (m, a) => (m > a ? m - 1n : a)],
  ['CMPSWAP', 0x0e, (m, a, b) => (m === b ? a : m)],
];

function edges(width: number): bigint[] {
  const top = 1n << BigInt(width);
  return [0n, 1n, 2n, 0x7fn, 0x80n, top / 2n - 1n, top / 2n, top / 2n + 1n, top - 2n, top - 1n, 0x0123_4567_89ab_cdefn % top];
}

function ready() {
  const rig = new Rig();
  rig.activate();
  return { rig, p: rig.running(1) };
}

function run(rig: Rig, p: ReturnType<Rig['place']>, op: number, width: number, m: bigint, a: bigint, b: bigint) {
  const bytes = width / 8;
  // Surroundings that must not change, and operands with garbage above 32 bits.
  rig.bytes(TARGET - 8, 24).fill(0xcc);
  rig.bytes(RETURNED - 8, 24).fill(0xdd);
  const view = new DataView(rig.u8.buffer, rig.u8.byteOffset);
  if (bytes === 8) view.setBigUint64(rig.at(TARGET), m, true);
  else view.setUint32(rig.at(TARGET), Number(m), true);
  const wide = bytes === 4 ? 0xabcd_ef01_0000_0000n : 0n;
  const csb = rig.csb(p);
  rig.run(p, atomic(op, bytes, TARGET, { a: a | wide, b: b | wide, returned: RETURNED, csb }));
  expect(rig.hex(csb, 32)).toBe(CSB.done);
  expect(rig.hex(TARGET - 8, 8) + rig.hex(TARGET + bytes, 16 - bytes)).toBe('cc'.repeat(24 - bytes));
  expect(rig.hex(RETURNED - 8, 8) + rig.hex(RETURNED + bytes, 16 - bytes)).toBe('dd'.repeat(24 - bytes));
  const read = (at: number) => (bytes === 8 ? view.getBigUint64(rig.at(at), true) : BigInt(view.getUint32(rig.at(at), true)));
  return { now: read(TARGET), old: read(RETURNED) };
}

describe.each(MODEL)('S-23 S-24 %s', (_name, op, model) => {
  it.each([32, 64])('%d bits: edge values, all pairs of target and operand', (width) => {
    const { rig, p } = ready();
    for (const m of edges(width)) {
      for (const a of edges(width)) {
        for (const b of op === 0x0e ? [m, a, m ^ 1n] : [0n]) {
          expect(run(rig, p, op, width, m, a, b), `m ${m} a ${a} b ${b}`).toEqual({ now: model(m, a, b, width), old: m });
        }
      }
    }
  });

  it.each([32, 64])('%d bits: random values', (width) => {
    const { rig, p } = ready();
    const value = fc.bigInt({ min: 0n, max: (1n << BigInt(width)) - 1n });
    fc.assert(
      fc.property(value, value, fc.option(value), (m, a, other) => {
        const b = other ?? m;
        expect(run(rig, p, op, width, m, a, b)).toEqual({ now: model(m, a, b, width), old: m });
      }),
      { numRuns: 50 },
    );
  });
});

describe('ref §5.4 operands', () => {
  it('S-23 rd = 0: addr1 and akey1 are not looked at, misaligned, unmapped and without a key as they may be', () => {
    const { rig, p } = ready();
    rig.putU64(TARGET, 40);
    const csb = rig.csb(p);
    rig.run(p, atomic(0x02, 8, TARGET, { csb, a: 2n, akey1: 0xffff, words: { 6: 0xffff_fff3, 7: 0xffff_ffff } }));
    expect([rig.u64(TARGET), rig.hex(csb, 32)]).toEqual([42n, CSB.done]);
  });

  it('S-23 other bits of byte 9 and bytes 10, 11 and 48…55 are reserved', () => {
    const { rig, p } = ready();
    const csb = rig.csb(p);
    rig.run(p, atomic(0x02, 8, TARGET, { csb, a: 2n, words: { 2: 0xffff_feff, 12: -1, 13: -1 } }));
    expect([rig.u64(TARGET), rig.hex(csb, 32)]).toEqual([2n, CSB.done]);
  });

  it('S-23 the 32-bit target in the upper half of a qword', () => {
    const { rig, p } = ready();
    rig.putU64(TARGET, 0x0000_0005_ffff_ffffn);
    rig.run(p, atomic(0x02, 4, TARGET + 4, { a: 0xffff_ffffn, returned: RETURNED + 4, csb: rig.csb(p) }));
    expect([rig.u64(TARGET), rig.u64(RETURNED)]).toEqual([0x0000_0004_ffff_ffffn, 0x0000_0005_0000_0000n]);
  });

  it('S-106 return data over the target: the target is updated first, then the old value is written', () => {
    const { rig, p } = ready();
    rig.putU64(TARGET, 40);
    rig.run(p, atomic(0x02, 8, TARGET, { a: 2n, returned: TARGET, csb: rig.csb(p) }));
    expect(rig.u64(TARGET)).toBe(40n);
  });

  it('S-106 a completion block as the target: the decrement comes last', () => {
    const { rig, p } = ready();
    const csb = rig.csb(p, 0, 1);
    rig.run(p, atomic(0x02, 8, csb, { a: 10n, csb }));
    expect(rig.u64(csb)).toBe(10n);
  });

  it('O-25 target and return data through the PASIDs of their keys', () => {
    const { rig, p } = ready();
    rig.memory.bind(7).map(0x1000, PAGE, 3, rig.window, rig.at(TARGET));
    rig.memory.bind(8).map(0x1000, PAGE, 3, rig.window, rig.at(RETURNED));
    rig.akey(p, 1, { vl: 1, pv: 1, pasid: 7 });
    rig.akey(p, 2, { vl: 1, pv: 1, pasid: 8 });
    rig.putU64(TARGET, 3);
    rig.run(p, atomic(0x01, 8, 0x1000, { a: 9n, akey0: 1, akey1: 2, returned: 0x1000, csb: rig.csb(p) }));
    expect([rig.u64(TARGET), rig.u64(RETURNED)]).toEqual([9n, 3n]);
  });

  it.each([4, 8])('ref §5.4 a failing lookup or target changes nothing, width %d', (bytes) => {
    for (const options of [{ akey0: 300 }, { akey1: 300, returned: RETURNED }]) {
      const { rig, p } = ready();
      const after = provoke(rig, p, (csb) => atomic(0x02, bytes, TARGET, { csb, a: 1n, ...options }));
      expect(after).toEqual(failed({ step: 11, sub: 3, context: 1, index: 0, operand: 'akey0' in options ? 0 : 1 }));
      expect(rig.u64(TARGET)).toBe(0n);
    }
  });

  it('ref §8.3 row 14 the target was updated before the return data failed', () => {
    const { rig, p } = ready();
    rig.run(p, atomic(0x02, 8, TARGET, { a: 1n, returned: 0x7000_0000 }));
    expect(rig.records()).toEqual([record({ step: 9, sub: 1, context: 1, index: 0, operand: 1 })]);
    expect(rig.u64(TARGET)).toBe(1n);
  });

  it('ref §6.3 atomics between other descriptors are in order', () => {
    const { rig, p } = ready();
    rig.run(p, ...Array.from({ length: 100 }, () => atomic(0x02, 8, TARGET, { a: 3n })), nop({ flags: FLAG.FE }));
    expect(rig.u64(TARGET)).toBe(300n);
    expect(rig.hex(p.status, 16)).toBe(status(ContextState.RUN, 101));
  });
});
