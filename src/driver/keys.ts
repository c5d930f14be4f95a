import { ArgumentError, ClosedError, SdxiError } from '../errors.js';
import { AKEY_ENT } from '../spec/keys.js';
import type { Input } from '../spec/layout.js';
import { KEY_BYTES } from '../spec/limits.js';
import type { DmaBuffer } from './dma.js';

/** Fields of an AKEY_ENT but for `vl`. ref §4.7. */
export type AKeyFields = Omit<Input<typeof AKEY_ENT.fields>, 'vl'>;

/**
 * The AKey table of one context: what its descriptors may reach, by number. Key 0 belongs to the driver: the context's default
 * translation, and its interrupt when it has one.
 *
 * Adding a key needs no update operation, because functions do not cache entries that are not valid (O-15); changing or freeing
 * one does: see `Context.updateKeys`.
 */
export class AKeyTable {
  readonly entries: number;
  private readonly memory: DmaBuffer;
  private readonly used: Uint8Array;
  private hint = 1;
  private closed = false;

  constructor(memory: DmaBuffer) {
    this.memory = memory;
    this.entries = memory.byteLength / KEY_BYTES;
    this.used = new Uint8Array(this.entries);
    this.used[0] = 1;
    // Memory that was taken over has keys already.
    for (let n = 1; n < this.entries; n++) this.used[n] = memory.u32[n * (KEY_BYTES / 4)] & 1;
  }

  get iova(): number {
    return this.memory.iova;
  }

  /** Takes a free key and makes it valid. @throws SdxiError ERR_SDXI_RESOURCE when all are in use; EncodeError for bad fields */
  allocate(fields: AKeyFields): number {
    for (let n = 0; n < this.entries; n++) {
      const index = (this.hint + n) % this.entries;
      if (this.used[index]) continue;
      this.write(index, fields);
      this.used[index] = 1;
      this.hint = index + 1;
      return index;
    }
    throw new SdxiError('ERR_SDXI_RESOURCE', `all ${this.entries} access keys are in use`, {
      hint: 'free keys, or create the context with more (akeys)',
    });
  }

  /** A key that raises an interrupt vector of this function, for INTR descriptors. */
  allocateInterrupt(vector: number): number {
    return this.allocate({ iv: 1, intr_num: vector });
  }

  /** Writes an entry and makes it valid: bytes 4…15 first, the dword with vl last. The function must not be using the old one. */
  write(index: number, fields: AKeyFields): void {
    this.check(index);
    const words = new Uint32Array(AKEY_ENT.encode({ ...fields, vl: 1 }).buffer);
    const { u32, i32 } = this.memory;
    const word = index * (KEY_BYTES / 4);
    Atomics.store(i32, word, 0);
    u32[word + 2] = words[2];
    u32[word + 3] = words[3];
    u32[word + 1] = words[1];
    Atomics.store(i32, word, words[0] | 0);
    this.used[index] = 1;
  }

  /** Makes a key invalid and free. @throws ArgumentError for key 0 and for keys that are not in use */
  free(index: number): void {
    this.check(index);
    if (index === 0 || !this.used[index]) {
      throw new ArgumentError(`access key ${index} cannot be freed`, {
        hint: index === 0 ? 'key 0 lives as long as its context' : 'it is not in use',
      });
    }
    const word = index * (KEY_BYTES / 4);
    Atomics.store(this.memory.i32, word, 0);
    this.memory.u32.fill(0, word + 1, word + KEY_BYTES / 4);
    this.used[index] = 0;
    this.hint = Math.min(this.hint, index);
  }

  /** @internal The memory is somebody else's from now on. */
  close(): void {
    this.closed = true;
  }

  private check(index: number): void {
    if (this.closed) throw new ClosedError('the access key table');
    if (!Number.isInteger(index) || index < 0 || index >= this.entries) {
      throw new ArgumentError(`there is no access key ${index}`, {
        hint: `keys of this context are 0 … ${this.entries - 1}`,
        fields: { index },
      });
    }
  }
}
