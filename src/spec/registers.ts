/**
 * MMIO registers of BAR 0 (64 bits wide) and the doorbells of BAR 2. SDXI 1.0 ch. 9, ref §2.
 */
import { FunctionRequest, FunctionState } from './codes.js';
import type { AnyLayout, Fields, Input, Layout, Values } from './layout.js';
import { address, bits, layout, u8, u16, u32, u64 } from './layout.js';
import { doorbellStride } from './limits.js';

/** Offsets in BAR 0, in the order of ref §2.2. */
export const Reg = {
  CTL0: 0x00000,
  GRP_ENUM: 0x00008,
  CTL2: 0x00010,
  STS0: 0x00100,
  CAP0: 0x00200,
  CAP1: 0x00208,
  VERSION: 0x00210,
  CXT_L2: 0x10000,
  RKEY: 0x10100,
  ERR_CTL: 0x20000,
  ERR_STS: 0x20008,
  ERR_CFG: 0x20010,
  ERR_WRT: 0x20020,
  ERR_RD: 0x20028,
} as const;
export type Reg = (typeof Reg)[keyof typeof Reg];

/** The mailbox block: its contents are not public; reads zero, ignores writes (S-3). */
export const MAILBOX_OFFSET = 0x30000;

/** Function control. Every write carries an fn_gsr, and 0 is RESET. SDXI 1.0 table 9-2, ref §2.3. */
export const MMIO_CTL0 = layout('MMIO_CTL0', 8, 'SDXI 1.0 table 9-2, ref §2.3', {
  fn_gsr: bits(0, 1, 0, 'function state request', FunctionRequest),
  fn_pasid_vl: bits(0, 2, 2, 'fn_pasid is valid'),
  fn_err_intr_en: bits(0, 4, 4, 'interrupt when the function enters the error state'),
  fn_pasid: bits(0, 27, 8, 'PASID of function-level structures'),
  fn_grp_id: bits(0, 63, 32, 'function group, 0 for none (S-97)'),
});

/** Group enumeration. SDXI 1.0 table 9-3 (inferred), ref §2.4, S-4. */
export const MMIO_GRP_ENUM = layout('MMIO_GRP_ENUM', 8, 'SDXI 1.0 table 9-3, ref §2.4', {
  busy: bits(0, 0, 0, 'another function of the group probes'),
  probe: bits(0, 1, 1, 'start a probe'),
});

/** Limits that software chooses, at most those of CAP1. SDXI 1.0 table 9-4, ref §2.5. */
export const MMIO_CTL2 = layout('MMIO_CTL2', 8, 'SDXI 1.0 table 9-4, ref §2.5', {
  max_buffer: bits(0, 3, 0, 'largest buffer is 2^(n+21) bytes'),
  max_akey_sz: bits(0, 15, 12, 'largest AKey table has 2^(n+8) entries'),
  max_cxt: u16(2, 'highest usable context number'),
  opb_000_avl: u32(4, 'operation groups made available, bit n for type n'),
});

/** Function status. SDXI 1.0 table 9-5, ref §2.6. */
export const MMIO_STS0 = layout('MMIO_STS0', 8, 'SDXI 1.0 table 9-5, ref §2.6', {
  fn_gsv: bits(0, 2, 0, 'function state', FunctionState),
});

/** Capabilities of the function. SDXI 1.0 table 9-6, ref §2.7. */
export const MMIO_CAP0 = layout('MMIO_CAP0', 8, 'SDXI 1.0 table 9-6, ref §2.7', {
  sfunc: u16(0, 'function handle, unique in the group'),
  vf: bits(0, 16, 16, 'a virtual function'),
  cs_cap: bits(0, 18, 17, 'completion status mode capability'),
  db_stride: bits(0, 22, 20, 'doorbells are 4 KiB × 2^n apart'),
  max_ds_ring_sz: bits(0, 28, 24, 'largest ring has 2^(n+10) descriptors (S-78)'),
  max_rkey_sz: bits(0, 35, 32, 'largest RKey table has 2^(n+8) entries'),
});

/** Capabilities of its contexts. SDXI 1.0 table 9-7, ref §2.8. */
export const MMIO_CAP1 = layout('MMIO_CAP1', 8, 'SDXI 1.0 table 9-7, ref §2.8', {
  max_buffer: bits(0, 3, 0, 'largest buffer is 2^(n+21) bytes'),
  rkey_cap: bits(0, 4, 4, 'remote keys are supported'),
  rm: bits(0, 5, 5, 'known by name only (S-5)'),
  mmio64: bits(0, 6, 6, '64-bit register accesses are supported'),
  max_errlog_sz: bits(0, 11, 8, 'largest error log is 4 KiB × 2^n (S-6)'),
  max_akey_sz: bits(0, 15, 12, 'largest AKey table has 2^(n+8) entries'),
  max_cxt: u16(2, 'highest context number'),
  opb_000_cap: u32(4, 'optional operation groups implemented, bit n for type n (S-7)'),
});

/** Version of the specification. SDXI 1.0 table 9-8, ref §2.9. */
export const MMIO_VERSION = layout('MMIO_VERSION', 8, 'SDXI 1.0 table 9-8, ref §2.9', {
  minor: u8(0, 'minor version'),
  major: u8(2, 'major version'),
});

/** Place of the level-2 table. SDXI 1.0 table 9-9, ref §2.10. */
export const MMIO_CXT_L2 = layout('MMIO_CXT_L2', 8, 'SDXI 1.0 table 9-9, ref §2.10', {
  ptr: address(0, 12, 'level-2 table'),
});

/** Place and size of the RKey table. SDXI 1.0 table 9-10, ref §2.11. */
export const MMIO_RKEY = layout('MMIO_RKEY', 8, 'SDXI 1.0 table 9-10, ref §2.11', {
  en: bits(0, 0, 0, 'remote keys are usable'),
  sz: bits(0, 4, 1, 'the table has 2^(n+8) entries (S-8)'),
  ptr: address(0, 12, 'RKey table'),
});

/** Error interrupt. SDXI 1.0 table 9-11, ref §2.12. */
export const MMIO_ERR_CTL = layout('MMIO_ERR_CTL', 8, 'SDXI 1.0 table 9-11, ref §2.12', {
  intr_en: bits(0, 0, 0, 'interrupt on each 0→1 edge of ERR_STS.sts'),
});

/** Error status, write 1 to clear. SDXI 1.0 table 9-12, ref §2.12. */
export const MMIO_ERR_STS = layout('MMIO_ERR_STS', 8, 'SDXI 1.0 table 9-12, ref §2.12', {
  sts: bits(0, 0, 0, 'a record was logged, or should have been'),
  ovf: bits(0, 1, 1, 'a record was lost because the log was full'),
  err: bits(0, 3, 3, 'a record was lost because writing the log failed'),
});

/** Place and size of the error log. SDXI 1.0 table 9-13, ref §2.12. */
export const MMIO_ERR_CFG = layout('MMIO_ERR_CFG', 8, 'SDXI 1.0 table 9-13, ref §2.12', {
  en: bits(0, 0, 0, 'the log is usable'),
  sz: bits(0, 5, 1, 'pages of 4 KiB (S-6)'),
  ptr: address(0, 12, 'error log'),
});

/** Entries ever written by the function. SDXI 1.0 §9.3, ref §2.12. */
export const MMIO_ERR_WRT = layout('MMIO_ERR_WRT', 8, 'SDXI 1.0 §9.3, ref §2.12', {
  index: u64(0, 'entries ever written by the function'),
});

/** Entries ever consumed by software. SDXI 1.0 §9.3, ref §2.12. */
export const MMIO_ERR_RD = layout('MMIO_ERR_RD', 8, 'SDXI 1.0 §9.3, ref §2.12', {
  index: u64(0, 'entries ever consumed by software'),
});

export type RegisterAccess = 'RO' | 'RW' | 'RW1C';

/** One register of BAR 0. */
export interface Register {
  readonly name: keyof typeof Reg;
  readonly offset: Reg;
  readonly access: RegisterAccess;
  /** Value after reset; `configuration`: set when the function is built; `CAP1`: the fields that CAP1 has too. */
  readonly reset: bigint | 'configuration' | 'CAP1';
  readonly section: string;
  readonly layout: AnyLayout;
}

function register(name: keyof typeof Reg, access: RegisterAccess, reset: Register['reset'], of: AnyLayout): Register {
  return { name, offset: Reg[name], access, reset, section: of.section, layout: of };
}

/** All registers, in the order of ref §2.2. CTL0 resets to 0 but for fn_grp_id, which comes from the configuration. */
export const REGISTERS: readonly Register[] = [
  register('CTL0', 'RW', 0n, MMIO_CTL0),
  register('GRP_ENUM', 'RW', 0n, MMIO_GRP_ENUM),
  register('CTL2', 'RW', 'CAP1', MMIO_CTL2),
  register('STS0', 'RO', 0n, MMIO_STS0),
  register('CAP0', 'RO', 'configuration', MMIO_CAP0),
  register('CAP1', 'RO', 'configuration', MMIO_CAP1),
  register('VERSION', 'RO', 0x10000n, MMIO_VERSION),
  register('CXT_L2', 'RW', 0n, MMIO_CXT_L2),
  register('RKEY', 'RW', 0n, MMIO_RKEY),
  register('ERR_CTL', 'RW', 0n, MMIO_ERR_CTL),
  register('ERR_STS', 'RW1C', 0n, MMIO_ERR_STS),
  register('ERR_CFG', 'RW', 0n, MMIO_ERR_CFG),
  register('ERR_WRT', 'RW', 0n, MMIO_ERR_WRT),
  register('ERR_RD', 'RW', 0n, MMIO_ERR_RD),
];

/** The 8 bytes of a register value, in memory order. Bits above 63 are dropped. */
export function registerBytes(value: bigint): Uint8Array {
  const data = new Uint8Array(8);
  new DataView(data.buffer).setBigUint64(0, value, true);
  return data;
}

/** The register value of 8 bytes in memory order. */
export function registerValue(data: Uint8Array): bigint {
  return new DataView(data.buffer, data.byteOffset, data.byteLength).getBigUint64(0, true);
}

/**
 * A register value from its fields; fields left out are 0.
 * @throws EncodeError `ERR_SDXI_ENCODE` when a value does not fit
 */
export function encodeRegister<F extends Fields>(of: Layout<F>, fields: Input<F>): bigint {
  return registerValue(of.encode(fields));
}

/** The fields of a register value. */
export function decodeRegister<F extends Fields>(of: Layout<F>, value: bigint): Values<F> {
  return of.decode(registerBytes(value));
}

/** Offset in BAR 2 of a context's doorbell. @param n CAP0.db_stride. ref §2.13. */
export function doorbellOffset(cxt: number, n: number): number {
  return cxt * doorbellStride(n);
}
