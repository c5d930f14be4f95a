import type { AddressSpaces } from '../memory/address-space.js';
import { Access } from '../memory/address-space.js';
import { DescriptorType, type ErrorStep, errorLogBytes, maxErrorLogBytes, type Reaction, Reg, type SubStep } from '../spec/index.js';
import type { FunctionConfig } from './config.js';
import type { FaultPort, FunctionPorts } from './ports.js';
import { ErrSts, type RegisterFile } from './registers.js';

/** What one record says. Fields that are absent are not valid and written 0 (S-110). */
export interface ErrorReport {
  step: ErrorStep;
  subStep: SubStep;
  reaction: Reaction;
  context?: number;
  index?: number;
  operand?: number;
  /** For option `vendorInfo`: the address that could not be reached. */
  address?: number;
}

const RECORD_BYTES = 64;
const INDEX_MASK = (1n << 64n) - 1n;

/** Vector of the error log and of GSV_ERROR. SDXI 1.0 §3.4, S-30. */
export const ERROR_VECTOR = 0;

/** Where ERR_WRT goes in F-32. */
const FAR_AHEAD = 2n ** 20n;

/** The error log as the function writes it. Ref §8.5. */
export class ErrorLog {
  private readonly config: FunctionConfig;
  private readonly registers: RegisterFile;
  private readonly memory: AddressSpaces;
  private readonly ports: FunctionPorts;
  private readonly raise: (vector: number) => void;
  private readonly faults: () => FaultPort | undefined;
  private readonly record = new Uint32Array(RECORD_BYTES / 4);
  private readonly recordBytes = new Uint8Array(this.record.buffer);

  constructor(
    config: FunctionConfig,
    registers: RegisterFile,
    ports: FunctionPorts,
    raise: (vector: number) => void,
    faults: () => FaultPort | undefined = () => undefined,
  ) {
    this.faults = faults;
    this.config = config;
    this.registers = registers;
    this.memory = ports.memory;
    this.ports = ports;
    this.raise = raise;
  }

  /** Logs a report by the five steps of ref §8.5. Never fails: what cannot be logged is counted in ERR_STS, or nowhere (S-35). */
  report(report: ErrorReport): void {
    this.encode(report);
    this.ports.tracer?.errorRecord(this.recordBytes);
    const { registers } = this;
    const configuration = registers.lowOf(Reg.ERR_CFG);
    if ((configuration & 1) === 0) return;
    const write = registers.get64(Reg.ERR_WRT);
    const entries = this.entries((configuration >>> 1) & 0x1f);
    if (((write - registers.get64(Reg.ERR_RD)) & INDEX_MASK) >= BigInt(entries)) {
      this.status(ErrSts.OVF | ErrSts.STS);
      return;
    }
    const base = registers.highOf(Reg.ERR_CFG) * 2 ** 32 + ((configuration & 0xffff_f000) >>> 0);
    const address = base + Number(write % BigInt(entries)) * RECORD_BYTES;
    const mapping = this.memory.of(registers.functionPasid)?.find(address, RECORD_BYTES, Access.WRITE);
    const fault = this.faults()?.record(this.record);
    if (!mapping || fault === 'lost') {
      this.status(ErrSts.ERR | ErrSts.STS);
      return;
    }
    for (let i = 15; i >= 0; i--) mapping.store32(address + 4 * i, this.record[i]);
    registers.set64(Reg.ERR_WRT, (write + (fault === 'ahead' ? FAR_AHEAD : 1n)) & INDEX_MASK);
    this.status(ErrSts.STS);
  }

  /** Records that the log holds. S-6. */
  private entries(size: number): number {
    return Math.min(errorLogBytes(size, this.config.errlog), maxErrorLogBytes(this.config.maxErrorLog)) / RECORD_BYTES;
  }

  private status(bits: number): void {
    const before = this.registers.lowOf(Reg.ERR_STS);
    this.registers.set(Reg.ERR_STS, before | bits, 0);
    const edge = (before & ErrSts.STS) === 0;
    if (edge && (this.registers.lowOf(Reg.ERR_CTL) & 1) !== 0) this.raise(ERROR_VECTOR);
  }

  private encode({ step, subStep, reaction, context, index, operand, address }: ErrorReport): void {
    const { record } = this;
    record.fill(0);
    record[0] = 1 | (step << 8) | (DescriptorType.ERRLOG << 16);
    const valid = (context === undefined ? 0 : 1) | (index === undefined ? 0 : 2) | (operand === undefined ? 0 : 4 | (operand << 4));
    record[1] = valid | (subStep << 8) | (reaction << 12) | ((context ?? 0) << 16);
    record[2] = (index ?? 0) >>> 0;
    record[3] = Math.floor((index ?? 0) / 2 ** 32);
    if (this.config.vendorInfo === 'on' && address !== undefined) {
      record[12] = address >>> 0;
      record[13] = Math.floor(address / 2 ** 32);
      record[14] = (step << 8) | subStep;
    }
  }
}
