import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PatternChecker, type Transfer } from '../../src/offload/pattern.js';

const SIZE = 200;
const GUARD = 32;

const transfers: fc.Arbitrary<Transfer> = fc
  .integer({ min: 1, max: SIZE })
  .chain((length) =>
    fc.record({ length: fc.constant(length), sourceOffset: fc.nat(SIZE - length), destinationOffset: fc.nat(SIZE - length) }),
  );

/** Buffers as they are after a transfer that did what it should. */
function transferred(checker: PatternChecker, transfer: Transfer) {
  const source = Buffer.alloc(checker.totalBytes);
  const destination = Buffer.alloc(checker.totalBytes);
  checker.prepare(source, destination, transfer);
  const { sourceOffset, destinationOffset, length } = transfer;
  source.copy(destination, GUARD + destinationOffset, GUARD + sourceOffset, GUARD + sourceOffset + length);
  return { source, destination };
}

describe("dmatest's patterns", () => {
  it('the bytes are those of drivers/dma/dmatest.c', () => {
    const checker = new PatternChecker(8, 0);
    const source = Buffer.alloc(8);
    const destination = Buffer.alloc(8);
    checker.prepare(source, destination, { sourceOffset: 2, destinationOffset: 5, length: 3 });
    // PATTERN_SRC 0x80, PATTERN_COPY 0x40, PATTERN_DST 0, PATTERN_OVERWRITE 0x20, ~count & 0x1f.
    expect(source.toString('hex')).toBe('9f9edddcdb9a9998');
    expect(destination.toString('hex')).toBe('1f1e1d1c1b3a3938');
  });

  it('a correct transfer has no error, wherever it lies', () => {
    const checker = new PatternChecker(SIZE, GUARD);
    fc.assert(
      fc.property(transfers, (transfer) => {
        const { source, destination } = transferred(checker, transfer);
        expect(checker.check(source, destination, transfer)).toEqual({ errors: 0, first: [] });
      }),
    );
  });

  it('any single changed bit is found, guards included, and named', () => {
    const checker = new PatternChecker(SIZE, GUARD);
    fc.assert(
      fc.property(transfers, fc.boolean(), fc.nat(SIZE + 2 * GUARD - 1), fc.nat(7), (transfer, inSource, at, bit) => {
        const { source, destination } = transferred(checker, transfer);
        const target = inSource ? source : destination;
        const expected = target[at];
        target[at] ^= 1 << bit;
        const { errors, first } = checker.check(source, destination, transfer);
        expect(errors).toBe(1);
        expect(first).toEqual([{ buffer: inSource ? 'src' : 'dst', offset: at - GUARD, expected, actual: expected ^ (1 << bit) }]);
      }),
    );
  });

  it('a transfer that did not happen is "not copied", bytes beyond its end are "was copied"', () => {
    const checker = new PatternChecker(SIZE, GUARD);
    const transfer = { sourceOffset: 10, destinationOffset: 20, length: 5 };
    const none = transferred(checker, transfer);
    checker.prepare(none.source, none.destination, transfer);
    const { errors, first } = checker.check(none.source, none.destination, transfer);
    expect(errors).toBe(5);
    expect(PatternChecker.explain(first[0])).toBe('dstbuf[0x14] not copied! Expected d5, got 2b');
    const overrun = transferred(checker, transfer);
    overrun.source.copy(overrun.destination, GUARD + 25, GUARD + 15, GUARD + 16);
    const beyond = checker.check(overrun.source, overrun.destination, transfer);
    expect(beyond.errors).toBe(1);
    expect(PatternChecker.explain(beyond.first[0])).toBe('dstbuf[0x19] was copied! Expected 06, got 90');
  });
});
