/** REPCOPY and WRT_IMM (ref §5.3), and completion blocks inside the destination (S-106). */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ContextState } from '../../src/spec/index.js';
import { DATA, expectMemory, pattern, ready, SCATTERED, scatter, scattered } from './data.js';
import { failed, provoke, status } from './expect.js';
import { copy, repcopy, writeImmediate } from './ops.js';
import { type Encode, PAGE } from './rig.js';

const { RUN } = ContextState;
const SLICE = 0x4_0000;

describe('REPCOPY', () => {
  it('S-22 the block is 4 KiB, any alignment; destination byte i is source byte i mod 4096, from the first byte on', () => {
    const { rig, p } = ready();
    const span = 0x10_0000;
    fc.assert(
      fc.property(
        fc.nat(0x1000),
        fc.nat(0x1000),
        fc.oneof(fc.integer({ min: 1, max: 0x4000 }), fc.integer({ min: 1, max: 0x6_0000 })),
        (from, to, size) => {
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
        },
      ),
      { numRuns: 40 },
    );
  });

  it.each([1, 4095, 4096, 4097, 8192, SLICE - 1, SLICE + 1, 2 * SLICE + 4097])(
    'S-22 the phase goes on over pieces, mappings and slices: %d bytes',
    (size) => {
      const { rig, p } = ready({ pages: true });
      rig.bytes(DATA, PAGE).set(pattern(PAGE));
      rig.run(p, repcopy(DATA, DATA + 0x2345, size, { csb: rig.csb(p) }));
      for (let i = 0; i < size; i += 509) expect(rig.u8[rig.at(DATA + 0x2345 + i)]).toBe(rig.u8[rig.at(DATA + (i % PAGE))]);
      expect(rig.u8[rig.at(DATA + 0x2345 + size)]).toBe(0);
      expect(rig.u8[rig.at(DATA + 0x2344)]).toBe(0);
    },
  );

  it.each([1, 4096, 16_384, 16_385, 3 * PAGE + 7, SLICE + 4097, 3 * SLICE])(
    'ref §5.3 a block of one byte, repeated over %d bytes',
    (size) => {
      for (const byte of [0, 0xa5]) {
        const { rig, p } = ready({ pages: true });
        rig.bytes(DATA, 0x10_0000).fill(0xee);
        rig.bytes(DATA, PAGE).fill(byte);
        expectMemory(
          rig,
          p,
          (csb) => repcopy(DATA, DATA + 0x1803, size, { csb }),
          (m) => m.fill(byte, 0x1803, 0x1803 + size),
          0x10_0000,
        );
      }
    },
  );

  it('S-22 a block that is one byte but for its last: no short way is taken', () => {
    const { rig, p } = ready();
    rig.bytes(DATA, PAGE).fill(3);
    rig.u8[rig.at(DATA + PAGE - 1)] = 4;
    expectMemory(
      rig,
      p,
      (csb) => repcopy(DATA, DATA + 0x1000, 20_000, { csb }),
      (m) => {
        for (let i = 0; i < 20_000; i++) m[0x1000 + i] = i % PAGE === PAGE - 1 ? 4 : 3;
      },
      0x8000,
    );
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
