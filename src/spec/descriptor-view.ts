/**
 * Flyweight over one descriptor slot, for whoever takes descriptors: literal offsets of the header, the footer and the body fields that
 * operations share (ref §5.1). Encoders write slots, so apart from vl there are no setters.
 */
import { Flyweight } from './flyweights.js';
import { loadU64 } from './u64.js';

/** DSC_GENERIC and the common body positions, 64 bytes. SDXI 1.0 table 6-3, ref §5.1. */
export class Descriptor extends Flyweight {
  get vl(): number {
    return this.u32[this.word] & 1;
  }
  /** One 4-byte store to dword 0, everything else unchanged (S-72). */
  set vl(v: number) {
    this.storeBits(0, 0, 1, v);
  }
  get se(): number {
    return (this.u32[this.word] >>> 1) & 1;
  }
  get fe(): number {
    return (this.u32[this.word] >>> 2) & 1;
  }
  get ch(): number {
    return (this.u32[this.word] >>> 3) & 1;
  }
  get csr(): number {
    return (this.u32[this.word] >>> 4) & 1;
  }
  get rb(): number {
    return (this.u32[this.word] >>> 5) & 1;
  }
  get subtype(): number {
    return (this.u32[this.word] >>> 8) & 0xff;
  }
  get type(): number {
    return (this.u32[this.word] >>> 16) & 0x7ff;
  }
  get np(): number {
    return this.u32[this.word + 14] & 1;
  }
  get csbPtr(): number {
    return this.loadPointer(14, 0x1f);
  }

  /** Bytes, 1 to 2^32: stored as bytes - 1. Data operations. */
  get size(): number {
    return this.u32[this.word + 1] + 1;
  }
  get attr(): number {
    return this.u32[this.word + 2] & 0xff;
  }
  /** ATOMIC: the old value goes to addr1. */
  get rd(): number {
    return (this.u32[this.word + 2] >>> 8) & 1;
  }
  /** Also the `akey` of INTR. */
  get akey0(): number {
    return this.u32[this.word + 3] & 0xffff;
  }
  get akey1(): number {
    return this.u32[this.word + 3] >>> 16;
  }
  get addr0(): number {
    return loadU64(this.u32, this.word + 4);
  }
  get addr1(): number {
    return loadU64(this.u32, this.word + 6);
  }
  /** Word index of the immediate data of WRT_IMM, 32 bytes. */
  get dataWord(): number {
    return this.word + 6;
  }
  get operandALo(): number {
    return this.u32[this.word + 8];
  }
  get operandAHi(): number {
    return this.u32[this.word + 9];
  }
  get operandBLo(): number {
    return this.u32[this.word + 10];
  }
  get operandBHi(): number {
    return this.u32[this.word + 11];
  }

  /** Byte 4 of administrative descriptors: l2, l1, ctl of CXT_UPD. */
  get cflags(): number {
    return this.u32[this.word + 1] & 0xff;
  }
  /** SYNC filter. */
  get flt(): number {
    return this.u32[this.word + 1] & 7;
  }
  /** CXT_STOP: hard stop. */
  get hs(): number {
    return (this.u32[this.word + 1] >>> 13) & 1;
  }
  /** CXT_START: the doorbell value is valid. */
  get dv(): number {
    return (this.u32[this.word + 1] >>> 14) & 1;
  }
  get vf(): number {
    return (this.u32[this.word + 1] >>> 15) & 1;
  }
  get vfNum(): number {
    return this.u32[this.word + 1] >>> 16;
  }
  get cxtStart(): number {
    return this.u32[this.word + 2] & 0xffff;
  }
  get cxtEnd(): number {
    return this.u32[this.word + 2] >>> 16;
  }
  get keyStart(): number {
    return this.u32[this.word + 3] & 0xffff;
  }
  get keyEnd(): number {
    return this.u32[this.word + 3] >>> 16;
  }
  get dbValue(): number {
    return loadU64(this.u32, this.word + 4);
  }
  /** ADM_INTR vector. */
  get intrNum(): number {
    return this.u32[this.word + 3] & 0x7ff;
  }
}
