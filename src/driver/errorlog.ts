import type { Bus } from '../bus/bus.js';
import { ErrorStep, nameOf, Reaction, SubStep } from '../spec/codes.js';
import { ERRLOG_HD_ENT } from '../spec/errorlog.js';
import { ERRLOG_ENTRY_BYTES } from '../spec/limits.js';
import { DescriptorType } from '../spec/operations.js';
import { decodeRegister, encodeRegister, MMIO_ERR_CFG, MMIO_ERR_CTL, MMIO_ERR_STS, Reg } from '../spec/registers.js';
import type { DmaBuffer } from './dma.js';

/** One record of the error log, decoded. Fields that the record does not name are undefined. ref §4.10. */
export interface ErrorRecord {
  /** Position in the log: counts all records since the log was initialized. */
  readonly number: bigint;
  readonly step: number;
  readonly subStep: number;
  readonly reaction: number;
  readonly context?: number;
  readonly index?: number;
  readonly operand?: number;
  /** `DSC_BUF/ATF`. */
  readonly name: string;
  /** The 64 bytes as the function wrote them. */
  readonly raw: Uint8Array;
}

export type ErrorListener = (record: ErrorRecord) => void;

/** ERR_CFG.sz: one page, or two where sz counts pages - 1 (S-6, F-25). */
const SZ = 1;
const ENTRIES = 4096 / ERRLOG_ENTRY_BYTES;
/** Memory of a log: two pages, so that a function writes into it whichever way it counts. */
export const ERROR_LOG_BYTES = 2 * 4096;

/** Records kept for whoever asks later. */
const HISTORY = 256;
/** All write-1-to-clear bits of ERR_STS. ref §8.4. */
const CLEAR_ALL = encodeRegister(MMIO_ERR_STS, { sts: 1, ovf: 1, err: 1 });

/** The error log of a function, at the reading end. SDXI 1.0 §3.4.2, ref §8.4, §8.6. */
export class ErrorLog {
  /** Last records, oldest first. */
  readonly history: ErrorRecord[] = [];
  /** What went wrong with the log itself: records lost because it was full, or could not be written, and records that were none. */
  readonly lost = { overflows: 0, writeErrors: 0, invalid: 0 };
  private readonly bus: Bus;
  private readonly memory: DmaBuffer;
  private readonly listeners = new Set<ErrorListener>();

  constructor(bus: Bus, memory: DmaBuffer) {
    this.bus = bus;
    this.memory = memory;
  }

  /** Initialization as in ref §8.4: everything off, all clear, then on. */
  initialize(): void {
    const { bus, memory } = this;
    bus.writeRegister(Reg.ERR_CFG, 0n);
    bus.writeRegister(Reg.ERR_STS, CLEAR_ALL);
    memory.bytes.fill(0);
    bus.writeRegister(Reg.ERR_CTL, encodeRegister(MMIO_ERR_CTL, { intr_en: 1 }));
    bus.writeRegister(Reg.ERR_WRT, 0n);
    bus.writeRegister(Reg.ERR_RD, 0n);
    bus.writeRegister(Reg.ERR_CFG, encodeRegister(MMIO_ERR_CFG, { ptr: memory.iova, sz: SZ, en: 1 }));
  }

  /** No more records and no more error interrupts of the log. */
  disable(): void {
    this.bus.writeRegister(Reg.ERR_CFG, 0n);
  }

  /** @returns a function that removes the listener */
  listen(listener: ErrorListener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /**
   * Takes all new records out of the log and hands each to the listeners: the 11 steps of ref §8.6. ERR_STS is cleared before
   * ERR_WRT is read, so a record that arrives meanwhile raises a new interrupt.
   */
  drain(): ErrorRecord[] {
    const { bus, lost } = this;
    const status = decodeRegister(MMIO_ERR_STS, bus.readRegister(Reg.ERR_STS));
    if (!status.sts) return [];
    // A log that could not be written is still read and cleared, else no further error would interrupt (F-31).
    if (status.err) lost.writeErrors++;
    if (status.ovf) lost.overflows++;
    let next = bus.readRegister(Reg.ERR_RD);
    bus.writeRegister(Reg.ERR_STS, CLEAR_ALL);
    const end = bus.readRegister(Reg.ERR_WRT);
    // A function that claims more than the log holds has overwritten, or is broken (F-32): look at each slot once.
    const entries = BigInt(ENTRIES);
    if (BigInt.asUintN(64, end - next) > entries) next = BigInt.asUintN(64, end - entries);
    const records: ErrorRecord[] = [];
    for (; next !== end; next = BigInt.asUintN(64, next + 1n)) {
      const record = this.take(next);
      if (record) records.push(record);
      else lost.invalid++;
    }
    bus.writeRegister(Reg.ERR_RD, end);
    for (const record of records) {
      this.history.push(record);
      if (this.history.length > HISTORY) this.history.shift();
      for (const listener of this.listeners) listener(record);
    }
    return records;
  }

  /** Where a record lies: in the second page only if the function counts that one, too, and then there is something. */
  private slot(number: bigint): Uint8Array {
    const { bytes } = this.memory;
    const at = (index: number) => bytes.subarray(index * ERRLOG_ENTRY_BYTES, (index + 1) * ERRLOG_ENTRY_BYTES);
    const second = at(Number(number % BigInt(2 * ENTRIES)));
    return second.some((byte) => byte !== 0) ? second : at(Number(number % BigInt(ENTRIES)));
  }

  /** Decodes one slot and zeroes it, so that a record that was never written is not mistaken for a new one. */
  private take(number: bigint): ErrorRecord | undefined {
    const slot = this.slot(number);
    const raw = Uint8Array.from(slot);
    slot.fill(0);
    const entry = ERRLOG_HD_ENT.decode(raw);
    if (!entry.vl || entry.type !== DescriptorType.ERRLOG) return undefined;
    return {
      number,
      step: entry.step,
      subStep: entry.sub_step,
      reaction: entry.re,
      context: entry.cv ? entry.cxt_num : undefined,
      index: entry.div ? Number(entry.dsc_index) : undefined,
      operand: entry.bv ? entry.buf : undefined,
      name: `${nameOf(ErrorStep, entry.step)}/${nameOf(SubStep, entry.sub_step)}`,
      raw,
    };
  }
}

/** True for a record that says its context was stopped. */
export function stopsContext(record: ErrorRecord): boolean {
  return record.reaction === Reaction.CONTEXT_STOPPED && record.context !== undefined;
}
