/**
 * The small numbers of SDXI 1.0: states, requests, error steps, filters. Each table comes with a union type of the same name.
 */

/** Function state, STS0.fn_gsv. SDXI 1.0 table 9-5, ref §3.1. */
export const FunctionState = {
  STOP: 0,
  INIT: 1,
  ACTIVE: 2,
  STOPG_SF: 3,
  STOPG_HD: 4,
  ERROR: 5,
} as const;
export type FunctionState = (typeof FunctionState)[keyof typeof FunctionState];

/** Function state request, CTL0.fn_gsr. SDXI 1.0 table 9-2, ref §3.1. */
export const FunctionRequest = {
  RESET: 0,
  STOP_SF: 1,
  STOP_HD: 2,
  ACTIVE: 3,
} as const;
export type FunctionRequest = (typeof FunctionRequest)[keyof typeof FunctionRequest];

/** Context state, CXT_STS.state: bit 0 run, bit 1 stopping, bit 2 by the function. Other values are illegal. SDXI 1.0 table 3-6, ref §4.5. */
export const ContextState = {
  STOP_SW: 0x0,
  RUN: 0x1,
  STOPG_SW: 0x2,
  STOP_FN: 0x4,
  STOPG_FN: 0x6,
  ERR_FN: 0xf,
} as const;
export type ContextState = (typeof ContextState)[keyof typeof ContextState];

/** Where processing failed, ERRLOG_HD_ENT.step. SDXI 1.0 §3.4, ref §8.2. */
export const ErrorStep = {
  INT: 1,
  CXT_L2: 2,
  CXT_L1: 3,
  CXT_CTL: 4,
  CXT_STS: 5,
  WRT_IDX: 6,
  DSC_GEN: 7,
  DSC_CSB: 8,
  ATOMIC: 9,
  DSC_BUF: 10,
  DSC_AKEY: 11,
  FN_RKEY: 12,
} as const;
export type ErrorStep = (typeof ErrorStep)[keyof typeof ErrorStep];

/** How it failed, ERRLOG_HD_ENT.sub_step: address translation, data access or data validation failure. ref §8.2. */
export const SubStep = {
  OTHER: 0,
  ATF: 1,
  DAF: 2,
  DVF: 3,
} as const;
export type SubStep = (typeof SubStep)[keyof typeof SubStep];

/** What the function did about it, ERRLOG_HD_ENT.re. ref §8.1. */
export const Reaction = {
  INFORMATIVE: 0,
  CONTEXT_STOPPED: 1,
  FUNCTION_STOPPED: 2,
} as const;
export type Reaction = (typeof Reaction)[keyof typeof Reaction];

/** What a SYNC waits for, DSC_SYNC.flt. SDXI 1.0 table 6-22, ref §5.6. */
export const SyncFilter = {
  CXT: 0,
  STOP: 1,
  AKEY: 2,
  RKEY: 3,
  FN: 4,
} as const;
export type SyncFilter = (typeof SyncFilter)[keyof typeof SyncFilter];

/** A table of names and numbers, such as {@link FunctionState}. */
export type CodeTable = Readonly<Record<string, number>>;

/**
 * The name of a value in a table of codes.
 *
 * @returns the name, or the value in hexadecimal (`0x7`) when the specification gives it none, so that messages always have a word for it
 */
export function nameOf(table: CodeTable, value: number): string {
  for (const name in table) if (table[name] === value) return name;
  return `0x${value.toString(16)}`;
}

/** True if the value is one of the table's. */
export function isCode(table: CodeTable, value: number): boolean {
  for (const name in table) if (table[name] === value) return true;
  return false;
}
