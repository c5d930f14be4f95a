import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Access, AddressSpace } from '../../src/memory/address-space.js';
import { allocateRegion, pinRegion } from '../../src/memory/region.js';
import { WINDOW_MAX, Window } from '../../src/memory/window.js';

describe('Window', () => {
  it('lies over memory at any address: starts and ends on 8-byte boundaries, and its views show the same bytes', () => {
    const region = allocateRegion(4096);
    fc.assert(
      fc.property(fc.nat(2000), fc.integer({ min: 1, max: 2000 }), (start, length) => {
        region.bytes.fill(0);
        const { window, offset } = Window.over(region.address + start, length);
        expect(offset).toBe(start % 8);
        expect(window.byteLength % 8).toBe(0);
        expect(window.byteLength - offset - length).toBeLessThan(8);
        window.u8[offset] = 0xa5;
        expect(region.bytes[start]).toBe(0xa5);
        region.bytes[start + length - 1] = 0x5a;
        expect(window.u8[offset + length - 1]).toBe(0x5a);
        window.i64[0] = -2n;
        expect([window.i32[0], window.i32[1], window.u32[0], window.u32[1]]).toEqual([-2, -1, 0xffff_fffe, 0xffff_ffff]);
        expect(window.u8[0]).toBe(0xfe);
      }),
      { numRuns: 50 },
    );
  });

  it('over a view begins at the first byte of the view, wherever that lies in its buffer', () => {
    const buffer = new Uint8Array(256);
    for (let start = 0; start < 24; start++) {
      const view = buffer.subarray(start, start + 100);
      const { window, offset } = Window.of(view);
      window.u8[offset] = start + 1;
      window.u8[offset + 99] = start + 2;
      expect([view[0], view[99]]).toEqual([start + 1, start + 2]);
    }
  });

  it('an odd buffer is mapped where its DMA address has the same lowest bits, and nowhere else', () => {
    const region = pinRegion(new Uint8Array(64).subarray(3, 40));
    const space = new AddressSpace();
    expect(() => space.map(0x1000, 37, Access.READ, region.window, region.offset)).toThrow(/differ modulo 8/);
    const mapping = space.map(0x1000 + (region.address % 8), 37, Access.READ_WRITE, region.window, region.offset);
    mapping.store8(mapping.end - 1, 0x77);
    expect(region.bytes[36]).toBe(0x77);
  });

  it('is at most 2 GiB', () => {
    expect(() => Window.over(4096, WINDOW_MAX + 1)).toThrow(RangeError);
    expect(() => Window.over(4095, WINDOW_MAX)).toThrow(RangeError);
  });
});
