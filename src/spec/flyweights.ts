/**
 * The structures that a function or a driver touches on its hot path, once more, with literal offsets: one object that moves over memory
 * with `at()` and allocates nothing. The readable tables say the same; a test proves that both agree on random bytes.
 *
 * Addresses and indexes are numbers; 2^53 and above means "fault" (S-103). Setters write single words in place. The order in which a
 * structure is published (body first, the word with vl last) is the business of whoever publishes it.
 */
import type { ContextState, ErrorStep, Reaction, SubStep } from './codes.js';
import { hi32, loadSharedU64, loadU64, storeU64, TWO32 } from './u64.js';

const NOWHERE = new Uint32Array(0);

/** A structure seen through 32-bit words. */
export class Flyweight {
  u32: Uint32Array = NOWHERE;
  /** Word index of the structure's first byte. */
  word = 0;

  /** Moves to a structure. @param word index into `u32` of its first word */
  at(u32: Uint32Array, word: number): this {
    this.u32 = u32;
    this.word = word;
    return this;
  }

  /** Stores a pointer beside the flags that share its low word; the low word, where vl lives, last. */
  protected storePointer(offset: number, flags: number, address: number): void {
    const at = this.word + offset;
    this.u32[at + 1] = hi32(address);
    this.u32[at] = ((address & ~flags) | (this.u32[at] & flags)) >>> 0;
  }

  /** Loads a pointer without the flags that share its low word. */
  protected loadPointer(offset: number, flags: number): number {
    const at = this.word + offset;
    return this.u32[at + 1] * TWO32 + ((this.u32[at] & ~flags) >>> 0);
  }

  /** Replaces `mask << shift` bits of one word. */
  protected storeBits(offset: number, shift: number, mask: number, value: number): void {
    const at = this.word + offset;
    this.u32[at] = (this.u32[at] & ~(mask << shift)) | ((value & mask) << shift);
  }
}

/** CXT_L2_ENT, 8 bytes. SDXI 1.0 table 3-2, ref §4.2. */
export class L2Ent extends Flyweight {
  get vl(): number {
    return this.u32[this.word] & 1;
  }
  set vl(v: number) {
    this.storeBits(0, 0, 1, v);
  }
  get lv01Ptr(): number {
    return this.loadPointer(0, 0xfff);
  }
  set lv01Ptr(v: number) {
    this.storePointer(0, 0xfff, v);
  }
}

/** CXT_L1_ENT, 32 bytes. SDXI 1.0 table 3-3, ref §4.3. */
export class L1Ent extends Flyweight {
  get vl(): number {
    return this.u32[this.word] & 1;
  }
  set vl(v: number) {
    this.storeBits(0, 0, 1, v);
  }
  get ka(): number {
    return (this.u32[this.word] >>> 1) & 1;
  }
  set ka(v: number) {
    this.storeBits(0, 1, 1, v);
  }
  get pv(): number {
    return (this.u32[this.word] >>> 2) & 1;
  }
  set pv(v: number) {
    this.storeBits(0, 2, 1, v);
  }
  get cxtCtlPtr(): number {
    return this.loadPointer(0, 0x3f);
  }
  set cxtCtlPtr(v: number) {
    this.storePointer(0, 0x3f, v);
  }
  get akeySz(): number {
    return this.u32[this.word + 2] & 0xf;
  }
  set akeySz(v: number) {
    this.storeBits(2, 0, 0xf, v);
  }
  get akeyPtr(): number {
    return this.loadPointer(2, 0xfff);
  }
  set akeyPtr(v: number) {
    this.storePointer(2, 0xfff, v);
  }
  get cxtPasid(): number {
    return this.u32[this.word + 4] & 0xfffff;
  }
  set cxtPasid(v: number) {
    this.storeBits(4, 0, 0xfffff, v);
  }
  get maxBuffer(): number {
    return (this.u32[this.word + 4] >>> 20) & 0xf;
  }
  set maxBuffer(v: number) {
    this.storeBits(4, 20, 0xf, v);
  }
  get opb000Enb(): number {
    return this.u32[this.word + 5];
  }
  set opb000Enb(v: number) {
    this.u32[this.word + 5] = v;
  }
}

/** CXT_CTL, 64 bytes. SDXI 1.0 table 3-4, ref §4.4. */
export class CxtCtl extends Flyweight {
  get vl(): number {
    return this.u32[this.word] & 1;
  }
  set vl(v: number) {
    this.storeBits(0, 0, 1, v);
  }
  get qos(): number {
    return (this.u32[this.word] >>> 2) & 3;
  }
  set qos(v: number) {
    this.storeBits(0, 2, 3, v);
  }
  get se(): number {
    return (this.u32[this.word] >>> 4) & 1;
  }
  set se(v: number) {
    this.storeBits(0, 4, 1, v);
  }
  get csa(): number {
    return (this.u32[this.word] >>> 5) & 1;
  }
  set csa(v: number) {
    this.storeBits(0, 5, 1, v);
  }
  get dsRingPtr(): number {
    return this.loadPointer(0, 0x3f);
  }
  set dsRingPtr(v: number) {
    this.storePointer(0, 0x3f, v);
  }
  get dsRingSz(): number {
    return this.u32[this.word + 2];
  }
  set dsRingSz(v: number) {
    this.u32[this.word + 2] = v;
  }
  get cxtStsPtr(): number {
    return this.loadPointer(4, 0xf);
  }
  set cxtStsPtr(v: number) {
    this.storePointer(4, 0xf, v);
  }
  get writeIndexPtr(): number {
    return this.loadPointer(6, 0x7);
  }
  set writeIndexPtr(v: number) {
    this.storePointer(6, 0x7, v);
  }
}

/** CXT_STS, 16 bytes. SDXI 1.0 table 3-5, ref §4.5. */
export class CxtSts extends Flyweight {
  private u8: Uint8Array = new Uint8Array(0);

  /** The four state bits: a {@link ContextState} if the value is legal. */
  get state(): ContextState {
    return (this.u32[this.word] & 0xf) as ContextState;
  }
  /** One single-byte store with the upper nibble 0, so that software's byte 1 beside it never tears (ref §4.5, S-59). */
  set state(v: ContextState) {
    if (this.u8.buffer !== this.u32.buffer || this.u8.byteOffset !== this.u32.byteOffset) {
      this.u8 = new Uint8Array(this.u32.buffer, this.u32.byteOffset, this.u32.byteLength);
    }
    this.u8[this.word * 4] = v;
  }
  get rsh(): number {
    return (this.u32[this.word] >>> 8) & 1;
  }
  /** Safe against a function that advances it at the same time (S-72). */
  get readIndex(): number {
    return loadSharedU64(this.u32, this.word + 2);
  }
  set readIndex(v: number) {
    storeU64(this.u32, this.word + 2, v);
  }
}

/** AKEY_ENT, 16 bytes. SDXI 1.0 table 3-7, ref §4.7. */
export class AkeyEnt extends Flyweight {
  get vl(): number {
    return this.u32[this.word] & 1;
  }
  set vl(v: number) {
    this.storeBits(0, 0, 1, v);
  }
  get iv(): number {
    return (this.u32[this.word] >>> 1) & 1;
  }
  set iv(v: number) {
    this.storeBits(0, 1, 1, v);
  }
  get pv(): number {
    return (this.u32[this.word] >>> 2) & 1;
  }
  set pv(v: number) {
    this.storeBits(0, 2, 1, v);
  }
  get ste(): number {
    return (this.u32[this.word] >>> 3) & 1;
  }
  set ste(v: number) {
    this.storeBits(0, 3, 1, v);
  }
  get intrNum(): number {
    return (this.u32[this.word] >>> 4) & 0x7ff;
  }
  set intrNum(v: number) {
    this.storeBits(0, 4, 0x7ff, v);
  }
  get tgtSfunc(): number {
    return this.u32[this.word] >>> 16;
  }
  set tgtSfunc(v: number) {
    this.storeBits(0, 16, 0xffff, v);
  }
  get pasid(): number {
    return this.u32[this.word + 1] & 0xfffff;
  }
  set pasid(v: number) {
    this.storeBits(1, 0, 0xfffff, v);
  }
  get ph(): number {
    return this.u32[this.word + 1] >>> 30;
  }
  set ph(v: number) {
    this.storeBits(1, 30, 3, v);
  }
  get stag(): number {
    return this.u32[this.word + 2] & 0xffff;
  }
  set stag(v: number) {
    this.storeBits(2, 0, 0xffff, v);
  }
  get rkey(): number {
    return this.u32[this.word + 3] & 0xffff;
  }
  set rkey(v: number) {
    this.storeBits(3, 0, 0xffff, v);
  }
}

/** CST_BLK, 32 bytes. SDXI 1.0 table 6-4, ref §4.9. */
export class CstBlk extends Flyweight {
  /** Plain load and store: the function's decrement is an atomic of its own. */
  get signal(): number {
    return loadU64(this.u32, this.word);
  }
  set signal(v: number) {
    storeU64(this.u32, this.word, v);
  }
  get er(): number {
    return this.u32[this.word + 2] >>> 31;
  }
  /** One 4-byte store, no read-modify-write, so that functions sharing the block cannot lose it (S-73). */
  set er(v: number) {
    this.u32[this.word + 2] = v << 31;
  }
}

/** ERRLOG_HD_ENT, 64 bytes. SDXI 1.0 §3.4, ref §4.10. */
export class ErrorRecord extends Flyweight {
  /** Writes zeros over the record. */
  clear(): this {
    this.u32.fill(0, this.word, this.word + 16);
    return this;
  }
  get vl(): number {
    return this.u32[this.word] & 1;
  }
  set vl(v: number) {
    this.storeBits(0, 0, 1, v);
  }
  get step(): ErrorStep {
    return ((this.u32[this.word] >>> 8) & 0x3f) as ErrorStep;
  }
  set step(v: ErrorStep) {
    this.storeBits(0, 8, 0x3f, v);
  }
  get type(): number {
    return (this.u32[this.word] >>> 16) & 0x7ff;
  }
  set type(v: number) {
    this.storeBits(0, 16, 0x7ff, v);
  }
  get cv(): number {
    return this.u32[this.word + 1] & 1;
  }
  set cv(v: number) {
    this.storeBits(1, 0, 1, v);
  }
  get div(): number {
    return (this.u32[this.word + 1] >>> 1) & 1;
  }
  set div(v: number) {
    this.storeBits(1, 1, 1, v);
  }
  get bv(): number {
    return (this.u32[this.word + 1] >>> 2) & 1;
  }
  set bv(v: number) {
    this.storeBits(1, 2, 1, v);
  }
  get buf(): number {
    return (this.u32[this.word + 1] >>> 4) & 7;
  }
  set buf(v: number) {
    this.storeBits(1, 4, 7, v);
  }
  get subStep(): SubStep {
    return ((this.u32[this.word + 1] >>> 8) & 0xf) as SubStep;
  }
  set subStep(v: SubStep) {
    this.storeBits(1, 8, 0xf, v);
  }
  get re(): Reaction {
    return ((this.u32[this.word + 1] >>> 12) & 7) as Reaction;
  }
  set re(v: Reaction) {
    this.storeBits(1, 12, 7, v);
  }
  get cxtNum(): number {
    return this.u32[this.word + 1] >>> 16;
  }
  set cxtNum(v: number) {
    this.storeBits(1, 16, 0xffff, v);
  }
  get dscIndex(): number {
    return loadU64(this.u32, this.word + 2);
  }
  set dscIndex(v: number) {
    storeU64(this.u32, this.word + 2, v);
  }
  get errClass(): number {
    return this.u32[this.word + 11] & 0xffff;
  }
  set errClass(v: number) {
    this.storeBits(11, 0, 0xffff, v);
  }
}
