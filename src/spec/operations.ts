/**
 * Operation groups, their operations, and which layout a descriptor has. SDXI 1.0 tables 6-1 and 6-2, ref §5.2.
 */
import {
  DSC_ADM_INTR,
  DSC_AKEY_UPD,
  DSC_ATOMIC,
  DSC_CXT_START,
  DSC_CXT_STOP,
  DSC_CXT_UPD,
  DSC_DMAB_COPY,
  DSC_DMAB_NOP,
  DSC_DMAB_REPCOPY,
  DSC_DMAB_WRT_IMM,
  DSC_FN_UPD,
  DSC_INTR,
  DSC_RKEY_UPD,
  DSC_SYNC,
} from './descriptor.js';
import type { AnyLayout } from './layout.js';

/** Operation group, the descriptor's `type`; ERRLOG marks error-log records and is never a descriptor. SDXI 1.0 table 6-1. */
export const DescriptorType = {
  DMAB: 0x001,
  ADMIN: 0x002,
  ATOMIC: 0x003,
  INTR: 0x004,
  ERRLOG: 0x7f7,
} as const;
export type DescriptorType = (typeof DescriptorType)[keyof typeof DescriptorType];

/** DMA base group: mandatory, allowed in every context. ref §5.3. */
export const DmaOp = {
  NOP: 0x01,
  WRT_IMM: 0x02,
  COPY: 0x03,
  REPCOPY: 0x04,
} as const;
export type DmaOp = (typeof DmaOp)[keyof typeof DmaOp];

/** Administrative group: mandatory in context 0, illegal elsewhere. ref §5.6. */
export const AdminOp = {
  FN_UPD: 0x00,
  CXT_UPD: 0x01,
  AKEY_UPD: 0x02,
  CXT_START_NM: 0x03,
  CXT_STOP: 0x04,
  ADM_INTR: 0x05,
  SYNC: 0x06,
  RKEY_UPD: 0x07,
  CXT_START_RS: 0x08,
} as const;
export type AdminOp = (typeof AdminOp)[keyof typeof AdminOp];

/** Atomic group: optional, opb bit 3. 0x04 is a hole. ref §5.4. */
export const AtomicOp = {
  SWAP: 0x01,
  UADD: 0x02,
  USUB: 0x03,
  AND: 0x05,
  OR: 0x06,
  XOR: 0x07,
  SMIN: 0x08,
  SMAX: 0x09,
  UMIN: 0x0a,
  UMAX: 0x0b,
  UCLAMPI: 0x0c,
  UCLAMPD: 0x0d,
  CMPSWAP: 0x0e,
} as const;
export type AtomicOp = (typeof AtomicOp)[keyof typeof AtomicOp];

/** Interrupt group: optional, opb bit 4. ref §5.5. */
export const IntrOp = {
  INTR: 0x00,
} as const;
export type IntrOp = (typeof IntrOp)[keyof typeof IntrOp];

/** One operation: how a descriptor asks for it, and how its 64 bytes are laid out. */
export interface Operation {
  readonly type: DescriptorType;
  readonly subtype: number;
  /** The specification's name, such as `COPY` or `CXT_START.NM`. */
  readonly name: string;
  readonly layout: AnyLayout;
  readonly section: string;
}

function operation(type: DescriptorType, subtype: number, name: string, layout: AnyLayout): Operation {
  return { type, subtype, name, layout, section: layout.section };
}

const { DMAB, ADMIN, ATOMIC, INTR } = DescriptorType;

/** Every operation of SDXI 1.0 whose code is known, in the order of ref §5.2. */
export const OPERATIONS: readonly Operation[] = [
  operation(DMAB, DmaOp.NOP, 'NOP', DSC_DMAB_NOP),
  operation(DMAB, DmaOp.WRT_IMM, 'WRT_IMM', DSC_DMAB_WRT_IMM),
  operation(DMAB, DmaOp.COPY, 'COPY', DSC_DMAB_COPY),
  operation(DMAB, DmaOp.REPCOPY, 'REPCOPY', DSC_DMAB_REPCOPY),
  operation(ADMIN, AdminOp.FN_UPD, 'FN_UPD', DSC_FN_UPD),
  operation(ADMIN, AdminOp.CXT_UPD, 'CXT_UPD', DSC_CXT_UPD),
  operation(ADMIN, AdminOp.AKEY_UPD, 'AKEY_UPD', DSC_AKEY_UPD),
  operation(ADMIN, AdminOp.CXT_START_NM, 'CXT_START.NM', DSC_CXT_START),
  operation(ADMIN, AdminOp.CXT_STOP, 'CXT_STOP', DSC_CXT_STOP),
  operation(ADMIN, AdminOp.ADM_INTR, 'ADM_INTR', DSC_ADM_INTR),
  operation(ADMIN, AdminOp.SYNC, 'SYNC', DSC_SYNC),
  operation(ADMIN, AdminOp.RKEY_UPD, 'RKEY_UPD', DSC_RKEY_UPD),
  operation(ADMIN, AdminOp.CXT_START_RS, 'CXT_START.RS', DSC_CXT_START),
  ...Object.entries(AtomicOp).map(([name, subtype]) => operation(ATOMIC, subtype, name, DSC_ATOMIC)),
  operation(INTR, IntrOp.INTR, 'INTR', DSC_INTR),
];

const BY_CODE = new Map(OPERATIONS.map((op) => [op.type * 256 + op.subtype, op]));

/** The operation that a descriptor's type and subtype name, or undefined if SDXI 1.0 has none there. */
export function operationOf(type: number, subtype: number): Operation | undefined {
  return subtype > 0xff ? undefined : BY_CODE.get(type * 256 + subtype);
}
