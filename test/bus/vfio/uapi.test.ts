import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as uapi from '../../../src/bus/vfio/uapi.js';
import { infoCapabilities, missingBytes, readIommuInfo, readRegionInfo, structure } from '../../../src/bus/vfio/uapi.js';

/** What a C program over <linux/vfio.h> of Linux 6.1 prints (x86-64). */
const SIZES = {
  GROUP_STATUS_BYTES: 8,
  DEVICE_INFO_BYTES: 20,
  REGION_INFO_BYTES: 32,
  IRQ_INFO_BYTES: 16,
  IRQ_SET_BYTES: 20,
  IOMMU_INFO_BYTES: 24,
  DMA_MAP_BYTES: 32,
  DMA_UNMAP_BYTES: 24,
} as const;

/** Writes dwords from the start of a new structure. */
const dwords = (...values: number[]) => {
  const { view } = structure(values.length * 4);
  for (const [i, value] of values.entries()) view.setUint32(i * 4, value, true);
  return view;
};

describe('<linux/vfio.h>', () => {
  it('structures have the sizes of the header', () => {
    expect(Object.fromEntries(Object.entries(uapi).filter(([name]) => Object.hasOwn(SIZES, name)))).toEqual(SIZES);
  });

  it('requests have the numbers of the header', () => {
    expect(uapi.Vfio).toEqual({
      GET_API_VERSION: 0x3b64,
      CHECK_EXTENSION: 0x3b65,
      SET_IOMMU: 0x3b66,
      GROUP_GET_STATUS: 0x3b67,
      GROUP_SET_CONTAINER: 0x3b68,
      GROUP_GET_DEVICE_FD: 0x3b6a,
      DEVICE_GET_INFO: 0x3b6b,
      DEVICE_GET_REGION_INFO: 0x3b6c,
      DEVICE_GET_IRQ_INFO: 0x3b6d,
      DEVICE_SET_IRQS: 0x3b6e,
      DEVICE_RESET: 0x3b6f,
      IOMMU_GET_INFO: 0x3b70,
      IOMMU_MAP_DMA: 0x3b71,
      IOMMU_UNMAP_DMA: 0x3b72,
    });
  });

  describe('a region', () => {
    it('without the mmap flag has nothing to map', () => {
      expect(readRegionInfo(dwords(32, 3, 0, 0, 0x80000, 0, 0, 0x200))).toEqual({ flags: 3, size: 0x80000, offset: 2 ** 41, areas: [] });
    });

    it('without capabilities is mapped as a whole', () => {
      expect(readRegionInfo(dwords(32, 7, 0, 0, 0x80000, 0, 0, 0)).areas).toEqual([{ offset: 0, size: 0x80000 }]);
    });

    it('with sparse areas is mapped there alone, whatever other capabilities say', () => {
      const msix = [3 | (1 << 16), 40];
      const sparse = [1 | (1 << 16), 0, 3, 0, 0, 0, 0x1000, 0, 0x2000, 0, 0, 0, 0x3000, 0, 0x5000, 0];
      const view = dwords(104, 15, 0, 32, 0x8000, 0, 0, 0, ...msix, ...sparse);
      expect(readRegionInfo(view).areas).toEqual([
        { offset: 0, size: 0x1000 },
        { offset: 0x3000, size: 0x5000 },
      ]);
    });

    it.each([
      ['more areas than there is room for', [48, 15, 0, 32, 0x8000, 0, 0, 0, 0x10001, 0, 0xffff_ffff, 0]],
      ['an area beyond its end', [64, 15, 0, 32, 0x8000, 0, 0, 0, 0x10001, 0, 1, 0, 0x8000, 0, 0x1000, 0]],
      ['a chain that goes back into the structure', [40, 15, 0, 32, 0x8000, 0, 0, 0, 0x10003, 8]],
      ['a chain in a circle', [40, 15, 0, 32, 0x8000, 0, 0, 0, 0x10003, 32]],
      ['a chain that leaves the structure', [40, 15, 0, 36, 0x8000, 0, 0, 0, 0x10003, 0]],
      ['a size beyond 2^53', [32, 7, 0, 0, 0, 0x20_0000, 0, 0]],
    ])('refuses %s', (_, values) => {
      expect(() => readRegionInfo(dwords(...values))).toThrow(RangeError);
    });
  });

  it('an IOMMU says its pages, its addresses and what is left', () => {
    const ranges = [1 | (1 << 16), 72, 2, 0, 0, 0, 0xfedf_ffff, 0, 0xfef0_0000, 0, 0xffff_ffff, 0x7f];
    const available = [3 | (1 << 16), 0, 65530];
    const view = dwords(88, 3, 0x4020_1000, 0, 24, 0, ...ranges, ...available);
    expect(readIommuInfo(view)).toEqual({
      pageBytes: 4096,
      ranges: [
        { first: 0n, last: 0xfedf_ffffn },
        { first: 0xfef0_0000n, last: 0x7f_ffff_ffffn },
      ],
      mappingsLeft: 65530,
    });
    expect(readIommuInfo(dwords(24, 1, 0x10000, 0, 0, 0))).toEqual({ pageBytes: 65536, ranges: undefined, mappingsLeft: undefined });
  });

  it('asks again for what did not fit, but not for anything', () => {
    expect(missingBytes(dwords(24, 0, 0, 0, 0, 0))).toBe(0);
    expect(missingBytes(dwords(88, 0, 0, 0, 0, 0))).toBe(88);
    expect(() => missingBytes(dwords(0xffff_ffff, 0))).toThrow(RangeError);
  });

  it('whatever the kernel says ends in information or a RangeError, and reads nothing outside', () => {
    const bytes = fc.uint8Array({ minLength: 32, maxLength: 200 });
    const structured = fc
      .array(fc.oneof(fc.constantFrom(0, 1, 3, 7, 15, 24, 32, 40, 0x10001, 0x10003, 0xffff_ffff), fc.nat(0xffff_ffff)), {
        minLength: 8,
        maxLength: 50,
      })
      .map((values) => new Uint8Array(Uint32Array.from(values).buffer));
    fc.assert(
      fc.property(fc.oneof(bytes, structured), (data) => {
        const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
        for (const read of [readRegionInfo, readIommuInfo, (one: DataView) => infoCapabilities(one, 32, 32)]) {
          try {
            read(view);
          } catch (error) {
            expect(error).toBeInstanceOf(RangeError);
          }
        }
      }),
    );
  });
});
