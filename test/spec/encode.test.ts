/** The hot encoders: what ref §13.4 expects of them, what they refuse, and that they agree with the tables. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EncodeError } from '../../src/errors.js';
import * as spec from '../../src/spec/index.js';
import {
  AtomicOp,
  assemble,
  DescriptorFlag,
  encodeAtomic,
  encodeContextStart,
  encodeContextStop,
  encodeCopy,
  encodeNop,
  encodeRepcopy,
  encodeSync,
  encodeWriteImmediate,
  NO_ADDRESS,
  NO_CSB,
  type SyncFilter,
  toHex,
} from '../../src/spec/index.js';

const { FE } = DescriptorFlag;
const PATTERN = 0xa5a5a5a5;

/** Runs an encoder that must refuse, and returns the error; the slot must be untouched. */
function refused(run: (u32: Uint32Array) => unknown): EncodeError {
  const u32 = new Uint32Array(16).fill(PATTERN);
  let caught: unknown;
  try {
    run(u32);
  } catch (error) {
    caught = error;
  }
  expect(caught).toBeInstanceOf(EncodeError);
  expect(new Set(u32), 'slot untouched').toEqual(new Set([PATTERN]));
  const error = caught as EncodeError;
  expect(error.code).toBe('ERR_SDXI_ENCODE');
  expect(error.hint).toBeTruthy();
  return error;
}

function slotOf(run: (u32: Uint32Array) => number): string {
  const u32 = new Uint32Array(16).fill(PATTERN);
  const first = run(u32);
  expect(first).toBe(u32[0] + 1);
  return toHex(new Uint8Array(u32.buffer));
}

const copy =
  (size: number, addr0 = 0x1000, addr1 = 0x2000) =>
  (u32: Uint32Array) =>
    encodeCopy(u32, 0, 0, NO_CSB, size, 0, 0, addr0, addr1);

describe('ref §13.4 encoder expectations', () => {
  it.each([
    [1, 0],
    [4096, 0xfff],
    [4 * 2 ** 20, 0x3fffff],
    [2 ** 32 - 1, 0xfffffffe],
    [2 ** 32, 0xffffffff],
  ])('ref §13.4 row 1 size %d is stored as bytes - 1', (size, stored) => {
    const u32 = new Uint32Array(16);
    encodeCopy(u32, 0, 0, NO_CSB, size, 0, 0, 0, 2 ** 40);
    expect(u32[1]).toBe(stored);
    const wide = new Uint32Array(16);
    encodeRepcopy(wide, 0, 0, NO_CSB, size, 0, 0, 0, 2 ** 40);
    expect(wide[1]).toBe(stored);
  });

  it.each([0, 2 ** 32 + 1, 2 ** 33, 2 ** 64 - 1, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])(
    'ref §13.4 row 2 size %d is refused, slot untouched',
    (size) => {
      for (const run of [
        (u32: Uint32Array) => encodeCopy(u32, 0, 0, NO_CSB, size, 0, 0, 0, 2 ** 40),
        (u32: Uint32Array) => encodeRepcopy(u32, 0, 0, NO_CSB, size, 0, 0, 0, 2 ** 40),
        (u32: Uint32Array) => encodeWriteImmediate(u32, 0, 0, NO_CSB, size, 0, 0, new Uint8Array(32), 0),
      ]) {
        expect(refused(run).fields).toMatchObject({ field: 'size', value: size });
      }
    },
  );

  it('ref §13.4 row 3 copy src 0x1000 dst 0x2000 len 4097 overlaps: refused', () => {
    expect(refused(copy(4097)).fields).toMatchObject({ field: 'addr1', value: 0x2000 });
    expect(refused(copy(4097, 0x2000, 0x1000)).fields.field).toBe('addr1');
  });

  it('ref §13.4 row 4 copy src = dst = 0x4000 len 1 overlaps: refused', () => {
    refused(copy(1, 0x4000, 0x4000));
  });

  it('ref §13.4 row 5 copy src 0x1000 dst 0x2000 len 4096 touches: accepted', () => {
    slotOf(copy(4096));
    slotOf(copy(4096, 0x2000, 0x1000));
  });

  it('ref §13.4 equal addresses under two keys may be two memories: accepted', () => {
    slotOf((u32) => encodeCopy(u32, 0, 0, NO_CSB, 4096, 1, 2, 0x4000, 0x4000));
    slotOf((u32) => encodeRepcopy(u32, 0, 0, NO_CSB, 4096, 1, 2, 0x4000, 0x4000));
  });

  it('ref §13.4 row 6 context numbers 127, 128, 511, 65,535 give their table indexes', () => {
    const indexes = [127, 128, 511, 65535].map((cxt) => [spec.l2Index(cxt), spec.l1Index(cxt)]);
    expect(indexes).toEqual([
      [0, 127],
      [1, 0],
      [3, 127],
      [511, 127],
    ]);
  });

  it('S-22 a REPCOPY overlaps when its block of 4 KiB meets the destination', () => {
    const repcopy = (addr0: number, addr1: number, size: number) => (u32: Uint32Array) =>
      encodeRepcopy(u32, 0, 0, NO_CSB, size, 0, 0, addr0, addr1);
    refused(repcopy(0x3000, 0x1000, 0x2001));
    refused(repcopy(0x3000, 0x3fff, 1));
    slotOf(repcopy(0x3000, 0x1000, 0x2000));
    slotOf(repcopy(0x3000, 0x4000, 1));
    expect(refused(repcopy(0x3008, 0x8000, 1)).fields).toMatchObject({ field: 'addr0', value: 0x3008 });
  });
});

describe('what no descriptor may say: refused with its field, slot untouched', () => {
  const B32 = new Uint8Array(32);
  it.each<[string, string, (u32: Uint32Array) => unknown]>([
    ['csb', 'a completion block that is not aligned', (u) => encodeNop(u, 0, 0, 0x1010)],
    ['csb', 'a completion block at a negative address', (u) => encodeNop(u, 0, 0, -32)],
    ['csb', 'a completion block from 2^53 up', (u) => encodeNop(u, 0, 0, 2 ** 53)],
    ['akey0', 'a key of 17 bits', (u) => encodeCopy(u, 0, 0, NO_CSB, 1, 65536, 0, 0, 1)],
    ['akey1', 'a negative key', (u) => encodeCopy(u, 0, 0, NO_CSB, 1, 0, -1, 0, 1)],
    ['akey1', 'a key that is no number', (u) => encodeCopy(u, 0, 0, NO_CSB, 1, 0, Number.NaN, 0, 1)],
    ['akey', 'an interrupt key of 17 bits', (u) => spec.encodeInterrupt(u, 0, 0, NO_CSB, 65536)],
    ['addr0', 'S-103 an address from 2^53 up', (u) => encodeCopy(u, 0, 0, NO_CSB, 1, 0, 0, 2 ** 53, 1)],
    ['addr1', 'a fractional address', (u) => encodeCopy(u, 0, 0, NO_CSB, 1, 0, 0, 0, 1.5)],
    ['attr', 'hints of 9 bits', (u) => encodeCopy(u, 0, 0, NO_CSB, 1, 0, 0, 0, 1, 256)],
    ['size', 'S-21 33 immediate bytes', (u) => encodeWriteImmediate(u, 0, 0, NO_CSB, 33, 0, 0, new Uint8Array(64), 0)],
    ['dataOffset', 'immediate data that ends too early', (u) => encodeWriteImmediate(u, 0, 0, NO_CSB, 32, 0, 0, B32, 1)],
    ['dataOffset', 'immediate data from before the start', (u) => encodeWriteImmediate(u, 0, 0, NO_CSB, 1, 0, 0, B32, -1)],
    ['addr0', 'an immediate write to nowhere', (u) => encodeWriteImmediate(u, 0, 0, NO_CSB, 1, 0, -1, B32, 0)],
    ['op', 'ref §5.2 the hole in the atomic group', (u) => encodeAtomic(u, 0, 0, NO_CSB, 4, 8, 0, 0, 0, NO_ADDRESS, 0, 0, 0, 0)],
    ['op', 'an atomic beyond CMPSWAP', (u) => encodeAtomic(u, 0, 0, NO_CSB, 15, 8, 0, 0, 0, NO_ADDRESS, 0, 0, 0, 0)],
    ['op', 'an atomic 33', (u) => encodeAtomic(u, 0, 0, NO_CSB, 33, 8, 0, 0, 0, NO_ADDRESS, 0, 0, 0, 0)],
    ['width', 'an atomic of 2 bytes', (u) => encodeAtomic(u, 0, 0, NO_CSB, 1, 2, 0, 0, 0, NO_ADDRESS, 0, 0, 0, 0)],
    ['addr0', 'an atomic that is not aligned', (u) => encodeAtomic(u, 0, 0, NO_CSB, 1, 8, 0, 4, 0, NO_ADDRESS, 0, 0, 0, 0)],
    ['addr1', 'return data that is not aligned', (u) => encodeAtomic(u, 0, 0, NO_CSB, 1, 4, 0, 4, 0, 2, 0, 0, 0, 0)],
    ['akey1', 'a return-data key of 17 bits', (u) => encodeAtomic(u, 0, 0, NO_CSB, 1, 4, 0, 4, 65536, 8, 0, 0, 0, 0)],
    ['last', 'contexts that end before they start', (u) => encodeContextStart(u, 0, 0, NO_CSB, { first: 2, last: 1 })],
    ['first', 'a context of 17 bits', (u) => encodeContextStop(u, 0, 0, NO_CSB, { first: 65536 })],
    ['vf', 'a virtual function of 17 bits', (u) => encodeContextStop(u, 0, 0, NO_CSB, { first: 1, vf: 65536 })],
    ['doorbell', 'a doorbell of 65 bits', (u) => encodeContextStart(u, 0, 0, NO_CSB, { first: 1, doorbell: 1n << 64n })],
    ['doorbell', 'a negative doorbell', (u) => encodeContextStart(u, 0, 0, NO_CSB, { first: 1, doorbell: -1n })],
    ['filter', 'an unknown filter', (u) => encodeSync(u, 0, 0, NO_CSB, { filter: 5 as SyncFilter })],
    ['keyLast', 'S-27 keys that end before they start', (u) => spec.encodeRkeyUpdate(u, 0, 0, NO_CSB, { keyFirst: 2, keyLast: 1 })],
    ['keyLast', 'a key range of 17 bits', (u) => spec.encodeAkeyUpdate(u, 0, 0, NO_CSB, { first: 1, keyFirst: 0, keyLast: 65536 })],
    ['vector', 'a vector of 12 bits', (u) => spec.encodeAdminInterrupt(u, 0, 0, NO_CSB, { vector: 2048 })],
    ['first', 'a context range of 17 bits', (u) => spec.encodeContextUpdate(u, 0, 0, NO_CSB, { first: 65536 })],
    ['csb', 'an update whose completion block is not aligned', (u) => spec.encodeFunctionUpdate(u, 0, 0, 8)],
  ])('%s: %s', (field, _what, run) => {
    expect(refused(run).fields.field).toBe(field);
  });
});

describe('hot encoders and tables agree on random values', () => {
  const u16 = fc.integer({ min: 0, max: 0xffff });
  const u32 = fc.integer({ min: 0, max: 0xffffffff });
  const address = fc.maxSafeNat();
  const aligned = (n: number) => fc.maxSafeNat().map((a) => a - (a % n));
  const bool = fc.boolean();
  const common = { flags: fc.integer({ min: 0, max: 63 }), csb: fc.oneof(fc.constant(NO_CSB), aligned(32)) };
  const sizes = fc.oneof(fc.integer({ min: 1, max: 2 ** 32 }), fc.constantFrom(1, 4096, 2 ** 32));
  const range = fc.tuple(u16, u16).map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }));
  const vf = fc.option(u16, { nil: undefined });

  /** Header flags and footer as the tables have them; vl is clear in the slot. */
  function head({ flags, csb }: { flags: number; csb: number }, extra = 0) {
    const set = flags | extra;
    const bit = (n: number) => (set >> n) & 1;
    const footer = csb === NO_CSB ? { np: 1 } : { np: 0, csb_ptr: BigInt(csb) };
    return { se: bit(1), fe: bit(2), ch: bit(3), csr: bit(4), rb: bit(5), ...footer };
  }
  const target = (n?: number) => (n === undefined ? {} : { vf: 1, vf_num: n });

  it('NOP, INTR, FN_UPD and ADM_INTR', () => {
    fc.assert(
      fc.property(fc.record({ ...common, akey: u16, vector: fc.integer({ min: 0, max: 2047 }), vf }), (v) => {
        const { flags, csb, akey, vector } = v;
        expect(slotOf((u) => encodeNop(u, 0, flags, csb))).toBe(toHex(assemble('descriptor', { operation: 'NOP', ...head(v) })));
        expect(slotOf((u) => spec.encodeInterrupt(u, 0, flags, csb, akey))).toBe(
          toHex(assemble('descriptor', { operation: 'INTR', ...head(v), akey })),
        );
        expect(slotOf((u) => spec.encodeFunctionUpdate(u, 0, flags, csb, { vf: v.vf }))).toBe(
          toHex(assemble('descriptor', { operation: 'FN_UPD', ...head(v), ...target(v.vf) })),
        );
        expect(slotOf((u) => spec.encodeAdminInterrupt(u, 0, flags, csb, { vector, vf: v.vf }))).toBe(
          toHex(assemble('descriptor', { operation: 'ADM_INTR', ...head(v), ...target(v.vf), intr_num: vector })),
        );
      }),
    );
  });

  it('COPY and REPCOPY', () => {
    const values = fc.record({
      ...common,
      size: sizes,
      akey0: u16,
      akey1: u16,
      addr0: address,
      addr1: address,
      attr: fc.integer({ min: 0, max: 255 }),
    });
    fc.assert(
      fc.property(values, (v) => {
        const block = v.addr0 - (v.addr0 % 4096);
        const apart = v.akey0 !== v.akey1 || Math.abs(block - v.addr1) >= v.size + 4096;
        fc.pre(apart);
        const { flags, csb, size, akey0, akey1, addr1, attr } = v;
        const fields = { ...head(v), size, akey0, akey1, addr0: BigInt(block), addr1: BigInt(addr1), attr };
        expect(slotOf((u) => encodeCopy(u, 0, flags, csb, size, akey0, akey1, block, addr1, attr))).toBe(
          toHex(assemble('descriptor', { operation: 'COPY', ...fields })),
        );
        expect(slotOf((u) => encodeRepcopy(u, 0, flags, csb, size, akey0, akey1, block, addr1, attr))).toBe(
          toHex(assemble('descriptor', { operation: 'REPCOPY', ...fields })),
        );
      }),
    );
  });

  it('COPY refuses exactly the ranges that overlap', () => {
    const near = fc.integer({ min: 0, max: 64 });
    fc.assert(
      fc.property(near, near, fc.integer({ min: 1, max: 64 }), (addr0, addr1, size) => {
        const overlap = addr0 < addr1 + size && addr1 < addr0 + size;
        if (overlap) refused(copy(size, addr0, addr1));
        else slotOf(copy(size, addr0, addr1));
      }),
    );
  });

  it('WRT_IMM', () => {
    const values = fc.record({
      ...common,
      akey0: u16,
      addr0: address,
      data: fc.uint8Array({ minLength: 1, maxLength: 64 }),
      at: fc.nat(63),
    });
    fc.assert(
      fc.property(values, ({ akey0, addr0, data, at, ...v }) => {
        const offset = at % data.length;
        const size = Math.min(32, data.length - offset);
        const expected = { operation: 'WRT_IMM', ...head(v), size, akey0, addr0: BigInt(addr0), data: data.slice(offset, offset + size) };
        expect(slotOf((u) => encodeWriteImmediate(u, 0, v.flags, v.csb, size, akey0, addr0, data, offset))).toBe(
          toHex(assemble('descriptor', expected)),
        );
      }),
    );
  });

  it('ATOMIC: the 13 operations, both widths, with and without return data', () => {
    const values = fc.record({
      ...common,
      op: fc.constantFrom(...Object.keys(AtomicOp)) as fc.Arbitrary<keyof typeof AtomicOp>,
      width: fc.constantFrom(4, 8),
      rd: bool,
      akey0: u16,
      akey1: u16,
      addr0: aligned(8),
      addr1: aligned(8),
      words: fc.tuple(u32, u32, u32, u32),
    });
    fc.assert(
      fc.property(values, ({ op, width, rd, akey0, akey1, addr0, addr1, words: [aLo, aHi, bLo, bHi], ...v }) => {
        const wide = (lo: number, hi: number) => (width === 8 ? (BigInt(hi) << 32n) | BigInt(lo) : BigInt(lo));
        const back = rd ? { rd: 1, akey1, addr1: BigInt(addr1) } : {};
        const operands = { operand_a: wide(aLo, aHi), operand_b: wide(bLo, bHi) };
        const expected = { operation: op, ...head(v), size: width, akey0, addr0: BigInt(addr0), ...back, ...operands };
        const run = (u: Uint32Array) =>
          encodeAtomic(u, 0, v.flags, v.csb, AtomicOp[op], width, akey0, addr0, akey1, rd ? addr1 : NO_ADDRESS, aLo, aHi, bLo, bHi);
        expect(slotOf(run)).toBe(toHex(assemble('descriptor', expected)));
      }),
    );
  });

  it('CXT_START and CXT_STOP, always fenced', () => {
    const doorbell = fc.option(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { nil: undefined });
    fc.assert(
      fc.property(
        fc.record({ ...common, range, vf, doorbell, resume: bool, hard: bool }),
        ({ range: r, doorbell: db, resume, hard, ...v }) => {
          const fields = { ...head(v, FE), ...target(v.vf), cxt_start: r.first, cxt_end: r.last };
          const rung = db === undefined ? {} : { dv: 1, db_value: db };
          expect(slotOf((u) => encodeContextStart(u, 0, v.flags, v.csb, { ...r, vf: v.vf, resume, doorbell: db }))).toBe(
            toHex(assemble('descriptor', { operation: resume ? 'CXT_START.RS' : 'CXT_START.NM', ...fields, ...rung })),
          );
          expect(slotOf((u) => encodeContextStop(u, 0, v.flags, v.csb, { ...r, vf: v.vf, hard }))).toBe(
            toHex(assemble('descriptor', { operation: 'CXT_STOP', ...fields, hs: hard ? 1 : 0 })),
          );
        },
      ),
    );
  });

  it('SYNC, CXT_UPD, AKEY_UPD and RKEY_UPD', () => {
    const filter = fc.constantFrom(...Object.values(spec.SyncFilter));
    fc.assert(
      fc.property(fc.record({ ...common, range, keys: range, vf, filter, l2: bool, l1: bool, ctl: bool }), (v) => {
        const { flags, csb, range: r, keys: k, filter: flt, l2, l1, ctl } = v;
        const contexts = { cxt_start: r.first, cxt_end: r.last };
        const keys = { key_start: k.first, key_end: k.last };
        const given = { keyFirst: k.first, keyLast: k.last, vf: v.vf };
        const start = { ...head(v), ...target(v.vf) };
        expect(slotOf((u) => encodeSync(u, 0, flags, csb, { ...r, ...given, filter: flt }))).toBe(
          toHex(assemble('descriptor', { operation: 'SYNC', ...start, ...contexts, ...keys, flt })),
        );
        expect(slotOf((u) => spec.encodeContextUpdate(u, 0, flags, csb, { ...r, vf: v.vf, l2, l1, ctl }))).toBe(
          toHex(assemble('descriptor', { operation: 'CXT_UPD', ...start, ...contexts, l2: +l2, l1: +l1, ctl: +ctl })),
        );
        expect(slotOf((u) => spec.encodeAkeyUpdate(u, 0, flags, csb, { ...r, ...given }))).toBe(
          toHex(assemble('descriptor', { operation: 'AKEY_UPD', ...start, ...contexts, ...keys })),
        );
        expect(slotOf((u) => spec.encodeRkeyUpdate(u, 0, flags, csb, given))).toBe(
          toHex(assemble('descriptor', { operation: 'RKEY_UPD', ...start, ...keys })),
        );
      }),
    );
  });
});
