import { describe, expect, it } from 'vitest';
import { InlineBus } from '../../src/bus/index.js';
import { Deadlines } from '../../src/driver/deadlines.js';
import { DmaSpace, IovaSpace } from '../../src/driver/dma.js';
import { SdxiError } from '../../src/errors.js';
import { allocateRegion, pinRegion } from '../../src/memory/region.js';
import { wrap } from './rig.js';

describe('IOVAs', () => {
  it('start at 2^32, keep the offset in the page, and leave a page between any two', () => {
    const space = new IovaSpace();
    const first = space.reserve(0x7000_0000_0123, 10);
    const second = space.reserve(0x7000_0000_0ff8, 16);
    const third = space.reserve(0x5000, 4096);
    expect(first).toBe(2 ** 32 + 0x123);
    expect(second).toBe(2 ** 32 + 0x2ff8);
    expect(third).toBe(2 ** 32 + 0x5000);
  });

  it('of memory that starts on a huge page do so too, so that an IOMMU can map it as such', () => {
    const space = new IovaSpace();
    space.reserve(0x1000, 4096);
    expect(space.reserve(0x7000_0020_0000, 2 ** 21) % 2 ** 21).toBe(0);
    // Neither less than a huge page nor memory that starts elsewhere takes the room for it.
    expect(space.reserve(0x7000_0040_0000, 4096)).toBe(2 ** 32 + 2 * 4096);
    expect(space.reserve(0x7000_0060_1000, 2 ** 20)).toBe(2 ** 32 + 4 * 4096);
  });

  it('are reused once released', () => {
    const space = new IovaSpace();
    const first = space.reserve(0x1008, 100_000);
    space.reserve(0x2000, 1);
    space.release(first, 100_000);
    expect(space.reserve(0x3008, 100_000)).toBe(first);
  });

  it('that run out are a resource error', () => {
    const space = new IovaSpace();
    space.reserve(0, 2 ** 46);
    expect(() => space.reserve(0, 2 ** 46)).toThrow(expect.objectContaining({ code: 'ERR_SDXI_RESOURCE' }));
  });
});

describe('the DMA memory of a function', () => {
  it('the function sees exactly the bytes of a region, page offset included', () => {
    const bus = new InlineBus();
    const dma = new DmaSpace(bus);
    const memory = Buffer.from(new ArrayBuffer(10_000), 100, 333);
    const region = pinRegion(memory);
    const range = dma.map(region);
    expect(range.iova % 4096).toBe(region.address % 4096);
    expect(range.byteLength).toBe(333);
  });

  it('pieces are zeroed, aligned, and at the place of their region', () => {
    const dma = new DmaSpace(new InlineBus());
    const first = dma.allocate(100);
    first.bytes.fill(0xff);
    first.free();
    first.free();
    const again = dma.allocate(100);
    expect(again.iova).toBe(first.iova);
    expect(again.bytes.every((byte) => byte === 0)).toBe(true);
    const page = dma.allocate(5000, 4096);
    expect(page.iova % 4096).toBe(0);
    expect(page.address % 4096).toBe(0);
  });

  it('memory that is used again is zero wherever it was used before', () => {
    const dma = new DmaSpace(new InlineBus());
    const first = dma.allocate(1000);
    const second = dma.allocate(1000);
    first.bytes.fill(1);
    second.bytes.fill(2);
    first.free();
    second.free();
    const both = dma.allocate(10_000);
    expect(both.iova).toBe(first.iova);
    expect(both.bytes.every((byte) => byte === 0)).toBe(true);
  });

  it('comes as the bus advises, unless the user says otherwise', () => {
    const bus = new InlineBus();
    const made: string[] = [];
    const source = (name: string) => (byteLength: number) => {
      made.push(`${name} ${byteLength}`);
      return allocateRegion(byteLength);
    };
    const advised = Object.assign(Object.create(bus), { memoryAdvice: { chunkBytes: 2 ** 20, source: source('advised') } });
    const iovas = new IovaSpace();
    new DmaSpace(advised, iovas).allocate(64);
    new DmaSpace(advised, iovas, source('own')).allocate(2 ** 21).free();
    expect(made).toEqual([`advised ${2 ** 20}`, `own ${2 ** 21}`]);
  });

  it('a mapping that the bus refuses costs no addresses', () => {
    const bus = new InlineBus();
    const dma = new DmaSpace(
      wrap(bus, {
        map: () => {
          throw new SdxiError('ERR_SDXI_MAPPING', 'no');
        },
      }),
    );
    const before = dma.iovas.reserve(0, 1);
    dma.iovas.release(before, 1);
    expect(() => dma.map(allocateRegion(4096))).toThrow('no');
    expect(dma.iovas.reserve(0, 1)).toBe(before);
  });

  it('closing unmaps everything, in all address spaces', () => {
    const bus = new InlineBus();
    const mapped = new Set<string>();
    const dma = new DmaSpace(
      wrap(bus, {
        map: ({ iova, pasid }) => void mapped.add(`${pasid}:${iova}`),
        unmap: (iova, _bytes, pasid) => void mapped.delete(`${pasid}:${iova}`),
      }),
    );
    dma.allocate(10);
    dma.bindPasid(5);
    dma.bindPasid(5);
    dma.map(allocateRegion(4096));
    expect(mapped.size).toBe(4);
    dma.unbindPasid(5);
    expect(mapped.size).toBe(4);
    dma.unbindPasid(5);
    expect(mapped.size).toBe(2);
    dma.bindPasid(6);
    dma.close();
    expect(mapped.size).toBe(0);
  });
});

describe('deadlines', () => {
  const entry = (inMs: number, log: string[], name: string) => ({ deadline: performance.now() + inMs, expire: () => log.push(name) });

  it('expire in order, and not when they were deleted', async () => {
    const log: string[] = [];
    const deadlines = new Deadlines();
    const gone = entry(10, log, 'gone');
    deadlines.add(entry(60, log, 'late'));
    deadlines.add(entry(20, log, 'early'));
    deadlines.add(gone);
    deadlines.delete(gone);
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(log).toEqual(['early', 'late']);
  });

  it('that lie far ahead do not overflow the timer', async () => {
    const log: string[] = [];
    const deadlines = new Deadlines();
    deadlines.add(entry(2 ** 40, log, 'year 2060'));
    deadlines.add({ deadline: Number.POSITIVE_INFINITY, expire: () => log.push('never') });
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(log).toEqual([]);
    deadlines.clear();
  });
});
