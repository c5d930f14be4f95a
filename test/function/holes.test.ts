/** Data operations that meet the end of what is mapped, and mappings that go away: S-41, S-102. */
import { describe, expect, it } from 'vitest';
import { Access } from '../../src/memory/address-space.js';
import { ContextState } from '../../src/spec/index.js';
import { DATA, pattern, ready } from './data.js';
import { CSB, failed, provoke, record, status } from './expect.js';
import { copy, nop, repcopy, writeImmediate } from './ops.js';
import { LAYOUT, PAGE, Rig } from './rig.js';

const { RUN, ERR_FN } = ContextState;
const SLICE = 0x4_0000;

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
    const reach = Math.min(
      HOLE - from > 0 && HOLE - from < size ? HOLE - from : size,
      HOLE - to > 0 && HOLE - to < size ? HOLE - to : size,
    );
    const first = from + reach === HOLE ? 0 : 1;
    expected.copyWithin(to - DATA, from - DATA, from - DATA + reach);
    const after = provoke(rig, p, (csb) => copy(from, to, size, { csb }));
    expect(after).toEqual(failed({ step: 10, sub: 1, context: 1, index: 0, operand: first }));
    if (!/downwards|source of an overlapping/.test(_title)) expect(first).toBe(operand);
    expect(Buffer.compare(rig.bytes(DATA, LAYOUT.dataBytes), expected)).toBe(0);
  });

  it.each([
    ['source', 0, HOLE - 0x7_0000, HOLE + 0x1_0000],
    ['destination', 1, HOLE - 0x7_1000, HOLE - 0x6_1000],
  ])(
    'S-41 the %s of a copy from the end: a hole that is mapped again meanwhile is reported as it was found',
    (_title, operand, from, to) => {
      const { rig, p } = ready({ pages: true });
      rig.unmap(HOLE);
      const csb = rig.csb(p);
      rig.queue(p, copy(from, to, 0x9_0000, { csb }));
      rig.fn.step(1);
      rig.map(HOLE);
      rig.drain();
      expect(rig.records()).toEqual([record({ step: 10, sub: 1, context: 1, index: 0, operand })]);
      expect(rig.completion(csb)).toEqual({ signal: 0n, er: true });
    },
  );

  it('S-41 data read before data write: when both sides end at the same byte, the source is named', () => {
    const { rig, p } = ready({ pages: true });
    rig.unmap(DATA + PAGE);
    rig.unmap(DATA + 3 * PAGE);
    const after = provoke(rig, p, (csb) => copy(DATA + PAGE - 8, DATA + 3 * PAGE - 8, 16, { csb }));
    expect(after).toEqual(failed({ step: 10, sub: 1, context: 1, index: 0, operand: 0 }));
  });

  it.each([0xffff_ffff_ffff_fff8n, 0xffff_ffff_ffff_ff00n, 2n ** 63n, 2n ** 53n, 2n ** 53n - 8n])(
    'S-41 S-103 a buffer at %s, or crossing 2^64, is not mapped: step 10 / sub 1',
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

  it('S-102 the slot of the descriptor that is being copied goes away: it cannot be consumed, so it is not completed either', () => {
    const { rig, p } = ready({ pages: true });
    const csb = rig.csb(p);
    rig.queue(p, copy(DATA, DATA + 0x10_0000, 0x10_0000, { csb }));
    rig.fn.step(1);
    rig.unmap(p.ring);
    rig.drain();
    expect(rig.records()).toEqual([record({ step: 7, sub: 1, context: 1, index: 0 })]);
    expect(rig.hex(p.status, 16)).toBe(status(ERR_FN, 0));
    expect(rig.hex(csb, 32)).toBe(CSB.armed);
  });
});
