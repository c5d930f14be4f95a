/** COPY, REPCOPY and WRT_IMM (ref §5.3): data, overlap, scattered memory, holes, slices. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Access } from '../../src/memory/address-space.js';
import { ContextState } from '../../src/spec/index.js';
import { CSB, failed, provoke, record, status } from './expect.js';
import { copy, nop, repcopy, writeImmediate } from './ops.js';
import { type ContextPlace, type Encode, LAYOUT, PAGE, Rig } from './rig.js';

const { RUN, ERR_FN } = ContextState;
const DATA = LAYOUT.data;
const SLICE = 0x4_0000;

function ready(options: ConstructorParameters<typeof Rig>[1] = {}, config = {}) {
  const rig = new Rig(config, options);
  rig.activate();
  return { rig, p: rig.running(1) };
}

/** Different bytes everywhere, with a period that is no power of two. */
function pattern(length: number, seed = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 7 + (i >> 8) * 13 + seed) & 0xff;
  return bytes;
}

/** Runs one operation and compares all data memory with a model of it. */
function expectMemory(rig: Rig, p: ContextPlace, encode: (csb: number) => Encode, model: (memory: Uint8Array) => void, length: number): void {
  const expected = rig.bytes(DATA, length).slice();
  model(expected);
  const csb = rig.csb(p);
  rig.run(p, encode(csb));
  expect(rig.hex(csb, 32)).toBe(CSB.done);
  expect(Buffer.compare(rig.bytes(DATA, length), expected)).toBe(0);
}

/** 64 KiB of data memory, page by page in reversed order, at addresses from here on. */
const SCATTERED = 0x7_0000_0000;
function scatter(rig: Rig): void {
  for (let page = 0; page < 16; page++) rig.map(DATA + (15 - page) * PAGE, PAGE, { at: SCATTERED + page * PAGE });
}
/** Reads [address, +length) of the scattered range. */
function scattered(rig: Rig, at: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) {
    const offset = at + i - SCATTERED;
    bytes[i] = rig.u8[rig.at(DATA + (15 - Math.floor(offset / PAGE)) * PAGE + (offset % PAGE))];
  }
  return bytes;
}

describe('COPY', () => {
  it.each([
    ['with a completion block', true],
    ['without one', false],
  ])('copies exactly the bytes named, any alignment, any size, %s', (_title, block) => {
    const { rig, p } = ready();
    const length = 0x4000;
    rig.bytes(DATA, length).set(pattern(length));
    fc.assert(
      fc.property(fc.nat(0x1000), fc.nat(0x1000), fc.integer({ min: 1, max: 0xff0 }), (from, to, size) => {
        const expected = rig.bytes(DATA, length).slice();
        expected.copyWithin(0x2000 + to, from, from + size);
        rig.run(p, copy(DATA + from, DATA + 0x2000 + to, size, block ? { csb: rig.csb(p) } : {}));
        expect(Buffer.compare(rig.bytes(DATA, length), expected)).toBe(0);
      }),
    );
    expect(rig.records()).toEqual([]);
  });

  it.each([1, 7, 8, 9, 63, 64, 65, 159, 160, 161, 4095, 4096, 4097, SLICE - 1, SLICE, SLICE + 1, 3 * SLICE + 5])(
    'S-39 overlapping ranges, %d bytes apart from each other by anything: as if the source were read first',
    (size) => {
      const { rig, p } = ready();
      const middle = 0x10_0000;
      const span = 0x20_0000;
      for (const distance of new Set([1, 2, 7, 8, 9, 64, 4095, size >> 1, size - 1, size])) {
        if (distance < 1 || distance > size) continue;
        for (const [from, to] of [
          [middle, middle + distance],
          [middle + distance, middle],
          [middle + 3, middle + 3 + distance],
        ]) {
          rig.bytes(DATA, span).set(pattern(span, distance));
          expectMemory(
            rig,
            p,
            (csb) => copy(DATA + from, DATA + to, size, { csb }),
            (m) => m.copyWithin(to, from, from + size),
            span,
          );
        }
      }
    },
  );

  it('S-39 source and destination are the same', () => {
    const { rig, p } = ready();
    rig.bytes(DATA, 0x8_0000).set(pattern(0x8_0000));
    for (const size of [1, 64, 4096, 0x8_0000])
      expectMemory(
        rig,
        p,
        (csb) => copy(DATA, DATA, size, { csb }),
        () => {},
        0x8_0000,
      );
  });

  it('S-39 overlap under two AKeys that name one space', () => {
    const { rig, p } = ready();
    rig.akey(p, 1, { vl: 1 });
    rig.bytes(DATA, 0x10_0000).set(pattern(0x10_0000));
    for (const [from, to] of [
      [0, 5],
      [5, 0],
    ]) {
      expectMemory(
        rig,
        p,
        (csb) => copy(DATA + from, DATA + to, 0x9_0001, { csb, akey1: 1 }),
        (m) => m.copyWithin(to, from, from + 0x9_0001),
        0x10_0000,
      );
    }
  });

  it('S-39 S-88 overlap across scattered pages, in both directions, sliced or not', () => {
    const { rig, p } = ready();
    scatter(rig);
    fc.assert(
      fc.property(fc.nat(0x4000), fc.nat(0x4000), fc.integer({ min: 1, max: 0xb000 }), fc.boolean(), (a, b, size, block) => {
        rig.bytes(DATA, 16 * PAGE).set(pattern(16 * PAGE, a));
        const before = scattered(rig, SCATTERED + a, size);
        rig.run(p, copy(SCATTERED + a, SCATTERED + b, size, block ? { csb: rig.csb(p) } : {}));
        expect(Buffer.compare(scattered(rig, SCATTERED + b, size), before)).toBe(0);
      }),
      { numRuns: 60 },
    );
    expect(rig.records()).toEqual([]);
  });

  it('S-88 overlap over several slices and many mappings, in both directions', () => {
    const { rig, p } = ready();
    // 2 MiB, page by page in a shuffled order.
    const pages = 512;
    const place = (page: number) => ((page * 197) % pages) * PAGE;
    for (let page = 0; page < pages; page++) rig.map(DATA + place(page), PAGE, { at: SCATTERED + page * PAGE });
    const read = () => Buffer.concat(Array.from({ length: pages }, (_, page) => rig.bytes(DATA + place(page), PAGE)));
    for (const [from, to] of [
      [0x1_0003, 0x2_8001],
      [0x2_8001, 0x1_0003],
    ]) {
      rig.bytes(DATA, pages * PAGE).set(pattern(pages * PAGE, from));
      const expected = read();
      const size = 5 * SLICE + 77;
      expected.copyWithin(to, from, from + size);
      rig.run(p, copy(SCATTERED + from, SCATTERED + to, size, { csb: rig.csb(p) }));
      expect(Buffer.compare(read(), expected)).toBe(0);
    }
  });

  it('S-18 attr bits are accepted and change nothing', () => {
    const { rig, p } = ready();
    rig.bytes(DATA, 0x4000).set(pattern(0x4000));
    for (const attr of [0x0f, 0xf0, 0xff, 0xa5]) {
      const at = 0x2000 + attr;
      expectMemory(
        rig,
        p,
        (csb) => copy(DATA, DATA + at, 300, { csb, attr }),
        (m) => m.copyWithin(at, 0, 300),
        0x4000,
      );
      expectMemory(
        rig,
        p,
        (csb) => repcopy(DATA, DATA + at, 300, { csb, attr }),
        (m) => m.copyWithin(at, 0, 300),
        0x4000,
      );
      expectMemory(
        rig,
        p,
        (csb) => writeImmediate(DATA + at, [attr, 1], { csb, attr }),
        (m) => m.set([attr, 1], at),
        0x4000,
      );
    }
  });

  it('ref §5.3 the size limit is exact, and a size of 4 GiB is only refused when the limit is lower', () => {
    const { rig, p } = ready({}, { maxBuffer: 10 });
    expect(provoke(rig, p, (csb) => copy(DATA, DATA, 2 ** 32, { csb }))).toEqual(failed({ step: 7, sub: 3, context: 1, index: 0 }));
    const wide = ready();
    const after = provoke(wide.rig, wide.p, (csb) => copy(0, DATA, 2 ** 32, { csb }));
    expect(after).toEqual(failed({ step: 10, sub: 1, context: 1, index: 0, operand: 0 }));
  });
});

describe('S-41 holes: nothing moves beyond the last valid byte', () => {
  const HOLE = DATA + 0x8_0000;
  it.each([
    ['source', 0, HOLE - 0x6_1003, DATA + 0x10_0000],
    ['destination', 1, DATA + 0x10_0000, HOLE - 0x6_1003],
    ['destination of an overlapping copy upwards', 1, HOLE - 0x6_1003 - 0x1_0000, HOLE - 0x6_1003],
    ['source of an overlapping copy upwards', 0, HOLE - 0x6_1003, HOLE - 0x6_1003 + 0x1_0000],
    ['destination of an overlapping copy downwards', 1, HOLE - 0x6_1003 + 0x8000, HOLE - 0x6_1003],
  ])('S-41 %s', (_title, operand, from, to) => {
    const { rig, p } = ready({ pages: true });
    rig.bytes(DATA, LAYOUT.dataBytes).set(pattern(LAYOUT.dataBytes));
    const size = 0x9_0000;
    // Overlap decides which side meets the hole first.
    rig.unmap(HOLE);
    const expected = rig.bytes(DATA, LAYOUT.dataBytes).slice();
    const reach = Math.min(HOLE - from > 0 && HOLE - from < size ? HOLE - from : size, HOLE - to > 0 && HOLE - to < size ? HOLE - to : size);
    const first = from + reach === HOLE ? 0 : 1;
    expected.copyWithin(to - DATA, from - DATA, from - DATA + reach);
    const after = provoke(rig, p, (csb) => copy(from, to, size, { csb }));
    expect(after).toEqual(failed({ step: 10, sub: 1, context: 1, index: 0, operand: first }));
    if (!/downwards|source of an overlapping/.test(_title)) expect(first).toBe(operand);
    expect(Buffer.compare(rig.bytes(DATA, LAYOUT.dataBytes), expected)).toBe(0);
  });

  it('S-41 data read before data write: when both sides end at the same byte, the source is named', () => {
    const { rig, p } = ready({ pages: true });
    rig.unmap(DATA + PAGE);
    rig.unmap(DATA + 3 * PAGE);
    const after = provoke(rig, p, (csb) => copy(DATA + PAGE - 8, DATA + 3 * PAGE - 8, 16, { csb }));
    expect(after).toEqual(failed({ step: 10, sub: 1, context: 1, index: 0, operand: 0 }));
  });

  it.each([0xffff_ffff_ffff_fff8n, 0xffff_ffff_ffff_ff00n, 2n ** 63n, 2n ** 53n, 2n ** 53n - 8n])(
    'S-41 S-103 a buffer at 0x%s, or crossing 2^64, is not mapped: step 10 / sub 1',
    (address) => {
      for (const encode of [
        (csb: number) => copy(address, DATA, 64, { csb }),
        (csb: number) => repcopy(address, DATA, 64, { csb }),
        (csb: number) => writeImmediate(address, pattern(32), { csb }),
      ]) {
        const { rig, p } = ready();
        expect(provoke(rig, p, encode)).toEqual(failed({ step: 10, sub: 1, context: 1, index: 0, operand: 0 }));
      }
      for (const encode of [
        (csb: number) => copy(DATA, address, 64, { csb }),
        (csb: number) => repcopy(DATA, address, 64, { csb }),
        (csb: number) => copy(address - 8n, address, 64, { csb }),
      ]) {
        const { rig, p } = ready();
        const [{ records }] = [provoke(rig, p, encode)];
        expect(records[0].slice(0, 12)).toMatch(/^010af70707110100|^010af70717110100|^010af707[01]711/);
      }
    },
  );

  it('S-102 a mapping that goes away between two slices: what moved has moved, the rest fails with sub 1', () => {
    for (const unmapSource of [true, false]) {
      const { rig, p } = ready({ pages: true });
      const [from, to, size] = [DATA, DATA + 0x10_0000, 0xc_0000];
      rig.bytes(from, size).set(pattern(size));
      const csb = rig.csb(p);
      rig.queue(p, copy(from, to, size, { csb }), nop());
      rig.fn.step(1);
      rig.unmap((unmapSource ? from : to) + 2 * SLICE + PAGE);
      rig.drain();
      const moved = 2 * SLICE + PAGE;
      expect(rig.records()).toEqual([record({ step: 10, sub: 1, context: 1, index: 0, operand: unmapSource ? 0 : 1 })]);
      expect(rig.hex(csb, 32)).toBe(CSB.failed);
      expect(Buffer.compare(rig.bytes(to, moved), rig.bytes(from, moved))).toBe(0);
      expect(rig.bytes(to + moved, size - moved).every((byte) => byte === 0)).toBe(true);
    }
  });

  it('S-102 a mapping that was used a moment ago is never written again once it is removed', () => {
    const { rig, p } = ready({ pages: true });
    rig.run(p, copy(DATA, DATA + 0x10_0000, 64), copy(DATA, DATA + 0x10_0000, 64, { csb: rig.csb(p) }));
    rig.unmap(DATA + 0x10_0000);
    rig.put(DATA, pattern(64, 99));
    const before = rig.hex(DATA + 0x10_0000, 64);
    rig.run(p, copy(DATA, DATA + 0x10_0000, 64));
    expect(rig.hex(DATA + 0x10_0000, 64)).toBe(before);
    expect(rig.records()).toEqual([record({ step: 10, sub: 1, context: 1, index: 2, operand: 1 })]);
  });

  it('S-102 a mapping removed and replaced between two slices: the new memory is used', () => {
    const { rig, p } = ready({ pages: true });
    const other = new Rig();
    const [from, to, size] = [DATA, DATA + 0x10_0000, 3 * SLICE];
    rig.bytes(from, size).fill(1);
    rig.queue(p, copy(from, to, size));
    rig.fn.step(1);
    rig.unmap(to + 2 * SLICE);
    rig.memory.own.map(to + 2 * SLICE, PAGE, Access.READ_WRITE, other.window, other.at(to));
    rig.drain();
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 1));
    expect(rig.bytes(to + 2 * SLICE, PAGE).every((byte) => byte === 0)).toBe(true);
    expect(other.bytes(to, PAGE).every((byte) => byte === 1)).toBe(true);
  });

  it('S-102 the slot of the descriptor that is being copied goes away: it cannot be consumed', () => {
    const { rig, p } = ready({ pages: true });
    const csb = rig.csb(p);
    rig.queue(p, copy(DATA, DATA + 0x10_0000, 0x10_0000, { csb }));
    rig.fn.step(1);
    rig.unmap(p.ring);
    rig.drain();
    expect(rig.records()).toEqual([record({ step: 7, sub: 1, context: 1, index: 0 })]);
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 0));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });
});

describe('REPCOPY', () => {
  it('S-22 the block is 4 KiB, any alignment; destination byte i is source byte i mod 4096, from the first byte on', () => {
    const { rig, p } = ready();
    const span = 0x10_0000;
    fc.assert(
      fc.property(fc.nat(0x1000), fc.nat(0x1000), fc.oneof(fc.integer({ min: 1, max: 0x4000 }), fc.integer({ min: 1, max: 0x6_0000 })), (from, to, size) => {
        const length = 0x3000 + to + size + 0x100;
        rig.bytes(DATA, length).set(pattern(length, to));
        expectMemory(
          rig,
          p,
          (csb) => repcopy(DATA + from, DATA + 0x3000 + to, size, { csb }),
          (m) => {
            for (let i = 0; i < size; i++) m[0x3000 + to + i] = m[from + (i % 4096)];
          },
          Math.min(length, span),
        );
      }),
      { numRuns: 40 },
    );
  });

  it.each([1, 4095, 4096, 4097, 8192, SLICE - 1, SLICE + 1, 2 * SLICE + 4097])('S-22 the phase goes on over pieces, mappings and slices: %d bytes', (size) => {
    const { rig, p } = ready({ pages: true });
    rig.bytes(DATA, PAGE).set(pattern(PAGE));
    rig.run(p, repcopy(DATA, DATA + 0x2345, size, { csb: rig.csb(p) }));
    for (let i = 0; i < size; i += 509) expect(rig.u8[rig.at(DATA + 0x2345 + i)]).toBe(rig.u8[rig.at(DATA + (i % PAGE))]);
    expect(rig.u8[rig.at(DATA + 0x2345 + size)]).toBe(0);
    expect(rig.u8[rig.at(DATA + 0x2344)]).toBe(0);
  });

  it('S-106 the block is read first: a destination that overlaps it changes nothing of what is repeated', () => {
    const { rig, p } = ready();
    for (const to of [0, 1, 100, 4095, 0x1000]) {
      rig.bytes(DATA, 0x8_0000).set(pattern(0x8_0000, to));
      const block = rig.bytes(DATA, PAGE).slice();
      const size = 0x6_0000;
      expectMemory(
        rig,
        p,
        (csb) => repcopy(DATA, DATA + to, size, { csb }),
        (m) => {
          for (let i = 0; i < size; i++) m[to + i] = block[i % PAGE];
        },
        0x8_0000,
      );
    }
  });

  it('S-22 a block that lies on two scattered pages', () => {
    const { rig, p } = ready();
    scatter(rig);
    rig.bytes(DATA, 16 * PAGE).set(pattern(16 * PAGE));
    const block = scattered(rig, SCATTERED + 0x1234, PAGE);
    rig.run(p, repcopy(SCATTERED + 0x1234, SCATTERED + 0x5001, 10_000, { csb: rig.csb(p) }));
    const result = scattered(rig, SCATTERED + 0x5001, 10_000);
    for (let i = 0; i < 10_000; i++) if (result[i] !== block[i % PAGE]) throw new Error(`byte ${i}`);
  });

  it('S-41 a hole in the destination: everything before it is filled', () => {
    const { rig, p } = ready({ pages: true });
    rig.bytes(DATA, PAGE).fill(9);
    rig.unmap(DATA + 0x6_0000);
    const after = provoke(rig, p, (csb) => repcopy(DATA, DATA + 0x1800, 0x10_0000, { csb }));
    expect(after).toEqual(failed({ step: 10, sub: 1, context: 1, index: 0, operand: 1 }));
    expect(rig.bytes(DATA + 0x1800, 0x5_e800).every((byte) => byte === 9)).toBe(true);
    expect(rig.bytes(DATA + 0x6_0000, 0x10_0000).every((byte) => byte === 0)).toBe(true);
  });
});

describe('WRT_IMM', () => {
  it.each(Array.from({ length: 32 }, (_, i) => i + 1))('S-21 writes %d bytes at any alignment and no byte more', (size) => {
    const { rig, p } = ready();
    const data = pattern(32, size);
    for (let at = 0; at < 9; at++) {
      rig.bytes(DATA, 128).fill(0xee);
      expectMemory(
        rig,
        p,
        (csb) => writeImmediate(DATA + 32 + at, data, { csb, size }),
        (m) => m.set(data.subarray(0, size), 32 + at),
        128,
      );
    }
  });

  it('S-21 over the end of a mapping', () => {
    const { rig, p } = ready();
    scatter(rig);
    const data = pattern(32, 3);
    for (let before = 1; before < 32; before++) {
      rig.run(p, writeImmediate(SCATTERED + PAGE - before, data, { csb: rig.csb(p) }));
      expect(Buffer.compare(scattered(rig, SCATTERED + PAGE - before, 32), data)).toBe(0);
    }
  });

  it('S-41 into a hole: the bytes before it', () => {
    const { rig, p } = ready({ pages: true });
    rig.unmap(DATA + PAGE);
    const after = provoke(rig, p, (csb) => writeImmediate(DATA + PAGE - 5, pattern(32, 1), { csb }));
    expect(after).toEqual(failed({ step: 10, sub: 1, context: 1, index: 0, operand: 0 }));
    expect(Buffer.compare(rig.bytes(DATA + PAGE - 5, 5), pattern(32, 1).subarray(0, 5))).toBe(0);
  });

  it('S-106 a WRT_IMM over its own slot: the data are those of the descriptor, and vl is cleared after it', () => {
    const { rig, p } = ready();
    const data = pattern(32, 5);
    rig.run(p, writeImmediate(p.ring + 16, data, { csb: rig.csb(p) }));
    expect(Buffer.compare(rig.bytes(p.ring + 16, 32), data)).toBe(0);
    expect(rig.isValid(p, 0)).toBe(false);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 1));
  });
});

describe('S-106 completion blocks inside the destination', () => {
  it.each<[string, (at: number, csb: number) => Encode]>([
    ['COPY', (at, csb) => copy(DATA, at, 64, { csb })],
    ['COPY of several slices', (at, csb) => copy(DATA, at - 0x8_0000, 0x8_0040, { csb })],
    ['REPCOPY', (at, csb) => repcopy(DATA, at, 64, { csb })],
    ['WRT_IMM', (at, csb) => writeImmediate(at, [7, 7, 7, 7, 7, 7, 7, 7], { csb })],
  ])('S-106 %s: the write of the block comes last', (_title, encode) => {
    const { rig, p } = ready();
    rig.bytes(DATA, 0x10_0000).fill(7);
    const csb = DATA + 0x20_0000;
    rig.run(p, encode(csb, csb));
    expect(rig.u64(csb)).toBe(0x0707_0707_0707_0706n);
    expect(rig.hex(p.status, 16)).toBe(status(RUN, 1));
  });
});
