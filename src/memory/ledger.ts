import { SdxiError } from '../errors.js';

/** What was mapped, as it was mapped: one note per mapping, found by exact range in O(1). Mappings do not overlap. */
export class MappingLedger<T> {
  private readonly spaces = new Map<number, Map<number, { byteLength: number; note: T }>>();

  add(pasid: number, iova: number, byteLength: number, note: T): void {
    let space = this.spaces.get(pasid);
    if (!space) {
      space = new Map();
      this.spaces.set(pasid, space);
    }
    space.set(iova, { byteLength, note });
  }

  /**
   * The mappings inside a range.
   * @throws SdxiError ERR_SDXI_MAPPING when the range cuts one in two
   */
  inside(pasid: number, iova: number, byteLength: number): { iova: number; byteLength: number; note: T }[] {
    const space = this.spaces.get(pasid);
    if (!space) return [];
    const exact = space.get(iova);
    if (exact && exact.byteLength === byteLength) return [{ iova, ...exact }];
    const found: { iova: number; byteLength: number; note: T }[] = [];
    const end = iova + byteLength;
    for (const [start, entry] of space) {
      const stop = start + entry.byteLength;
      if (stop <= iova || start >= end) continue;
      if (start < iova || stop > end) {
        throw new SdxiError('ERR_SDXI_MAPPING', `unmapping ${byteLength} bytes at 0x${iova.toString(16)} would cut a mapping in two`, {
          hint: 'unmap ranges as they were mapped',
          fields: { iova, byteLength, mapped: start, mappedLength: entry.byteLength },
        });
      }
      found.push({ iova: start, ...entry });
    }
    return found;
  }

  *all(): Generator<{ pasid: number; iova: number; byteLength: number; note: T }> {
    for (const [pasid, space] of this.spaces) for (const [iova, entry] of space) yield { pasid, iova, ...entry };
  }

  delete(pasid: number, iova: number): void {
    this.spaces.get(pasid)?.delete(iova);
  }

  clear(): void {
    this.spaces.clear();
  }
}
