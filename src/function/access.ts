import { Access, type AddressSpace } from '../memory/address-space.js';
import { ErrorStep, SubStep } from '../spec/index.js';
import { Table } from './cache.js';
import type { FunctionContext } from './context.js';
import type { Core } from './core.js';
import { hasReserved, RESERVED } from './reserved.js';

const VALID = 1;
const INTERRUPT_VALID = 2;
const PASID_VALID = 4;

/**
 * First dword of an AKey entry, checked by ref §7.1 item 1; without a cache the entry is read anew at each use (ref §4.11).
 * @returns -1 after {@link Core.fail}; an entry with vl = 0 fails too, so that a result is never -1 otherwise
 */
function readAkey(core: Core, context: FunctionContext, akey: number, operand: number, out: { pasid: number }): number {
  if (akey >= context.akeyCount) {
    core.fail(ErrorStep.DSC_AKEY, SubStep.DVF, operand);
    return -1;
  }
  const { copies } = core;
  let u32 = copies?.find(Table.AKEY, context.number, akey);
  let word = 0;
  if (u32 === undefined) {
    const address = context.akeyTable + akey * 16;
    let map = context.akeyMap;
    if (!map.covers(address, 16, Access.READ)) {
      const space = core.memory.of(context.tablePasid);
      const found = space?.find(address, 16, Access.READ);
      if (!found) {
        core.failAccess(ErrorStep.DSC_AKEY, space, address, 16, operand);
        return -1;
      }
      map = found;
      context.akeyMap = map;
    }
    u32 = map.u32;
    word = map.word(address);
    if (copies !== undefined && (u32[word] & VALID) !== 0) {
      u32 = copies.keep(Table.AKEY, context.number, akey, u32, word, 4);
      word = 0;
    }
  }
  const low = u32[word];
  if ((low & VALID) === 0 || (core.strict && hasReserved(u32, word, RESERVED.AKEY_ENT))) {
    core.fail(ErrorStep.DSC_AKEY, SubStep.DVF, operand);
    return -1;
  }
  // tgt_sfunc ≠ 0 goes through the RKey of another function of the group (ref §7.1 item 3). This function is alone in its
  // group, so no function answers to the handle: step 12 / sub 3 (S-56).
  if (low >>> 16 !== 0) {
    core.fail(ErrorStep.FN_RKEY, SubStep.DVF, operand);
    return -1;
  }
  out.pasid = (low & PASID_VALID) !== 0 ? u32[word + 1] & 0xfffff : context.dataPasid;
  return low & 0xffff;
}

const found = { pasid: -1 };

/**
 * The address space that an operand's AKey names. Ref §7.1 items 1–3.
 * @param operand 0 = source or target, 1 = destination or return data: sets `context.source` or `context.destination`
 * @returns false after {@link Core.fail}
 */
export function resolveSpace(core: Core, context: FunctionContext, akey: number, operand: number): boolean {
  if (readAkey(core, context, akey, operand, found) < 0) return false;
  const space: AddressSpace | undefined = core.memory.of(found.pasid);
  if (operand === 0) context.source = space;
  else context.destination = space;
  return true;
}

/**
 * The vector that an INTR's AKey names. Ref §7.2, O-17, S-94.
 * @returns the vector, or -1 after {@link Core.fail}
 */
export function resolveInterrupt(core: Core, context: FunctionContext, akey: number): number {
  const low = readAkey(core, context, akey, 0, found);
  if (low < 0) return -1;
  const vector = (low >>> 4) & 0x7ff;
  if ((low & INTERRUPT_VALID) === 0 || vector >= core.ports.interrupts.vectors) {
    core.fail(ErrorStep.DSC_AKEY, SubStep.DVF, 0);
    return -1;
  }
  return vector;
}
