import { Access } from '../memory/address-space.js';
import { CSB_BYTES, ErrorStep, type LiveCompletion, TWO32 } from '../spec/index.js';
import type { FunctionContext } from './context.js';
import type { Core } from './core.js';
import type { CompletionFault } from './ports.js';

/** CST_BLK.er: bit 31 of the dword at byte 8. */
const ERROR_RECORDED = 0x8000_0000;

/** Descriptor dword 0, csr. */
const CSR = 0x10;
/** Descriptor dword 14, np. */
const NO_POINTER = 1;

/**
 * Completes a descriptor through its completion status block: er first when it failed, then one atomic decrement of signal
 * (ref §4.9, O-11, S-73). Without a block (np = 1) nothing is written at all (O-12).
 * @returns false, after {@link Core.fail}, when there is a block and it cannot be accessed
 */
export function signalCompletion(core: Core, context: FunctionContext, error: boolean): boolean {
  const { descriptor } = context;
  const low = descriptor[14];
  if ((low & NO_POINTER) !== 0) return true;
  const address = descriptor[15] * TWO32 + ((low & ~0x1f) >>> 0);
  let map = context.csbMap;
  if (!map.covers(address, CSB_BYTES, Access.READ_WRITE)) {
    const found = core.structure(context, address, CSB_BYTES, Access.READ_WRITE);
    if (!found) {
      core.failAccess(ErrorStep.DSC_CSB, core.memory.of(context.structurePasid), address, CSB_BYTES);
      return false;
    }
    map = found;
    context.csbMap = map;
  }
  const fault = core.faults?.completion(context.number);
  if (fault !== undefined) {
    completeFaultily(core, context, { address, error, fault });
    return true;
  }
  if (error) map.store32(address + 8, ERROR_RECORDED);
  if (context.completionOverwrite && (descriptor[0] & CSR) !== 0) map.storeSignal(address, 0);
  else map.decrementSignal(address);
  return true;
}

/** The same as a fault plan wants it: later, or with a signal that is overwritten. A block that has gone meanwhile gets nothing. */
function completeFaultily(
  core: Core,
  { structurePasid: pasid }: FunctionContext,
  { address, error, fault }: { address: number; error: boolean; fault: CompletionFault },
): void {
  const late = { pasid, address, error };
  const perform = (): void => completeLate(core, late, { overwrite: fault.kind === 'overwrite' });
  if (fault.kind === 'hold') core.held.hold({ now: core.faults?.now() ?? 0 }, fault.ms, perform, late);
  else if (fault.kind === 'afterInterrupt') core.held.holdForInterrupt(perform, late);
  else perform();
}

/** A completion that was held back. */
export function completeLate(core: Core, { pasid, address, error }: LiveCompletion, { overwrite = false } = {}): void {
  const map = core.memory.of(pasid)?.find(address, CSB_BYTES, Access.READ_WRITE);
  if (map === undefined) return;
  if (error) map.store32(address + 8, ERROR_RECORDED);
  if (overwrite) map.storeSignal(address, 0);
  else map.decrementSignal(address);
}
