import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { moverFixture, pattern, URIS } from './rig.js';

describe.each(URIS)('overlapping ranges over $name', ({ uri }) => {
  const start = moverFixture();

  it('copy is memmove: random overlaps agree with Buffer.copy', async () => {
    const mover = await start(uri);
    const size = 300_000;
    const original = Buffer.alloc(size);
    pattern(original);
    const buffer = mover.alloc(size);
    const length = fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 250_000 }));
    const distance = fc.oneof(
      fc.integer({ min: -70, max: 70 }),
      fc.integer({ min: -40_000, max: 40_000 }),
      fc.integer({ min: -200_000, max: 200_000 }),
    );
    await fc.assert(
      fc.asyncProperty(length, distance, fc.nat(), async (bytes, apart, where) => {
        const room = size - bytes - Math.abs(apart);
        fc.pre(room >= 0);
        const source = (where % (room + 1)) + (apart < 0 ? -apart : 0);
        const target = source + apart;
        original.copy(buffer);
        const expected = Buffer.from(original);
        expected.copy(expected, target, source, source + bytes);
        await mover.copy(buffer.subarray(source, source + bytes), buffer.subarray(target, target + bytes));
        expect(buffer.compare(expected)).toBe(0);
      }),
      { numRuns: 150 },
    );
  });

  it('memory that was registered twice overlaps all the same: process addresses decide', async () => {
    const mover = await start(uri);
    const memory = new Uint8Array(200_000);
    const lower = memory.subarray(0, 150_000);
    const upper = memory.subarray(50_000);
    const registrations = [mover.register(lower), mover.register(upper)];
    for (const [from, to] of [
      [lower, upper],
      [upper, lower],
    ]) {
      pattern(memory);
      const expected = Buffer.from(memory);
      expected.copy(expected, to.byteOffset, from.byteOffset, from.byteOffset + from.length);
      await mover.copy(from, to);
      expect(Buffer.compare(memory, expected)).toBe(0);
    }
    await Promise.all(registrations.map((registration) => registration.close()));
  });

  it('in a batch, on several functions, each element is a memmove of its own', async () => {
    const mover = await start(uri, { functions: 2 });
    const buffer = mover.alloc(1_000_000);
    pattern(buffer);
    const expected = Buffer.from(buffer);
    const items = Array.from({ length: 100 }, (_, i) => {
      const at = i * 10_000;
      expected.copy(expected, at + 10 + i, at, at + 9000);
      return { op: 'copy' as const, source: buffer.subarray(at, at + 9000), destination: buffer.subarray(at + 10 + i, at + 9010 + i) };
    });
    await mover.batch(items);
    expect(buffer.equals(expected)).toBe(true);
  });
});
