import { ArgumentError, ClosedError, SdxiError } from '../errors.js';
import { AKEY_ENT, RKEY_ENT } from '../spec/keys.js';
import type { Input } from '../spec/layout.js';
import { KEY_BYTES } from '../spec/limits.js';
import type { DmaBuffer } from './dma.js';

/** Fields of an AKEY_ENT but for `vl`. ref §4.7. */
export type AKeyFields = Omit<Input<typeof AKEY_ENT.fields>, 'vl'>;

/** Consent that another function of the group may use this one: what it may do, and where. Ref §4.8. */
export interface Grant {
  /** CAP0.sfunc of the function that may use it. */
  to: number;
  /** Address space that it reaches; default the function's own. Its AKey has to name the same (S-29). */
  pasid?: number;
  /** Interrupt vector that it may raise; default none. */
  vector?: number;
}

/** Fields of the entries, and which keys the driver keeps for itself. */
interface Kind<Fields> {
  readonly what: string;
  readonly firstFree: number;
  readonly more: string;
  encode(fields: Fields): Uint8Array;
}

const AKEYS: Kind<AKeyFields> = {
  what: 'access key',
  firstFree: 1,
  more: 'create the context with more (akeys)',
  encode: (fields) => AKEY_ENT.encode({ ...fields, vl: 1 }),
};

const RKEYS: Kind<Grant> = {
  what: 'remote key',
  firstFree: 0,
  more: 'open the function with more (rkeys)',
  encode: ({ to, pasid, vector }) =>
    RKEY_ENT.encode({
      vl: 1,
      req_sfunc: to,
      ...(pasid === undefined ? {} : { pv: 1, pasid }),
      ...(vector === undefined ? {} : { iv: 1, intr_num: vector }),
    }),
};

/** A table of entries of 16 bytes that a function looks into while they come and go. */
class KeyTable<Fields> {
  readonly entries: number;
  private readonly kind: Kind<Fields>;
  private readonly memory: DmaBuffer;
  private readonly used: Uint8Array;
  private hint: number;
  private closed = false;

  constructor(memory: DmaBuffer, kind: Kind<Fields>) {
    this.kind = kind;
    this.memory = memory;
    this.entries = memory.byteLength / KEY_BYTES;
    this.used = new Uint8Array(this.entries).fill(1, 0, kind.firstFree);
    this.hint = kind.firstFree;
    // Memory that was taken over has keys already.
    for (let n = kind.firstFree; n < this.entries; n++) this.used[n] = memory.u32[n * (KEY_BYTES / 4)] & 1;
  }

  get iova(): number {
    return this.memory.iova;
  }

  /** Takes a free key and makes it valid. @throws SdxiError ERR_SDXI_RESOURCE when all are in use; EncodeError for bad fields */
  allocate(fields: Fields): number {
    for (let n = 0; n < this.entries; n++) {
      const index = (this.hint + n) % this.entries;
      if (this.used[index]) continue;
      this.write(index, fields);
      this.hint = index + 1;
      return index;
    }
    const { what, more } = this.kind;
    throw new SdxiError('ERR_SDXI_RESOURCE', `all ${this.entries} ${what}s are in use`, { hint: `free keys, or ${more}` });
  }

  /** Writes an entry and makes it valid: bytes 4…15 first, the dword with vl last. The function must not be using the old one. */
  write(index: number, fields: Fields): void {
    this.check(index);
    const words = new Uint32Array(this.kind.encode(fields).buffer);
    const { u32, i32 } = this.memory;
    const word = index * (KEY_BYTES / 4);
    Atomics.store(i32, word, 0);
    u32[word + 2] = words[2];
    u32[word + 3] = words[3];
    u32[word + 1] = words[1];
    Atomics.store(i32, word, words[0] | 0);
    this.used[index] = 1;
  }

  /**
   * Makes a key invalid; it is not given out again before {@link free}. Its other fields stay, for a function that reads it just now.
   * @throws ArgumentError for keys of the driver and for keys that are not in use
   */
  withdraw(index: number): void {
    this.check(index);
    const { what, firstFree } = this.kind;
    if (index < firstFree || !this.used[index]) {
      throw new ArgumentError(`${what} ${index} cannot be freed`, {
        hint: index < firstFree ? 'it lives as long as its context' : 'it is not in use',
      });
    }
    Atomics.and(this.memory.i32, index * (KEY_BYTES / 4), ~1);
  }

  /** Makes a key invalid and free, to be given out again at once: for keys that no function has looked at. @throws as {@link withdraw} */
  free(index: number): void {
    this.withdraw(index);
    this.used[index] = 0;
    this.hint = Math.min(this.hint, index);
  }

  /** @internal The memory is somebody else's from now on. */
  close(): void {
    this.closed = true;
  }

  private check(index: number): void {
    const { what } = this.kind;
    if (this.closed) throw new ClosedError(`the ${what} table`);
    if (!Number.isInteger(index) || index < 0 || index >= this.entries) {
      throw new ArgumentError(`there is no ${what} ${index}`, { hint: `they are 0 … ${this.entries - 1} here`, fields: { index } });
    }
  }
}

/**
 * The AKey table of one context: what its descriptors may reach, by number. Key 0 belongs to the driver: the context's default
 * translation, and its interrupt when it has one.
 *
 * Adding a key needs no update operation, because functions do not cache entries that are not valid (O-15); changing or freeing
 * one does: see `Context.updateKeys`.
 */
export class AKeyTable extends KeyTable<AKeyFields> {
  constructor(memory: DmaBuffer) {
    super(memory, AKEYS);
  }

  /** A key that raises an interrupt vector of this function, for INTR descriptors. */
  allocateInterrupt(vector: number): number {
    return this.allocate({ iv: 1, intr_num: vector });
  }
}

/** The RKey table of a function: which others of its group may use it. Ref §4.8. */
export class RKeyTable extends KeyTable<Grant> {
  constructor(memory: DmaBuffer) {
    super(memory, RKEYS);
  }
}
