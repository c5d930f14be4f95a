import { SdxiError } from '../../errors.js';
import { type Access, AddressSpaces, NO_PASID } from '../../memory/address-space.js';
import { MappingLedger } from '../../memory/ledger.js';
import { PAGE_BYTES } from '../../memory/region.js';
import { WINDOW_MAX, Window } from '../../memory/window.js';
import type { MapRequest } from '../bus.js';
import { checkMapRequest } from '../checks.js';

/** A mapping as numbers, which is all that can cross to the engine's thread. */
export interface MapNumbers {
  /** Process address and length of the region that the memory is part of. */
  regionAddress: number;
  regionBytes: number;
  /** Part of the region. */
  offset: number;
  byteLength: number;
  iova: number;
  access: number;
  pasid: number;
}

const MAX_PASID = 0xfffff;

function refuse(request: { iova: number; byteLength?: number }, why: string, hint: string): never {
  throw new SdxiError('ERR_SDXI_MAPPING', `cannot map memory at 0x${Number(request.iova).toString(16)}: ${why}`, {
    hint,
    fields: { iova: request.iova, byteLength: request.byteLength },
  });
}

/** Checks a request where the region is at hand. @throws SdxiError ERR_SDXI_MAPPING or ERR_SDXI_DETACHED */
export function mapNumbers(request: MapRequest): MapNumbers {
  checkMapRequest(request);
  const { iova, region, offset = 0, access, pasid = NO_PASID } = request;
  const byteLength = request.byteLength ?? region.byteLength - offset;
  if (!Number.isSafeInteger(iova) || iova < 0) refuse(request, 'not an address below 2^53', 'give the DMA address of the first byte');
  if (!region.attached) {
    throw new SdxiError('ERR_SDXI_DETACHED', 'the memory to map has been taken away', {
      hint: 'a buffer that was transferred has no bytes any more; register it again',
      fields: { iova },
    });
  }
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(byteLength);
  if (!whole || offset < 0 || byteLength < 1 || offset + byteLength > region.byteLength) {
    refuse(request, `bytes ${offset} … ${offset + byteLength} do not lie in its ${region.byteLength} bytes`, 'map a part of the region');
  }
  if ((iova - (region.address + offset)) % PAGE_BYTES !== 0) {
    refuse(request, 'address and memory differ modulo 4096', 'give the DMA address the same offset in its page as the memory has');
  }
  if (pasid !== NO_PASID && (!Number.isInteger(pasid) || pasid < 0 || pasid > MAX_PASID)) {
    refuse(request, `there is no PASID ${pasid}`, 'a PASID has 20 bits');
  }
  return { regionAddress: region.address, regionBytes: region.byteLength, offset, byteLength, iova, access, pasid };
}

interface SharedWindow {
  readonly key: string;
  readonly window: Window;
  /** Where the first byte that was asked for lies in it. */
  readonly offset: number;
  users: number;
}

/**
 * The address spaces of one function, over process memory. Mappings of the same region share one window: the function
 * moves bytes inside one window faster than between two.
 */
export class EngineMemory {
  readonly spaces = new AddressSpaces();
  private readonly windows = new Map<string, SharedWindow>();
  private readonly ledger = new MappingLedger<SharedWindow[]>();

  /** @throws SdxiError ERR_SDXI_MAPPING; nothing is mapped then */
  map(numbers: MapNumbers): void {
    const { regionAddress, regionBytes, offset, byteLength, iova, access, pasid } = numbers;
    const space = this.spaces.bind(pasid);
    // One window unless the region is too large for one; an odd address needs room for the bytes up to the boundary.
    const stretch = regionAddress % 8 === 0 ? WINDOW_MAX : WINDOW_MAX - PAGE_BYTES;
    const used: SharedWindow[] = [];
    let done = 0;
    try {
      while (done < byteLength) {
        const position = offset + done;
        const start = position - (position % stretch);
        const length = Math.min(byteLength - done, start + stretch - position);
        const shared = this.window(regionAddress + start, Math.min(stretch, regionBytes - start));
        used.push(shared);
        space.map(iova + done, length, access as Access, shared.window, shared.offset + position - start);
        done += length;
      }
    } catch (error) {
      if (done > 0) space.unmap(iova, done);
      this.release(used);
      throw error;
    }
    this.ledger.add(pasid, iova, byteLength, used);
  }

  /** @throws SdxiError ERR_SDXI_MAPPING when the range cuts a mapping in two */
  unmap(iova: number, byteLength: number, pasid: number): void {
    const space = this.spaces.of(pasid);
    if (!space) return;
    for (const mapping of this.ledger.inside(pasid, iova, byteLength)) {
      space.unmap(mapping.iova, mapping.byteLength);
      this.ledger.delete(pasid, mapping.iova);
      this.release(mapping.note);
    }
  }

  private window(address: number, byteLength: number): SharedWindow {
    const key = `${address}+${byteLength}`;
    let shared = this.windows.get(key);
    if (!shared) {
      shared = { key, ...Window.over(address, byteLength), users: 0 };
      this.windows.set(key, shared);
    }
    shared.users++;
    return shared;
  }

  private release(windows: SharedWindow[]): void {
    for (const shared of windows) if (--shared.users === 0) this.windows.delete(shared.key);
  }
}
