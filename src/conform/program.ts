import {
  AdminOp,
  type AnyLayout,
  type AnyValue,
  DescriptorType,
  DmaOp,
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
  IntrOp,
  SyncFilter,
} from '../spec/index.js';

/** The 64 bytes of a descriptor, vl set. */
export type Dsc = Uint8Array;

/** Fields of a layout over the usual ones. */
export type Fields = Readonly<Record<string, AnyValue>>;

const { DMAB, ADMIN, ATOMIC, INTR } = DescriptorType;

/** By the layout tables, so that a check can say what an encoder would refuse. np = 1 until somebody names a completion block. */
function dsc(of: AnyLayout, type: number, subtype: number, fields: Fields): Dsc {
  return of.encode({ vl: 1, type, subtype, np: 1, ...fields });
}

export const nop = (fields: Fields = {}): Dsc => dsc(DSC_DMAB_NOP, DMAB, DmaOp.NOP, fields);

export function copy(from: number | bigint, to: number | bigint, size: number, fields: Fields = {}): Dsc {
  return dsc(DSC_DMAB_COPY, DMAB, DmaOp.COPY, { addr0: from, addr1: to, size, ...fields });
}

export function repcopy(from: number, to: number, size: number, fields: Fields = {}): Dsc {
  return dsc(DSC_DMAB_REPCOPY, DMAB, DmaOp.REPCOPY, { addr0: from, addr1: to, size, ...fields });
}

export function writeImmediate(to: number | bigint, data: Uint8Array, fields: Fields = {}): Dsc {
  return dsc(DSC_DMAB_WRT_IMM, DMAB, DmaOp.WRT_IMM, { addr0: to, size: data.length, data: data.subarray(0, 32), ...fields });
}

/** @param returns where the old value goes; undefined: nowhere */
export function atomic(op: number, width: 4 | 8, target: number, a: bigint, b = 0n, returns?: number, fields: Fields = {}): Dsc {
  const rd = returns === undefined ? {} : { rd: 1, addr1: returns };
  return dsc(DSC_ATOMIC, ATOMIC, op, { size: width, addr0: target, operand_a: a, operand_b: b, ...rd, ...fields });
}

export const interrupt = (akey: number, fields: Fields = {}): Dsc => dsc(DSC_INTR, INTR, IntrOp.INTR, { fe: 1, akey, ...fields });

const range = (first: number, last: number) => ({ cxt_start: first, cxt_end: last });

/** CXT_START.NM */
export function start(first: number, last = first, fields: Fields = {}): Dsc {
  return dsc(DSC_CXT_START, ADMIN, AdminOp.CXT_START_NM, { fe: 1, ...range(first, last), ...fields });
}

/** CXT_START.RS */
export function resume(first: number, last = first, fields: Fields = {}): Dsc {
  return dsc(DSC_CXT_START, ADMIN, AdminOp.CXT_START_RS, { fe: 1, ...range(first, last), ...fields });
}

export function stop(first: number, last = first, fields: Fields = {}): Dsc {
  return dsc(DSC_CXT_STOP, ADMIN, AdminOp.CXT_STOP, { fe: 1, ...range(first, last), ...fields });
}

export function sync(flt: number = SyncFilter.STOP, first = 0, last = first, fields: Fields = {}): Dsc {
  return dsc(DSC_SYNC, ADMIN, AdminOp.SYNC, { flt, ...range(first, last), ...fields });
}

export function contextUpdate(first: number, last = first, fields: Fields = {}): Dsc {
  return dsc(DSC_CXT_UPD, ADMIN, AdminOp.CXT_UPD, { l1: 1, ...range(first, last), ...fields });
}

export function akeyUpdate(first: number, last = first, fields: Fields = {}): Dsc {
  return dsc(DSC_AKEY_UPD, ADMIN, AdminOp.AKEY_UPD, { key_end: 255, ...range(first, last), ...fields });
}

export const rkeyUpdate = (fields: Fields = {}): Dsc => dsc(DSC_RKEY_UPD, ADMIN, AdminOp.RKEY_UPD, { key_end: 255, ...fields });

export const functionUpdate = (fields: Fields = {}): Dsc => dsc(DSC_FN_UPD, ADMIN, AdminOp.FN_UPD, fields);

export const adminInterrupt = (vector: number, fields: Fields = {}): Dsc =>
  dsc(DSC_ADM_INTR, ADMIN, AdminOp.ADM_INTR, { intr_num: vector, ...fields });

/** A descriptor of any type and subtype with an empty body. */
export const anything = (type: number, subtype: number, fields: Fields = {}): Dsc => dsc(DSC_DMAB_NOP, type, subtype, fields);

/** The same descriptor with other bytes in some places: what no field names. */
export function patched(of: Dsc, bytes: Readonly<Record<number, number>>): Dsc {
  const result = of.slice();
  for (const [at, value] of Object.entries(bytes)) result[Number(at)] |= value;
  return result;
}

/** Names a completion block: np = 0, csb_ptr. */
export function withCsb(of: Dsc, iova: number | bigint): Dsc {
  const result = of.slice();
  new DataView(result.buffer).setBigUint64(56, BigInt(iova), true);
  return result;
}
