import { NO_PASID } from '../memory/address-space.js';
import { BAR0_BYTES, maxBufferBytes, maxRingEntries, Reg, rkeyEntries } from '../spec/index.js';
import type { FunctionConfig } from './config.js';

/** Bits of each register that software can write; everything else reads zero (S-101). Low and high dword. */
const WRITABLE: Readonly<Record<number, readonly [number, number]>> = {
  [Reg.CTL0]: [0x0fff_ff17, 0xffff_ffff],
  [Reg.GRP_ENUM]: [0x2, 0],
  [Reg.CTL2]: [0xffff_f00f, 0xffff_ffff],
  [Reg.CXT_L2]: [0xffff_f000, 0xffff_ffff],
  [Reg.RKEY]: [0xffff_f01f, 0xffff_ffff],
  [Reg.ERR_CTL]: [0x1, 0],
  [Reg.ERR_CFG]: [0xffff_f03f, 0xffff_ffff],
  [Reg.ERR_WRT]: [0xffff_ffff, 0xffff_ffff],
  [Reg.ERR_RD]: [0xffff_ffff, 0xffff_ffff],
};

/** Registers that a reset gives back their reset values (S-11); CTL0 is treated apart. */
const RESETTABLE = [Reg.GRP_ENUM, Reg.CTL2, Reg.CXT_L2, Reg.RKEY, Reg.ERR_CTL, Reg.ERR_STS, Reg.ERR_CFG, Reg.ERR_WRT, Reg.ERR_RD] as const;

/** ERR_STS bits (ref §2.12). */
export const ErrSts = { STS: 1, OVF: 2, ERR: 8, ALL: 0xb } as const;

const VERSION_1_0 = 0x0001_0000;

/** The register block as dwords, and the plain numbers that the rest of the function reads. SDXI 1.0 §9, ref §2. */
export class RegisterFile {
  private readonly config: FunctionConfig;
  /** Low and high dword of each register, by offset. */
  private readonly low = new Map<number, number>();
  private readonly high = new Map<number, number>();

  // Derived whenever a register is written, so that hot paths read plain numbers.
  /** PASID of the function's own structures, or NO_PASID. */
  functionPasid = NO_PASID;
  errorInterruptEnabled = false;
  level2 = 0;
  /** RKEY: the table that other functions of the group look into, and the entries that count (S-8, S-98). */
  rkeysEnabled = false;
  rkeyTable = 0;
  rkeyCount = 0;
  /** GRP_ENUM.probe (S-4). */
  probing = false;
  /** Effective limits: the smaller of CTL2 and CAP1 (ref §2.5). */
  maxContext = 0;
  maxAkeySize = 0;
  maxBuffer = 0;
  opGroups = 0;
  /** Counts changes of the limits, so that copies of them can be told stale. */
  limitsGeneration = 0;

  constructor(config: FunctionConfig, virtual = false) {
    this.config = config;
    const vf = virtual ? 0x1_0000 : 0;
    this.set(Reg.CAP0, (config.sfunc | vf | (config.csCap << 17) | (config.dbStride << 20) | (config.maxRing << 24)) >>> 0, config.maxRkey);
    this.set(Reg.CAP1, this.cap1Low(), config.opGroups >>> 0);
    this.set(Reg.VERSION, VERSION_1_0, 0);
    this.set(Reg.STS0, 0, 0);
    this.set(Reg.CTL0, 0, config.groupId);
    this.restore();
  }

  private cap1Low(): number {
    const { maxBuffer, rkeyCap, maxErrorLog, maxAkey, maxContext } = this.config;
    const MMIO64 = 0x40;
    return (maxBuffer | (rkeyCap ? 0x10 : 0) | MMIO64 | (maxErrorLog << 8) | (maxAkey << 12) | (maxContext << 16)) >>> 0;
  }

  /** Reset values of all RW registers but fn_grp_id and fn_gsr (S-11, S-89). */
  restore(): void {
    for (const offset of RESETTABLE) this.set(offset, 0, 0);
    this.set(Reg.CTL2, (this.cap1Low() & 0xffff_f00f) >>> 0, this.config.opGroups >>> 0);
    this.set(Reg.CTL0, this.lowOf(Reg.CTL0) & 3, this.highOf(Reg.CTL0));
    this.derive();
  }

  /** As power-on: also fn_grp_id and fn_gsr (S-46, S-107). */
  powerOn(): void {
    this.set(Reg.CTL0, 0, this.config.groupId);
    this.restore();
  }

  lowOf(offset: number): number {
    return this.low.get(offset) ?? 0;
  }

  highOf(offset: number): number {
    return this.high.get(offset) ?? 0;
  }

  set(offset: number, low: number, high: number): void {
    this.low.set(offset, low >>> 0);
    this.high.set(offset, high >>> 0);
  }

  get64(offset: number): bigint {
    return (BigInt(this.highOf(offset)) << 32n) | BigInt(this.lowOf(offset));
  }

  set64(offset: number, value: bigint): void {
    this.set(offset, Number(value & 0xffff_ffffn), Number((value >> 32n) & 0xffff_ffffn));
  }

  /** A value as it was saved, without what a write of software would do (ref §10). Bits that cannot be set stay 0 (S-101). */
  load(offset: number, value: bigint): void {
    const [low, high] = offset === Reg.ERR_STS ? [ErrSts.ALL, 0] : (WRITABLE[offset] as readonly [number, number]);
    this.set64(offset, value);
    this.set(offset, this.lowOf(offset) & low, this.highOf(offset) & high);
    this.derive();
  }

  /** Any size from 1 to 8 and any alignment; bytes that belong to no register are 0 (S-100). */
  read(offset: number, size: number): bigint {
    if (offset % 8 === 0 && size === 8) return this.get64(offset);
    let value = 0n;
    for (let i = 0; i < size; i++) {
      const at = offset + i;
      const dword = at & 4 ? this.highOf(at - (at % 8)) : this.lowOf(at - (at % 8));
      value |= BigInt((dword >>> ((at & 3) * 8)) & 0xff) << BigInt(8 * i);
    }
    return value;
  }

  /**
   * Stores the writable bits of the halves that `size` covers.
   * @returns the offset of the register if it was the half with side effects or the whole, -1 if nothing came of it
   */
  write(offset: number, size: number, value: bigint): number {
    const register = offset - (offset % 8);
    const upper = offset % 8 === 4;
    const low = upper ? undefined : Number(value & 0xffff_ffffn);
    const high = size === 8 ? Number((value >> 32n) & 0xffff_ffffn) : upper ? Number(value & 0xffff_ffffn) : undefined;
    if (register === Reg.ERR_STS) {
      if (low !== undefined) this.set(Reg.ERR_STS, this.lowOf(Reg.ERR_STS) & ~low, 0);
      return register;
    }
    const mask = WRITABLE[register];
    if (!mask) return -1;
    const newLow = low === undefined ? this.lowOf(register) : low & mask[0];
    const newHigh = high === undefined ? this.highOf(register) : high & mask[1];
    this.set(register, newLow, newHigh);
    this.derive();
    return low === undefined ? -1 : register;
  }

  /** True for an access that BAR 0 takes: naturally aligned, 4 or 8 bytes, inside (S-100). */
  static writable(offset: number, size: number): boolean {
    return (size === 4 || size === 8) && Number.isInteger(offset) && offset >= 0 && offset % size === 0 && offset + size <= BAR0_BYTES;
  }

  /** fn_grp_id. */
  get groupId(): number {
    return this.highOf(Reg.CTL0);
  }

  /** GRP_ENUM.busy, which others of the group decide (S-4). */
  setGroupBusy(busy: boolean): void {
    this.set(Reg.GRP_ENUM, (this.lowOf(Reg.GRP_ENUM) & ~1) | (busy ? 1 : 0), 0);
  }

  /** fn_gsr as last written. */
  get request(): number {
    return this.lowOf(Reg.CTL0) & 3;
  }

  get state(): number {
    return this.lowOf(Reg.STS0);
  }

  set state(state: number) {
    this.set(Reg.STS0, state, 0);
  }

  /** Largest ring, in descriptors (S-78). */
  get maxRingEntries(): number {
    return maxRingEntries(this.config.maxRing);
  }

  private derive(): void {
    const ctl0 = this.lowOf(Reg.CTL0);
    this.functionPasid = ctl0 & 4 ? (ctl0 >>> 8) & 0xfffff : NO_PASID;
    this.errorInterruptEnabled = (ctl0 & 0x10) !== 0;
    this.level2 = this.highOf(Reg.CXT_L2) * 2 ** 32 + this.lowOf(Reg.CXT_L2);
    const rkey = this.lowOf(Reg.RKEY);
    this.rkeysEnabled = (rkey & 1) !== 0;
    this.rkeyTable = this.highOf(Reg.RKEY) * 2 ** 32 + ((rkey & ~0xfff) >>> 0);
    this.rkeyCount = rkeyEntries(Math.min((rkey >>> 1) & 0xf, this.config.maxRkey));
    this.probing = (this.lowOf(Reg.GRP_ENUM) & 2) !== 0;
    const ctl2 = this.lowOf(Reg.CTL2);
    this.maxBuffer = Math.min(ctl2 & 0xf, this.config.maxBuffer);
    this.maxAkeySize = Math.min((ctl2 >>> 12) & 0xf, this.config.maxAkey);
    this.maxContext = Math.min(ctl2 >>> 16, this.config.maxContext);
    this.opGroups = (this.highOf(Reg.CTL2) & this.config.opGroups) >>> 0;
    this.limitsGeneration++;
  }
}

/** Largest buffer of a context whose L1 entry says `max_buffer` (O-24: clamped, never refused). */
export function effectiveBufferBytes(registers: RegisterFile, contextMaxBuffer: number): number {
  return Math.min(maxBufferBytes(Math.min(registers.maxBuffer, contextMaxBuffer)), 2 ** 32);
}
