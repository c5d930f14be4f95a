import { Access } from '../memory/address-space.js';
import {
  akeyEntries,
  ContextState,
  ErrorStep,
  l1Index,
  l2Index,
  loadSharedU64,
  MAX_INDEX,
  RING_MIN,
  SubStep,
  TWO32,
} from '../spec/index.js';
import { Table } from './cache.js';
import type { FunctionContext } from './context.js';
import type { Core } from './core.js';
import { hasReserved, RESERVED, type ReservedMask } from './reserved.js';

const VALID = 1;

const LEGAL_STATES = new Set<number>(Object.values(ContextState));

/** High dword and low dword without its flag bits, as an address. */
function pointer(low: number, high: number, flags: number): number {
  return high * TWO32 + ((low & ~flags) >>> 0);
}

/** Why tables are walked. */
export const Walk = {
  /** CXT_START: max_cxt counts (S-52). */
  START: 0,
  /** A doorbell, or an update: a context that runs may lie above a lowered max_cxt (S-61). */
  LOAD: 1,
  /** A running context is looked up only to stop it: copies that are held serve (S-80). */
  STOP: 2,
} as const;
export type Walk = (typeof Walk)[keyof typeof Walk];

/** How the entries of a level are read. */
interface Level {
  readonly table: Table;
  readonly step: typeof ErrorStep.CXT_L2 | typeof ErrorStep.CXT_L1 | typeof ErrorStep.CXT_CTL;
  readonly words: number;
  readonly reserved: ReservedMask;
  /** Where an entry is put that is not kept. */
  readonly scratch: Uint32Array;
}

function level(table: Table, step: Level['step'], reserved: ReservedMask): Level {
  return { table, step, words: reserved.length, reserved, scratch: new Uint32Array(reserved.length) };
}

const L2 = level(Table.L2, ErrorStep.CXT_L2, RESERVED.CXT_L2_ENT);
const L1 = level(Table.L1, ErrorStep.CXT_L1, RESERVED.CXT_L1_ENT);
const CTL = level(Table.CTL, ErrorStep.CXT_CTL, RESERVED.CXT_CTL);

/**
 * One entry of a table, from memory or from its copy.
 * @param owner whose entry it is, as the cache names it
 * @returns undefined after {@link Core.fail}
 */
function readEntry(core: Core, level: Level, walk: Walk, owner: number, index: number, address: number): Uint32Array | undefined {
  const { table, step, words, scratch } = level;
  const { copies } = core;
  let entry = copies?.find(table, owner, index, walk !== Walk.STOP);
  if (entry === undefined) {
    const space = core.memory.of((copies ?? core.registers).functionPasid);
    const map = space?.find(address, words * 4, Access.READ);
    if (!map) {
      core.failAccess(step, space, address, words * 4);
      return undefined;
    }
    const word = map.word(address);
    for (let i = 0; i < words; i++) scratch[i] = map.u32[word + i];
    if ((scratch[0] & VALID) === 0) {
      core.fail(step, SubStep.DVF);
      core.failure.absent = true;
      return undefined;
    }
    entry = copies === undefined ? scratch : copies.keep(table, owner, index, scratch, 0, words);
  }
  if (!core.strict || !hasReserved(entry, 0, level.reserved)) return entry;
  core.fail(step, SubStep.DVF);
  return undefined;
}

/**
 * Walks L2, L1 and CXT_CTL and takes over what they say. Ref §6.2 rows 1–3, S-69.
 * @returns false after {@link Core.fail}
 */
export function walkTables(core: Core, context: FunctionContext, walk: Walk): boolean {
  const { registers, copies } = core;
  const { number } = context;
  const { level2, functionPasid } = copies ?? registers;
  if (walk === Walk.START && number > registers.maxContext) {
    core.fail(ErrorStep.CXT_L2, SubStep.DVF);
    core.failure.absent = true;
    return false;
  }
  const l2 = readEntry(core, L2, walk, 0, l2Index(number), level2 + l2Index(number) * 8);
  if (l2 === undefined) return false;
  const l1 = readEntry(core, L1, walk, number, 0, pointer(l2[0], l2[1], 0xfff) + l1Index(number) * 32);
  if (l1 === undefined) return false;
  const akeySize = l1[2] & 0xf;
  if (akeySize > registers.maxAkeySize) {
    core.fail(ErrorStep.CXT_L1, SubStep.DVF);
    return false;
  }
  const control = readEntry(core, CTL, walk, number, 0, pointer(l1[0], l1[1], 0x3f));
  if (control === undefined) return false;
  const ringSize = control[2];
  if (ringSize < RING_MIN || ringSize > registers.maxRingEntries) {
    core.fail(ErrorStep.CXT_CTL, SubStep.DVF);
    return false;
  }

  const hasPasid = (l1[0] & 4) !== 0;
  const pasid = l1[4] & 0xfffff;
  context.place(hasPasid ? pasid : functionPasid, functionPasid);
  context.dataPasid = hasPasid ? pasid : -1;
  context.akeyTable = pointer(l1[2], l1[3], 0xfff);
  context.akeyCount = akeyEntries(akeySize);
  context.l1MaxBuffer = (l1[4] >>> 20) & 0xf;
  context.l1OpGroups = l1[5];
  context.limitsGeneration = -1;
  context.qos = (control[0] >>> 2) & 3;
  context.sequential = (control[0] & 0x10) !== 0;
  context.completionOverwrite = (control[0] & 0x20) !== 0 && core.config.csCap !== 0;
  context.ring = pointer(control[0], control[1], 0x3f);
  context.ringSize = ringSize;
  context.statusAddress = pointer(control[4], control[5], 0xf);
  context.writeIndexAddress = pointer(control[6], control[7], 0x7);
  if (walk !== Walk.STOP) copies?.contextLoaded(number);
  return true;
}

/**
 * Reads CXT_STS as one piece (ref §6.2 row 4, S-70): state and Read_Index.
 * @returns the state, or -1 after {@link Core.fail}
 */
export function readStatus(core: Core, context: FunctionContext): number {
  const address = context.statusAddress;
  const map = core.structure(context, address, 16, Access.READ);
  if (!map) {
    core.failAccess(ErrorStep.CXT_STS, core.memory.of(context.structurePasid), address, 16);
    return -1;
  }
  context.statusMap = map;
  const state = map.load32(address) & 0xf;
  const { concealed } = context;
  let readIndex = loadSharedU64(map.u32, map.word(address + 8));
  if (concealed !== undefined && concealed.shown === readIndex) readIndex = concealed.real;
  if (!LEGAL_STATES.has(state) || readIndex >= MAX_INDEX) {
    core.fail(ErrorStep.CXT_STS, SubStep.DVF);
    return -1;
  }
  context.readIndex = readIndex;
  context.slot = readIndex % context.ringSize;
  context.unpublished = 0;
  return state;
}

/** Reads Write_Index and checks it against Read_Index (ref §6.2 row 5). @returns false after {@link Core.fail} */
export function readWriteIndex(core: Core, context: FunctionContext): boolean {
  const address = context.writeIndexAddress;
  let map = context.writeIndexMap;
  if (!map.covers(address, 8, Access.READ)) {
    const found = core.structure(context, address, 8, Access.READ);
    if (!found) {
      core.failAccess(ErrorStep.WRT_IDX, core.memory.of(context.structurePasid), address, 8);
      return false;
    }
    map = found;
    context.writeIndexMap = map;
  }
  const value = loadSharedU64(map.u32, map.word(address));
  if (value >= MAX_INDEX || value < context.readIndex || value - context.readIndex > context.ringSize) {
    core.fail(ErrorStep.WRT_IDX, SubStep.DVF);
    return false;
  }
  context.writeIndex = value;
  return true;
}
