import { type Access, AddressSpaces, Window } from '../../src/memory/index.js';

/** What a case found wrong. */
export class FuzzFailure extends Error {}

const PAGE = 4096;

interface Grant {
  pasid: number;
  iova: number;
  length: number;
  position: number;
  access: number;
}

/**
 * Memory of one function, each byte kept twice: as it is, and as it has to be wherever the function may not write at the moment.
 * What software writes goes to both; what is taken away is frozen as it then is.
 */
export class FuzzMemory {
  readonly spaces = new AddressSpaces();
  readonly grants: Grant[] = [];
  readonly bytes: Uint8Array;
  readonly u32: Uint32Array;
  private readonly window: Window;
  private readonly shadow: Uint8Array;
  private readonly shadow32: Uint32Array;
  /** Bytes of writable mappings, as of the last look. */
  private readonly writable: Uint8Array;

  constructor(byteLength: number) {
    const buffer = new ArrayBuffer(byteLength);
    this.window = new Window(buffer);
    this.bytes = this.window.u8;
    this.u32 = this.window.u32;
    const shadow = new ArrayBuffer(byteLength);
    this.shadow = new Uint8Array(shadow);
    this.shadow32 = new Uint32Array(shadow);
    this.writable = new Uint8Array(byteLength);
  }

  /** As software writes a dword, at a multiple of 4. */
  store(position: number, value: number): void {
    this.u32[position >>> 2] = value;
    this.shadow32[position >>> 2] = value;
  }

  put(position: number, data: Uint8Array): void {
    this.bytes.set(data, position);
    this.shadow.set(data, position);
  }

  zero(position: number, length: number): void {
    this.bytes.fill(0, position, position + length);
    this.shadow.fill(0, position, position + length);
  }

  /** @returns false when it overlaps another mapping there */
  map(pasid: number, iova: number, length: number, position: number, access: number): boolean {
    const overlaps = (grant: Grant) => grant.pasid === pasid && grant.iova < iova + length && iova < grant.iova + grant.length;
    if (this.grants.some(overlaps) || this.grants.length >= 200) return false;
    this.spaces.bind(pasid).map(iova, length, access as Access, this.window, position);
    this.grants.push({ pasid, iova, length, position, access });
    return true;
  }

  /** Takes the n-th mapping away. */
  unmap(n: number): void {
    const [{ pasid, iova, length, position, access }] = this.grants.splice(n, 1);
    this.spaces.of(pasid)?.unmap(iova, length);
    if ((access & 2) !== 0) this.shadow.set(this.bytes.subarray(position, position + length), position);
  }

  unmapAll(): void {
    while (this.grants.length > 0) this.unmap(this.grants.length - 1);
  }

  /** @throws FuzzFailure when a byte changed that the function may not write */
  verify(): void {
    const { bytes, shadow, u32, shadow32, writable, grants } = this;
    writable.fill(0);
    for (const { position, length, access } of grants) if ((access & 2) !== 0) writable.fill(1, position, position + length);
    for (let start = 0; start < bytes.length; start += PAGE) {
      if (Buffer.compare(bytes.subarray(start, start + PAGE), shadow.subarray(start, start + PAGE)) === 0) continue;
      for (let word = start >>> 2; word < (start + PAGE) >>> 2; word++) {
        if (u32[word] === shadow32[word]) continue;
        for (let at = word * 4; at < word * 4 + 4; at++) {
          if (writable[at] !== 0 || bytes[at] === shadow[at]) continue;
          throw new FuzzFailure(`stray write: byte 0x${at.toString(16)} is 0x${bytes[at].toString(16)}, was 0x${shadow[at].toString(16)}`);
        }
      }
    }
  }
}
