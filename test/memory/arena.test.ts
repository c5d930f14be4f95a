import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Arena, type Block, bytesOf } from '../../src/memory/arena.js';
import { allocateRegion, type Region } from '../../src/memory/region.js';

const CHUNK = 64 * 1024;

const request = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      length: fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 3 * CHUNK })),
      alignment: fc.constantFrom(1, 8, 64, 4096, 65536),
    }),
  },
  { weight: 2, arbitrary: fc.record({ free: fc.nat() }) },
);

describe('Arena', () => {
  it('hands out blocks that are aligned in the process, disjoint, and keep their bytes until they are freed', () => {
    fc.assert(
      fc.property(fc.array(request, { minLength: 1, maxLength: 40 }), (requests) => {
        const mapped = new Set<Region>();
        const arena = new Arena({
          chunkBytes: CHUNK,
          onGrow: (region) => mapped.add(region),
          onShrink: (region) => expect(mapped.delete(region)).toBe(true),
        });
        const held: { block: Block; fill: number }[] = [];
        let fill = 0;
        for (const entry of requests) {
          if ('free' in entry) {
            if (held.length === 0) continue;
            const [{ block, fill }] = held.splice(entry.free % held.length, 1);
            expect(bytesOf(block).every((byte) => byte === fill)).toBe(true);
            arena.free(block);
          } else {
            const block = arena.allocate(entry.length, entry.alignment);
            expect(block.byteLength).toBe(entry.length);
            expect((block.region.address + block.offset) % entry.alignment).toBe(0);
            expect(block.offset + block.byteLength).toBeLessThanOrEqual(block.region.byteLength);
            expect(mapped.has(block.region)).toBe(true);
            fill = (fill + 1) & 0xff;
            bytesOf(block).fill(fill);
            held.push({ block, fill });
          }
        }
        // A block that overlapped another would have changed its bytes.
        for (const { block, fill } of held) expect(bytesOf(block).every((byte) => byte === fill)).toBe(true);
        expect(new Set(arena.regions)).toEqual(mapped);
        for (const { block } of held) arena.free(block);
        expect(arena.regions.length).toBeLessThanOrEqual(1);
        arena.close();
        expect(mapped.size).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it('gives an empty chunk back, but keeps the last one', () => {
    const shrunk: Region[] = [];
    const arena = new Arena({ chunkBytes: 4096, onShrink: (region) => shrunk.push(region) });
    const first = arena.allocate(4096);
    const second = arena.allocate(4096);
    expect(arena.regions).toEqual([first.region, second.region]);
    arena.free(first);
    expect(shrunk).toEqual([first.region]);
    arena.free(second);
    expect(shrunk).toEqual([first.region]);
    expect(arena.allocate(64).region).toBe(second.region);
    arena.close();
    expect(shrunk).toEqual([first.region, second.region]);
    arena.free(second); // after close() nothing is left to give back
  });

  it.each([0, -1, 1.5, Number.NaN, 2 ** 31 + 1, Number.POSITIVE_INFINITY])('refuses %d bytes, also when a chunk has room', (length) => {
    const arena = new Arena();
    for (let round = 0; round < 2; round++) {
      expect(() => arena.allocate(length)).toThrow(expect.objectContaining({ code: 'ERR_SDXI_ARGUMENT', hint: expect.any(String) }));
      arena.allocate(64);
    }
    expect(arena.regions.length).toBe(1);
    arena.close();
  });

  it.each([0, -8, 3, 0.5, Number.NaN, 2 ** 22])('refuses alignment %d', (alignment) => {
    const arena = new Arena();
    expect(() => arena.allocate(64, alignment)).toThrow(expect.objectContaining({ code: 'ERR_SDXI_ARGUMENT', hint: expect.any(String) }));
    expect(arena.allocate(64).offset).toBe(0);
    arena.close();
  });

  it('keeps nothing of a request that it cannot serve', () => {
    const regions = new Set<Region>();
    const arena = new Arena({ onGrow: (region) => regions.add(region), onShrink: (region) => regions.delete(region) });
    // 2 GiB is all that a region holds: on a larger alignment there may be no place for it. Regions start on pages, rarely on 2 MiB.
    try {
      arena.free(arena.allocate(2 ** 31, 2 ** 21));
    } catch (error) {
      expect(error).toMatchObject({ code: 'ERR_SDXI_ARGUMENT' });
      expect(arena.regions).toEqual([]);
    }
    arena.close();
    expect(regions.size).toBe(0);
  });

  it('asks nobody twice when the hook refuses', () => {
    let calls = 0;
    const arena = new Arena({
      onGrow: () => {
        calls++;
        throw new Error('no addresses left');
      },
    });
    expect(() => arena.allocate(64)).toThrow('no addresses left');
    expect([calls, arena.regions]).toEqual([1, []]);
  });
});

describe('an arena that takes over', () => {
  it('leaves the blocks that are in use alone, and takes its regions where it is told', () => {
    const made: number[] = [];
    const source = (byteLength: number) => {
      made.push(byteLength);
      return allocateRegion(byteLength);
    };
    const arena = new Arena({ chunkBytes: CHUNK, source });
    const region = allocateRegion(CHUNK);
    expect(
      arena.adopt(region, [
        { offset: 0, byteLength: 128 },
        { offset: 64, byteLength: 8 },
      ]),
    ).toBe(false);
    expect(arena.adopt(region, [{ offset: CHUNK - 8, byteLength: 16 }])).toBe(false);
    expect(arena.regions).toEqual([]);
    expect(
      arena.adopt(region, [
        { offset: 0, byteLength: 128 },
        { offset: 4096, byteLength: CHUNK - 8192 },
      ]),
    ).toBe(true);
    expect(arena.allocate(64)).toEqual({ region, offset: 128, byteLength: 64 });
    expect(arena.allocate(4096, 4096)).toEqual({ region, offset: CHUNK - 4096, byteLength: 4096 });
    expect(made).toEqual([]);
    expect(arena.allocate(8192).region).not.toBe(region);
    expect(made).toEqual([CHUNK]);
    arena.close();
  });
});
