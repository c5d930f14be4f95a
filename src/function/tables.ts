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
import type { FunctionContext } from './context.js';
import type { Core } from './core.js';

const LEGAL_STATES = new Set<number>(Object.values(ContextState));

/** High dword and low dword without its flag bits, as an address. */
function pointer(low: number, high: number, flags: number): number {
  return high * TWO32 + ((low & ~flags) >>> 0);
}

/**
 * Walks L2, L1 and CXT_CTL and takes over what they say. Ref §6.2 rows 1–3, S-69.
 * @param options.limit  false when a running context is looked up only to stop it: a lowered max_cxt does not concern it (S-61)
 * @returns false after {@link Core.fail}
 */
export function walkTables(core: Core, context: FunctionContext, options = { limit: true }): boolean {
  const { registers } = core;
  const { number } = context;
  const space = core.memory.of(registers.functionPasid);
  const absent = (step: typeof ErrorStep.CXT_L2 | typeof ErrorStep.CXT_L1 | typeof ErrorStep.CXT_CTL): false => {
    core.fail(step, SubStep.DVF);
    core.failure.absent = true;
    return false;
  };
  if (options.limit && number > registers.maxContext) return absent(ErrorStep.CXT_L2);

  const l2 = registers.level2 + l2Index(number) * 8;
  let map = space?.find(l2, 8, Access.READ);
  if (!map) {
    core.failAccess(ErrorStep.CXT_L2, space, l2, 8);
    return false;
  }
  const l2Low = map.load32(l2);
  if ((l2Low & 1) === 0) return absent(ErrorStep.CXT_L2);

  const l1 = pointer(l2Low, map.load32(l2 + 4), 0xfff) + l1Index(number) * 32;
  map = space?.find(l1, 32, Access.READ);
  if (!map) {
    core.failAccess(ErrorStep.CXT_L1, space, l1, 32);
    return false;
  }
  const l1Low = map.load32(l1);
  if ((l1Low & 1) === 0) return absent(ErrorStep.CXT_L1);
  const control = pointer(l1Low, map.load32(l1 + 4), 0x3f);
  const akeyLow = map.load32(l1 + 8);
  if ((akeyLow & 0xf) > registers.maxAkeySize) {
    core.fail(ErrorStep.CXT_L1, SubStep.DVF);
    return false;
  }
  const akeyHigh = map.load32(l1 + 12);
  const misc = map.load32(l1 + 16);
  const opGroups = map.load32(l1 + 20);

  map = space?.find(control, 64, Access.READ);
  if (!map) {
    core.failAccess(ErrorStep.CXT_CTL, space, control, 64);
    return false;
  }
  const ctlLow = map.load32(control);
  if ((ctlLow & 1) === 0) return absent(ErrorStep.CXT_CTL);
  const ringSize = map.load32(control + 8);
  if (ringSize < RING_MIN || ringSize > registers.maxRingEntries) {
    core.fail(ErrorStep.CXT_CTL, SubStep.DVF);
    return false;
  }

  const pasid = misc & 0xfffff;
  const hasPasid = (l1Low & 4) !== 0;
  context.place(hasPasid ? pasid : registers.functionPasid, registers.functionPasid);
  context.dataPasid = hasPasid ? pasid : -1;
  context.akeyTable = pointer(akeyLow, akeyHigh, 0xfff);
  context.akeyCount = akeyEntries(akeyLow & 0xf);
  context.l1MaxBuffer = (misc >>> 20) & 0xf;
  context.l1OpGroups = opGroups;
  context.limitsGeneration = -1;
  context.completionOverwrite = (ctlLow & 0x20) !== 0 && core.config.csCap !== 0;
  context.ring = pointer(ctlLow, map.load32(control + 4), 0x3f);
  context.ringSize = ringSize;
  context.statusAddress = pointer(map.load32(control + 16), map.load32(control + 20), 0xf);
  context.writeIndexAddress = pointer(map.load32(control + 24), map.load32(control + 28), 0x7);
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
  const readIndex = loadSharedU64(map.u32, map.word(address + 8));
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
