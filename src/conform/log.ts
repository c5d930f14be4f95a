import { decodeRegister, ERRLOG_HD_ENT, encodeRegister, MMIO_ERR_CFG, MMIO_ERR_STS, Reg } from '../spec/index.js';
import { equal, holds } from './check.js';
import type { Block } from './memory.js';
import type { Rig } from './rig.js';

/** What a record should say. Fields left out are not valid in it. */
export interface Expected {
  step: number;
  sub: number;
  /** Default 1: the context is stopped. */
  re?: number;
  context?: number;
  index?: number;
  operand?: number;
}

export interface LogOptions {
  /** ERR_CFG.sz; default 1. */
  sz?: number;
  /** Pages that really are there; default 1. */
  pages?: number;
  /** ERR_CTL.intr_en; default on. */
  interrupt?: boolean;
  /** Where it lies; default in the arena. */
  block?: Block;
}

/** The value that clears all bits of ERR_STS. ref §8.4 */
export const CLEAR_ALL = encodeRegister(MMIO_ERR_STS, { sts: 1, ovf: 1, err: 1 });

/** The error log at the reading end. ref §8.4, §8.5 */
export class TestLog {
  block: Block | undefined;
  /** Records that the check has looked at; more than those are an error of their own. */
  taken = 0;
  /** The check does not say how many records there will be. */
  uncounted = false;
  private readonly t: Rig;

  constructor(t: Rig) {
    this.t = t;
  }

  /** ref §8.4 */
  initialize({ sz = 1, pages = 1, interrupt = true, block }: LogOptions = {}): Block {
    const { t } = this;
    t.write(Reg.ERR_CFG, 0n);
    t.write(Reg.ERR_STS, CLEAR_ALL);
    this.block = block ?? t.mem.alloc('the error log', pages * 4096, { align: 4096, rule: 'free' });
    t.write(Reg.ERR_CTL, interrupt ? 1n : 0n);
    t.write(Reg.ERR_WRT, 0n);
    t.write(Reg.ERR_RD, 0n);
    t.write(Reg.ERR_CFG, encodeRegister(MMIO_ERR_CFG, { ptr: this.block.iova, sz, en: 1 }));
    return this.block;
  }

  get written(): bigint {
    return this.t.read(Reg.ERR_WRT);
  }

  get status(): { sts: number; ovf: number; err: number } {
    return decodeRegister(MMIO_ERR_STS, this.t.read(Reg.ERR_STS));
  }

  /** The bytes of record `k`. */
  record(k: number): Uint8Array {
    const { bytes } = this.block as Block;
    const at = (k * 64) % bytes.byteLength;
    return bytes.subarray(at, at + 64);
  }

  /** The next record, once it is there. */
  async next(): Promise<Uint8Array> {
    const wanted = BigInt(this.taken + 1);
    await this.t.until(() => this.written >= wanted, `record ${this.taken} of the error log`);
    return this.record(this.taken++);
  }

  /** The next record says this and nothing else. */
  async expect({ step, sub, re = 1, context, index, operand }: Expected): Promise<void> {
    const r = ERRLOG_HD_ENT.decode(await this.next());
    const got = `step ${r.step} sub ${r.sub_step} re ${r.re} cv ${r.cv} div ${r.div} bv ${r.bv}`;
    const flag = (value: number | undefined) => (value === undefined ? 0 : 1);
    const wanted = `step ${step} sub ${sub} re ${re} cv ${flag(context)} div ${flag(index)} bv ${flag(operand)}`;
    holds(got === wanted, `the error record says ${got}, not ${wanted}`);
    equal(r.vl, 1, 'vl of the error record');
    equal(r.type, 0x7f7, 'type of the error record');
    if (context !== undefined) equal(r.cxt_num, context, 'cxt_num of the error record');
    if (index !== undefined) equal(r.dsc_index, BigInt(index), 'dsc_index of the error record');
    if (operand !== undefined) equal(r.buf, operand, 'buf of the error record');
  }

  /** Nothing was logged that no check asked for. Before the function is stopped: RESET may clear ERR_WRT. */
  verify(): void {
    if (!this.block || this.uncounted) return;
    const written = this.written;
    if (written <= BigInt(this.taken)) return;
    const { step, sub_step, cxt_num } = ERRLOG_HD_ENT.decode(this.record(this.taken));
    holds(false, `an error record that nobody expected: step ${step} sub ${sub_step} context ${cxt_num}`);
  }

  reset(): void {
    this.block = undefined;
    this.taken = 0;
    this.uncounted = false;
  }
}
