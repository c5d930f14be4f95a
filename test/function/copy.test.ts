/** COPY (ref §5.3): data, overlap in either direction, scattered memory. */
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { AddressSpace } from '../../src/memory/address-space.js';
import { DATA, expectMemory, pattern, ready, SCATTERED, scatter, scattered } from './data.js';
import { failed, provoke, record } from './expect.js';
import { copy, repcopy, writeImmediate } from './ops.js';
import { PAGE } from './rig.js';

const SLICE = 0x4_0000;

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
      const middle = 0x1000;
      const span = 0x2000 + 2 * size;
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

  it('S-41 S-88 an overlap over many mappings is looked through in pieces: no turn looks at more than some hundred of them', () => {
    const { rig, p } = ready();
    const pages = 700;
    const hole = 650;
    for (let page = 0; page < pages; page++) if (page !== hole) rig.map(DATA + page * PAGE, PAGE, { at: SCATTERED + page * PAGE });
    const bytes = rig.bytes(DATA, pages * PAGE);
    bytes.set(pattern(pages * PAGE));
    const reachable = (hole - 1) * PAGE - 5; // of a copy that goes one page and 5 bytes further up
    const expected = Buffer.from(bytes);
    expected.copyWithin(PAGE + 5, 0, reachable);
    rig.queue(p, copy(SCATTERED, SCATTERED + PAGE + 5, (pages - 2) * PAGE, { csb: rig.csb(p) }));
    const looks = vi.spyOn(AddressSpace.prototype, 'at');
    const perTurn: number[] = [];
    while (rig.fn.step(1) > 0) perTurn.push(looks.mock.calls.splice(0).length);
    looks.mockRestore();
    expect(Math.max(...perTurn)).toBeLessThan(700);
    expect(rig.records()).toEqual([record({ step: 10, sub: 1, context: 1, index: 0, operand: 1 })]);
    expect(Buffer.compare(bytes, expected)).toBe(0);
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
